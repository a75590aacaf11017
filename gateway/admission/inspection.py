"""What operators see of admission: who waits, who is near a limit; and how they forgive.

Questions and answers are JSON values, since they go from process to process.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from gateway.admission.login_delay import LoginDelay
from gateway.admission.throttle import Place, Throttle
from gateway.model import Forgiveness

MINUTE = 60.0
TESTS, TESTS_OF_USER = 60, 10
"""Tests of passwords in a minute, and of one user's."""

LATEST = 20_000
"""Of the users with a LOGIN-DELAY only these are searched, since that takes time."""

MOST = 1000
"""Rows of an answer: those with the longest delay, or the most connections."""


class PasswordTests:
    """How often operators may test a password: it is a guess that no throttle sees."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._tests: deque[tuple[float, str]] = deque()

    def permit(self, user: str) -> float:
        """Count a test of this user's password; 0: it may be done, else the seconds to wait."""
        now = self._seconds()
        while self._tests and self._tests[0][0] <= now - MINUTE:
            self._tests.popleft()
        of_user = [at for at, name in self._tests if name == user]
        for times, most in ((of_user, TESTS_OF_USER), ([at for at, _ in self._tests], TESTS)):
            if len(times) >= most:
                return times[-most] + MINUTE - now
        self._tests.append((now, user))
        return 0.0


def waiting(
    throttle: Throttle | None, login_delay: LoginDelay, question: Mapping[str, Any]
) -> dict[str, Any]:
    """Who waits after wrong passwords and for LOGIN-DELAY, as lists ``throttled`` and ``delayed``.

    ``names``: of accounts and mailboxes, exactly; without them ``search``: a part of a name or
    network, in lower case.
    """
    names, part = set(question.get("names", ())), question.get("search", "")

    def fits(place: Place) -> bool:
        account, network, _ = place
        return account in names if names else part in account.lower() or part in network

    found = [] if throttle is None else throttle.waiting(fits, MOST)
    if names:
        delayed = ((name, login_delay.left(name)) for name in names)
    else:
        latest = islice(login_delay.waiting(), LATEST)
        delayed = (one for one in latest if part in one[0].lower())
    return {
        "throttled": [[*one.place, *one[1:]] for one in found],
        "delayed": [[*one] for one in islice(delayed, MOST) if one[1]],
    }


def forgiveness(question: Mapping[str, Any]) -> Forgiveness:
    """What an operator forgives, of JSON."""
    return Forgiveness(tuple(question["names"]), question["address"], tuple(question["mailboxes"]))


def forgive(throttle: Throttle | None, login_delay: LoginDelay, one: Forgiveness) -> dict[str, int]:
    """Forget wrong passwords and delays; returns of how many places and mailboxes."""
    places = 0 if throttle is None else throttle.forgive(one.names, one.address)
    return {"places": places, "delays": sum(map(login_delay.forget, one.mailboxes))}


def most_counted(counts: Mapping[str, int]) -> list[list[Any]]:
    """The keys with the highest counts, as JSON."""
    return [list(one) for one in heapq.nlargest(MOST, counts.items(), key=lambda item: item[1])]
