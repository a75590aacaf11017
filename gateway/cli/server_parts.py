"""How commands reach a server: they ask the one that runs, or do without one what they can."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from attrs import frozen

from gateway.cli.client import TIMEOUT, Operation, Server
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.operations.tools import Tools

P = ParamSpec("P")
T = TypeVar("T")


class Ask(Protocol):
    """Performs an operation: in the running server, or here."""

    async def __call__(
        self, operation: Operation[P, T], /, *none: P.args, **arguments: P.kwargs
    ) -> T:
        """What the operation returns; raises ``GatewayError``."""


Work = Callable[[Ask], Coroutine[Any, Any, T]]


def with_server(config: str | None, work: Work[T], timeout: float = TIMEOUT) -> T:
    """What ``work`` returns, asking the running server; raises what ``work`` raises.

    ``config`` only names the state directory, and may have faults elsewhere.
    """
    return _with(_server_of(config, timeout), work)


def with_or_without_server(config: str | None, work: Work[T], timeout: float = TIMEOUT) -> T:
    """As ``with_server``; while no server runs the operations are performed here.

    That needs the whole configuration, and the server's user.
    """
    server = _server_of(config, timeout)
    if server.is_running():
        return _with(server, work)
    return _alone(settings_of(config), work)


def _server_of(config: str | None, timeout: float) -> Server:
    from gateway.config.load import find_state_dir

    return Server(find_state_dir(config, os.environ), timeout)


def _with(server: Server, work: Work[T]) -> T:
    try:
        # Each request is answered before the next: nothing is waited for in between.
        work(_Remote(server)).send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a command waits for something else than the server")


@frozen
class _Remote:
    """Has the running server perform operations."""

    server: Server

    async def __call__(
        self, operation: Operation[P, T], /, *none: P.args, **arguments: P.kwargs
    ) -> T:
        return self.server.ask(operation, *none, **arguments)


@frozen
class _Local:
    """Performs operations in this process."""

    tools: Tools

    async def __call__(
        self, operation: Operation[P, T], /, *none: P.args, **arguments: P.kwargs
    ) -> T:
        return await operation(self.tools, *none, **arguments)


def settings_of(config: str | None, because: str = "no server runs there") -> Settings:
    """The settings of a server, if this process may change its files; raises ``ConfigError``.

    ``because``: why it is this process that changes them.
    """
    from gateway.config.load import load_settings

    settings = load_settings(config, os.environ)
    _check_user(settings.state_dir, because)
    return settings


def _alone(settings: Settings, work: Work[T]) -> T:
    """What ``work`` returns, in a reactor of its own; raises what ``work`` raises."""
    from gateway.cli.late_tools import late_tools

    async def run(reactor: Any) -> T:
        with late_tools(reactor, settings) as found:
            return await work(_Local(found))

    return in_reactor(run)


def with_places(
    old: Settings, new: Settings, work: Callable[[Tools, Tools], Coroutine[Any, Any, T]]
) -> T:
    """What ``work`` returns with the tools of two servers, whether they run or not."""
    from gateway.cli.late_tools import late_tools

    async def run(reactor: Any) -> T:
        with late_tools(reactor, old) as one, late_tools(reactor, new) as other:
            return await work(one, other)

    return in_reactor(run)


def in_reactor(run: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What ``run`` returns, which gets a reactor; raises what it raises."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    results: list[T] = []
    failures: list[BaseException] = []

    async def kept(reactor: Any) -> None:
        try:
            results.append(await run(reactor))
        except Exception as error:
            failures.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(kept(reactor)))
    except SystemExit:
        for failure in failures:
            raise failure from None
        if results:
            return results[0]
    # A signal has stopped the reactor.
    raise KeyboardInterrupt


def _check_user(state_dir: str, because: str) -> None:
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
            [
                f"{state_dir}: {because}: run it as the server's user,"
                f" as sudo -u {name} does, not as root"
            ]
        )
