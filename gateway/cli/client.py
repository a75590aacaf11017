"""Ask the running server: its operations, by HTTP over the control socket.

No reactor is needed: one request waits for its answer.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Coroutine, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, get_type_hints
from urllib.parse import quote, urlencode

from attrs import frozen

from gateway.errors import ConfigError, GatewayError, TookTooLong

if TYPE_CHECKING:
    from gateway.http.routes import Route
    from gateway.operations.tools import Tools

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate["Tools", P], Coroutine[Any, Any, T]]
"""A function of ``gateway/operations`` that has a route."""

TIMEOUT = 60.0
"""Seconds to wait for an answer."""

LONGEST = 3600.0
"""The same of what reads or changes much mail of a mailbox, or goes through all mailboxes."""

_LARGEST = 2**26
"""Most octets of an answer."""


class NoServer(GatewayError):
    """No server listens on the control socket."""


class Refused(ConfigError):
    """The server answers that it did not do it, and why: ``problems``, one line each."""

    def __init__(self, status: int, lines: list[str]) -> None:
        super().__init__(lines)
        self.status = status
        """Of HTTP."""


class _Connection(HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@frozen
class Server:
    """The server of a state directory, if it runs."""

    state_dir: str
    timeout: float = TIMEOUT
    """Seconds to wait for each answer."""

    @property
    def path(self) -> str:
        """The control socket."""
        from gateway.operations.server.control import NAME

        return os.path.join(self.state_dir, NAME)

    def is_running(self) -> bool:
        """Whether a server listens there.  Raises ``ConfigError`` if this user may not ask."""
        connection = _Connection(self.path, self.timeout)
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        return True

    def ask(
        self,
        operation: Operation[P, T],
        /,
        *_: P.args,
        **arguments: P.kwargs,
    ) -> T:
        """The answer of an operation; all its arguments but the tools have names.

        Raises ``NoServer``, ``Refused``, ``TookTooLong``, or ``ConfigError`` with the cure: no
        permission, for example.
        """
        route = _route_of(operation)
        body = self._exchange(*_request_of(route, arguments))
        answer: T = _structured(body, get_type_hints(operation)["return"])
        return answer

    def _exchange(self, method: str, target: str, body: bytes | None) -> bytes:
        connection = _Connection(self.path, self.timeout)
        headers = {"Accept": "application/json, application/problem+json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body, headers)
            with connection.getresponse() as response:
                found = _content(response, self.path)
        except OSError as error:
            raise self._unreachable(error) from None
        except HTTPException as error:
            fault = f"{self.path}: expected HTTP, found {_shown(error)}"
            raise ConfigError([f"{fault}; look at the server's log"]) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(response.status, _problems(response.status, found))
        return found

    def _unreachable(self, error: OSError) -> GatewayError:
        if isinstance(error, TimeoutError):
            fault = f"{self.path}: no answer within {self.timeout:g} s"
            return TookTooLong(f"{fault}; look at the server's log")
        if isinstance(error, PermissionError):
            cure = "run this as root, or as the user that the server runs as"
            return ConfigError([f"{self.path}: permission denied; {cure}"])
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return ConfigError([f"{self.path}: the server has ended; look at its log"])
        cure = "is the server running, with this state_dir? Else name its --config"
        return NoServer(f"{self.path}: {error.strerror or error}; {cure}")


# -- requests ---------------------------------------------------------------------


def _route_of(operation: object) -> Route:
    from gateway.http.routes import ROUTES

    return next(route for route in ROUTES if route.operation is operation)


def _request_of(route: Route, arguments: Mapping[str, Any]) -> tuple[str, str, bytes | None]:
    """Method, target and body of a request."""
    in_path = set(re.findall(r"\{(\w+)\}", route.path))
    path = re.sub(r"\{(\w+)\}", lambda found: quote(str(arguments[found[1]]), safe="@"), route.path)
    rest = {
        name: value
        for name, value in arguments.items()
        if name not in in_path and value is not None
    }
    if route.method != "GET":
        return route.method, path, json.dumps(rest).encode()
    query = urlencode({name: _query_value(value) for name, value in rest.items()}, doseq=True)
    return route.method, f"{path}?{query}" if query else path, None


def _query_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return list(value) if isinstance(value, tuple | list) else str(value)


# -- answers ----------------------------------------------------------------------


def _content(response: HTTPResponse, path: str) -> bytes:
    found = response.read(_LARGEST + 1)
    if response.length:
        raise ConnectionResetError
    if len(found) > _LARGEST:
        raise ConfigError([f"{path}: an answer of more than {_LARGEST} octets: ask for fewer"])
    return found


def _problems(status: int, body: bytes) -> list[str]:
    """The lines of problem JSON (RFC 9457)."""
    try:
        said = json.loads(body)
        lines = list(said.get("problems") or [said.get("detail") or said["title"]])
        if all(isinstance(one, str) for one in lines):
            return lines
    except (ValueError, LookupError, AttributeError, TypeError):
        pass
    return [f"the server answers with HTTP status {status}; look at its log"]


def _structured(body: bytes, kind: Any) -> Any:
    """A value of the type that the operation returns."""
    from cattrs import Converter

    from gateway.operations.values import Text

    if kind is Text:
        return Text("", body)
    try:
        return Converter().structure(json.loads(body), kind)
    except Exception as error:
        # cattrs raises groups of whatever its hooks raise.
        fault = f"the server's answer is not understood ({_shown(error)})"
        cure = "is this pop3gw of the same version? Restart the server after an upgrade"
        raise ConfigError([f"{fault}; {cure}"]) from None


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
