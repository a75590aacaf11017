"""``pop3gw check-config`` and ``pop3gw config``: a configuration checked, and as it works."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View

if TYPE_CHECKING:
    from gateway.app.first_start import User
    from gateway.operations.server.configuration import Setting


@command(
    "check-config",
    "pop3gw check-config --config /etc/pop3gw.toml",
    "pop3gw check-config --user pop3gw --config /etc/pop3gw.toml",
    "POP3GW_DEMO=true pop3gw check-config --json",
)
@CONFIG
@click.option(
    "--user", metavar="NAME", help="Check as root what this user, who runs the server, may do."
)
def check_config(terminal: Terminal, config: str | None, user: str | None) -> Exit:
    """Check a configuration and the files that it names.

    Prints each fault with its file, line and setting. Nothing is changed, and
    no port is bound. The same as 'twistd pop3gw --check', which takes --auth.
    """
    from gateway.app.start import check

    found = check(config, os.environ, user=_user(user))
    lines = [*found.remarks, *(found.faults or ["The configuration is fine."])]
    terminal.say("\n".join(lines), ok=not found.faults, faults=found.faults, remarks=found.remarks)
    return Exit.FAILED if found.faults else Exit.DONE


def _user(name: str | None) -> User | None:
    from gateway.app.first_start import user_of

    if name is None:
        return None
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise click.UsageError(f"--user {name}: there is no such user") from None
    if os.geteuid() not in (0, uid):
        raise click.UsageError(f"--user {name}: only root can check for another user")
    return user_of(uid, None)


@click.group("config", cls=Group, examples=("pop3gw config show --config /etc/pop3gw.toml",))
def config() -> None:
    """Show a configuration as the server has it."""


@command(
    "show",
    "pop3gw config show --config /etc/pop3gw.toml",
    "pop3gw config show -n",
    "pop3gw config show pop3 limits.connections --json",
    "pop3gw config show --config /etc/pop3gw.toml --running -n",
    does="configuration.show_configuration",
)
@CONFIG
@click.option(
    "--running", is_flag=True, help="What the running server has, which may differ from its file."
)
@click.option("--non-default", "-n", is_flag=True, help="Only what differs from the defaults.")
@click.argument("names", nargs=-1, metavar="[SETTING|SECTION]...")
def show(
    terminal: Terminal,
    config: str | None,
    running: bool,
    non_default: bool,
    names: tuple[str, ...],
) -> Exit:
    """Show effective settings, each with its origin. Secrets are hidden.

    The origin is the line of the file, the environment variable, or 'default';
    'profile NAME' for what a profile of [pop3] sets, and another setting where
    one follows it. Elsewhere than on a terminal the output is TOML.
    """
    from gateway.operations.server.configuration import show as operation

    if running:
        return with_server(config, lambda ask: _show_running(terminal, ask, non_default, names))
    settings = operation(config, os.environ)
    _check_names(settings, names)
    terminal.show(SETTINGS, (one for one in settings if _is_wanted(one, non_default, names)))
    return Exit.DONE


async def _show_running(
    terminal: Terminal, ask: Ask, non_default: bool, names: tuple[str, ...]
) -> Exit:
    """Print what the running server has; ``PARTLY`` where its file has changed since."""
    from gateway.operations.server.configuration import Setting, show_configuration

    found = await ask(show_configuration)
    settings = [
        Setting(
            one.key,
            one.value,
            one.origin or "changed since",
            one.hidden,
            one.is_default,
        )
        for one in found.settings
    ]
    _check_names(settings, names)
    terminal.show(SETTINGS, (one for one in settings if _is_wanted(one, non_default, names)))
    for fault in found.faults:
        terminal.complain(fault)
    if found.changed:
        changed = ", ".join(found.changed)
        terminal.complain(f"changed since, and not in force: {changed}; see pop3gw reload")
    return Exit.PARTLY if found.faults or found.changed else Exit.DONE


def _check_names(settings: Sequence[Setting], names: Sequence[str]) -> None:
    for name in names:
        if not any(_is_in(one, name) for one in settings):
            raise click.UsageError(f"there is no setting or section {name}")


def _is_wanted(one: Setting, non_default: bool, names: Sequence[str]) -> bool:
    is_named = not names or any(_is_in(one, name) for name in names)
    return is_named and not (non_default and one.is_default)


config.add_command(show)


def _is_in(one: Setting, name: str) -> bool:
    """Whether a setting has this name, or is in the section of this name."""
    keys = _dotted(one), ".".join(one.key)
    return any(f"{key}.".startswith(f"{name}.") for key in keys)


def _dotted(one: Setting) -> str:
    """The key as TOML has it."""
    return ".".join(
        name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name) for name in one.key
    )


def _toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool | str):
        # JSON's, but for DEL, which TOML has escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_toml(str(name))} = {_toml(one)}" for name, one in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return repr(value) if isinstance(value, int | float) else _toml(str(value))


def _line(one: Setting) -> str:
    if one.value is None:
        why = "is set and hidden" if one.hidden else "is not set"
        return f"# {_dotted(one)} {why}  # {one.origin}"
    return f"{_dotted(one)} = {_toml(one.value)}  # {one.origin}"


def _cells(one: Setting) -> tuple[str, str, str]:
    shown = "(hidden)" if one.hidden else "" if one.value is None else _toml(one.value)
    return _dotted(one), shown, one.origin


def _described(one: Setting) -> dict[str, Any]:
    value = list(map(str, one.value)) if isinstance(one.value, tuple) else one.value
    return {"setting": _dotted(one), "value": value, "origin": one.origin, "hidden": one.hidden}


SETTINGS = View[Any](("Setting", "Value", "Origin"), _cells, _line, _described)
