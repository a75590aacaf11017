"""Listings in memory: all sessions of a mailbox share one."""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from gateway.interfaces import Run
from gateway.model import Form, Listing
from gateway.postgresql.database import Database
from gateway.store.cluster.bodies.keys import Where
from gateway.store.cluster.sql.rows import Packed, State, listing

EMPTY = 20
"""The memory of a mailbox without messages, in messages."""

KEY = 16
"""Octets of the key of a body."""

FORMS = tuple(Form)
"""By their numbers: a call of ``Form`` costs more."""


class Snapshot:
    """A mailbox as it was at one state.  Never changes."""

    def __init__(self, packed: Packed, before: Snapshot | None = None) -> None:
        """``before``: the snapshot that ``packed`` has the newer messages of."""
        numbers = array("q", packed.numbers)
        if sys.byteorder == "little":
            numbers.byteswap()
        uids, sizes = numbers[::2], numbers[1::2]
        forms = bytes(size & 3 for size in sizes)
        octets = [size >> 2 for size in sizes]
        unique_ids = [str(uid) for uid in uids]
        if packed.unique_ids:
            unique_ids = [packed.unique_ids.get(uid, uid) for uid in unique_ids]
        self.state = packed.state
        if before is None:
            self.uids, self.bodies, self._forms = uids, packed.bodies, forms
            self.listing = Listing(octets, unique_ids)
        else:
            self.uids = before.uids + uids
            self.bodies = before.bodies + packed.bodies
            self._forms = before._forms + forms
            self.listing = before.listing.longer(octets, unique_ids)

    def __len__(self) -> int:
        return len(self.uids)

    def form(self, index: int) -> Form:
        """What is known of the octets of a message."""
        return FORMS[self._forms[index]]

    def where(self, index: int) -> Where:
        """The body of a message."""
        key = UUID(bytes=self.bodies[index * KEY : (index + 1) * KEY])
        return Where(key, self.listing.sizes[index], self.form(index))


Asked = tuple[State, Deferred[Snapshot]]


class Snapshots:
    """The latest snapshots; beyond a number of messages the least recently used one goes."""

    def __init__(self, database: Database, run: Run, most: int) -> None:
        """``most``: messages in all snapshots."""
        self._database = database
        self._run = run
        self._most = most
        self._known: OrderedDict[int, Snapshot] = OrderedDict()
        self._messages = 0
        self._reading: dict[int, list[Asked]] = {}
        """By mailbox that is being read: who asked since, and has the next reading together."""

    def current(self, state: State) -> Deferred[Snapshot]:
        """The snapshot of a state or of a later one.  Fails as ``rows.listing``."""
        mailbox = state.mailbox
        known = self._known.get(mailbox)
        if known is not None and known.state == state:
            self._known.move_to_end(mailbox)
            return succeed(known)
        asked = state, Deferred[Snapshot]()
        if mailbox in self._reading:
            # A reading that has begun may be older than the state.
            self._reading[mailbox].append(asked)
        else:
            self._begin(mailbox, [asked])
        return asked[1]

    def _begin(self, mailbox: int, asked: list[Asked]) -> None:
        state, known = asked[-1][0], self._known.get(mailbox)
        self._reading[mailbox] = []
        self._run(lambda: self._read(state, known)).addBoth(self._have, mailbox, asked)

    def _read(self, state: State, known: Snapshot | None) -> Snapshot:
        """Blocks."""
        if known is not None and known.state.layout == state.layout:
            packed = listing(self._database, state.mailbox, known.state.next_uid)
            if packed.state == known.state:
                return known
            if can_grow(known.state, packed.state):
                return Snapshot(packed, known)
        snapshot = Snapshot(listing(self._database, state.mailbox, 0))
        snapshot.listing.prepare()
        return snapshot

    def _have(self, result: Snapshot | Failure, mailbox: int, asked: list[Asked]) -> None:
        since = self._reading.pop(mailbox)
        if isinstance(result, Snapshot):
            self._keep(mailbox, result)
            served = asked + [one for one in since if one[0] == result.state]
            if later := [one for one in since if one[0] != result.state]:
                self._begin(mailbox, later)
            for _, answer in served:
                answer.callback(result)
        else:
            for _, answer in [*asked, *since]:
                answer.errback(Failure(result.value))

    def _keep(self, mailbox: int, snapshot: Snapshot) -> None:
        self.drop(mailbox)
        self._known[mailbox] = snapshot
        self._messages += EMPTY + len(snapshot)
        while self._messages > self._most and len(self._known) > 1:
            self.drop(next(iter(self._known)))

    def drop(self, mailbox: int) -> bool:
        """Forget a mailbox; whether it was known."""
        snapshot = self._known.pop(mailbox, None)
        if snapshot is None:
            return False
        self._messages -= EMPTY + len(snapshot)
        return True

    def drop_all(self) -> int:
        """Forget all; how many there were."""
        dropped = len(self._known)
        self._known.clear()
        self._messages = 0
        return dropped


def can_grow(before: State, now: State) -> bool:
    """Whether the newer state has the messages of the older one, and maybe more at the end."""
    # Fewer uids than before: a failover has lost commits.
    return (
        (before.mailbox, before.epoch, before.layout) == (now.mailbox, now.epoch, now.layout)
        and before.generation <= now.generation
        and before.next_uid <= now.next_uid
    )
