"""What the server itself relies on: admission, state, the leader, threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gateway.model import (
    Connection,
    DigestClaim,
    DueDay,
    Entrance,
    Forgiveness,
    Guess,
    KnownExpire,
    LastLogin,
    LastScan,
    Level,
    LoginAttempt,
    RetentionOrder,
    SessionChange,
    Terms,
    WarningChange,
    WarningState,
)

T = TypeVar("T")


class Watch(Protocol):
    """Hears whether a back-end answers, on any thread, so that an outage is logged once.

    The store calls it for each question that got no answer, and for each that got one.
    """

    def failed(self, error: object, seconds: float) -> bool:
        """It was given up after ``seconds``.

        Returns whether the log says so: then ``error`` is ``logged``.
        """

    def answered(self, seconds: float) -> None:
        """It answered after ``seconds``."""

    def close(self) -> None:
        """Who called this asks it no more."""


WatchFor = Callable[[str], Watch | None]
"""Watches the back-end of this name, for an administrator; None: nobody wants to know."""


class Run(Protocol):
    """Runs blocking work in a thread; its Deferred fires in the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """The result of ``work``.

        Fails as it does, or with ``Overloaded``: the queue is full, or there it waited too long.
        """


Leave = Callable[[], None]
"""Stops counting a connection or session.  A second call does nothing."""


class IAdmission(Interface):
    """Admission: connection limits, login throttle, LOGIN-DELAY.

    One admission serves all listeners that share its limits.  Nothing else
    counts connections, sessions or wrong passwords.
    """

    def connect(connection: Connection) -> Deferred[Leave]:
        """Count a new connection, before anything is read from it or sent to it.

        Called once for each; the protocol calls the answer when the connection
        is closed.  Fails with ``TooManySessions``, and then counts nothing.
        """

    def attempt(attempt: LoginAttempt, log_in: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Try a password: call ``log_in``, now or after a delay, and answer as it does.

        ``BadCredentials`` from ``log_in`` is a wrong password if ``guessed``;
        a result is a right one.  ``PasswordUnanswered`` counts as another wrong
        password each time.  Fails with ``BadCredentials`` or
        ``TooManyGuesses`` where ``log_in`` is not called.
        """

    def check(mailbox: str, terms: Terms) -> Deferred[None]:
        """Whether LOGIN-DELAY (RFC 2449 section 6.5) lets a user log in now.

        The realm calls it before it opens the mailbox; nothing is counted.
        Fails with ``LoginTooSoon``.
        """

    def enter(connection: Connection, mailbox: str, terms: Terms) -> Deferred[Leave]:
        """Count a session in ``mailbox`` and begin its LOGIN-DELAY: the last step of a login.

        The session calls the answer when it leaves the mailbox.  Fails with
        ``TooManySessions`` or ``LoginTooSoon``, and then does neither.
        """


class ISharedLimits(Interface):
    """What processes on several machines count together; each method blocks.

    A process that counts is a member, for a term of ``lease`` seconds.  What a member has counted
    counts no more once its term is over.  All fail with ``StoreDown`` or ``MailboxUnusable``.
    """

    lease: float = Attribute("Seconds that a term lasts.")

    def join(before: int) -> int:
        """Become a member; returns a number that no other member ever has.

        ``before``: the caller's member until now, for which the term ends; 0: it had none.
        """

    def renew(member: int) -> bool:
        """Begin the term anew; False: it was over, and stays so."""

    def count(
        member: int, per_user: int, changes: Sequence[SessionChange]
    ) -> Mapping[str, Entrance]:
        """Count what has changed, each mailbox once; returns the outcome for each.

        ``per_user``: the most sessions of a mailbox; 0: they are not counted, and only LOGIN-DELAY
        is kept.  The same changes may be counted again.  Empty: the term is over.
        """

    def exchange(
        told: Sequence[Guess | Forgiveness], window: float
    ) -> Sequence[Guess | Forgiveness]:
        """Tell others of guesses and of what operators forgive, and end LOGIN-DELAY as these say.

        Returns what others have told since the last call, or since ``window`` seconds: at most the
        latest 2000, in one order for all.
        """

    def close(member: int) -> None:
        """End the term, if ``member`` is not 0, and close what is open."""


class IProcesses(Interface):
    """The processes of a server; operations ask them.

    Questions have names; arguments and answers are JSON values, small and bounded.
    """

    def ask_each(question: str, argument: object = None) -> Deferred[list[Any]]:
        """The answers of all processes that serve clients, without those that gave none in time.

        Fails with ``PeerGone``, ``TookTooLong``, ``AskFailed`` or ``Overloaded`` where nobody
        can be asked.
        """

    def ask_everyone(question: str, argument: object = None) -> Deferred[list[Any]]:
        """The answers of all processes that may have clients, also while they start or drain.

        Fails with ``AskFailed`` if one of them gives none in time, and as ``ask_each`` does.
        """

    def ask_parent(question: str, argument: object = None) -> Deferred[Any]:
        """The answer of the process that has admission and the configuration.

        Fails as ``ask_each`` does, and in one process as the answer does.
        """

    def ask_here(question: str, argument: object = None) -> Deferred[Any]:
        """The answer of this process, whatever the others do; fails as the answer does."""


class IWarningState(Interface):
    """How full mailboxes were, and when their users were warned.  Fails as ``IState`` does."""

    def weigh(mailbox: str, level: Level, now: float, interval: float) -> Deferred[WarningChange]:
        """Record the level of a mailbox; fires with the warning to send, if one is due.

        The rule is ``gateway.quota.warnings.step``.  Called after deliveries and rejections
        by every process, and by the periodic checks of the leader.  The warning counts as sent from
        here on, also after a crash.  ``now`` in Unix seconds, ``interval`` in seconds.
        """

    def take_back(mailbox: str, change: WarningChange) -> Deferred[bool]:
        """The warning was not sent: it is due again; False: the state has changed since."""

    def warning_states(least: Level) -> Deferred[Mapping[str, WarningState]]:
        """The mailboxes that were last found at ``least`` or above, sorted by name."""


class IDigestState(Interface):
    """When administrators were sent a digest.  Fails as ``IState`` does."""

    def is_digest_due(recipient: str, now: float, interval: float) -> Deferred[bool]:
        """Whether ``recipient`` got no digest for ``interval`` seconds.

        A time in the future, from when a clock was wrong, becomes ``now`` (Unix seconds).
        """

    def take_digest(recipient: str, now: float, interval: float) -> Deferred[DigestClaim | None]:
        """Claim the next digest, if it is due; only one process gets it.

        It counts as sent from here on, also after a crash.
        """

    def return_digest(recipient: str, claim: DigestClaim) -> Deferred[bool]:
        """The digest was not sent: it is due again; False: another one was sent since."""


class IRetentionState(Interface):
    """The retention schedule; only the leader changes it.  Fails as ``IState``."""

    def last_scans(after: str, most: int) -> Deferred[Mapping[str, LastScan]]:
        """The scans of up to ``most`` mailboxes with names after ``after``, in their order.

        For the leader, and for commands: so none of them holds the scans of very many.
        """

    def find_scans(mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastScan]]:
        """The scans of these mailboxes, by name; those that were never scanned are left out."""

    def keep_scan(mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""

    def forget_scan(mailbox: str) -> Deferred[None]:
        """Delete the scan: the mailbox is gone or has no policy."""


class IRemovalState(Interface):
    """What retention has removed in a day; only the leader calls it.  Fails as ``IState``.

    ``day``: a number per day.  Other days are forgotten.
    """

    def count_removed(day: int, messages: int) -> Deferred[int]:
        """Add ``messages`` to those removed or hidden on ``day``; fires with the sum."""

    def count_purged(day: int, messages: int) -> Deferred[int]:
        """The same for hidden messages that were removed for good, counted by themselves."""


class IForecastState(Interface):
    """What retention will remove day by day.  Fails as ``IState`` does."""

    def keep_forecast(mailbox: str, due: Sequence[DueDay]) -> Deferred[None]:
        """Store it in place of the one before; without days it is deleted.

        The leader calls it after each scan, and where a mailbox is gone.
        """

    def forecasts(after: str, most: int) -> Deferred[Mapping[str, Sequence[DueDay]]]:
        """The forecasts of up to ``most`` mailboxes with names after ``after``, by name.

        In pieces, so that nothing waits behind the reading of very many.
        """


class IRetentionOrders(Interface):
    """Orders to the leader, of operators and of other processes.  Fails as ``IState`` does."""

    def add_order(mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox; of two orders the later ``given`` counts.

        A release replaces the one before, with its policy; an order without one leaves it.
        """

    def orders() -> Deferred[Mapping[str, RetentionOrder]]:
        """The pending orders by mailbox; the leader reads them every minute."""

    def finish_order(mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Delete a completed order; a newer one stays."""


class IExpireState(Interface):
    """The EXPIRE that all processes announce.  Fails as ``IState`` does."""

    def keep_expire(known: KnownExpire) -> Deferred[None]:
        """Store it in place of the one before; the leader calls it."""

    def find_expire() -> Deferred[KnownExpire | None]:
        """The stored value; other processes read it again by ``until``."""


class IMailboxState(Interface):
    """What is known of a mailbox when it gets another name or goes.  Fails as ``IState`` does.

    High-water marks do not belong to it: they are those of a path, and the store's.
    """

    def begin_rename(mailbox: str, target: str) -> Deferred[None]:
        """Record a rename that begins, so that a second run can end it after a crash.

        Fails with ``BadMailboxName`` for a name that the state cannot hold.
        """

    def find_rename(mailbox: str) -> Deferred[str | None]:
        """The target of a rename of this mailbox that began and did not end."""

    def finish_rename(mailbox: str) -> Deferred[None]:
        """Give all that is known of the mailbox to the target; without a rename do nothing.

        In place of what was known of the target.
        """

    def drop_rename(mailbox: str) -> Deferred[None]:
        """The rename changed nothing: it has not begun."""

    def forget_mailbox(mailbox: str) -> Deferred[None]:
        """Delete all that is known of a mailbox that was deleted."""


class ILoginState(Interface):
    """The last login to each mailbox.  Fails as ``IState`` does."""

    def keep_logins(logins: Mapping[str, LastLogin]) -> Deferred[None]:
        """Store logins by mailbox; of two to one mailbox the later stays.

        Every process calls it every few seconds, off the path of a login.
        """

    def last_logins(after: str, most: int) -> Deferred[Mapping[str, LastLogin]]:
        """Those of up to ``most`` mailboxes with names after ``after``, by name.

        In pieces, so that nothing waits behind the reading of very many.
        """

    def find_logins(mailboxes: Sequence[str]) -> Deferred[Mapping[str, LastLogin]]:
        """Those of these mailboxes, without those that nobody has logged in to."""

    def logins_since() -> Deferred[float | None]:
        """The time of the first login that was ever stored, in Unix seconds; None: there is none.

        A mailbox without a login had none since then; nobody knows of the time before.
        """


class IHighWaterState(Interface):
    """The high-water marks of unique-ids."""

    def high_water(place: str, least: int) -> int:
        """A ``HighWater``: blocks; stores call it in threads."""

    def raise_high_water(by: int) -> Deferred[None]:
        """Raise every mark by ``by``, after a restore from backup; that of ``RAISED`` from 0.

        Fails as ``IState``.
        """


class IState(
    IWarningState,
    IDigestState,
    IRetentionState,
    IRemovalState,
    IForecastState,
    IMailboxState,
    IRetentionOrders,
    IExpireState,
    ILoginState,
    IHighWaterState,
):
    """The state of a server, shared by its processes and opened once in each.

    Every method fails with ``StoreDown`` if the disk is full or another process writes
    for too long, with ``Overloaded``, and with ``LedgerUnusable`` if an administrator
    must act.  Results of methods survive the end of any process.
    """

    def close() -> Deferred[None]:
        """Close the state; called once, after everything else."""


class ILeader(Interface):
    """Leader election: one process runs retention, quota checks and the digest."""

    is_led = Attribute("bool: whether there was a leader when this process last asked.")

    def is_leader() -> Deferred[bool]:
        """Whether this process is the leader; it becomes the leader if there is none.

        Called before each turn of such work.  Fails with ``LedgerUnusable`` or ``Overloaded``.
        """

    def resign() -> Deferred[None]:
        """Resign for good; called at the end, when none of this work is running."""
