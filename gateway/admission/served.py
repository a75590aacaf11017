"""The parent's side of admission: it moves shares, and has the throttle and LOGIN-DELAY."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime

from gateway.admission import inspection
from gateway.admission.login_delay import LoginDelay
from gateway.admission.parent_link import HERE
from gateway.admission.rules import AdmissionRules, counted_limits, refusal_to_json
from gateway.admission.shares import Key, ParentShares
from gateway.admission.throttle import Attempt, Throttle
from gateway.errors import LoginTooSoon
from gateway.model import Terms
from gateway.processes.channel import Channel

ROUND_WITHIN = 2.0
"""Seconds for workers to give back what they do not use; one that hangs counts as using it."""


class ServedAdmission:
    """Serves the ``RemoteAdmission`` of the same name in each worker."""

    def __init__(
        self, name: str, rules: AdmissionRules, *, workers: int, clock: IReactorTime
    ) -> None:
        """``workers``: how many share the limits, whether they run or not."""
        self._name = name
        self._clock = clock
        self.seconds = clock.seconds
        self._channels: dict[int, Channel] = {}
        self._attempts: dict[tuple[int, int], Attempt] = {}
        """Logins that were weighed and have not ended."""
        seconds, throttle = clock.seconds, rules.throttle
        self._shares = ParentShares(counted_limits(rules.limits), workers, self._tell, self._began)
        self._throttle = None
        if throttle is not None:
            self._throttle = Throttle(throttle, seconds, self._distrusted)
        self._delay = LoginDelay(rules.profile, seconds)

    def configure(self, rules: AdmissionRules) -> None:
        """Other limits from now on; what was counted stays counted."""
        self._shares.limits = counted_limits(rules.limits)
        if self._throttle is not None and rules.throttle is not None:
            self._throttle.configure(rules.throttle)
        self._delay.configure(rules.profile)

    def waiting(self, question: Mapping[str, Any]) -> object:
        """Who waits, as ``inspection.waiting``."""
        return inspection.waiting(self._throttle, self._delay, question)

    def forgive(self, question: Mapping[str, Any]) -> object:
        """As ``inspection.forgive``; the workers forget what they know themselves."""
        # One of them tells other servers.
        return self._forgive(question, teller=next(iter(self._channels), None))

    def _forgive(self, question: Mapping[str, Any], teller: int | None = None) -> object:
        for worker in self._channels:
            self._tell(worker, "forgive", [question, worker == teller])
        one = inspection.forgiveness(question)
        return inspection.forgive(self._throttle, self._delay, one)

    def join(self, worker: int, channel: Channel) -> list[list[object]]:
        """A worker begins; returns the ``shares`` of its ``RemoteAdmission``."""
        self._channels[worker] = channel
        takes: dict[str, Callable[[int, Any], object]] = {
            "want": self._shares.take_want,
            "share": self._shares.take_share,
            "weigh": self._weigh,
            "ended": self._ended,
            "result": self._result,
            "learn": self._learn,
            "forgiven": self._forgiven,
            "delay": self._delayed,
        }
        for message, take in takes.items():
            from_it = partial(self._from, worker, channel, take)
            channel.handle(f"{self._name}.{message}", from_it)
        channel.handle(HERE, lambda _: None)
        return self._shares.join(worker)

    def _from(
        self, worker: int, channel: Channel, take: Callable[[int, Any], object], body: Any
    ) -> object:
        """Take a worker's message."""
        # Its last messages may be read after its end is known: what they give back is free
        # already, and its successor has its number.
        return take(worker, body) if self._channels.get(worker) is channel else None

    def leave(self, worker: int) -> None:
        """A worker has ended: what it counted is free."""
        self._channels.pop(worker, None)
        self._shares.leave(worker)
        for which in [one for one in self._attempts if one[0] == worker]:
            self._attempts.pop(which).ended()

    def _tell(self, worker: int, message: str, body: object) -> None:
        if channel := self._channels.get(worker):
            channel.tell(f"{self._name}.{message}", body)

    def _began(self, key: Key, number: int) -> None:
        self._clock.callLater(ROUND_WITHIN, self._shares.end_round, key, number)

    # -- passwords -------------------------------------------------------------

    def _weigh(self, worker: int, body: list[Any]) -> list[Any]:
        number, *facts = body
        attempt = self._attempt(facts)
        if attempt is None:
            return [0.0, False]
        self._attempts[worker, number] = attempt
        return [attempt.wait, attempt.again, *refusal_to_json(attempt.refusal)]

    def _attempt(self, facts: list[Any]) -> Attempt | None:
        if self._throttle is None:
            return None
        name, host, guess, account, is_answer = facts
        return self._throttle.weigh(name, host, guess.encode(), account, answers=is_answer)

    def _ended(self, worker: int, body: list[Any]) -> None:
        number, outcome, account = body
        attempt = self._attempts.pop((worker, number), None)
        if attempt is not None:
            _finish(attempt, outcome, account)

    def _result(self, _: int, body: list[Any]) -> None:
        """Of a password that a worker tried without asking."""
        *facts, outcome, account = body
        attempt = self._attempt(facts)
        if attempt is not None:
            _finish(attempt, outcome, account)

    def _learn(self, _: int, body: list[Any]) -> None:
        """Of a password that another server has tried."""
        name, host, guess, account, is_answer, is_right = body
        if self._throttle is not None:
            self._throttle.learn(
                name, host, guess.encode(), account, answers=is_answer, is_right=is_right
            )

    def _forgiven(self, _: int, question: Any) -> None:
        """Of an operator of another server."""
        self._forgive(question)

    def _distrusted(self, name: str, network: str) -> None:
        """Another password is right, or none: no worker may try the last one without asking."""
        for worker in self._channels:
            self._tell(worker, "distrusted", [name, network])

    # -- LOGIN-DELAY -----------------------------------------------------------

    def _delayed(self, _: int, body: list[Any]) -> str | None:
        """Why a login comes too soon; None: it does not."""
        what, mailbox, login_delay = body
        terms = Terms(login_delay=login_delay)
        try:
            (self._delay.begin if what == "begin" else self._delay.check)(mailbox, terms)
        except LoginTooSoon as error:
            return str(error)
        return None


def _finish(attempt: Attempt, outcome: str, account: str) -> None:
    if outcome:
        attempt.tell(outcome, account)
    attempt.ended()
