"""The listeners of a process: a reload hands other settings to what listens already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.interfaces import IStreamServerEndpoint

from gateway.app.server.service import Listener
from gateway.net.forwarding import ForwardingFactory

F = TypeVar("F")


class Replaceable(ForwardingFactory):
    """Hands each new client to the present factory; clients of the one before stay there."""

    def replace(self, factory: Any) -> None:
        """Another factory from now on; it has the same sessions, so it is neither started
        nor stopped."""
        self._factory = factory


class Listeners:
    """Makes listeners, or prepares what those that there are get at a reload."""

    def __init__(self, before: Listeners | None = None) -> None:
        """``before``: the listeners that listen already; None: at the start."""
        self._listeners: dict[str, Listener] = {} if before is None else before._listeners
        self._factories: dict[str, Any] = {} if before is None else before._factories
        self._prepared: list[Callable[[], object]] = []

    def factory(self, name: str, make: Callable[[], F], configure: Callable[[F], object]) -> F:
        """The factory of a listener's sessions: a new one, or the old one.

        ``configure`` gives the old one its settings, in ``commit``; it must not fail.
        """
        if name not in self._factories:
            self._factories[name] = make()
        else:
            self._prepared.append(partial(configure, self._factories[name]))
        found: F = self._factories[name]
        return found

    def listener(
        self,
        name: str,
        endpoint: Callable[[], IStreamServerEndpoint],
        wire: Any,
        *,
        sessions: Any = None,
        site: Any = None,
        tls: str = "none",
        section: str,
    ) -> Listener:
        """The listener: a new one at the ``endpoint``, or the old one.

        That gets ``wire`` and ``tls``, in ``commit``.
        """
        known = self._listeners.get(name)
        if known is not None:
            self._prepared.append(partial(known.wire.replace, wire))
            self._prepared.append(partial(setattr, known, "tls", tls))
            return known
        made = Listener(name, endpoint(), Replaceable(wire), sessions, tls, site, section)
        self._listeners[name] = made
        return made

    def commit(self) -> None:
        """Hand all that was prepared to the old ones."""
        prepared, self._prepared = self._prepared, []
        for hand_over in prepared:
            hand_over()
