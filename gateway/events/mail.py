"""Events of mail: deliveries, quotas, retention."""

from __future__ import annotations

from typing import NamedTuple

from gateway.events.clients import Problem
from gateway.model import Account, Connection, Level


class MessageDelivered(NamedTuple):
    """A message is on stable storage in a mailbox; ``message``: its id in Received."""

    connection: Connection
    message: str
    account: Account
    octets: int = 0
    """Of the message, as RETR counts them."""

    seconds: float = 0.0
    """From the end of the message until it was stored."""


class RecipientRefused(NamedTuple):
    """RCPT was refused, or the message was not delivered to this recipient."""

    connection: Connection
    recipient: str
    problem: Problem


class DeliveryFailed(NamedTuple):
    """A message could not be taken in at all."""

    connection: Connection
    problem: Problem


class QuotaDecided(NamedTuple):
    """Whether a mailbox with a limit has room for a message."""

    service: str
    """Who asked: ``lmtp``, ``policy`` or ``http``."""

    decision: str
    """The name of the ``Verdict``."""


class QuotaLevelsCounted(NamedTuple):
    """How many mailboxes are above their warning limit, and how many are full."""

    warn: int
    over: int


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
