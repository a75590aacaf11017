"""The uidlist of a Maildir that messages are copied to: they come with their unique-ids.  Blocks.

The caller has the Maildir closed and holds the list's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from gateway.errors import MailboxUnusable
from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.ids import may_be_id
from gateway.store.maildir.uids.uidlines import HIGHEST, carried_number, joined
from gateway.store.maildir.uids.uidlist import NAME, UidList

IsThere = Callable[[str], bool]
"""Whether a message of this base name has a file."""


class CopiedIds(UidList):
    """A uidlist to which lines with known unique-ids are added."""

    def __init__(self, path: str, mark: Mark | None = None) -> None:
        super().__init__(path, mark)
        self._carried = 0
        self._by_shown: dict[str, str] = {}
        self._indexed = -1

    def _set_fields(self, base: str, fields: str) -> None:
        super()._set_fields(base, fields)
        shown = self.field(base, "P")
        if shown is not None:
            self._carried = max(self._carried, carried_number(shown))

    def _beyond_carried(self) -> int:
        # Kept, not computed: each message asks for it.
        return self._carried + 1

    def find(self, shown: str) -> str | None:
        """The base name that has a line with this unique-id, with a file or without."""
        if self._indexed != len(self.uids):
            self._by_shown = {self._shown(base): base for base in self.uids}
            self._indexed = len(self.uids)
        return self._by_shown.get(shown)

    def _shown(self, base: str) -> str:
        shown = self.field(base, "P")
        return shown if shown is not None and may_be_id(shown) else str(self.uids[base])

    def take(self, base: str, shown: str, *, now: float) -> None:
        """Add a line at the end for a message with this unique-id, and sync the list.

        No other line has that (``find``).  Raises ``MailboxUnusable`` or ``OSError``.
        """
        if not may_be_id(shown):
            raise MailboxUnusable(f"{self.name}: {shown[:80]!r} cannot be a unique-id")
        fresh = self._prepare(now)
        number = carried_number(shown)
        if str(number) != shown or number <= self._highest:
            # Not the next number: the line keeps the id beside one.
            number = self.next_uid
            self._set_fields(base, f"P{shown}")
        self.next_uid = max(self.next_uid, number + 1, self._beyond_carried())
        self._check_room()
        self.mark.cover(self.next_uid)
        self.uids[base] = number
        self._by_shown[shown] = base
        self._indexed = len(self.uids)
        if fresh or self._is_to_replace:
            self._write_all()
        else:
            self._append(self._text([(base, number)]), sync=True)
        self._highest = max(self._highest, number)
        self.mark.note(self.next_uid)

    def raise_next(self, next_uid: int, *, now: float) -> None:
        """Let new messages get ids from ``next_uid`` on, or from a larger one.

        Raises ``MailboxUnusable`` if there are none, or ``OSError``.
        """
        if next_uid > HIGHEST:
            raise MailboxUnusable(
                f"{self.name}: the other place has given unique-ids up to {next_uid}, and"
                f" numbers in a {NAME} end at {HIGHEST}"
            )
        before = self.next_uid
        fresh = self._prepare(now)
        self.next_uid = max(self.next_uid, next_uid)
        if fresh or self._is_to_replace or self.next_uid > before:
            self.mark.cover(self.next_uid)
            self._write_all()
        self.mark.note(self.next_uid)

    def _prepare(self, now: float) -> bool:
        """Have a next id that was never given; whether there is no list yet."""
        fresh = not self.uids and not self.uidvalidity
        if fresh:
            self._begin(now)
        if not self._is_followed:
            self.next_uid = self.mark.begin(self.next_uid, is_new=fresh)
            self._is_followed = True
        self.next_uid = self.beyond()
        return fresh

    def drop(self, bases: Collection[str]) -> None:
        """Rewrite the list without the lines of these.  Raises ``OSError``."""
        if any(base in self.uids for base in bases):
            for base in bases:
                self.uids.pop(base, None)
                self.fields.pop(base, None)
            self._indexed = -1
            self._write_all()

    def arrange(self, bases: Sequence[str]) -> None:
        """Rewrite the list so that messages are listed in this order (the field O)."""
        for order, base in enumerate(bases, 1):
            self._set_fields(base, joined(self.fields.get(base, ""), f"O{order}"))
        self._write_all()

    def _write_all(self) -> None:
        by_uid = sorted(self.uids.items(), key=lambda item: item[1])
        self._replace([self._text(by_uid)])
