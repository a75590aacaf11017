"""All interfaces.  To plug something into pop3gw, read this file and no other.

Every method says who calls it, when, and which of :mod:`gateway.errors` it may
fail with; any other failure is logged with its traceback and reaches the
client as ``[SYS/TEMP]``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gateway.model import (
    Account,
    Connection,
    DigestClaim,
    KnownExpire,
    LastScan,
    Level,
    Limits,
    Listing,
    LoginAttempt,
    Reason,
    Removed,
    RetentionOrder,
    StoredMessage,
    Terms,
    Usage,
    WarningChange,
    WarningState,
)

__all__ = [
    "Admit",
    "Audit",
    "Challenge",
    "HighWater",
    "IAdmission",
    "IBody",
    "IDelivery",
    "IDigestState",
    "IDirectory",
    "IExpireState",
    "IHiddenMail",
    "IHidingMaildrop",
    "IHighWaterState",
    "IIncoming",
    "ILeader",
    "IMailboxes",
    "IMaildrop",
    "IMechanism",
    "INtlmAuthority",
    "INtlmResponse",
    "IOwnRetention",
    "IRetentionOrders",
    "IRetentionState",
    "IRetentionStore",
    "IState",
    "IStore",
    "IWarningState",
    "Leave",
    "Proven",
    "Run",
]

T = TypeVar("T")


class Run(Protocol):
    """Runs blocking work in a thread; its Deferred fires in the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """The result of ``work``; fails as it does, or with ``Overloaded`` if the queue is full."""


Admit = Callable[[Usage, int, Limits], None]
"""Whether a message of this size in octets may be added to a mailbox with this usage.

Pure, and called on any thread.  Raises ``OverQuota`` or ``LargerThanQuota``.
"""

Audit = Callable[[Iterable[Removed]], None]
"""Writes audit lines before removal, and returns once they are synced to disk.

Called in threads.  Iteration may read messages, so without an audit log nothing is read.
Raises ``StoreDown``, and then none of these is removed; after ``NoRoom`` it is called
again with fewer of them.
"""

HighWater = Callable[[str, int], int]
"""The high-water mark of a mailbox: a number above every unique-id that clients saw.

Called in threads with an absolute path as the name of the mailbox, and a number: raises
the mark to the number if it is lower, syncs it to disk, and returns it.  0 only reads;
the result is 0 if there is none.  Raises ``StoreDown`` or ``LedgerUnusable``.
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
        a result is a right one.  Fails with ``BadCredentials`` or
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


class IBody(Interface):
    """The content of one message, read once from front to back."""

    form = Attribute("gateway.model.Form: what is known of the octets' line ends and dots.")

    def read_now() -> bytes | None:
        """The next stored octets, if available without waiting; ``b""`` at the end.

        None: call ``read``.  Raises as ``read`` fails.
        """

    def read() -> Deferred[bytes]:
        """The next stored octets.

        The session calls it again only after the last answer.  Fails with ``SizeChanged``
        or ``StoreDown``; if part of the message was sent by then, the session hangs up.
        """

    def close() -> None:
        """Close the message.  Called exactly once, also after a failed read."""


class IMaildrop(Interface):
    """The mail of a user during a session."""

    name = Attribute("str: the mailbox, for the log and the limit of sessions per user.")

    terms = Attribute(
        "gateway.model.Terms: EXPIRE and LOGIN-DELAY of this user; the realm sets it."
    )

    def listing() -> Deferred[Listing]:
        """The snapshot; called once, right after login.  Its order is the numbering.

        Fails with ``StoreDown`` or ``MailboxUnusable``.
        """

    def retrieve(index: int) -> Deferred[IBody]:
        """Open message ``index`` (0-based) of the snapshot, for RETR or TOP.

        Fails with ``MessageGone``, ``MessageUnreadable``, ``SizeChanged`` (its file
        changed since the listing) or ``StoreDown`` before any octet is sent.
        A session does not remove a message that it could not read.
        """

    def finish(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT: remove ``removed``, mark ``retrieved`` as read.

        Fails with ``StoreDown`` if a message of ``removed`` is still there; all without a
        line in the audit log are.  Other messages are never removed.
        """

    def abandon(retrieved: Collection[int]) -> Deferred[None]:
        """The session ended without QUIT: remove nothing, mark retrieved messages as read."""


class IHidingMaildrop(IMaildrop):
    """A maildrop that can hide messages, for mailboxes on hold."""

    def hide(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT in a mailbox on hold: as ``finish``, but hide ``removed`` from POP3.

        The audit log has a line for each, as for ``IHiddenMail.hide``.
        """


class IStore(Interface):
    """All mailboxes."""

    def open(account: Account, mind: object) -> Deferred[tuple[IMaildrop, Callable[[], None]]]:
        """The account's ``IMaildrop`` and the function that releases it.

        The realm calls it at login, with its ``mind``: usually a ``gateway.model.Peer``,
        which the audit log names for removals of the session.  Fails with ``NoSuchMailbox``,
        ``BadMailboxName``, ``MailboxUnusable``, ``MaildropBusy``, ``StoreDown``.
        """


class IDelivery(Interface):
    """A store that accepts deliveries."""

    def prepare(account: Account) -> Deferred[None]:
        """Check that the account's mailbox exists: at RCPT, for mailboxes without a limit.

        Fast for a known mailbox; fails as ``receive`` does.
        """

    def receive(account: Account) -> Deferred[IIncoming]:
        """Begin a message: an ``IIncoming``; ``account``: its first recipient.

        Fails with ``NoSuchMailbox``, ``BadMailboxName``, ``MailboxUnusable``, ``StoreDown``.
        """

    def usage(account: Account) -> Deferred[Usage]:
        """Usage of the account's mailbox; fails as ``receive`` does."""


class IMailboxes(Interface):
    """A store that can list mailboxes.  Fails as ``IDelivery.receive`` does."""

    lists_mailboxes = Attribute(
        "bool: ``names`` has every mailbox; False: only a directory knows them."
    )

    def names() -> Deferred[list[str]]:
        """The names of all mailboxes, sorted; none where the store does not list them."""

    def present(accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """The accounts with an existing mailbox; creates none."""


class IHiddenMail(Interface):
    """A store that can hide messages from POP3.  Fails as ``IRetentionStore`` does."""

    def hide(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Hide these messages; fires with how many are hidden now.

        With audit lines as for ``IRetentionStore.remove``.  They keep their unique-ids.
        """

    def list_hidden(account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages; ``received``: when they were hidden."""

    def restore(account: Account, uids: Collection[str]) -> Deferred[int]:
        """Restore these with their old unique-ids; fires with how many.  Their age restarts."""

    def purge(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these hidden messages, as ``IRetentionStore.remove``; fires with how many."""


class IRetentionStore(IHiddenMail):
    """A store with retention.

    Retention makes one call at a time for a mailbox; sessions, other programs and other
    processes may change the mailbox meanwhile.  All methods fail as
    ``IDelivery.receive`` does.
    """

    def scan(account: Account) -> Deferred[list[StoredMessage]]:
        """All messages that POP3 shows, in any order.

        Uncertain times are reported so that mail is kept longer.
        """

    def scan_readonly(account: Account) -> Deferred[list[StoredMessage]]:
        """As ``scan``, for a preview: writes nothing.

        A message without a unique-id has the name of its file instead.
        """

    def remove(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these, after a line each in the audit log; fires with how many are gone.

        A missing message does not count.  Fails with ``StoreDown`` if the audit log
        cannot be written: messages without a line stay.  On a full
        disk (``NoRoom``) some may be gone.
        """

    def move_ids(account: Account, by: int) -> Deferred[int]:
        """Raise the next unique-id by ``by``; fires with the new one.

        0 for a mailbox without unique-ids.
        """


class IIncoming(Interface):
    """A message that is being delivered; invisible before a commit."""

    def write(data: bytes) -> Deferred[None]:
        """Add octets with CRLF line ends and without dot-stuffing.  One call at a time.

        Fails with ``NoRoom`` or another ``StoreDown``; then only ``close`` may follow.
        """

    def commit(account: Account, limits: Limits) -> Deferred[None]:
        """Deliver it to a recipient's mailbox, after the last ``write``.

        Called once per recipient; calls may overlap.  Fires when the message is synced to
        disk and visible; fails with ``OverQuota``, ``LargerThanQuota`` or as
        ``IDelivery.receive`` does, and then it is not in the mailbox.
        """

    def close() -> Deferred[None]:
        """Close and remove temporary files.  Called exactly once, after all commits."""


class IDirectory(Interface):
    """A directory of accounts, which verifies passwords.

    A directory that logs its outages, once at the beginning and once at the end, fails
    with ``DirectoryDown(..., logged=True)``: then nothing else logs the outage.
    """

    def find(login: str) -> Deferred[Account | None]:
        """The account of a canonical login name, or None.

        Fails with ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """

    def recipient(address: str) -> Deferred[Account | None]:
        """The account of a mail address in lower case, or None.

        Fails as ``find`` does.
        """

    def owner(mailbox: str) -> Deferred[Account | None]:
        """The account that owns the mailbox of this name, or None.

        Fails as ``find`` does.
        """

    def accounts() -> Deferred[list[Account]]:
        """All accounts with a mailbox, as far as known, in any order; fails as ``find`` does."""

    def verify(login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is right.

        Unknown names take the same time as known ones.  Fails with
        ``BadCredentials``, ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """


class IOwnRetention(Interface):
    """A directory that can find the accounts with their own retention policies."""

    def with_retention() -> Deferred[list[Account]]:
        """These accounts; called at start and periodically; fails as ``find`` does."""


class Challenge(NamedTuple):
    """Send these octets and step again with the client's response."""

    octets: bytes


class Proven(NamedTuple):
    """The exchange is over; these credentials go to the portal."""

    credentials: ICredentials

    def __repr__(self) -> str:
        return "Proven(...)"


class IMechanism(Interface):
    """One exchange of a SASL mechanism, server side (RFC 4422, RFC 5034)."""

    def step(response: bytes | None) -> Deferred[Challenge | Proven]:
        """Process the client's response; fires with ``Challenge`` or ``Proven``.

        ``None`` on the first call means that the client sent no initial
        response; ``b""`` that it sent an empty one: they differ.
        Fails with ``MechanismFailed`` or ``BadCredentials``.
        """


class INtlmResponse(ICredentials):
    """The response of an NTLM client; a checker asks an ``INtlmAuthority``."""

    username = Attribute("bytes: DOMAIN\\user or user, for the log.")
    user = Attribute("str: the name as the client sent it.")
    domain = Attribute("str: its domain as the client sent it; may be empty.")
    challenge = Attribute("bytes: the challenge, 8 octets.")
    response = Attribute("bytes: the NtChallengeResponse.")
    legacy = Attribute("bool: an NTLMv1 or NTLM2 session response.")
    proof = Attribute("gateway.sasl.ntlmssp.Proof: the content of an NTLMv2 response; else None.")

    def check(session_base_key: bytes) -> None:
        """Check the rest of the message, once the response is verified.

        Raises ``BadCredentials`` for a wrong integrity code, time, channel binding or
        target.
        """


class INtlmAuthority(Interface):
    """Verifies NTLM responses."""

    def prove(claim: INtlmResponse) -> Deferred[tuple[str, bytes]]:
        """The login name and the session base key of an ``INtlmResponse``.

        The key may be empty for a legacy response.  Unknown names cost the
        same work as known ones.  Fails with ``BadCredentials``,
        ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """


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
    """The retention schedule; only the leader calls it.  Fails as ``IState``."""

    def last_scans() -> Deferred[Mapping[str, LastScan]]:
        """The last scans by mailbox; for a new leader, and for commands."""

    def keep_scan(mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""

    def forget_scan(mailbox: str) -> Deferred[None]:
        """Delete the scan: the mailbox is gone or has no policy."""

    def count_removed(day: int, messages: int) -> Deferred[int]:
        """Add ``messages`` to those removed on ``day``; fires with the sum.

        ``day``: a number per day.  Other days are forgotten.
        """


class IRetentionOrders(Interface):
    """Orders that operators give to a running server.  Fails as ``IState`` does."""

    def add_order(mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox; of two orders the later counts, and either release."""

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


class IHighWaterState(Interface):
    """The high-water marks of unique-ids."""

    def high_water(place: str, least: int) -> int:
        """A ``HighWater``: blocks; stores call it in threads."""

    def raise_high_water(by: int) -> Deferred[None]:
        """Raise every mark by ``by``, after a restore from backup.  Fails as ``IState``."""


class IState(
    IWarningState,
    IDigestState,
    IRetentionState,
    IRetentionOrders,
    IExpireState,
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

    def is_leader() -> Deferred[bool]:
        """Whether this process is the leader; it becomes the leader if there is none.

        Called before each turn of such work.  Fails with ``LedgerUnusable`` or ``Overloaded``.
        """

    def resign() -> Deferred[None]:
        """Resign; called at the end, when none of this work is running."""
