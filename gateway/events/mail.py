"""Events of mail: deliveries, quotas, retention."""

from __future__ import annotations

from typing import NamedTuple

from gateway.events.clients import Problem
from gateway.model import Account, Connection, Level


class Envelope(NamedTuple):
    """What is known of a message that comes in."""

    sender: str = ""
    """The address of MAIL FROM; empty also for ``<>``."""

    recipients: tuple[str, ...] = ()
    """The addresses of RCPT for one mailbox, as the client gave them."""

    mailbox: str = ""
    """Empty: unknown."""

    message: str = ""
    """The id in Received; empty: the message has not begun."""

    message_id: str = ""
    """The Message-ID of the header; empty: none, or unknown."""


class BodyMissing(NamedTuple):
    """A client asked for a message that the bucket of a cluster has no body of."""

    mailbox: str
    uid: str
    """The unique-id of the message."""

    body: str
    """The key of the body: the object XX/KEY, XX its last two digits."""


class MessageDelivered(NamedTuple):
    """A message is on stable storage in a mailbox; ``message``: its id in Received."""

    connection: Connection
    message: str
    account: Account
    octets: int = 0
    """Of the message, as RETR counts them."""

    seconds: float = 0.0
    """From the end of the message until it was stored."""

    envelope: Envelope = Envelope()


class RecipientRefused(NamedTuple):
    """RCPT was refused, or the message was not delivered to this recipient."""

    connection: Connection
    recipient: str
    problem: Problem
    envelope: Envelope = Envelope()


class DeliveryFailed(NamedTuple):
    """A message could not be taken in at all."""

    connection: Connection
    problem: Problem
    envelope: Envelope = Envelope()


class PolicyRefused(NamedTuple):
    """The policy service had Postfix refuse a recipient, or could not answer."""

    connection: Connection
    sender: str
    recipient: str
    message: str
    """Postfix's queue id; empty before Postfix has one, as at RCPT of the first recipient."""

    answer: str
    """The action that Postfix got, such as ``552 5.2.2 Mailbox is full``; empty: none."""


class QuotaDecided(NamedTuple):
    """Whether a mailbox with a limit has room for a message."""

    service: str
    """Who asked: ``lmtp``, ``policy`` or ``http``."""

    decision: str
    """The name of the ``Verdict``."""


class QuotaLevelsCounted(NamedTuple):
    """How many mailboxes are above their warning limit, and how many are full; None: unknown."""

    warn: int | None
    over: int | None


class QuotaExceeded(NamedTuple):
    """A mailbox has no room for a message of ``octets`` (0: unknown) that fits an empty one."""

    account: Account
    octets: int


class QuotaWarningSent(NamedTuple):
    """A user has a message that says how full the mailbox is."""

    user: str
    level: Level


class QuotaDigestSent(NamedTuple):
    """An administrator has a list of full mailboxes."""

    to: str
    mailboxes: int


class QuotaCheckFailed(NamedTuple):
    """Nobody can tell how full a mailbox is."""

    mailbox: str
    """Empty: of none."""

    problem: Problem


class QuotaDigestFailed(NamedTuple):
    """An administrator does not get the list of full mailboxes."""

    to: str
    problem: Problem


class MessagesExpired(NamedTuple):
    """Retention removed messages of a mailbox, or hid them."""

    mailbox: str
    messages: int
    left: int
    hidden: bool


class RetentionStopped(NamedTuple):
    """The removal guard, or a policy that cannot be read, keeps mail; ``reason`` has the cure."""

    mailbox: str
    reason: str


class RetentionPostponed(NamedTuple):
    """A visit to a mailbox, or the whole run, failed and is tried again later."""

    mailbox: str
    """Empty: the run."""

    problem: Problem
