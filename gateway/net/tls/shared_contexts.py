"""TLS contexts that worker processes share: tickets of one are good at all of them.

OpenSSL makes the keys of tickets together with a context, and this library cannot set them.  So
contexts are made before the workers are forked; each worker loads its certificates into them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from OpenSSL import SSL

from gateway.net.tls.context import new_context

GENERATIONS = 64
"""How often the keys can be renewed; afterwards each worker has its own.  13 KiB a context."""


class SharedContexts:
    """Generations of contexts, one of each listener; their keys are the same after a fork."""

    def __init__(self, names: Collection[str] = (), generations: int = GENERATIONS) -> None:
        """``names``: of the listeners, if there will be a fork."""
        self._later = {
            number: {name: new_context() for name in names}
            for number in range(generations if names else 0)
        }
        self._now: dict[str, SSL.Context] = {}
        self._generation = 0
        self.ask: Callable[[int], object] = lambda _: None
        """Called with the generation that should be followed by another one."""

    def advance(self, generation: int) -> None:
        """Take the contexts of this generation; forget all before it, with their keys."""
        self._generation = generation
        self._now = self._later.pop(generation, {})
        for number in [one for one in self._later if one < generation]:
            del self._later[number]

    def make(self, name: str) -> SSL.Context:
        """The context of a listener in this generation, once; then others, with keys of their own.

        These are good until the next generation, which is asked for.
        """
        context = self._now.pop(name, None)
        if context is not None:
            return context
        if any(name in later for later in self._later.values()):
            self.ask(self._generation)
        return new_context()
