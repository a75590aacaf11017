"""The parts of a server that commands work with; nothing else is started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from gateway.app.assembly import Assembly
from gateway.config.settings import Settings
from gateway.interfaces import IDirectory, IState, IStore


@frozen
class Tools:
    """The parts that a command uses."""

    directory: IDirectory
    store: IStore
    state: IState


@contextmanager
def tools(reactor: Any, settings: Settings) -> Iterator[Tools]:
    """The directory, the store and the state of a server; nothing else is started.

    Raises as the making of a directory does.
    """
    parts = Assembly(reactor, settings, ())
    try:
        yield Tools(parts.directory(), parts.store, parts.state)
    finally:
        parts.stop_threads()
