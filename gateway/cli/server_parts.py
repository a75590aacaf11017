"""What commands have in common that work on a server's mail: settings, user, directory, store."""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from gateway.config.settings import Settings
    from gateway.interfaces import IState
    from gateway.operations.retention import Retained

T = TypeVar("T")


def settings_of(config: str | None) -> Settings:
    """The settings of a server, if this process may change its files; raises ``ConfigError``."""
    from gateway.config.load import load_settings

    settings = load_settings(config, os.environ)
    _check_user(settings.state_dir)
    return settings


def with_mailboxes(settings: Settings, work: Callable[[Retained], Awaitable[T]]) -> T:
    """What ``work`` returns, in a reactor of its own; raises what ``work`` raises."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from gateway.app.assembly import Assembly
    from gateway.app.retention import retained_of

    results: list[T] = []
    failures: list[BaseException] = []

    async def run(reactor: Any) -> None:
        try:
            parts = Assembly(reactor, settings, ())
            try:
                retained = retained_of(settings, parts.directory(), parts.store, parts.state)
                results.append(await work(retained))
            finally:
                parts.stop_threads()
        except Exception as error:
            failures.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit:
        for failure in failures:
            raise failure from None
        if results:
            return results[0]
    # A signal has stopped the reactor.
    raise KeyboardInterrupt


def with_state(settings: Settings, work: Callable[[IState], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` returns, given the state of a server; raises what ``work`` raises.

    Needs no reactor: the ledger is read and written in this thread.
    """
    from twisted.internet.defer import Deferred, execute

    from gateway.state.ledger import LedgerState

    results: list[T] = []
    failures: list[Failure] = []
    state = LedgerState(settings.state_dir, execute)
    Deferred.fromCoroutine(work(state)).addCallbacks(results.append, failures.append)
    state.close_now()
    for failure in failures:
        failure.raiseException()
    return results[0]


def _check_user(state_dir: str) -> None:
    """Raise where this process would make files that the server cannot change."""
    if not os.path.isdir(state_dir):
        raise ConfigError(
            [
                f"{state_dir}: no such directory: has the server never run?"
                " Name its configuration with --config"
            ]
        )
    owner = os.stat(state_dir).st_uid
    if os.geteuid() == 0 != owner:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise ConfigError(
            [f"{state_dir}: run it as the server's user, as sudo -u {name} does, not as root"]
        )
