"""The uidlist as deliveries use it: they give ids, and need no list of messages."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.uidlist import Keep, UidFile, UidList


class Numbering(UidFile):
    """A uidlist for deliveries: it keeps the next id, and no messages in memory.

    So a mailbox of a million messages needs no more memory than an empty one.
    """

    def __init__(self, path: str, mark: Mark | None = None) -> None:
        super().__init__(path, mark)
        self._carried = 0

    def refresh(self) -> None:
        """Read new lines, and forget the names."""
        super().refresh()
        if self.fields:
            self._carried = max(self._carried, super()._beyond_carried())
        self._let_go()

    def _let_go(self) -> None:
        self.uids.clear()
        self.fields.clear()
        self._kept.clear()

    def _beyond_carried(self) -> int:
        return self._carried

    def number(self, new: Sequence[str], *, now: float, keep: Keep) -> None:
        """Add lines for messages before they appear; the caller holds the lock.

        Not synced to disk: readers do that before they show the ids.  ``keep`` and errors
        as for ``UidList.add``.
        """
        self.refresh()
        if self._is_to_replace or (self._offset and not self.uidvalidity):
            # The whole list must be rewritten.
            whole = UidList(self.path, self.mark)
            whole.refresh()
            whole.add(new, {}, now=now, there=0, keep=keep)
            return
        try:
            lines, fresh = self._give(new, {}, now)
            if fresh:
                self._replace(lines)
            else:
                self._append(b"".join(lines), sync=False)
            self._followed()
        except BaseException:
            self._forget()
            raise
        self._let_go()
