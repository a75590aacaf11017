"""What happened of late: deliveries, refusals, failed logins.  Each process keeps its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from gateway.events import (
    DeliveryFailed,
    Envelope,
    LoginFailed,
    MessageDelivered,
    PolicyRefused,
    Problem,
    RecipientRefused,
    Subscription,
)
from gateway.observe.labels import reason_of

KEPT = 2000
"""Deliveries and refusals that are kept, and failed logins: the oldest is forgotten first.

A row takes up to about 2,000 octets of memory, and usually 500."""

MOST = 1000
"""Rows of an answer, the latest."""

_LONGEST = 250
"""Characters of a text, since clients choose them."""


class RecentDelivery(NamedTuple):
    """What became of a message for a mailbox."""

    at: float
    """In Unix seconds."""

    outcome: str
    """``delivered``; ``refused``: a recipient; ``failed``: the message for all its recipients;
    ``policy``: Postfix was told not to take it."""

    mailbox: str
    recipients: tuple[str, ...]
    sender: str
    message: str
    message_id: str
    client: str
    session: str
    octets: int
    seconds: float
    error: str
    """The name of a class of ``gateway.errors``; empty: none."""

    reason: str


class RecentFailure(NamedTuple):
    """A login that failed."""

    at: float
    user: str
    method: str
    client: str
    session: str
    listener: str
    error: str
    reason: str


class Recent:
    """The last of them, in memory."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """``now`` in Unix seconds."""
        self._now = now
        self._deliveries: deque[RecentDelivery] = deque(maxlen=KEPT)
        self._failures: deque[RecentFailure] = deque(maxlen=KEPT)
        self.subscription: Subscription = {
            MessageDelivered: self._delivered,
            RecipientRefused: self._refused,
            DeliveryFailed: self._failed,
            PolicyRefused: self._policy,
            LoginFailed: self._login_failed,
        }

    def _keep(
        self, outcome: str, event: Any, told: Envelope, why: tuple[str, str], *size: Any
    ) -> None:
        id_, host, *_ = event.connection
        sender, recipients, mailbox, message, message_id = told
        texts = tuple([_text(one) for one in recipients]), _text(sender), message, _text(message_id)
        row = (self._now(), outcome, mailbox, *texts, host, id_, *(size or (0, 0.0)), *why)
        self._deliveries.append(RecentDelivery(*row))

    def _delivered(self, event: MessageDelivered) -> None:
        _, message, account, octets, seconds, told = event
        if not told.mailbox:
            told = told._replace(mailbox=account.mailbox, message=message)
        self._keep("delivered", event, told, ("", ""), octets, seconds)

    def _refused(self, event: RecipientRefused) -> None:
        told = event.envelope
        if not told.recipients:
            told = told._replace(recipients=(event.recipient,))
        self._keep("refused", event, told, _why(event.problem))

    def _failed(self, event: DeliveryFailed) -> None:
        self._keep("failed", event, event.envelope, _why(event.problem))

    def _policy(self, event: PolicyRefused) -> None:
        told = Envelope(event.sender, (event.recipient,), message=_text(event.message))
        reason = event.answer or "no answer: the directory or the store did not answer"
        self._keep("policy", event, told, ("", _text(reason)))

    def _login_failed(self, event: LoginFailed) -> None:
        client, why = event.connection, _why(event.problem)
        row = (_text(event.user), _text(event.method), client.host, client.id, client.listener)
        self._failures.append(RecentFailure(self._now(), *row, *why))

    def deliveries(self, question: Mapping[str, Any]) -> list[RecentDelivery]:
        """The latest first, at most ``MOST``, as JSON.

        ``names``: mailboxes and addresses in lower case, of recipients or the sender; empty: any.
        ``message_id``: the Message-ID or the id of the log; ``outcomes``; ``since``: Unix seconds.
        """
        names, outcomes = set(question["names"]), set(question["outcomes"])
        wanted, since = question["message_id"], question["since"]

        def fits(row: RecentDelivery) -> bool:
            ids = (row.message_id, row.message_id.strip("<>"), row.message)
            return (
                row.at >= since
                and (not outcomes or row.outcome in outcomes)
                and (not wanted or wanted in ids)
                and (not names or not names.isdisjoint(_names(row)))
            )

        return _latest(self._deliveries, fits)

    def failed_logins(self, question: Mapping[str, Any]) -> list[RecentFailure]:
        """The latest first, at most ``MOST``, as JSON.

        ``names``: of users, in lower case; ``address``: of the client; empty: any.
        """
        names, address, since = set(question["names"]), question["address"], question["since"]

        def fits(row: RecentFailure) -> bool:
            return (
                row.at >= since
                and (not names or row.user.lower() in names)
                and (not address or row.client == address)
            )

        return _latest(self._failures, fits)


def _latest(rows: deque[Any], fits: Callable[[Any], bool]) -> list[Any]:
    return list(islice(filter(fits, reversed(rows)), MOST))


def _names(row: RecentDelivery) -> Iterable[str]:
    return (one.lower() for one in (row.mailbox, row.sender, *row.recipients) if one)


def _text(text: str) -> str:
    """A text of limited length that can be written as UTF-8."""
    if len(text) <= _LONGEST and text.isascii():
        return text
    return text[:_LONGEST].encode("utf-8", "backslashreplace").decode()


def _why(problem: Problem) -> tuple[str, str]:
    words = reason_of(problem.error).replace("_", " ")
    return problem.error.__name__, _text(f"{words}: {problem.reason}" if problem.reason else words)
