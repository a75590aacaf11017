"""High-water marks: the largest unique-ids of mailboxes, independent of their uidlists.

The mark of a mailbox is stored outside the Maildir.  It exceeds every id that a client
may have seen, so that a lost uidlist, or an older copy of one, does not reuse ids.  It is
raised in blocks, so that most messages cost no write.  So it says from where ids may
continue, not the next id; only a process that has followed the list knows that.
"""

from __future__ import annotations

from threading import Lock

from twisted.logger import Logger

from gateway.errors import GatewayError, StoreDown
from gateway.interfaces import RAISED, HighWater
from gateway.store.maildir.uids.uidlines import HIGHEST

log = Logger()

BLOCK = 1000
"""Ids in a block."""


def no_high_water(_: str, __: int) -> int:
    """A ``HighWater`` without memory."""
    return 0


class Mark:
    """The mark of a Maildir, shared by all readers of its uidlist in this process.  Blocks."""

    def __init__(self, maildir: str = "", high_water: HighWater = no_high_water) -> None:
        self.maildir = maildir
        self._high_water = high_water
        self._known = 0
        """The last known mark."""
        self.reached = 0
        """The next id in the list, as last read in this process."""
        self._is_read = False
        self._raising = Lock()
        self._is_failing = self._is_told = False

    def begin(self, next_uid: int, *, is_new: bool) -> int:
        """The next id for a list with ``next_uid`` that was not followed.

        ``is_new``: there is no list.  Raises ``StoreDown`` if the mark is unknown then; an
        existing list is trusted.
        """
        try:
            mark = self._read()
            if is_new:
                next_uid = self._ahead(next_uid)
        except GatewayError as error:
            if is_new:
                raise StoreDown(f"{self.maildir}: {error}") from error
            self._complain(error)
            return max(next_uid, self.reached)
        if mark > HIGHEST - BLOCK:
            # The list was damaged or full: the next one starts again.
            return next_uid
        self._tell(next_uid, mark, is_missing=is_new and mark > 0)
        return max(next_uid, mark, self.reached)

    def _ahead(self, next_uid: int) -> int:
        """Where a list begins that a restored backup may not know: it may have had one before."""
        ahead = next_uid + self._high_water(RAISED, 0)
        return ahead if ahead <= HIGHEST - BLOCK else next_uid

    def show(self, next_uid: int, beyond: int) -> None:
        """A list with ``next_uid`` is shown; all its ids are below ``beyond``."""
        self.cover(beyond)
        if self._known <= HIGHEST - BLOCK:
            self._tell(next_uid, self._known, is_missing=False)
        self.note(next_uid)

    def cover(self, next_uid: int) -> None:
        """Raise the mark to at least ``next_uid``, before lower ids are shown."""
        if next_uid <= self._known:
            return
        try:
            if not self._is_read:
                # After a start it is usually high enough: a raise waits for the disk.
                self._read()
            if next_uid > self._known:
                self._known = self._high_water(self.maildir, next_uid + BLOCK)
        except GatewayError as error:
            self._complain(error)
        else:
            self._is_failing = False

    def _read(self) -> int:
        self._known, self._is_read = self._high_water(self.maildir, 0), True
        return self._known

    def note(self, next_uid: int) -> None:
        """Record the next id of the list."""
        # A login that shows the list and a delivery that extends it run in two threads.
        with self._raising:
            self.reached = max(self.reached, next_uid)

    def _tell(self, next_uid: int, mark: int, *, is_missing: bool) -> None:
        """Log a missing or older list, once until ids continue."""
        is_wrong = is_missing or next_uid < max(self.reached, mark - BLOCK)
        if is_wrong and not self._is_told:
            log.warn(
                "{maildir}: the uidlist is {state}: ids go on at {uid}, which no client has seen",
                maildir=self.maildir,
                state="missing" if is_missing else "older than ids that were given",
                uid=max(next_uid, mark, self.reached),
            )
        self._is_told = is_wrong

    def _complain(self, error: GatewayError) -> None:
        """Log once that the mark is unknown; mail continues with the uidlist alone."""
        if not self._is_failing:
            log.warn("{maildir}: {error}", maildir=self.maildir, error=error)
        self._is_failing = True
