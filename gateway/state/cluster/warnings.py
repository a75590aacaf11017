"""How full mailboxes were, and who was told when: rows in PostgreSQL.  Blocks."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model import DigestClaim, Level, WarningChange, WarningState
from gateway.postgresql.database import Cursor, Database
from gateway.quota.warnings import UNKNOWN, step


class WarningRows:
    """Warnings of users, and digests for administrators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- warnings ------------------------------------------------------------

    def weigh(self, mailbox: str, level: Level, now: float, interval: float) -> WarningChange:
        """Record how full a mailbox is; the answer has the warning to send, if one is due."""
        was = self._state(mailbox)
        state, notice = step(was, level, now, interval)
        if state == was:
            # Most deliveries change nothing.
            return WarningChange(was, state, notice)

        change: WarningChange | None = None

        def weigh(cursor: Cursor, again: bool) -> WarningChange:
            nonlocal change
            was = _lock_state(cursor, mailbox)
            if not (again and change is not None and was == change.now):
                state, notice = step(was, level, now, interval)
                _keep(cursor, mailbox, state)
                change = WarningChange(was, state, notice)
            # Else this is what the attempt before has left: its warning is still to be sent.
            return change

        return self._database.transact(weigh)

    def take_back(self, mailbox: str, change: WarningChange) -> bool:
        """The warning was not sent: it is due again; False if the state has changed since."""

        def take_back(cursor: Cursor, _: bool) -> bool:
            state = _lock_state(cursor, mailbox)
            is_current = state == change.now
            _keep(cursor, mailbox, change.was if is_current else state)
            return is_current

        return self._database.transact(take_back)

    def _state(self, mailbox: str) -> WarningState:
        rows = self._database.read(
            "SELECT level, warned_at, full_at FROM pop3gw.warning WHERE mailbox = %s", (mailbox,)
        )
        return _state_of(*rows[0]) if rows else UNKNOWN

    def warning_states(self, least: Level) -> Mapping[str, WarningState]:
        """The mailboxes that were last found at ``least`` or above, sorted by name."""
        rows = self._database.read(
            "SELECT mailbox, level, warned_at, full_at FROM pop3gw.warning WHERE level >= %s"
            " ORDER BY mailbox",
            (int(least),),
        )
        return {mailbox: _state_of(*rest) for mailbox, *rest in rows}

    # -- digests -------------------------------------------------------------

    def is_digest_due(self, recipient: str, now: float, interval: float) -> bool:
        """Whether ``recipient`` was sent none for ``interval`` seconds."""
        return self._database.transact(
            lambda cursor, _: _is_due(_sent(cursor, recipient, now), now, interval)
        )

    def take_digest(self, recipient: str, now: float, interval: float) -> DigestClaim | None:
        """The right to send one, if it is due; it counts as sent from here on."""

        claim = None

        def take(cursor: Cursor, again: bool) -> DigestClaim | None:
            nonlocal claim
            was = _sent(cursor, recipient, now)
            if again and claim is not None and was == claim.now:
                # The attempt before has left this.
                return claim
            if not _is_due(was, now, interval):
                return None
            added = cursor.execute(
                "INSERT INTO pop3gw.digest (recipient, sent) VALUES (%(to)s, %(now)s)"
                " ON CONFLICT (recipient) DO UPDATE SET sent = %(now)s"
                " WHERE digest.sent = %(was)s RETURNING true",
                {"to": recipient, "now": now, "was": was},
            ).fetchone()
            claim = None if added is None else DigestClaim(was, now)
            return claim

        return self._database.transact(take)

    def return_digest(self, recipient: str, claim: DigestClaim) -> bool:
        """The digest was not sent: it is due again; False if another was sent since."""

        def give_back(cursor: Cursor, _: bool) -> bool:
            if claim.was is None:
                statement = "DELETE FROM pop3gw.digest WHERE recipient = %(to)s AND sent = %(now)s"
            else:
                statement = (
                    "UPDATE pop3gw.digest SET sent = %(was)s"
                    " WHERE recipient = %(to)s AND sent = %(now)s"
                )
            values = {"to": recipient, "now": claim.now, "was": claim.was}
            return cursor.execute(statement, values).rowcount == 1

        return self._database.transact(give_back)


def _lock_state(cursor: Cursor, mailbox: str) -> WarningState:
    """The state of a mailbox, which nobody else changes before the end of the transaction."""
    row = cursor.execute(
        "INSERT INTO pop3gw.warning AS known (mailbox) VALUES (%s)"
        " ON CONFLICT (mailbox) DO UPDATE SET level = known.level"
        " RETURNING level, warned_at, full_at",
        (mailbox,),
    ).fetchone()
    assert row is not None
    return _state_of(*row)


def _keep(cursor: Cursor, mailbox: str, state: WarningState) -> None:
    if state == UNKNOWN:
        cursor.execute("DELETE FROM pop3gw.warning WHERE mailbox = %s", (mailbox,))
        return
    cursor.execute(
        "UPDATE pop3gw.warning SET level = %s, warned_at = %s, full_at = %s WHERE mailbox = %s",
        (int(state.level), state.warned, state.over, mailbox),
    )


def _state_of(level: int, warned: float | None, over: float | None) -> WarningState:
    return WarningState(Level(level), warned, over)


def _sent(cursor: Cursor, recipient: str, now: float) -> float | None:
    """When the last digest was sent; a time in the future becomes ``now``."""
    cursor.execute(
        "UPDATE pop3gw.digest SET sent = %(now)s WHERE recipient = %(to)s AND sent > %(now)s",
        {"to": recipient, "now": now},
    )
    row = cursor.execute(
        "SELECT sent FROM pop3gw.digest WHERE recipient = %s FOR UPDATE", (recipient,)
    ).fetchone()
    return None if row is None else float(row[0])


def _is_due(sent: float | None, now: float, interval: float) -> bool:
    return sent is None or now - sent >= interval
