"""``pop3gw health``: whether the listeners of a running server answer."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.terminal import Terminal, View

if TYPE_CHECKING:
    from gateway.operations.server.health import Health


@command(
    "health",
    "pop3gw health --config /etc/pop3gw.toml",
    "pop3gw health --timeout 2 --json",
)
@CONFIG
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    metavar="SECONDS",
    default=8.0,
    show_default=True,
    help="How long all of this may take.",
)
@click.option(
    "--ready",
    is_flag=True,
    help="Ask also whether it can serve clients: directory, store, disk, state, leader.",
)
def health(terminal: Terminal, config: str | None, timeout: float, ready: bool) -> Exit:
    """Ask every listener of a running server whether it answers.

    Connects as a client does, to POP3 (with TLS where it is implicit), LMTP,
    the policy service and HTTP, and leaves no session in the log. It fails if
    one of them does not answer; a server that is full answers. With --ready
    it fails also while logins would fail, since the directory is down for
    example; a restart does not cure that.
    """
    from gateway.config.load import load_settings
    from gateway.operations.server.health import ask_all

    settings = load_settings(config, os.environ)
    found = list(ask_all(settings, timeout))
    if ready:
        found += _checks(settings.state_dir, timeout)
    terminal.show(HEALTH, found)
    return Exit.FAILED if any(one.serves is False for one in found) else Exit.DONE


def _checks(state_dir: str, timeout: float) -> list[Health]:
    """What the server itself finds; a warning is no failure."""
    from gateway.cli.client import Server
    from gateway.operations.server.health import Health
    from gateway.operations.server.readiness import readiness

    began = time.monotonic()
    said = Server(state_dir, timeout).ask(readiness)
    seconds = time.monotonic() - began
    return [
        Health(one.name, "", one.state != "fail", one.reason or "ok", seconds)
        for one in said.checks
    ]


def _state(one: Health) -> str:
    return {True: "up", False: "down", None: "unknown"}[one.serves]


def _cells(one: Health) -> tuple[str, ...]:
    return one.name, one.endpoint, _state(one), one.answer


def _line(one: Health) -> str:
    if not one.endpoint:
        return f"{one.name} {_state(one)}: {one.answer}"
    return f"listener {one.name} at {one.endpoint} {_state(one)}: {one.answer}"


def _described(one: Health) -> Mapping[str, Any]:
    return {
        "listener": one.name,
        "endpoint": one.endpoint,
        "state": _state(one),
        "answer": one.answer,
        "seconds": round(one.seconds, 4),
    }


HEALTH = View[Any](("Listener", "Endpoint", "State", "Answer"), _cells, _line, _described)
