"""A mailbox in this process: the state that its sessions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from gateway.interfaces import Audit, Run
from gateway.store.maildir.folders.place import Place, lent, open_place, opened
from gateway.store.maildir.folders.scan import settled
from gateway.store.maildir.folders.way import Trusted
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.sizes import is_as_seen
from gateway.store.maildir.listing.snapshot import MaildirOptions, Size, Snapshot

FEW = 8
"""Most files to examine in the reactor's thread."""


class Mailbox:
    """A mailbox in this process; its sessions share the current snapshot."""

    def __init__(
        self,
        maildir: str,
        reading: MaildirOptions,
        run: Run,
        audit: Audit,
        now_ns: Callable[[], int],
    ) -> None:
        self.maildir = maildir
        self.reading = reading
        self.run = run
        self.audit = audit
        self._now_ns = now_ns
        self._reader = Reader(maildir, reading)
        self._snapshot: Snapshot | None = None
        self._settled = False
        self._waiting: list[Deferred[Snapshot]] | None = None

    def measured(self, place: Place, file: str) -> Size:
        """The size of a message by reading its file.  Blocks; raises ``OSError``."""
        return self._reader.sizer.measured(place, file)

    @property
    def place(self) -> Place | None:
        """Its directories, if only root and our user can change their paths."""
        return self._reader.place

    @property
    def trusted(self) -> Trusted:
        """The part of its path that need not be checked again, as ``Place.trusted``."""
        return self._reader.trusted

    def open_place(self) -> Place:
        """Its directories, checked now and open until ``close``.  Raises as ``Place.folder``."""
        return open_place(self.maildir, (), trusted=self.trusted)

    def opened(self, held: Place | None = None) -> AbstractContextManager[Place]:
        """Its directories, open during a ``with``: ``held``, if a session has opened them.

        Raises as ``place.opened``.
        """
        # Not by a path that was checked earlier: who had the directories above may have given
        # them away meanwhile.
        if held is None or held.is_fixed:
            return opened(self.maildir, trusted=self.trusted)
        return lent(held)

    @property
    def messages(self) -> int:
        """Messages in memory."""
        return 0 if self._snapshot is None else len(self._snapshot.bases)

    def forget(self, bases: Iterable[str]) -> None:
        """Record removed messages: a new file of such a name is another message."""
        self._reader.forget(bases)

    def has_changed(self, since: Snapshot) -> bool:
        """Whether files may have been added, removed or renamed.  Blocks."""
        try:
            return self._reader.stamp()[:2] != since.stamp[:2]
        except OSError:
            return True

    def unchanged(self) -> Snapshot | None:
        """The current snapshot, if nothing changed: a few ``stat`` calls; None: call ``read``."""
        snapshot = self._snapshot
        # While one is being read it may be known already that something has changed.
        if snapshot is None or not self._settled or self._waiting is not None:
            return None
        if snapshot.corrections:
            return None
        try:
            if self._reader.stamp() != snapshot.stamp or len(snapshot.young) > FEW:
                return None
            is_as_read = not snapshot.young or is_as_seen(self.maildir, snapshot)
        except OSError:
            # The reading fails with it too, unless it was for a moment.
            return None
        return snapshot if is_as_read else None

    def read(self) -> Deferred[Snapshot]:
        """The snapshot of a reading that has not begun yet; fails with a store's errors."""
        if self._waiting is None:
            return self._read()
        # A running reading may miss new messages.
        joined: Deferred[Snapshot] = Deferred()
        self._waiting.append(joined)
        return joined

    def _current(self) -> Deferred[Snapshot]:
        snapshot = self.unchanged()
        return self.read() if snapshot is None else succeed(snapshot)

    def _read(self) -> Deferred[Snapshot]:
        self._waiting = []
        before = self._snapshot
        begun = self._now_ns()
        reading: Deferred[Snapshot] = self.run(lambda: self._reader.read(before))

        def done(result: Snapshot | Failure) -> Snapshot | Failure:
            if isinstance(result, Snapshot):
                self._snapshot = result
                # Any change of the uidlist changes its length or inode.
                self._settled = settled(result.stamp[:2], begun)
            waiting, self._waiting = self._waiting or [], None
            for joined in waiting:
                if isinstance(result, Failure):
                    joined.errback(result)
                else:
                    # Share the result if nothing has changed, else read again.
                    self._current().chainDeferred(joined)
            return result

        return reading.addBoth(done)
