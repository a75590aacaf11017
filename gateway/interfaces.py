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
    """Runs blocking work elsewhere and answers in the reactor's thread."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """What ``work`` returns or raises; fails with ``Overloaded`` when the queue is full."""


Admit = Callable[[Usage, int, Limits], None]
"""Whether a message of this size in octets may be added to a mailbox with this usage.

Pure, and called on any thread.  Raises ``OverQuota`` or ``LargerThanQuota``.
"""

Audit = Callable[[Iterable[Removed]], None]
"""Writes down what is about to be removed, and returns once that is on stable storage.

Called on workers.  Iterating may read from messages, so that where nothing is
written nothing is read.  Raises ``StoreDown``, and then none of these is removed;
after ``NoRoom`` it is asked again for fewer of them.
"""

HighWater = Callable[[str, int], int]
"""The number beyond every unique-id that clients were shown of a mailbox.

Called on workers with an absolute path that stands for the mailbox, and a
number: the mark is raised to the number if it is lower, and is on stable storage
when it is returned.  0 only asks, and is the answer where none is known.  Raises
``StoreDown`` or ``LedgerUnusable``.
"""


Leave = Callable[[], None]
"""Gives back a place among connections or sessions.  A second call does nothing."""


class IAdmission(Interface):
    """Who may come in now: connection limits, login throttle, LOGIN-DELAY.

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
        """The next octets as they are stored, if that takes no waiting; ``b""`` at the end.

        None when it does, and then ``read`` is called.  Raises as ``read`` fails.
        """

    def read() -> Deferred[bytes]:
        """The next octets, however long it takes.

        The session asks again only after the last answer.  Fails with
        ``SizeChanged`` or ``StoreDown``; when part of the message is on the
        wire by then, the session hangs up.
        """

    def close() -> None:
        """Give back what is open.  Called exactly once, also when a read failed."""


class IMaildrop(Interface):
    """One user's mail for the length of one session."""

    name = Attribute("str: the mailbox, for the log and the limit of sessions per user.")

    terms = Attribute("gateway.model.Terms: what CAPA tells this user; the realm sets it.")

    def listing() -> Deferred[Listing]:
        """The snapshot; called once, right after login.  Its order is the numbering.

        Fails with ``StoreDown`` or ``MailboxUnusable``.
        """

    def retrieve(index: int) -> Deferred[IBody]:
        """Open message ``index`` (0-based) of the snapshot, for RETR or TOP.

        Fails with ``MessageGone``, ``MessageUnreadable``, ``SizeChanged`` (somebody
        wrote to it since the listing) or ``StoreDown`` before any octet is sent.
        A session that was refused a message does not remove it.
        """

    def finish(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT: remove ``removed`` for good, mark ``retrieved`` as read.

        Fails with ``StoreDown`` when something in ``removed`` is still there,
        as all of it is that the audit has no line for; what is not in
        ``removed`` is never touched.
        """

    def abandon(retrieved: Collection[int]) -> Deferred[None]:
        """The line dropped without QUIT: remove nothing, still mark what was read."""


class IHidingMaildrop(IMaildrop):
    """A maildrop that can hide messages, as a hold on the mailbox demands."""

    def hide(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT under a hold: as ``finish``, but put ``removed`` where POP3 does not show it.

        The audit has a line for each, as for ``IHiddenMail.hide``.
        """


class IStore(Interface):
    """All mailboxes."""

    def open(account: Account, mind: object) -> Deferred[tuple[IMaildrop, Callable[[], None]]]:
        """The account's ``IMaildrop`` and the function that gives it back.

        The realm calls it at login, with the ``mind`` it was given: mostly a
        ``gateway.model.Peer``, which the audit names for what the session
        removes.  Fails with ``NoSuchMailbox``,
        ``BadMailboxName``, ``MailboxUnusable``, ``MaildropBusy``, ``StoreDown``.
        """


class IDelivery(Interface):
    """A store that takes mail in."""

    def prepare(account: Account) -> Deferred[None]:
        """See that the account's mailbox is there: at RCPT, where nothing limits it.

        Quick for one that was seen before; fails as ``receive`` does.
        """

    def receive(account: Account) -> Deferred[IIncoming]:
        """An ``IIncoming`` for a message; ``account`` is its first recipient.

        Fails with ``NoSuchMailbox``, ``BadMailboxName``, ``MailboxUnusable``, ``StoreDown``.
        """

    def usage(account: Account) -> Deferred[Usage]:
        """What the account's mailbox holds now; fails as ``receive`` does."""


class IMailboxes(Interface):
    """A store that can say which mailboxes there are.  Fails as ``IDelivery.receive`` does."""

    lists_mailboxes = Attribute(
        "bool: ``names`` has every mailbox; False: only a directory knows them."
    )

    def names() -> Deferred[list[str]]:
        """The names of all mailboxes, sorted; none where the store does not list them."""

    def present(accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """Those of these accounts that have a mailbox; none is created."""


class IHiddenMail(Interface):
    """A store that can hide messages from POP3.  Fails as ``IRetentionStore`` does."""

    def hide(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Put these where POP3 does not show them; how many are there now.

        Audited as ``IRetentionStore.remove``.  They keep their unique-ids.
        """

    def list_hidden(account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages; ``received`` is when they were hidden."""

    def restore(account: Account, uids: Collection[str]) -> Deferred[int]:
        """Bring these back under their old unique-ids; how many came.  Their age begins anew."""

    def purge(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these for good, audited as ``IRetentionStore.remove``; how many are gone."""


class IRetentionStore(IHiddenMail):
    """A store with mail that retention may scan and remove.

    Retention calls it from one place at a time for a mailbox; sessions, other
    programs and other processes may change the mailbox meanwhile.  All of it
    fails as ``IDelivery.receive`` does.
    """

    def scan(account: Account) -> Deferred[list[StoredMessage]]:
        """All messages that POP3 shows, in no order.

        What is uncertain is reported such that mail is kept longer.
        """

    def scan_readonly(account: Account) -> Deferred[list[StoredMessage]]:
        """The same, for a preview: writes nothing.

        A message without a unique-id has the name of its file instead.
        """

    def remove(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these for good, once the audit has a line for each; how many are gone.

        A message that is no longer there does not count.  Fails with ``StoreDown``
        where the audit cannot be written: messages without a line stay.  On a full
        disk (``NoRoom``) some may be gone.
        """

    def move_ids(account: Account, by: int) -> Deferred[int]:
        """Have the unique-ids of new messages begin ``by`` further on; where they begin now.

        0 for a mailbox that has given none.
        """


class IIncoming(Interface):
    """One message on its way into mailboxes; nothing of it can be seen before a commit."""

    def write(data: bytes) -> Deferred[None]:
        """The next octets, lines ending in CRLF, no dots stuffed.  One call after the other.

        Fails with ``NoRoom`` or another ``StoreDown``; then only ``close`` may follow.
        """

    def commit(account: Account, limits: Limits) -> Deferred[None]:
        """Put it into one recipient's mailbox, after the last ``write``.

        Called once for each recipient, at the same time if wanted.  Fires when
        the message is on stable storage and can be seen there; fails with
        ``OverQuota``, ``LargerThanQuota`` or as ``IStore.receive`` does, and
        then nothing of it is there.
        """

    def close() -> Deferred[None]:
        """Give back what is open and temporary.  Called exactly once, after all commits."""


class IDirectory(Interface):
    """Accounts: which exist, and whether a password is right.

    A directory that logs an outage itself, once when it begins and once when
    it is over, fails with ``DirectoryDown(..., logged=True)``: then no session
    and no mailbox that meets the outage logs it again.
    """

    def find(login: str) -> Deferred[Account | None]:
        """The account behind a canonical login name, or None.

        Fails with ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """

    def recipient(address: str) -> Deferred[Account | None]:
        """The account that mail to this address, in lower case, is for; or None.

        Fails as ``find`` does.
        """

    def owner(mailbox: str) -> Deferred[Account | None]:
        """The account that owns the mailbox of this name, or None.

        Fails as ``find`` does.
        """

    def accounts() -> Deferred[list[Account]]:
        """All that have a mailbox, in no order, as far as it can tell; fails as ``find`` does."""

    def verify(login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is its own.

        Unknown names cost the same work as known ones.  Fails with
        ``BadCredentials``, ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """


class IOwnRetention(Interface):
    """A directory that can tell who has a retention policy of his own without telling of all."""

    def with_retention() -> Deferred[list[Account]]:
        """Those accounts; called at a start and from time to time, fails as ``find`` does."""


class Challenge(NamedTuple):
    """Send these octets and step again with the client's response."""

    octets: bytes


class Proven(NamedTuple):
    """The exchange is over; these credentials go to the portal."""

    credentials: ICredentials

    def __repr__(self) -> str:
        return "Proven(...)"


class IMechanism(Interface):
    """One run of one SASL mechanism, server side (RFC 4422, RFC 5034)."""

    def step(response: bytes | None) -> Deferred[Challenge | Proven]:
        """Take the client's response and answer ``Challenge`` or ``Proven``.

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
        """The login name and the session base key behind an ``INtlmResponse``.

        The key may be empty for a legacy response.  Unknown names cost the
        same work as known ones.  Fails with ``BadCredentials``,
        ``DirectoryDown`` or ``DirectoryMisconfigured``.
        """


class IWarningState(Interface):
    """How full mailboxes were, and when their users were warned.  Fails as ``IState`` does."""

    def weigh(mailbox: str, level: Level, now: float, interval: float) -> Deferred[WarningChange]:
        """Record how full a mailbox is; the answer has the warning to send, if one is due.

        ``gateway.quota.warnings.step`` is the rule.  Called after deliveries and refusals,
        by every process, and by the rounds of the leader.  The warning counts as sent from
        here on, also after a crash.  ``now`` in Unix seconds, ``interval`` in seconds.
        """

    def take_back(mailbox: str, change: WarningChange) -> Deferred[bool]:
        """The warning was not sent: it is due again; False if the state has changed since."""

    def warning_states(least: Level) -> Deferred[Mapping[str, WarningState]]:
        """The mailboxes that were last found at ``least`` or above, sorted by name."""


class IDigestState(Interface):
    """When administrators were sent a digest.  Fails as ``IState`` does."""

    def is_digest_due(recipient: str, now: float, interval: float) -> Deferred[bool]:
        """Whether ``recipient`` was sent none for ``interval`` seconds.

        A time in the future, from when a clock was wrong, becomes ``now`` (Unix seconds).
        """

    def take_digest(recipient: str, now: float, interval: float) -> Deferred[DigestClaim | None]:
        """The right to send one, if it is due; no other process gets it then.

        It counts as sent from here on, also after a crash.
        """

    def return_digest(recipient: str, claim: DigestClaim) -> Deferred[bool]:
        """It was not sent: it is due again; False if another was sent since."""


class IRetentionState(Interface):
    """What retention knows of each mailbox; the leader alone calls it.  Fails as ``IState``."""

    def last_scans() -> Deferred[Mapping[str, LastScan]]:
        """What it found, by mailbox; asked for when a process begins to lead, and by commands."""

    def keep_scan(mailbox: str, scan: LastScan) -> Deferred[None]:
        """Store it in place of the one before."""

    def forget_scan(mailbox: str) -> Deferred[None]:
        """The mailbox is gone, or has no policy any more."""

    def count_removed(day: int, messages: int) -> Deferred[int]:
        """Count ``messages`` more as removed on ``day``; how many that makes.

        ``day`` is any number that tells days apart.  Other days are forgotten.
        """


class IRetentionOrders(Interface):
    """Orders that operators give to a running server.  Fails as ``IState`` does."""

    def add_order(mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Have retention visit a mailbox; of two orders the later counts, and either release."""

    def orders() -> Deferred[Mapping[str, RetentionOrder]]:
        """The orders that are not done, by mailbox; the leader asks every minute."""

    def finish_order(mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """The order is done; one that was given meanwhile stays."""


class IExpireState(Interface):
    """What all processes announce as EXPIRE.  Fails as ``IState`` does."""

    def keep_expire(known: KnownExpire) -> Deferred[None]:
        """Store it in place of the one before; the leader calls it."""

    def find_expire() -> Deferred[KnownExpire | None]:
        """The one that is stored; the other processes ask at ``until`` at the latest."""


class IHighWaterState(Interface):
    """The numbers beyond all unique-ids that clients were shown."""

    def high_water(place: str, least: int) -> int:
        """A ``HighWater``: it blocks, and stores call it on workers."""

    def raise_high_water(by: int) -> Deferred[None]:
        """Raise every number by ``by``, after a restore from a backup.  Fails as ``IState``."""


class IState(
    IWarningState,
    IDigestState,
    IRetentionState,
    IRetentionOrders,
    IExpireState,
    IHighWaterState,
):
    """What a server keeps beside the mail, for all its processes: opened once in each.

    Every method fails with ``StoreDown`` where there is no room or another
    process writes for too long, with ``Overloaded``, and with
    ``LedgerUnusable`` where an administrator must act.  What a method has
    answered survives the end of any process.
    """

    def close() -> Deferred[None]:
        """Give back what is open; called once, after everything else."""


class ILeader(Interface):
    """Which of several processes does what is done once: retention, warning rounds, digests."""

    def is_leader() -> Deferred[bool]:
        """Whether this process is the leader; it becomes the leader where there is none.

        Called before each turn of such work.  Fails with ``LedgerUnusable`` or ``Overloaded``.
        """

    def resign() -> Deferred[None]:
        """Let another process lead; called at the end, once none of this work is running."""
