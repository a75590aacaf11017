"""A session's view of a mailbox."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from zope.interface import implementer

from gateway.errors import GatewayError, MessageGone, NoSuchMailbox
from gateway.events import BodyMissing, Emit
from gateway.interfaces import IBody, IHeaderMaildrop, IHidingMaildrop, Run
from gateway.model import Listing, Reason, Terms
from gateway.store.cluster.batch import Batch
from gateway.store.cluster.blobs import LONGEST_HEAD, Blobs
from gateway.store.cluster.bodies import stream
from gateway.store.cluster.removal import Removal
from gateway.store.cluster.rows import Message
from gateway.store.cluster.snapshots import Snapshot
from gateway.store.memory_mailbox import BytesBody


class Means:
    """What all maildrops of a store work with."""

    def __init__(
        self,
        reactor: Any,
        run: Run,
        blobs: Blobs,
        removal: Removal,
        shown: Batch[Message, bool],
        headers: Batch[Message, bytes],
        *,
        mark_read: bool,
        timeout: float,
        emit: Emit,
    ) -> None:
        self.reactor = reactor
        self.run = run
        self.blobs = blobs
        self.removal = removal
        self.shown = shown
        self.headers = headers
        self.mark_read = mark_read
        self.timeout = timeout
        self.emit = emit


@implementer(IHidingMaildrop, IHeaderMaildrop)
class ClusterMaildrop:
    """The maildrop of a session: the snapshot of its login."""

    __slots__ = ("_cause", "_means", "_snapshot", "name", "terms")

    def __init__(self, name: str, snapshot: Snapshot, means: Means, cause: Reason) -> None:
        """``cause``: the reason in the audit log for removals of the session."""
        self.name = name
        self.terms = Terms()
        self._snapshot = snapshot
        self._means = means
        self._cause = cause

    def listing(self) -> Deferred[Listing]:
        """The snapshot's listing."""
        return succeed(self._snapshot.listing)

    def retrieve(self, index: int) -> Deferred[IBody]:
        """Open a message, and ask meanwhile whether it is still there."""
        return Deferred.fromCoroutine(self._retrieve(index))

    async def _retrieve(self, index: int) -> IBody:
        snapshot = self._snapshot
        asked = self._means.shown.find((snapshot.state.mailbox, snapshot.uids[index]))
        opened = Deferred.fromCoroutine(self._body(index))
        both: list[Deferred[Any]] = [asked, opened]
        shown: Any
        body: Any
        (answered, shown), (is_open, body) = await DeferredList(both, consumeErrors=True)
        # While the database is away the session goes on with what it has.
        if shown if answered else shown.check(GatewayError):
            if not is_open:
                body.raiseException()
            found: IBody = body
            return found
        if is_open:
            body.close()
        if not answered:
            shown.raiseException()
        raise MessageGone(f"{self.name}: {snapshot.listing.uids[index]}")

    def retrieve_header(self, index: int) -> Deferred[IBody]:
        """The header, which needs no body: of an endless one the message."""
        return Deferred.fromCoroutine(self._retrieve_header(index))

    async def _retrieve_header(self, index: int) -> IBody:
        snapshot = self._snapshot
        try:
            header = await self._means.headers.find((snapshot.state.mailbox, snapshot.uids[index]))
        except GatewayError:
            # While the database is away the session goes on with what it has.
            return await self._retrieve(index)
        if header is None:
            raise MessageGone(f"{self.name}: {snapshot.listing.uids[index]}")
        if len(header) >= LONGEST_HEAD:
            return await self._retrieve(index)
        return BytesBody(header, snapshot.form(index))

    async def _body(self, index: int) -> IBody:
        snapshot, means = self._snapshot, self._means
        return await stream(
            means.blobs,
            snapshot.body(index),
            snapshot.listing.sizes[index],
            snapshot.form(index),
            f"{self.name}: message {snapshot.listing.uids[index]}",
            means.reactor,
            means.timeout,
            lambda: self._missing(index),
        )

    def _missing(self, index: int) -> None:
        snapshot = self._snapshot
        uid, key = snapshot.listing.uids[index], snapshot.body(index)
        self._means.emit(BodyMissing(self.name, uid, key.hex))

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
                means.removal.end_session(mailbox, self.name, uids, read, self._cause, hide=hide)

        return means.run(end)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark retrieved messages as read."""
        means, mailbox = self._means, self._snapshot.state.mailbox
        if not (retrieved and means.mark_read):
            return succeed(None)
        return means.run(lambda: means.removal.mark(mailbox, self._read_uids(retrieved)))

    def _read_uids(self, indexes: Collection[int]) -> list[int]:
        if not self._means.mark_read:
            return []
        return [self._snapshot.uids[index] for index in sorted(indexes)]
