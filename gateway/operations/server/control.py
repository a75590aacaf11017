"""Reload: have the running server read its configuration again."""

from __future__ import annotations

from attrs import frozen

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
