"""Ask a running server, at its control socket, to read its configuration again."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from attrs import frozen

from gateway.errors import ConfigError

NAME = "control"
"""The socket in the state directory."""

LARGEST = 65_536
"""Most octets of a question."""


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


def ask_reload(state_dir: str, timeout: float) -> Reloaded:
    """Have the server of a state directory reload, and wait ``timeout`` seconds for its answer.

    Raises ``ConfigError`` with the cure if there is no server, or no answer.
    """
    said = _ask(os.path.join(state_dir, NAME), {"ask": "reload"}, timeout)
    if "error" in said:
        raise ConfigError([f"the server answers: {said['error']}"])
    fields = ("changed", "restart", "problems", "kept")
    return Reloaded(**{name: tuple(map(str, said.get(name, ()))) for name in fields})


def _ask(path: str, question: object, timeout: float) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout)
        try:
            line.connect(path)
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as file:
                answer = file.readline()
        except TimeoutError:
            cure = "look at its log, or wait longer with --timeout"
            raise ConfigError([f"{path}: no answer within {timeout:g} s; {cure}"]) from None
        except PermissionError:
            cure = "run this as the user that the server runs as"
            raise ConfigError([f"{path}: permission denied; {cure}"]) from None
        except OSError as error:
            cure = "is the server running, with this state_dir? Else name its --config"
            raise ConfigError([f"{path}: {error.strerror or error}; {cure}"]) from None
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise ConfigError([f"{path}: the server has ended; look at its log"]) from None
    return said
