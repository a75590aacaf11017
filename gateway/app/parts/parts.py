"""The parts of a running server: a reload keeps those that are made of the same things."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.logger import Logger

from gateway.events import Subscription
from gateway.observe.bus import EventBus

T = TypeVar("T")


def _nothing() -> None:
    """There is nothing to begin or to end."""


@frozen
class Life:
    """How a part begins and ends, if it does something by itself."""

    start: Callable[[], object] = _nothing
    """May return a Deferred that fires when clients may come."""

    stop: Callable[[], object] = _nothing
    """May return a Deferred that fires when the part has ended.  Called once, started or not."""

    subscription: Subscription = field(factory=dict)


class _Part:
    """One part, what it is made of, and its life."""

    def __init__(self, made: Any, made_of: object, life: Life) -> None:
        self.made = made
        self.made_of = made_of
        self.life = life
        self.is_over = False
        """It must not start any more."""

    def begin(self) -> Deferred[Any]:
        """Start it, unless it has ended meanwhile."""
        return succeed(None) if self.is_over else maybeDeferred(self.life.start)

    def end(self) -> Deferred[Any]:
        """Stop it."""
        self.is_over = True
        return maybeDeferred(self.life.stop)


class Parts:
    """Parts by name, in the order in which they were made."""

    log = Logger()

    def __init__(self, events: EventBus, before: Parts | None = None) -> None:
        """``before``: the parts that these replace, as far as they are not the same."""
        self._events = events
        self._before: dict[str, _Part] = {} if before is None else before._parts
        self._parts: dict[str, _Part] = {}
        self._ending: dict[str, Deferred[Any]] = {} if before is None else before._ending
        """Parts that were replaced, and have not ended yet."""

    def part(
        self,
        name: str,
        made_of: object,
        make: Callable[[], T],
        life: Callable[[T], Life] = lambda _: Life(),
    ) -> T:
        """The part of the parts before, if that is made of the same things; else a new one.

        ``made_of``: settings are compared by value, other parts by identity.
        """
        known = self._parts.get(name) or self._before.get(name)
        if known is None or known.made_of != made_of:
            made = make()
            known = _Part(made, made_of, life(made))
        self._parts[name] = known
        found: T = known.made
        return found

    def find(self, name: str) -> Any:
        """The part of this name; None: there is none."""
        known = self._parts.get(name)
        return None if known is None else known.made

    def find_before(self, name: str) -> Any:
        """The part that the one of this name may replace; None: there is none."""
        known = self._before.get(name)
        return None if known is None else known.made

    def is_kept(self, name: str) -> bool:
        """Whether the part of this name is the one of before."""
        return name in self._parts and self._parts[name] is self._before.get(name)

    @property
    def _new(self) -> dict[str, _Part]:
        return {name: one for name, one in self._parts.items() if self._before.get(name) is not one}

    def subscribe(self) -> None:
        """Have new parts take events, in place of those that they replace."""
        for name, one in self._before.items():
            if self._parts.get(name) is not one:
                self._events.unsubscribe(one.life.subscription)
        for one in self._new.values():
            self._events.subscribe(one.life.subscription)

    def start(self) -> Deferred[Any]:
        """End the parts that were replaced, and then start each new one.

        Fires when all have started.
        """
        begun = []
        for name in dict.fromkeys((*self._before, *self._new)):
            old, new = self._before.get(name), self._new.get(name)
            if old is not None and self._parts.get(name) is not old:
                old.is_over = True
                self._ending[name] = self._after(name, old.end)
            if new is not None:
                begun.append(self._after(name, new.begin))
        self._before = {}
        return gatherResults(begun)

    def _after(self, name: str, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Do ``work`` when the part of this name that was replaced has ended."""
        done = Deferred[Any]()
        waits_for = self._ending.get(name)

        def go_on(result: Any) -> Any:
            ended = work()
            ended.addErrback(lambda failure: self.log.failure("internal error: part", failure))
            ended.addCallback(done.callback)
            return result

        if waits_for is None:
            go_on(None)
        else:
            waits_for.addCallback(go_on)
        return done

    def stop(self) -> Deferred[Any]:
        """End all parts; fires when they have ended, and those that were replaced before."""
        # All at once: no part waits for another one.
        ended = [one.end() for one in self._parts.values()]
        return gatherResults([*ended, *self._ending.values()], consumeErrors=True)

    def drop(self) -> None:
        """End the new parts, which are not wanted after all."""
        for one in self._new.values():
            one.end()
