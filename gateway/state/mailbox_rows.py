"""What the ledger has of a mailbox that is renamed or deleted.  Blocks: for a worker.

Each step is one statement that may be repeated, so a second run ends what a crash
interrupted.
"""

from __future__ import annotations

from gateway.state.ledger_file import LedgerFile

_TABLES = """
    SELECT one.name FROM sqlite_schema AS one, pragma_table_info(one.name) AS field
    WHERE one.type = 'table' AND field.name = 'mailbox' AND one.name != 'renames'
"""
_BEGIN = """
    INSERT INTO renames VALUES (:mailbox, :target) ON CONFLICT DO UPDATE SET target = :target
"""


class MailboxRows(LedgerFile):
    """The rows of all tables with a column ``mailbox``."""

    def begin_rename(self, mailbox: str, target: str) -> None:
        """Record a rename that begins; a loss of power does not undo it."""
        self._do_lastingly(_BEGIN, mailbox=mailbox, target=target)

    def find_rename(self, mailbox: str) -> str | None:
        """The target of a rename that did not end."""
        rows = self._do("SELECT target FROM renames WHERE mailbox = :mailbox", mailbox=mailbox)
        return next((str(target) for (target,) in rows), None)

    def finish_rename(self, mailbox: str) -> None:
        """Move all rows to the target, and forget the rename last."""
        target = self.find_rename(mailbox)
        if target is None:
            return
        for table in self._mailbox_tables():
            statement = f"UPDATE OR REPLACE {table} SET mailbox = :target WHERE mailbox = :mailbox"
            self._do(statement, mailbox=mailbox, target=target)
        self.drop_rename(mailbox)

    def drop_rename(self, mailbox: str) -> None:
        """Forget the rename."""
        self._do("DELETE FROM renames WHERE mailbox = :mailbox", mailbox=mailbox)

    def forget_mailbox(self, mailbox: str) -> None:
        """Delete all rows of the mailbox."""
        for table in self._mailbox_tables():
            self._do(f"DELETE FROM {table} WHERE mailbox = :mailbox", mailbox=mailbox)

    def _mailbox_tables(self) -> list[str]:
        return [str(name) for (name,) in self._do(_TABLES)]
