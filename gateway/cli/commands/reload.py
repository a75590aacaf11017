"""``pop3gw reload``: the running server reads its configuration again."""

from __future__ import annotations

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal


@command(
    "reload",
    "pop3gw reload --config /etc/pop3gw.toml",
    "pop3gw reload --config /etc/pop3gw.toml --json",
    does="control.reload_configuration",
)
@CONFIG
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="How long to wait for the server.",
)
def reload(terminal: Terminal, config: str | None, timeout: float) -> Exit:
    """Have the running server read its configuration again; sessions continue.

    The server checks its own file and environment, and takes all that can change
    live, or nothing. The configuration given here only names the state directory,
    where the server listens for this command. Prints the settings that changed,
    and those that wait for a restart, for which the exit code is 3.
    """
    return with_server(config, lambda ask: show_reloaded(terminal, ask), timeout)


async def show_reloaded(terminal: Terminal, ask: Ask) -> Exit:
    """Reload, and print what changed; ``PARTLY`` where something waits for a restart."""
    from gateway.operations.server.control import reload_configuration

    done = await ask(reload_configuration)
    for problem in (*done.problems, *done.kept):
        terminal.complain(problem)
    if done.problems:
        terminal.complain("nothing was changed")
        return Exit.FAILED
    lines = [
        f"changed: {', '.join(done.changed) or 'nothing'}",
        *([f"needs a restart: {', '.join(done.restart)}"] if done.restart else []),
    ]
    terminal.say("\n".join(lines), **asdict(done))
    return Exit.PARTLY if done.restart or done.kept else Exit.DONE
