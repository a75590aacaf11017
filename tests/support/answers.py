"""What a Deferred answers, for tests in which nothing is left to wait for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def result(answer: Deferred[Any]) -> Any:
    """The answer, which is there; a failure is raised."""
    results: list[Any] = []
    answer.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
