"""What pop3gw remembers beside the mail: a small SQLite file below the state directory.

Several processes and threads may use it.  Every change is one statement that
names what it replaces, so that of two who know the same only one prevails.
It survives the end of any process; with the power the last changes may go,
unless whoever opens it wants to wait for the disk.
All of this blocks: call it on a worker.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import quote

from attrs import asdict

from gateway.errors import LedgerUnusable, StoreDown
from gateway.model import LastScan, Level, RetentionOrder, WarningState
from gateway.quota.warnings import UNKNOWN, step

NAME = "ledger.sqlite3"

APPLICATION_ID = 0x70336777
"""In the file's header, by which file(1) and we know whose it is: ``p3gw``."""

VERSIONS = (
    """
    CREATE TABLE warnings (
        mailbox TEXT PRIMARY KEY,
        level INTEGER NOT NULL CHECK (level BETWEEN 0 AND 2),
        warned REAL,
        over REAL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE digests (
        recipient TEXT PRIMARY KEY,
        sent REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE retention (
        mailbox TEXT PRIMARY KEY,
        policy TEXT NOT NULL,
        due REAL,
        looked REAL NOT NULL,
        messages INTEGER NOT NULL,
        stopped TEXT
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE orders (
        mailbox TEXT PRIMARY KEY,
        given REAL NOT NULL,
        released INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE removals (
        day INTEGER PRIMARY KEY,
        messages INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE high_water (
        maildir TEXT PRIMARY KEY,
        uid INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
"""What makes each version of the file of the one before; a new file has version 0.

One statement each.  What has been released is never changed, only added to.
"""

_UNCHANGED = "level = :level AND warned IS :warned AND over IS :over"
_NEW = "level = :new_level, warned = :new_warned, over = :new_over"

# RETURNING tells whether it was done, to whichever thread; a count of rows is the connection's.
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

_LOOKED = """
    INSERT INTO retention VALUES (:mailbox, :policy, :due, :looked, :messages, :stopped)
    ON CONFLICT DO UPDATE SET policy = :policy, due = :due, looked = :looked,
    messages = :messages, stopped = :stopped
"""
_ORDER = """
    INSERT INTO orders VALUES (:mailbox, :given, :released) ON CONFLICT
    DO UPDATE SET given = max(given, :given), released = max(released, :released)
"""
_COUNT = """
    INSERT INTO removals VALUES (:day, :messages) ON CONFLICT
    DO UPDATE SET messages = messages + :messages RETURNING messages
"""

_RAISE = """
    INSERT INTO high_water VALUES (:maildir, :least) ON CONFLICT
    DO UPDATE SET uid = max(uid, :least) RETURNING uid
"""

_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Change(NamedTuple):
    """What a look at a mailbox has changed."""

    was: WarningState
    now: WarningState
    notice: Level | None
    """The warning to send; this process is the only one that is told to."""


class Turn(NamedTuple):
    """Leave to send a digest; times in Unix seconds."""

    was: float | None
    """When the last one was sent."""

    now: float


class Ledger:
    """The open file.

    Everything here fails with ``StoreDown`` when there is no room, or another
    process writes for too long, and with ``LedgerUnusable`` when the file is
    damaged, not ours, of a newer version, or out of reach.
    """

    def __init__(
        self,
        directory: str,
        *,
        busy_timeout: float = 10.0,
        survives_power: bool = False,
        only_look: bool = False,
    ) -> None:
        """Open it in ``directory``, or make it; other processes are waited for ``busy_timeout`` s.

        ``survives_power``: whether each change by this one waits for the disk.
        ``only_look``: see whether it could be opened; it must be there, and is not changed.
        """
        self._synchronous = "FULL" if survives_power else "NORMAL"
        self.path = os.path.join(directory, NAME)
        self._one_at_a_time = Lock()
        with self._failing(), _alone(directory):
            if not only_look:
                self._make_file()
            self._database = sqlite3.connect(
                self._uri(only_look),
                timeout=busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
            try:
                if only_look:
                    self._version()
                    self._check()
                else:
                    self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _uri(self, only_look: bool) -> str:
        # Without a log beside it, to be looked at it needs no other file, and makes none.
        alone = only_look and not os.path.exists(f"{self.path}-wal")
        mode = f"ro{'&immutable=1' if alone else ''}" if only_look else "rwc"
        return f"file:{quote(self.path)}?mode={mode}"

    def close(self) -> None:
        """Give the file back."""
        with self._one_at_a_time:
            self._database.close()

    # -- warnings ------------------------------------------------------------

    def warning_state(self, mailbox: str) -> WarningState:
        """What is remembered of a mailbox's warnings."""
        rows = self._do(
            "SELECT level, warned, over FROM warnings WHERE mailbox = :mailbox", mailbox=mailbox
        )
        return next((_state(*row) for row in rows), UNKNOWN)

    def warning_states(self, least: Level = Level.NORMAL) -> Mapping[str, WarningState]:
        """Of all mailboxes that were last found at ``least`` or above, in order of their names."""
        rows = self._do(
            "SELECT mailbox, level, warned, over FROM warnings WHERE level >= :least"
            " ORDER BY mailbox",
            least=least,
        )
        return {mailbox: _state(*rest) for mailbox, *rest in rows}

    def keep_warning_state(self, mailbox: str, state: WarningState, was: WarningState) -> bool:
        """Remember ``state`` in place of ``was``; False, and nothing, if that is no longer so."""
        if was == UNKNOWN == state:
            return self.warning_state(mailbox) == UNKNOWN
        change = _FORGET if state == UNKNOWN else _CHANGE
        statement = _ADD if was == UNKNOWN else change
        new = {f"new_{name}": value for name, value in asdict(state).items()}
        return bool(self._do(statement, mailbox=mailbox, **asdict(was), **new))

    def weigh(self, mailbox: str, level: Level, now: float, interval: float) -> Change:
        """Take note of a mailbox's level, and say which warning is due, if any.

        See ``gateway.quota.warnings.step``.  The warning counts as sent from
        here on, a crash included; who cannot send it gives the change to
        ``take_back``.
        """
        while True:
            was = self.warning_state(mailbox)
            state, notice = step(was, level, now, interval)
            if state == was or self.keep_warning_state(mailbox, state, was):
                return Change(was, state, notice)

    def take_back(self, mailbox: str, change: Change) -> bool:
        """The warning was not sent after all; False if others have gone on from there."""
        return self.keep_warning_state(mailbox, change.was, change.now)

    # -- digests -------------------------------------------------------------

    def is_due(self, recipient: str, now: float, interval: float) -> bool:
        """Whether no digest was sent to that address for ``interval`` seconds.

        A time that has not come yet, since a clock was wrong, becomes ``now``.
        """
        sent = self._digest_sent(recipient)
        if sent is not None and sent > now:
            self._keep_digest_sent(recipient, now, sent)
            return False
        return sent is None or now - sent >= interval

    def take_turn(self, recipient: str, now: float, interval: float) -> Turn | None:
        """The same, and if so the digest counts as sent from here on, a crash included.

        Of several processes only one gets it; who cannot send it gives it back.
        """
        was = self._digest_sent(recipient)
        due = self.is_due(recipient, now, interval)
        return Turn(was, now) if due and self._keep_digest_sent(recipient, now, was) else None

    def give_turn_back(self, recipient: str, turn: Turn) -> bool:
        """The digest was not sent after all; False if others have gone on from there."""
        return self._keep_digest_sent(recipient, turn.was, turn.now)

    def _digest_sent(self, recipient: str) -> float | None:
        rows = self._do(
            "SELECT sent FROM digests WHERE recipient = :recipient", recipient=recipient
        )
        return next((float(sent) for (sent,) in rows), None)

    def _keep_digest_sent(self, recipient: str, new: float | None, was: float | None) -> bool:
        statement = _DIGEST_NOT_SENT if new is None else _DIGEST_SENT
        return bool(self._do(statement, recipient=recipient, new=new, was=was))

    # -- retention -----------------------------------------------------------

    def looks(self) -> dict[str, LastScan]:
        """What retention found, by mailbox."""
        return {mailbox: LastScan(*rest) for mailbox, *rest in self._do("SELECT * FROM retention")}

    def keep_look(self, mailbox: str, look: LastScan) -> None:
        """Remember it in place of the one before."""
        self._do(_LOOKED, mailbox=mailbox, **look._asdict())

    def forget_look(self, mailbox: str) -> None:
        """Remember nothing of the mailbox."""
        self._do("DELETE FROM retention WHERE mailbox = :mailbox", mailbox=mailbox)

    def order(self, mailbox: str, order: RetentionOrder) -> None:
        """Have retention look at a mailbox; the later of two counts, and a release of either."""
        self._do(_ORDER, mailbox=mailbox, given=order.given, released=int(order.released))

    def orders(self) -> dict[str, RetentionOrder]:
        """What has been ordered and not done, by mailbox."""
        rows = self._do("SELECT mailbox, given, released FROM orders")
        return {mailbox: RetentionOrder(given, bool(released)) for mailbox, given, released in rows}

    def done(self, mailbox: str, order: RetentionOrder) -> None:
        """That order was carried out; one that was given meanwhile stays."""
        self._do(
            "DELETE FROM orders WHERE mailbox = :mailbox AND given = :given"
            " AND released = :released",
            mailbox=mailbox,
            given=order.given,
            released=int(order.released),
        )

    def count_removed(self, day: int, messages: int) -> int:
        """So many more went on ``day``, any number that tells days apart; how many it is now.

        All other days are forgotten.
        """
        ((total,),) = self._do(_COUNT, day=day, messages=messages)
        self._do("DELETE FROM removals WHERE day != :day", day=day)
        return int(total)

    # -- unique-ids ----------------------------------------------------------

    def high_water(self, maildir: str, least: int = 0) -> int:
        """What no unique-id that was shown of a Maildir reaches; raised to ``least`` first."""
        # SQLite takes no text that is not UTF-8, which a path need not be.
        name = os.fsencode(maildir).decode("utf-8", "backslashreplace")
        query = _RAISE if least else "SELECT uid FROM high_water WHERE maildir = :maildir"
        return next((int(uid) for (uid,) in self._do(query, maildir=name, least=least)), 0)

    def raise_all(self, by: int) -> None:
        """Raise it for every Maildir of which it is known."""
        self._do("UPDATE high_water SET uid = uid + :by", by=by)

    # -- the file ------------------------------------------------------------

    def _make_file(self) -> None:
        """With names of mailboxes in it, it is for our own eyes.

        An existing file is not touched: to close it would drop the locks that
        SQLite has on it elsewhere in this process.
        """
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _prepare(self) -> None:
        version = self._version()
        self._do("PRAGMA journal_mode = WAL")
        self._do(f"PRAGMA synchronous = {self._synchronous}")
        self._check()
        if version < len(VERSIONS):
            self._do("BEGIN IMMEDIATE")
            for statement in VERSIONS[version:]:
                self._do(statement)
            self._do(f"PRAGMA application_id = {APPLICATION_ID}")
            self._do(f"PRAGMA user_version = {len(VERSIONS)}")
            self._do("COMMIT")

    def _check(self) -> None:
        ((found,),) = self._do("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._damaged(found)

    def _version(self) -> int:
        """Of the file, which is new or ours: nothing else is written to."""
        version, owner = self._number("user_version"), self._number("application_id")
        ((tables,),) = self._do("SELECT count(*) FROM sqlite_schema")
        if owner != APPLICATION_ID and (owner or version or tables):
            raise LedgerUnusable(f"{self.path}: is another program's; {_CURE}")
        if version > len(VERSIONS):
            raise LedgerUnusable(
                f"{self.path}: has version {version}, and this pop3gw knows none after"
                f" {len(VERSIONS)}: run the newer pop3gw that wrote it; or {_CURE}"
            )
        return version

    def _number(self, pragma: str) -> int:
        ((number,),) = self._do(f"PRAGMA {pragma}")
        return int(number)

    def _do(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        # Python keeps prepared statements for a connection: two threads at once would step the
        # same one, which SQLite refuses as misuse, or answers to one what the other asked.
        with self._one_at_a_time, self._failing():
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            passing = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
            kind = StoreDown if passing else LedgerUnusable
            raise kind(f"{error.filename or self.path}: {error.strerror}") from error
        except sqlite3.Error as error:
            if not hasattr(error, "sqlite_errorcode"):
                raise  # Python's, not SQLite's: a bug, such as a call after close.
            code = error.sqlite_errorcode & 0xFF
            if code in _DAMAGED:
                raise self._damaged(str(error)) from error
            kind = StoreDown if code in _PASSING else LedgerUnusable
            raise kind(f"{self.path}: {error}") from error

    def _damaged(self, found: str) -> LedgerUnusable:
        return LedgerUnusable(f"{self.path}: is damaged ({found}); {_CURE}")


_CURE = (
    "move it away, with its -wal and -shm files, and start pop3gw: it makes a new one,"
    " and users who were warned may be warned once more"
)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """One process at a time: SQLite gives up at once when two turn to WAL together."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _state(level: int, warned: float | None, over: float | None) -> WarningState:
    return WarningState(Level(level), warned, over)
