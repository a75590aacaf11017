"""What pop3gw keeps beside the mail: a small SQLite file in the state directory."""

from __future__ import annotations

import os
from threading import Lock

from zope.interface import implementer

from gateway.interfaces import IState, Run
from gateway.state.login_rows import LoginRows
from gateway.state.mailbox_rows import MailboxRows
from gateway.state.retention_rows import RetentionRows
from gateway.state.rows_state import RowsState
from gateway.state.warning_rows import WarningRows

__all__ = ["LedgerState"]


class Ledger(WarningRows, RetentionRows, MailboxRows, LoginRows):
    """The open file with all its rows.  Blocks: for a worker."""


@implementer(IState)
class LedgerState(RowsState[Ledger]):
    """An ``IState`` in a ledger, which is opened once in this process: when first needed.

    Where that fails, the next call tries again.  Once closed it is not opened again: it would
    stay open, and SQLite would leave its -wal and -shm files.
    """

    def __init__(self, directory: str, run: Run) -> None:
        """``directory``: the state directory; ``run``: does what blocks."""
        super().__init__(run)
        self._directory = directory
        self._ledger: Ledger | None = None
        self._opening = Lock()

    def high_water(self, place: str, least: int) -> int:
        """A ``HighWater``; paths below the state directory are kept relative to it."""
        # So that a state directory that is moved keeps its numbers.
        is_below = place.startswith(os.path.join(self._directory, ""))
        name = os.path.relpath(place, self._directory) if is_below else place
        return self._opened().high_water(name, least)

    def _opened(self) -> Ledger:
        with self._opening:
            if self._closed:
                raise self._over()
            if self._ledger is None:
                self._ledger = Ledger(self._directory)
            return self._ledger

    def _is_open(self) -> bool:
        return self._ledger is not None

    def _close(self) -> None:
        with self._opening:
            ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()
