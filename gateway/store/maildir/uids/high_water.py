"""How far unique-ids have come in one mailbox, whatever becomes of its uidlist.

A number outside the Maildir, beyond every id that a client may have been
shown, so that a uidlist that is lost, or an older copy of one, does not bring
ids again.  It is raised by blocks: a mailbox costs a write now and then, and a
message none.  So it says where ids may go on, not where they are; only whoever
has followed a list since it last gave ids from it knows that too.
"""

from __future__ import annotations

from threading import Lock

from twisted.logger import Logger

from gateway.errors import GatewayError, StoreDown
from gateway.interfaces import HighWater
from gateway.store.maildir.uids.uidlines import HIGHEST

log = Logger()

BLOCK = 1000
"""Ids by which the number is ahead."""


def no_high_water(_: str, __: int) -> int:
    """A ``HighWater`` where nothing is remembered."""
    return 0


class Mark:
    """One Maildir's, for all in this process who read its uidlist.  Blocks."""

    def __init__(self, maildir: str = "", high_water: HighWater = no_high_water) -> None:
        self.maildir = maildir
        self._high_water = high_water
        self._known = 0
        """The mark, as it was last."""
        self.reached = 0
        """The next id, as somebody here last had it from the list."""
        self._raising = Lock()
        self._is_failing = self._is_told = False

    def begin(self, next_uid: int, *, is_new: bool) -> int:
        """Where ids go on in a list that says ``next_uid`` and was not followed.

        ``is_new``: there is no list.  Raises ``StoreDown`` when nothing can
        be told then; a list that is there is believed.
        """
        try:
            mark = self._high_water(self.maildir, 0)
        except GatewayError as error:
            if is_new:
                raise StoreDown(f"{self.maildir}: {error}") from error
            self._complain(error)
            return max(next_uid, self.reached)
        if mark > HIGHEST - BLOCK:
            # What a list said that was damaged, or has run out: the next begins anew.
            return next_uid
        self._tell(next_uid, mark, is_missing=is_new and mark > 0)
        return max(next_uid, mark, self.reached)

    def show(self, next_uid: int, beyond: int) -> None:
        """A list that says ``next_uid`` is shown, all ids in it being below ``beyond``."""
        self.cover(beyond)
        if self._known <= HIGHEST - BLOCK:
            self._tell(next_uid, self._known, is_missing=False)
        self.note(next_uid)

    def cover(self, next_uid: int) -> None:
        """See to it that the mark is not below ``next_uid``, before ids below that are shown."""
        if next_uid <= self._known:
            return
        try:
            # Another process may have raised it.
            self._known = self._high_water(self.maildir, 0)
            if self._known < next_uid:
                self._known = self._high_water(self.maildir, next_uid + BLOCK)
        except GatewayError as error:
            self._complain(error)
        else:
            self._is_failing = False

    def note(self, next_uid: int) -> None:
        """The list says so, or does now."""
        # A login that shows the list and a delivery that goes on from it are two threads.
        with self._raising:
            self.reached = max(self.reached, next_uid)

    def _tell(self, next_uid: int, mark: int, *, is_missing: bool) -> None:
        """Log a list that is not what it was, once until ids have gone on."""
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
        """Once: mail goes on, with the uidlist alone to tell which ids were given."""
        if not self._is_failing:
            log.warn("{maildir}: {error}", maildir=self.maildir, error=error)
        self._is_failing = True
