"""How full mailboxes were, and who was told when: rows of the ledger.  Blocks: for a worker."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import asdict

from gateway.model import DigestClaim, Level, WarningChange, WarningState
from gateway.quota.warnings import UNKNOWN, step
from gateway.state.ledger_file import LedgerFile

_UNCHANGED = "level = :level AND warned IS :warned AND over IS :over"
_NEW = "level = :new_level, warned = :new_warned, over = :new_over"

# RETURNING says whether the statement changed a row; the connection's count of changed rows
# may be another thread's.
_CHANGE = f"UPDATE warnings SET {_NEW} WHERE mailbox = :mailbox AND {_UNCHANGED} RETURNING 1"
_FORGET = f"DELETE FROM warnings WHERE mailbox = :mailbox AND {_UNCHANGED} RETURNING 1"
_ADD = f"""
    INSERT INTO warnings VALUES (:mailbox, :new_level, :new_warned, :new_over)
    ON CONFLICT DO UPDATE SET {_NEW} WHERE {_UNCHANGED} RETURNING 1
"""

_DIGEST_SENT = """
    INSERT INTO digests VALUES (:recipient, :new) ON CONFLICT
    DO UPDATE SET sent = :new WHERE sent = :was RETURNING 1
"""
_DIGEST_NOT_SENT = "DELETE FROM digests WHERE recipient = :recipient AND sent = :was RETURNING 1"


class WarningRows(LedgerFile):
    """Warnings of users, and digests for administrators."""

    # -- warnings ------------------------------------------------------------

    def warning_state(self, mailbox: str) -> WarningState:
        """The warnings of one mailbox."""
        rows = self._do(
            "SELECT level, warned, over FROM warnings WHERE mailbox = :mailbox", mailbox=mailbox
        )
        return next((_state(*row) for row in rows), UNKNOWN)

    def warning_states(self, least: Level = Level.NORMAL) -> Mapping[str, WarningState]:
        """The mailboxes that were last found at ``least`` or above, sorted by name."""
        rows = self._do(
            "SELECT mailbox, level, warned, over FROM warnings WHERE level >= :least"
            " ORDER BY mailbox",
            least=least,
        )
        return {mailbox: _state(*rest) for mailbox, *rest in rows}

    def keep_warning_state(self, mailbox: str, state: WarningState, was: WarningState) -> bool:
        """Store ``state`` in place of ``was``; False, and no change, if another has replaced it."""
        if was == UNKNOWN == state:
            return self.warning_state(mailbox) == UNKNOWN
        change = _FORGET if state == UNKNOWN else _CHANGE
        statement = _ADD if was == UNKNOWN else change
        new = {f"new_{name}": value for name, value in asdict(state).items()}
        return bool(self._do(statement, mailbox=mailbox, **asdict(was), **new))

    def weigh(self, mailbox: str, level: Level, now: float, interval: float) -> WarningChange:
        """Record how full a mailbox is; the answer has the warning to send, if one is due.

        The warning counts as sent from here on, also after a crash.
        """
        while True:
            was = self.warning_state(mailbox)
            state, notice = step(was, level, now, interval)
            if state == was or self.keep_warning_state(mailbox, state, was):
                return WarningChange(was, state, notice)

    def take_back(self, mailbox: str, change: WarningChange) -> bool:
        """The warning was not sent: it is due again; False if the state has changed since."""
        return self.keep_warning_state(mailbox, change.was, change.now)

    # -- digests -------------------------------------------------------------

    def is_digest_due(self, recipient: str, now: float, interval: float) -> bool:
        """Whether ``recipient`` was sent none for ``interval`` seconds.

        A time in the future, from when a clock was wrong, becomes ``now``.
        """
        sent = self._digest_sent(recipient)
        if sent is not None and sent > now:
            self._keep_digest_sent(recipient, now, sent)
            return False
        return sent is None or now - sent >= interval

    def take_digest(self, recipient: str, now: float, interval: float) -> DigestClaim | None:
        """The right to send one, if it is due; it counts as sent from here on."""
        was = self._digest_sent(recipient)
        due = self.is_digest_due(recipient, now, interval)
        if due and self._keep_digest_sent(recipient, now, was):
            return DigestClaim(was, now)
        return None

    def return_digest(self, recipient: str, claim: DigestClaim) -> bool:
        """The digest was not sent: it is due again; False if another was sent since."""
        return self._keep_digest_sent(recipient, claim.was, claim.now)

    def _digest_sent(self, recipient: str) -> float | None:
        rows = self._do(
            "SELECT sent FROM digests WHERE recipient = :recipient", recipient=recipient
        )
        return next((float(sent) for (sent,) in rows), None)

    def _keep_digest_sent(self, recipient: str, new: float | None, was: float | None) -> bool:
        statement = _DIGEST_NOT_SENT if new is None else _DIGEST_SENT
        return bool(self._do(statement, recipient=recipient, new=new, was=was))


def _state(level: int, warned: float | None, over: float | None) -> WarningState:
    return WarningState(Level(level), warned, over)
