"""Connections to PostgreSQL: time limits, repetition, and errors as ours.  Blocks.

Each call has a connection to itself, takes at most ``timeout`` seconds, and is repeated when the
server has ended it: a failover looks like a slow answer.
"""

from __future__ import annotations

import logging
import random
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from gateway.errors import GatewayError, MailboxUnusable, NoRoom, StoreDown
from gateway.interfaces import WatchFor
from gateway.postgresql.connecting import connect
from gateway.postgresql.conninfo import parsed
from gateway.postgresql.servers import Servers

T = TypeVar("T")

Connection = psycopg.Connection[tuple[Any, ...]]

Cursor = psycopg.Cursor[tuple[Any, ...]]

Parameters = Sequence[Any] | Mapping[str, Any]

Work = Callable[[Cursor, bool], T]
"""What a transaction does.  The second argument: it may have been committed before."""

# psycopg warns of what is reported here too, such as a ROLLBACK on a lost connection.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

PAUSE = 0.05
"""Seconds before the first repetition; twice as long before each further one."""

LONGEST_PAUSE = 1.0

ANSWER = 1.0
"""Seconds for the answer at a new connection, however long it took to find its server."""

LEAST = 2.0
"""Seconds for a new connection, though the call has less: over a long line it takes its time."""

KEPT = 60.0
"""Seconds after which an idle connection is not used again: a firewall may have forgotten it.

What is asked on such a one is lost silently, and would wait for all of its time limit.
"""

CHECKED = 60.0
"""Seconds after which a connection is checked again: the settings of a server may change."""

OUTAGE_TIMEOUT = 1.0
"""Seconds for each call while the database is away: all would wait for those that wait."""

_PASSING = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,  # the server was demoted, or is not promoted yet
    errors.IdleInTransactionSessionTimeout,
)
"""Errors after which the same may succeed; besides those of a lost connection."""

_AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,
)
"""Those that everybody gets, for as long as they last."""

_UNDONE = (
    "22",  # values
    "23",  # constraints
    "25",  # a read-only server
    "28",  # no login
    "3D",  # no such database
    "3F",  # no such schema
    "40",  # undone for another transaction
    "42",  # names, types, privileges
    "53",  # no room, no connection left
    "54",  # too large
    "55",  # locks
    "57014",  # cancelled: while it waits for a standby a commit is not
)
"""Codes, or their begins, of errors that PostgreSQL raises before a commit."""

_CURES: dict[type[psycopg.Error], str] = {
    errors.InvalidSchemaName: "run pop3gw cluster migrate",
    errors.UndefinedTable: "run pop3gw cluster migrate",
    errors.UndefinedColumn: "run pop3gw cluster migrate",
    errors.UndefinedFunction: "run pop3gw cluster migrate",
    errors.InsufficientPrivilege: "grant the role what docs/cluster.md lists",
}
"""Errors that an administrator must repair, and the cure.

A connection that was refused, for a wrong password for instance, has no code: it is an outage.
"""

_FIND_PRIMARY = "add target_session_attrs=read-write to store.database, with all servers as hosts"
"""The cure if writes find a standby for longer than a failover takes."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer until its deadline."""

    deadline = 0.0
    """When it gives up, in seconds of ``time.monotonic``."""

    idle_since = 0.0
    """By the clock of its database."""

    checked_at = 0.0
    """By the same clock."""

    _poll: select.poll | None = None

    def has_ended(self) -> bool:
        """Whether the server has closed it, or has said something unasked, while it was idle."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ARG002
        """As the parent does, and in time."""
        return super().wait(gen, interval, max(self.deadline - time.monotonic(), 0.001))


class Database:
    """A database, for any number of threads, each of which takes a connection."""

    def __init__(
        self,
        conninfo: str,
        *,
        timeout: float = 10.0,
        password: str = "",
        check: Callable[[Connection], None] = lambda _: None,
        watch: WatchFor = lambda _: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``conninfo``: a URI or key words of libpq; ``timeout``: seconds for each call.

        Beyond that a call may take three seconds for a new connection, and as long as the
        resolver takes for the names of servers.  ``check`` looks at each new connection, and
        each minute, and raises as ``read`` does.  ``watch`` hears of outages; ``now`` times
        how long connections are idle.  Raises ``ValueError`` for a string by which libpq
        cannot connect.
        """
        words = parsed(conninfo)
        self._servers = Servers(words)
        named = "/".join(words[key] for key in ("service", "host", "dbname") if key in words)
        self._watch = watch(f"PostgreSQL {named}".rstrip())
        self._check = check
        self._words = words | {"application_name": "pop3gw"}
        if password:
            self._words["password"] = password
        self._timeout = timeout
        self._now = now
        # Only what a thread may do without a lock: append, pop.
        self._idle: deque[_Connection] = deque()
        self._closed = False
        self._is_away = False
        """The last call that has ended got no answer."""

    def read(self, query: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement.  Raises ``StoreDown`` or ``MailboxUnusable``.

        One that writes has to write when it is repeated, too: only then a standby is waited for.
        """

        def read(connection: _Connection, _: bool) -> list[tuple[Any, ...]]:
            return _executed(connection, query, parameters).fetchall()

        return self._perform(read)

    def write(self, statement: str, parameters: Parameters = ()) -> None:
        """Perform one statement, which may be repeated.  Raises as ``read``."""

        def write(connection: _Connection, again: bool) -> None:
            if again:
                _transacted(connection, lambda it, _: it.execute(statement, parameters), again)
            else:
                _executed(connection, statement, parameters)

        self._perform(write)

    def transact(self, work: Work[T], *, within: float = 0.0) -> T:
        """What ``work`` returns, after the commit.

        It may be called several times, and must have the same result then, unless it looks at
        its second argument.  ``within``: seconds for each attempt once it is connected, if
        more than ``timeout``, which is for all else.  Raises as ``read`` or as ``work`` does.
        """

        def transact(connection: _Connection, again: bool) -> T:
            connection.deadline = max(connection.deadline, time.monotonic() + within)
            return _transacted(connection, work, again)

        return self._perform(transact)

    def change(
        self,
        statement: str,
        parameters: Parameters,
        otherwise: Work[None],
        changed: Callable[[], object],
    ) -> None:
        """Perform one statement, without a transaction around it, and at most once.

        If it changes no row, or if nobody knows whether it was performed, ``otherwise`` is
        done as by ``transact``.  In doubt the statement may be performed even later than that,
        so ``otherwise`` must change what the statement looks at.  ``changed`` is called when
        rows were changed, or may be.  Raises as ``transact``.
        """

        def change(connection: _Connection, again: bool) -> None:
            if again or not _changed(connection, statement, parameters, changed):
                _transacted(connection, otherwise, again)

        self._perform(change)

    def close(self) -> None:
        """Close the connections: those in use when their calls have ended."""
        self._closed = True
        self._drop_idle()
        if self._watch is not None:
            self._watch.close()

    def _perform(self, act: Callable[[_Connection, bool], T]) -> T:
        timeout = min(self._timeout, OUTAGE_TIMEOUT) if self._is_away else self._timeout
        begun = time.monotonic()
        deadline = begun + timeout
        pause, again = PAUSE, False
        while True:
            try:
                result = self._once(act, deadline, again)
            except psycopg.Error as error:
                if not is_passing(error) or time.monotonic() + pause > deadline:
                    raise self._given_up(error, time.monotonic() - begun) from error
            else:
                self._is_away = False
                if self._watch is not None:
                    self._watch.answered(time.monotonic() - begun)
                return result
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause, again = min(2 * pause, LONGEST_PAUSE), True

    def _given_up(self, error: psycopg.Error, seconds: float) -> GatewayError:
        self._is_away = is_outage(error)
        found = store_error(error)
        if self._watch is not None:
            if self._is_away or isinstance(error, _AWAY):
                found.logged = self._watch.failed(found, seconds)
            else:
                self._watch.answered(seconds)
        return found

    def _once(self, act: Callable[[_Connection, bool], T], deadline: float, again: bool) -> T:
        connection = self._connection(deadline)
        try:
            result = act(connection, again)
        except BaseException as error:
            # After an error of ours too, it may be in any state.
            is_idle = not connection.closed and connection.info.transaction_status == IDLE
            # One to a standby works for reading, and would be asked to write again and again.
            if is_idle and not isinstance(error, errors.ReadOnlySqlTransaction):
                self._give_back(connection)
            else:
                connection.close()
                # The others are as dead as this one, or lead to the same server.
                self._drop_idle()
                if isinstance(error, errors.ReadOnlySqlTransaction):
                    self._servers.forget()
            raise
        self._give_back(connection)
        return result

    def _connection(self, deadline: float) -> _Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(deadline)
            is_old = self._now() - connection.idle_since > KEPT
            # What is sent on one that has ended would be in doubt.
            if not is_old and not connection.has_ended():
                connection.deadline = deadline
                is_due = self._now() - connection.checked_at > CHECKED
                return self._checked(connection) if is_due else connection
            connection.close()

    def _connect(self, deadline: float) -> _Connection:
        until = max(deadline, time.monotonic() + LEAST)
        connection = _Connection(connect(self._words, self._servers, until))
        # A silent server, or the resolver, may have taken all the time.
        connection.deadline = max(deadline, time.monotonic() + ANSWER)
        connection.autocommit = True
        # Behind a pooler the next transaction may have another server's connection.
        connection.prepare_threshold = None
        return self._checked(connection)

    def _checked(self, connection: _Connection) -> _Connection:
        """The same one, after the check; if it fails it is closed."""
        try:
            self._check(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, StoreDown):
                # The server is up, and of no use: the others have the same one.
                self._drop_idle()
                if self._watch is not None:
                    error.logged = self._watch.failed(error, 0.0)
            raise
        connection.checked_at = self._now()
        return connection

    def _give_back(self, connection: _Connection) -> None:
        connection.idle_since = self._now()
        self._idle.append(connection)
        if self._closed:
            self._drop_idle()

    def _drop_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return


IDLE = psycopg.pq.TransactionStatus.IDLE


def _executed(connection: _Connection, query: str, parameters: Parameters) -> Cursor:
    cursor = connection.cursor(binary=True)
    return cursor.execute(query, parameters)


# A record of the log that means nothing; no privilege is needed for it.  NULL: on a standby.
_LOG = """\
SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_logical_emit_message(true, 'pop3gw', '') END"""


def _transacted(connection: _Connection, work: Work[T], again: bool) -> T:
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        if again:
            _await_standby(cursor)
        return work(cursor, again)


def _await_standby(cursor: Cursor) -> None:
    """Have the commit wait for the synchronous standby, whatever else the transaction does.

    A repetition may find all done by an attempt that the standby does not have yet, and only a
    transaction that has written waits.
    """
    if cursor.execute(_LOG).fetchone() == (None,):
        raise errors.ReadOnlySqlTransaction("a standby cannot tell what was committed")


def _changed(
    connection: _Connection,
    statement: str,
    parameters: Parameters,
    changed: Callable[[], object],
) -> bool:
    """Whether a statement has changed rows; ``changed`` is called if so, or if it may have."""
    try:
        has_changed = _executed(connection, statement, parameters).rowcount > 0
    except BaseException as error:
        if not isinstance(error, psycopg.Error) or _is_in_doubt(error):
            changed()
        raise
    if has_changed:
        changed()
    return has_changed


def _is_in_doubt(error: psycopg.Error) -> bool:
    """Whether a statement that failed so may have been committed.

    A server that shuts down ends those that wait for a standby after their commit, too, and
    poolers have codes of their own: only some errors say that nothing was done.
    """
    if isinstance(error, errors.StatementCompletionUnknown):
        return True
    return error.sqlstate is None or not error.sqlstate.startswith(_UNDONE)


def is_passing(error: psycopg.Error) -> bool:
    """Whether the same may succeed in a moment."""
    return isinstance(error, _PASSING) or (
        is_outage(error) and not isinstance(error, errors._WaitTimeout)
    )


def is_outage(error: psycopg.Error) -> bool:
    """Whether the connection was lost, refused, or silent: without a code, or one of class 08."""
    is_ours = isinstance(error, psycopg.OperationalError)
    return is_ours and (error.sqlstate is None or error.sqlstate.startswith("08"))


def said(error: psycopg.Error) -> str:
    """What the database, or libpq, says about an error: on one line, without the statement."""
    # Those of a lost connection have several lines, and tabs.
    text = " ".join((error.diag.message_primary or str(error)).split())
    return f"database: {text or type(error).__name__}"


def store_error(error: psycopg.Error) -> GatewayError:
    """The store's error: temporary, no room, or for the administrator."""
    text = said(error)
    if isinstance(error, errors.DiskFull):
        return NoRoom(text)
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return StoreDown(f"{text}; if it lasts, {_FIND_PRIMARY}")
    for kind, cure in _CURES.items():
        if isinstance(error, kind):
            return MailboxUnusable(f"{text}; {cure}")
    if isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return StoreDown(text)
    raise error
