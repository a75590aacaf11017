"""``pop3gw completion``: completion of commands and options in shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gateway.cli.command import command
from gateway.cli.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    "pop3gw completion bash > /etc/bash_completion.d/pop3gw",
    "pop3gw completion zsh > /usr/local/share/zsh/site-functions/_pop3gw",
    "pop3gw completion fish > /etc/fish/completions/pop3gw.fish",
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
@click.pass_context
def completion(ctx: click.Context, terminal: Terminal, shell: str) -> None:
    """Print the completion script of a shell."""
    root = ctx.find_root()
    name = str(root.info_name)
    made = get_completion_class(shell)
    assert made is not None
    script = made(root.command, {}, name, f"_{name.upper()}_COMPLETE").source()
    if terminal.as_json:
        terminal.say("", shell=shell, script=script)
    else:
        terminal.write(script)
