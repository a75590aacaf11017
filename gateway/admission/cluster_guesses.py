"""Passwords that were tried, and forgiven: told to other machines within seconds, and heard."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError
from gateway.interfaces import ISharedLimits, Run
from gateway.model import Forgiveness, Guess
from gateway.observe.outage import Outage

log = Logger()

MOST = 1000
"""Guesses that are told at once."""

Told = Guess | Forgiveness

KEPT = 10_000
"""Guesses that wait to be told, and names with wrong passwords; the oldest is dropped."""


class ClusterGuesses:
    """What this process tells of passwords, and what it hears."""

    def __init__(
        self,
        limits: ISharedLimits,
        run: Run,
        outage: Outage,
        learn: Callable[[Told], object],
        window: float,
    ) -> None:
        """``learn`` takes what others tell; ``window``: seconds that it matters."""
        self.window = window
        self._limits = limits
        self._run = run
        self._outage = outage
        self._learn = learn
        self._asking = False
        self._telling: OrderedDict[Told, None] = OrderedDict()
        self._suspects: OrderedDict[str, None] = OrderedDict()
        """Login names with wrong passwords, here or elsewhere."""

    def note(self, guess: Guess) -> None:
        """Somebody has tried this password here."""
        # Others need to know of a right password only where it forgives wrong ones.
        if guess.is_right and guess.name not in self._suspects:
            return
        self._suspect(guess)
        _keep(self._telling, guess)

    def forgive(self, one: Forgiveness) -> None:
        """An operator forgives this here: told after the guesses that it forgives."""
        _keep(self._telling, one)

    def _suspect(self, guess: Guess) -> None:
        if guess.is_right:
            self._suspects.pop(guess.name, None)
        else:
            _keep(self._suspects, guess.name)

    def tick(self) -> None:
        """Tell, and hear; call it each second."""
        if self._asking:
            return
        self._asking = True
        told = [one for one, _ in zip(self._telling, range(MOST), strict=False)]
        for one in told:
            del self._telling[one]

        def heard(others: Sequence[Told]) -> None:
            self._asking = False
            self._outage.answered()
            # What is heard only now was told before what is forgiven now.
            forgiven = [one for one in told if isinstance(one, Forgiveness)]
            for one in (*others, *forgiven):
                if isinstance(one, Guess):
                    self._suspect(one)
                self._learn(one)

        def failed(failure: Failure) -> None:
            self._asking = False
            error = failure.value
            if not isinstance(error, GatewayError):
                # Told again they would fail again, and all others with them.
                log.failure("shared guesses", failure)
                return
            if not error.logged:
                self._outage.failed(f"{error}; each gateway counts by itself")
            # What came meanwhile is younger.
            later, self._telling = self._telling, OrderedDict.fromkeys(told)
            for one in later:
                _keep(self._telling, one)

        self._run(partial(self._limits.exchange, told, self.window)).addCallbacks(heard, failed)


def _keep(kept: OrderedDict[Any, None], key: Any) -> None:
    kept[key] = None
    kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)
