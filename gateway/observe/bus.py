"""The bus: hands each event to those who have subscribed to its kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from gateway.events import Event, Subscription

__all__ = ["EventBus"]


class EventBus:
    """Calls subscribers in the order in which they subscribed."""

    log = Logger()

    def __init__(self) -> None:
        self._takers: defaultdict[type[Event], tuple[Callable[[Any], object], ...]]
        self._takers = defaultdict(tuple)

    def subscribe(self, subscription: Subscription) -> None:
        """Call these functions from now on."""
        for kind, take in subscription.items():
            self._takers[kind] = (*self._takers[kind], take)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Call these functions no more."""
        for kind, take in subscription.items():
            self._takers[kind] = tuple(one for one in self._takers[kind] if one != take)

    def emit(self, event: Event) -> None:
        """Call the event's subscribers; log one that fails, and go on with the next."""
        for take in self._takers[type(event)]:
            try:
                take(event)
            except Exception:
                name = type(event).__name__
                self.log.failure("internal error: subscriber to {event}", event=name)
