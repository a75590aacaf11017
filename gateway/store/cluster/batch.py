"""Many questions to the database as one: all that come while one is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gateway.interfaces import Run

K = TypeVar("K")
V = TypeVar("V")

MOST = 1000
"""Keys in one question."""


class Batch(Generic[K, V]):
    """Questions for values by key.

    The first is asked at once; those that come before its answer are asked together.  So
    nothing waits for a timer, and the busier the database is the larger the questions are.
    """

    def __init__(
        self, run: Run, ask: Callable[[Sequence[K]], Mapping[K, V]], *, most: int = MOST
    ) -> None:
        """``ask`` answers for up to ``most`` keys, without those that have no value.  Blocks."""
        self._run = run
        self._ask = ask
        self._most = most
        self._waiting: dict[K, list[Deferred[V | None]]] = {}
        self._asking = False

    def find(self, key: K) -> Deferred[V | None]:
        """The value, as it is after this call; None: there is none.  Fails as ``ask``."""
        answer: Deferred[V | None] = Deferred()
        self._waiting.setdefault(key, []).append(answer)
        if not self._asking:
            self._begin()
        return answer

    def _begin(self) -> None:
        asked = dict(islice(self._waiting.items(), self._most))
        for key in asked:
            del self._waiting[key]
        self._asking = True

        def answered(found: Mapping[K, V]) -> None:
            self._go_on()
            for key, answers in asked.items():
                for answer in answers:
                    answer.callback(found.get(key))

        def failed(failure: Failure) -> None:
            # Those that wait would wait as long again, for an answer that is hardly a better one.
            waiting, self._waiting = self._waiting, {}
            self._go_on()
            # A key may be in both.
            for answers in [*asked.values(), *waiting.values()]:
                for answer in answers:
                    answer.errback(Failure(failure.value))

        self._run(lambda: self._ask([*asked])).addCallbacks(answered, failed)

    def _go_on(self) -> None:
        self._asking = False
        if self._waiting:
            self._begin()
