"""What operators see of admission: who waits, who is near a limit; and how they forgive.

Questions and answers are JSON values, since they go from process to process.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from gateway.admission.login_delay import LoginDelay
from gateway.admission.throttle import Throttle

MOST = 1000
"""Rows of an answer: those with the longest delay, or the most connections."""


def waiting(
    throttle: Throttle | None, login_delay: LoginDelay, question: Mapping[str, Any]
) -> dict[str, Any]:
    """Who waits after wrong passwords and for LOGIN-DELAY; ``search``: a part of a name or network.

    Answers ``throttled`` and ``delayed``, lists of at most ``MOST`` rows, and ``total``.
    """
    part = str(question.get("search", "")).lower()
    places = [
        one
        for one in ([] if throttle is None else throttle.waiting())
        if part in one.place.account.lower() or part in one.place.network
    ]
    worst = heapq.nlargest(MOST, places, key=lambda one: (one.refuses, one.delay, one.wrong))
    delayed = [[user, left] for user, left in login_delay.waiting() if part in user.lower()]
    return {
        "throttled": [[*one.place, *one[1:]] for one in worst],
        "delayed": delayed[:MOST],
        "total": len(places) + len(delayed),
    }


def forgive(
    throttle: Throttle | None, login_delay: LoginDelay, question: Mapping[str, Any]
) -> dict[str, int]:
    """Forget wrong passwords of ``names`` and from ``address``, and delays of ``mailboxes``."""
    names, address = question["names"], question["address"]
    places = 0 if throttle is None else throttle.forgive(names, address)
    return {
        "places": places,
        "delays": sum(login_delay.forget(one) for one in question["mailboxes"]),
    }


def most_counted(counts: Mapping[str, int]) -> list[list[Any]]:
    """The keys with the highest counts, as JSON."""
    return [list(one) for one in heapq.nlargest(MOST, counts.items(), key=lambda item: item[1])]
