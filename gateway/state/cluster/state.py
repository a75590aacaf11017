"""The state of a cluster: rows in the database that all its gateways use."""

from __future__ import annotations

from zope.interface import implementer

from gateway.interfaces import IState, Run
from gateway.postgresql.database import Database
from gateway.state.cluster.mailboxes import MailboxRows
from gateway.state.cluster.retention import RetentionRows
from gateway.state.cluster.warnings import WarningRows
from gateway.state.rows_state import RowsState


class ClusterRows(WarningRows, RetentionRows, MailboxRows):
    """All rows.  Blocks."""


@implementer(IState)
class ClusterState(RowsState[ClusterRows]):
    """An ``IState`` in PostgreSQL."""

    def __init__(self, database: Database, run: Run) -> None:
        """``run``: does what blocks."""
        super().__init__(run)
        self._rows = ClusterRows(database)
        self._database = database

    def _opened(self) -> ClusterRows:
        return self._rows

    def _is_open(self) -> bool:
        return True

    def _close(self) -> None:
        self._database.close()
