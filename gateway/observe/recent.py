"""What happened of late: deliveries, refusals, failed logins.  Each process keeps its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from itertools import islice
from operator import attrgetter
from typing import Any

from attrs import fields

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
from gateway.model import Delivery, FailedLogin
from gateway.networks import within
from gateway.observe.labels import reason_of

KEPT = 2000
"""Deliveries and refusals that are kept, and failed logins: the oldest is forgotten first.

A row takes up to about 2,000 octets of memory, and usually 500."""

MOST = 1000
"""Rows of an answer, the latest."""

Row = tuple[Any, ...]
"""The fields of a ``Delivery`` or a ``FailedLogin`` in their order, as JSON."""

_LONGEST = 250
"""Characters of a text, since clients choose them."""


_DELIVERY, _FAILED_LOGIN = (
    attrgetter(*(field.name for field in fields(kind))) for kind in (Delivery, FailedLogin)
)


class Recent:
    """The last of them, in memory."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """``now`` in Unix seconds."""
        self._now = now
        self._deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self._failures: deque[FailedLogin] = deque(maxlen=KEPT)
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
        self._deliveries.append(Delivery(*row))

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
        self._failures.append(FailedLogin(self._now(), *row, *why))

    def deliveries(self, question: Mapping[str, Any]) -> list[Row]:
        """The latest first, at most ``MOST``.

        ``names``: mailboxes and addresses in lower case, of recipients or the sender; empty: any.
        ``message_id``: the Message-ID or the id of the log; ``outcomes``; ``since``: Unix seconds.
        """
        names, outcomes = set(question["names"]), set(question["outcomes"])
        wanted, since = question["message_id"], question["since"]

        def fits(row: Delivery) -> bool:
            ids = (row.message_id, row.message_id.strip("<>"), row.message)
            return (
                row.at >= since
                and (not outcomes or row.outcome in outcomes)
                and (not wanted or wanted in ids)
                and (not names or not names.isdisjoint(_names(row)))
            )

        return _latest(self._deliveries, fits, _DELIVERY)

    def failed_logins(self, question: Mapping[str, Any]) -> list[Row]:
        """The latest first, at most ``MOST``.

        ``names``: of users, in lower case; ``network``: of the client; empty: any.
        """
        names, network, since = set(question["names"]), question["network"], question["since"]
        inside = within([ip_network(network)] if network else [])

        def fits(row: FailedLogin) -> bool:
            return (
                row.at >= since
                and (not names or row.user.lower() in names)
                and (not network or (bool(row.client) and inside(row.client)))
            )

        return _latest(self._failures, fits, _FAILED_LOGIN)


def _latest(found: deque[Any], fits: Callable[[Any], bool], row: Callable[[Any], Row]) -> list[Row]:
    return list(map(row, islice(filter(fits, reversed(found)), MOST)))


def _names(row: Delivery) -> Iterable[str]:
    return (one.lower() for one in (row.mailbox, row.sender, *row.recipients) if one)


def _text(text: str) -> str:
    """A text of limited length that can be written as UTF-8."""
    if len(text) <= _LONGEST and text.isascii():
        return text
    return text[:_LONGEST].encode("utf-8", "backslashreplace").decode()


def _why(problem: Problem) -> tuple[str, str]:
    words = reason_of(problem.error).replace("_", " ")
    return problem.error.__name__, _text(f"{words}: {problem.reason}" if problem.reason else words)
