"""How far the unique-ids of all mailboxes have come, in the ledger.  Blocks: for a worker."""

from __future__ import annotations

import os
from threading import Lock

from gateway.state.ledger import Ledger

__all__ = ["LedgerHighWater"]


class LedgerHighWater:
    """A ``HighWater``; its ledger is opened when it is first asked."""

    def __init__(self, state: str) -> None:
        """``state`` is the directory of the ledger, below which Maildirs are named from it."""
        self._state = state
        self._ledger: Ledger | None = None
        self._opening = Lock()

    def __call__(self, maildir: str, least: int) -> int:
        """The mark, raised to ``least`` if it is lower."""
        # So that a state directory that is moved keeps what it knows.
        name = os.path.relpath(maildir, self._state) if self._is_below(maildir) else maildir
        return self._opened().high_water(name, least)

    def _is_below(self, maildir: str) -> bool:
        return maildir.startswith(os.path.join(self._state, ""))

    def raise_all(self, by: int) -> None:
        """Raise every mark that there is."""
        self._opened().raise_all(by)

    def _opened(self) -> Ledger:
        with self._opening:
            if self._ledger is None:
                # It is what is left when the rest was lost, and is seldom written.
                self._ledger = Ledger(self._state, survives_power=True)
            return self._ledger

    def close(self) -> None:
        """Give the ledger back."""
        with self._opening:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
