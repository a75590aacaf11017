"""Reload: have a running server read its configuration again, also from another process."""

from __future__ import annotations

import json
import os
import socket
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from attrs import frozen

from gateway.errors import ConfigError
from gateway.operations.tools import Tools

NAME = "control"
"""The socket in the state directory."""


@frozen
class Reloaded:
    """What became of a reload."""

    changed: tuple[str, ...] = ()
    """The settings that have changed, by key."""

    restart: tuple[str, ...] = ()
    """The settings that keep their old value until a restart, by key."""

    problems: tuple[str, ...] = ()
    """Why the whole configuration stays as it was, one line each; empty: it was taken."""

    kept: tuple[str, ...] = ()
    """Why certificates stay as they were, one line each."""


async def reload_configuration(tools: Tools) -> Reloaded:
    """Have the server read its configuration again; sessions continue.

    It takes all that can change live, or nothing.
    """
    said = await tools.processes.ask_parent("reload")
    return Reloaded(**{name: tuple(value) for name, value in said.items()})


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


def ask_reload(state_dir: str, timeout: float) -> Reloaded:
    """Have the server of a state directory reload, and wait ``timeout`` seconds for its answer.

    Raises ``ConfigError`` with the cure if there is no server, or no answer.
    """
    said = _ask(os.path.join(state_dir, NAME), timeout)
    fields = ("changed", "restart", "problems", "kept")
    return Reloaded(**{name: tuple(map(str, said.get(name, ()))) for name in fields})


def _ask(path: str, timeout: float) -> dict[str, Any]:
    line = _Connection(path, timeout)
    try:
        line.request("POST", "/v1/reload")
        answer = line.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
    except TimeoutError:
        cure = "look at its log, or wait longer with --timeout"
        raise ConfigError([f"{path}: no answer within {timeout:g} s; {cure}"]) from None
    except PermissionError:
        cure = "run this as the user that the server runs as"
        raise ConfigError([f"{path}: permission denied; {cure}"]) from None
    except (ConnectionResetError, BrokenPipeError, HTTPException, ValueError):
        raise ConfigError([f"{path}: the server has ended; look at its log"]) from None
    except OSError as error:
        cure = "is the server running, with this state_dir? Else name its --config"
        raise ConfigError([f"{path}: {error.strerror or error}; {cure}"]) from None
    finally:
        line.close()
    if answer.status != HTTPStatus.OK:
        raise ConfigError([f"the server answers: {said.get('detail') or said.get('title')}"])
    return said
