"""The SQLite file below the state directory: opening, versions, faults.

Several processes and threads may use it.  Every change is one statement that
names what it replaces, so that of two who know the same only one prevails.
It survives the end of any process; a loss of power may undo the last changes,
except those made by ``_do_lastingly``.
All of this blocks: call it on a worker.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any
from urllib.parse import quote

from gateway.errors import LedgerUnusable, StoreDown

NAME = "ledger.sqlite3"

APPLICATION_ID = 0x70336777
"""In the file's header, where file(1) and we see that it is ours: ``p3gw``."""

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
    """
    CREATE TABLE announced (
        capability TEXT PRIMARY KEY,
        arguments TEXT NOT NULL,
        until REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE forecasts (
        mailbox TEXT PRIMARY KEY,
        due TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE renames (
        mailbox TEXT PRIMARY KEY,
        target TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE last_logins (
        mailbox TEXT PRIMARY KEY,
        at REAL NOT NULL,
        method TEXT NOT NULL,
        network TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE logins_since (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        at REAL NOT NULL
    ) STRICT
    """,
    # Releases of before do not say for which policy: none of them is kept.
    "DROP TABLE orders",
    """
    CREATE TABLE orders (
        mailbox TEXT PRIMARY KEY,
        given REAL NOT NULL,
        released_at REAL,
        policy TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE removals ADD COLUMN purged INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE retention ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
)
"""What makes each version of the file of the one before; a new file has version 0.

One statement each.  What has been released is never changed, only added to.
"""

_SURVIVES_PROCESS = "PRAGMA synchronous = NORMAL"
_SURVIVES_POWER = "PRAGMA synchronous = FULL"

_PASSING = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LedgerFile:
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
        only_look: bool = False,
    ) -> None:
        """Open it in ``directory``, or make it.

        ``busy_timeout``: seconds to wait for other processes that write.
        ``only_look``: check whether it could be opened; it must be there, and is not changed.
        """
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
        # SQLite makes no -wal and -shm files for what is immutable.
        alone = only_look and not os.path.exists(f"{self.path}-wal")
        mode = f"ro{'&immutable=1' if alone else ''}" if only_look else "rwc"
        return f"file:{quote(self.path)}?mode={mode}"

    def close(self) -> None:
        """Give the file back."""
        with self._one_at_a_time:
            self._database.close()

    def _make_file(self) -> None:
        """Make it readable for its owner only, since it names mailboxes.

        An existing file is not opened: closing it would drop the locks that
        SQLite has on it elsewhere in this process (POSIX advisory locks).
        """
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _prepare(self) -> None:
        version = self._version()
        self._do("PRAGMA journal_mode = WAL")
        self._do(_SURVIVES_PROCESS)
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
        """The version of the file; raises unless the file is new or ours."""
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
        # Python caches prepared statements per connection.  Two threads at once would step the
        # same one: SQLite refuses that as misuse, or gives one thread the other's answer.
        with self._one_at_a_time, self._failing():
            return self._database.execute(statement, values).fetchall()

    def _do_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same for each of the rows, or for none if it fails."""
        with self._one_at_a_time, self._failing():
            self._database.execute("BEGIN IMMEDIATE")
            # SQLite itself rolls back on a full disk: a second time is an error.  Python looks.
            with self._database:
                self._database.executemany(statement, rows)

    def _do_lastingly(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """The same, and wait for the disk: a loss of power does not undo it."""
        with self._one_at_a_time, self._failing():
            self._database.execute(_SURVIVES_POWER)
            try:
                return self._database.execute(statement, values).fetchall()
            finally:
                self._database.execute(_SURVIVES_PROCESS)

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
                raise  # From Python, not from SQLite: a bug, such as a call after close.
            code = error.sqlite_errorcode & 0xFF
            if code in _DAMAGED:
                raise self._damaged(str(error)) from error
            kind = StoreDown if code in _PASSING else LedgerUnusable
            raise kind(f"{self.path}: {error}") from error

    def _damaged(self, found: str) -> LedgerUnusable:
        return LedgerUnusable(f"{self.path}: is damaged ({found}); {_CURE}")


_CURE = (
    "move it away, with its -wal and -shm files, and start pop3gw: it makes a new one."
    " Users may be warned once more, last logins are forgotten, and retention scans all mailboxes"
    " anew."
    " Unique-ids go on from each mailbox's dovecot-uidlist; where that was lost or restored"
    " as well, run pop3gw move-ids before the start"
)


@contextmanager
def _alone(directory: str) -> Iterator[None]:
    """One process at a time: SQLite fails at once when two switch a file to WAL together."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
