"""Whether database and bucket fit together: after a restore, or when somebody doubts it.

Gateways may serve meanwhile: what changes while it is looked at is looked at again.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO, NamedTuple
from uuid import UUID

from gateway.interfaces import Run
from gateway.model import Contents
from gateway.postgresql.database import Cursor, Database
from gateway.store.audited import message_id_in
from gateway.store.cluster import changes, rows
from gateway.store.cluster.blobs import Blobs
from gateway.store.cluster.keys import time_of
from gateway.store.cluster.requests import Missing
from gateway.store.cluster.rows import Stored

PAGE = 10_000
"""Rows in one question."""

YOUNG = 86_400.0
"""Seconds for which a body may wait for its row, or is still read without one."""

_RECORD = 16 + 8 + 8


class Problem(NamedTuple):
    """Something that does not fit, and what was done about it."""

    kind: str
    """``missing body``: a message cannot be read; ``unused body``: it only takes room;
    ``wrong counters``: the quota of a mailbox is off."""

    mailbox: str = ""
    uid: int = 0
    body: str = ""
    """The key of a body, in hex."""

    lost: str = ""
    """Of a missing body: the Message-ID of the message, from its header."""

    mended: bool = False


Tell = Callable[[Problem], None]


class Verification:
    """One look at all that there is."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        run: Run,
        tell: Tell,
        *,
        repair: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``tell`` hears of each problem; ``repair``: mend it too.

        Removed are rows of messages without a body, which nobody can read, and bodies
        without a row.
        """
        self._database = database
        self._blobs = blobs
        self._run = run
        self._tell = tell
        self._repair = repair
        self._now = now

    async def verify(self) -> None:
        """Look at everything.  Raises ``StoreDown`` or ``MailboxUnusable``."""
        await self._verify_counters()
        with ExitStack() as files, tempfile.TemporaryDirectory(prefix="pop3gw-verify-") as place:
            spools = [
                files.enter_context(open(f"{place}/{number:02x}", "w+b")) for number in range(256)
            ]
            await self._run(partial(self._spool, spools))
            for number, spool in enumerate(spools):
                await self._verify_bodies(f"{number:02x}/", spool)

    # -- counters --------------------------------------------------------------

    async def _verify_counters(self) -> None:
        after = 0
        while found := await self._run(partial(rows.counted, self._database, after, PAGE)):
            for one in found:
                if one.counters != one.contents:
                    mended = self._repair and await self._recount(one.name)
                    self._tell(Problem("wrong counters", one.name, mended=mended))
            after = found[-1].mailbox

    async def _recount(self, name: str) -> bool:
        def recount(cursor: Cursor, _: bool) -> Contents:
            return changes.recount(cursor, changes.lock(cursor, name))

        await self._run(partial(self._database.transact, recount))
        return True

    # -- bodies ----------------------------------------------------------------

    def _spool(self, spools: Sequence[IO[bytes]]) -> None:
        """Sort all rows by the prefix of their objects: too many for memory.  Blocks."""
        after = Stored(UUID(int=0), 0, 0)
        while page := rows.stored(self._database, after, PAGE):
            for one in page:
                numbers = one.mailbox.to_bytes(8, "big") + one.uid.to_bytes(8, "big")
                spools[one.body.bytes[-1]].write(one.body.bytes + numbers)
            after = page[-1]

    async def _verify_bodies(self, prefix: str, spool: IO[bytes]) -> None:
        expected: defaultdict[UUID, list[Stored]] = defaultdict(list)
        for one in _read(spool):
            expected[one.body].append(one)
        after, unknown = "", []
        while True:
            listed = await self._blobs.list(prefix, after)
            for key in listed.keys:
                if expected.pop(key, None) is None and self._now() - time_of(key) > YOUNG:
                    unknown.append(key)
            after = listed.after
            if not after:
                break
        for start in range(0, len(unknown), PAGE):
            await self._unused(unknown[start : start + PAGE])
        for one in (one for some in expected.values() for one in some):
            await self._missing(one)

    async def _unused(self, bodies: Sequence[UUID]) -> None:
        # Those of which the row came or went meanwhile are known now.
        known = await self._run(partial(rows.find_known, self._database, bodies))
        for body in bodies:
            if body not in known:
                if self._repair:
                    await self._blobs.remove(body)
                self._tell(Problem("unused body", body=body.hex, mended=self._repair))

    async def _missing(self, one: Stored) -> None:
        try:
            # A list may lack what is there.
            await self._blobs.check(one.body)
        except Missing:
            pass
        else:
            return
        problem = await self._run(partial(self._database.transact, partial(self._lose, one)))
        if problem is not None:
            self._tell(problem)

    def _lose(self, one: Stored, cursor: Cursor, _: bool) -> Problem | None:
        """The problem of a message without a body; None: it was removed meanwhile."""
        box = changes.find_box(cursor, one.mailbox)
        if box is None or not changes.has_body(cursor, one):
            return None
        name, locked = box
        head = changes.heads(cursor, locked, [one.uid]).get(one.uid, b"")
        if self._repair:
            changes.remove(cursor, locked, [one.uid])
        lost = message_id_in(head) or ""
        return Problem("missing body", name, one.uid, one.body.hex, lost, self._repair)


def _read(spool: IO[bytes]) -> Iterator[Stored]:
    spool.seek(0)
    while record := spool.read(_RECORD):
        mailbox, uid = (int.from_bytes(record[at : at + 8], "big") for at in (16, 24))
        yield Stored(UUID(bytes=record[:16]), mailbox, uid)
