"""A session's view of a mailbox."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from zope.interface import implementer

from gateway.errors import GatewayError, MessageGone, NoSuchMailbox, StoreDown
from gateway.events import BodyMissing, Emit
from gateway.interfaces import IBody, IHeaderMaildrop, IHidingMaildrop, IQuickMaildrop, Run
from gateway.model import AS_BEFORE_LOGIN, Form, Listing, Reason
from gateway.store.cluster.batch import Batch
from gateway.store.cluster.bodies.ahead import Ahead, Memory
from gateway.store.cluster.bodies.blobs import LONGEST_HEAD
from gateway.store.cluster.bodies.body import Bodies, StreamedBody, body_missing
from gateway.store.cluster.bodies.whole import WholeBody
from gateway.store.cluster.removal import Removal
from gateway.store.cluster.snapshots import Snapshot
from gateway.store.cluster.sql.rows import Layout, Message

TRUSTED = 1.0
"""Seconds for which a session takes its messages to be there, once the database has said so."""


AWAY = 10.0
"""Seconds after a question without an answer in which a session waits for none."""


class Means:
    """What all maildrops of a store work with."""

    def __init__(
        self,
        seconds: Callable[[], float],
        run: Run,
        bodies: Bodies,
        ahead: Memory,
        removal: Removal,
        layouts: Batch[int, Layout],
        shown: Batch[Message, bool],
        headers: Batch[Message, bytes],
        *,
        mark_read: bool,
        emit: Emit,
    ) -> None:
        """``seconds``: the clock."""
        self.seconds = seconds
        self.run = run
        self.bodies = bodies
        self.ahead = ahead
        self.removal = removal
        self.layouts = layouts
        self.shown = shown
        self.headers = headers
        self.mark_read = mark_read
        self.emit = emit


@implementer(IHidingMaildrop, IHeaderMaildrop, IQuickMaildrop)
class ClusterMaildrop:
    """The maildrop of a session: the snapshot of its login."""

    __slots__ = (
        *("_ahead", "_cause", "_is_asking", "_looked", "_means", "_snapshot", "_unanswered"),
        *("name", "terms"),
    )

    def __init__(self, name: str, snapshot: Snapshot, means: Means, cause: Reason) -> None:
        """``cause``: the reason in the audit log for removals of the session."""
        self.name = name
        self.terms = AS_BEFORE_LOGIN
        self._snapshot = snapshot
        self._means = means
        self._cause = cause
        self._ahead = Ahead(means.ahead)
        self._looked = -math.inf
        """When all messages of the snapshot were there still."""
        self._unanswered = -math.inf
        """When the database did not answer, if it has not answered since."""
        self._is_asking = False
        """Whether it is asked, and nobody waits."""

    def listing(self) -> Deferred[Listing]:
        """The snapshot's listing."""
        return succeed(self._snapshot.listing)

    def retrieve(self, index: int) -> Deferred[IBody]:
        """Open a message, and ask meanwhile whether it is still there."""
        now = self._means.seconds()
        if now - self._looked < TRUSTED:
            return self._open(index)
        if self._is_away():
            # The session goes on with what it has.
            self._ask_again(now)
            return self._open(index)
        return Deferred.fromCoroutine(self._look_and_open(index, now))

    def small_message(self, index: int) -> tuple[bytes, Form] | None:
        """A message that was fetched ahead and is here, or that is on the disk."""
        if self._means.seconds() - self._looked >= TRUSTED:
            return None
        body = self._ahead.take_whole(index) or self._on_disk(index)
        if body is None:
            return None
        self._follow(index)
        return body.content, body.form

    def _on_disk(self, index: int) -> WholeBody | None:
        return self._means.bodies.read_now(self._snapshot.where(index))

    async def _look_and_open(self, index: int, now: float) -> IBody:
        asked = Deferred.fromCoroutine(self._is_shown(index, now))
        both: list[Deferred[Any]] = [asked, self._open(index)]
        shown: Any
        body: Any
        (answered, shown), (is_open, body) = await DeferredList(both, consumeErrors=True)
        if is_away := not answered and shown.check(GatewayError) is not None:
            self._unanswered = self._means.seconds()
        if is_away or (answered and shown):
            if not is_open:
                body.raiseException()
            found: IBody = body
            return found
        if is_open:
            body.close()
        if not answered:
            shown.raiseException()
        raise self._gone(index)

    def _is_away(self) -> bool:
        """Whether the database is taken for away."""
        return self._is_asking or self._means.seconds() - self._unanswered < AWAY

    def _ask_again(self, now: float) -> None:
        """Ask whether all are still there; nobody waits for the answer."""
        if not self._is_asking:
            self._is_asking = True
            Deferred.fromCoroutine(self._look(now))

    async def _look(self, now: float) -> None:
        try:
            await self._has_all(now)
            self._unanswered = -math.inf
        except GatewayError:
            self._unanswered = self._means.seconds()
        finally:
            self._is_asking = False

    def _gone(self, index: int) -> MessageGone:
        return MessageGone(f"{self.name}: {self._snapshot.listing.uids[index]}")

    async def _is_shown(self, index: int, now: float) -> bool:
        if await self._has_all(now):
            return True
        message = self._snapshot.state.mailbox, self._snapshot.uids[index]
        return bool(await self._means.shown.find(message))

    async def _has_all(self, now: float) -> bool:
        """Whether no message of the snapshot has gone."""
        mailbox, epoch, _, layout, *_ = self._snapshot.state
        has_all = await self._means.layouts.find(mailbox) == (epoch, layout)
        if has_all:
            self._looked = now
        return has_all

    def retrieve_header(self, index: int) -> Deferred[IBody]:
        """The header, which needs no body: of an endless one the message."""
        return Deferred.fromCoroutine(self._retrieve_header(index))

    async def _retrieve_header(self, index: int) -> IBody:
        snapshot = self._snapshot
        if self._is_away():
            return await self.retrieve(index)
        try:
            header = await self._means.headers.find((snapshot.state.mailbox, snapshot.uids[index]))
        except GatewayError:
            self._unanswered = self._means.seconds()
            return await self.retrieve(index)
        if header is None:
            raise self._gone(index)
        if len(header) >= LONGEST_HEAD:
            return await self.retrieve(index)
        return WholeBody(header, snapshot.form(index))

    def _open(self, index: int) -> Deferred[IBody]:
        fetched = self._ahead.take(index)
        if fetched is not None:
            return fetched.addCallback(self._or_anew, index)
        # The request for this message goes before those for the next ones.
        opened = self._open_anew(index)
        self._follow(index)
        return opened

    def _or_anew(self, fetched: IBody | None, index: int) -> IBody | Deferred[IBody]:
        """What was fetched ahead, or the message opened now that it is wanted."""
        if isinstance(fetched, StreamedBody) and fetched.is_broken:
            # The client has none of it yet, and S3 may be back.
            fetched.close()
            fetched = None
        opened = fetched or self._open_anew(index)
        self._follow(index)
        return opened

    def _open_anew(self, index: int) -> Deferred[IBody]:
        def missing() -> Deferred[NoReturn]:
            return Deferred.fromCoroutine(self._missing(index))

        return self._means.bodies.open(self._snapshot.where(index), missing)

    async def _missing(self, index: int) -> NoReturn:
        """Fail for a body that S3 does not have, with an event if a message needs it."""
        uid, key = self._snapshot.listing.uids[index], self._snapshot.where(index).body
        try:
            is_needed = await self._is_shown(index, self._means.seconds())
        except GatewayError:
            is_needed = True
        if not is_needed:
            # A session of more than a day lists what was removed and collected since.
            raise self._gone(index)
        self._means.emit(BodyMissing(self.name, uid, key.hex))
        raise body_missing(f"{self.name}: message {uid}", key)

    def _follow(self, index: int) -> None:
        self._ahead.follow(index, self._snapshot.listing.sizes, self._open_ahead)

    def _open_ahead(self, index: int) -> Deferred[IBody] | None:
        where, bodies = self._snapshot.where(index), self._means.bodies
        if bodies.is_on_disk(where):
            return None
        # If it fails, whoever reads it opens it again: that one reports the error.
        return bodies.open(where, lambda: fail(StoreDown()))

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove marked messages, with audit lines, and mark retrieved ones as read."""
        return self._end(removed, retrieved, hide=False)

    def hide(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Hide what is marked, audited, and mark what was fetched."""
        return self._end(removed, retrieved, hide=True)

    def _end(
        self, removed: Collection[int], retrieved: Collection[int], *, hide: bool
    ) -> Deferred[None]:
        snapshot, means = self._snapshot, self._means
        if not removed:
            return self.abandon(retrieved)

        def end() -> None:
            mailbox = snapshot.state.mailbox
            uids = [snapshot.uids[index] for index in removed]
            read = self._read_uids(set(retrieved).difference(removed))
            # Without the mailbox these messages are gone too.
            with suppress(NoSuchMailbox):
                means.removal.end_session(mailbox, uids, read, self._cause, hide=hide)

        return means.run(end)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark retrieved messages as read."""
        means, mailbox = self._means, self._snapshot.state.mailbox
        if not (retrieved and means.mark_read):
            return succeed(None)
        return means.run(lambda: means.removal.mark(mailbox, self._read_uids(retrieved)))

    def leave(self) -> None:
        """The session is over, however it ended."""
        self._ahead.close()

    def _read_uids(self, indexes: Collection[int]) -> list[int]:
        if not self._means.mark_read:
            return []
        return [self._snapshot.uids[index] for index in sorted(indexes)]
