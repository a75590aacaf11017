"""``pop3gw samples``: the sample configuration, the systemd unit, the LDAP schema."""

from __future__ import annotations

import click

from gateway.cli.command import command
from gateway.cli.terminal import Terminal, View
from gateway.samples import NAMES, text

FILES: View[tuple[str, str]] = View(
    ("Name", "What it is"),
    lambda file: file,
    ": ".join,
    lambda file: {"name": file[0], "about": file[1]},
)


@command("samples", "pop3gw samples", "pop3gw samples pop3gw.toml > /etc/pop3gw.toml")
@click.argument("name", required=False, type=click.Choice(list(NAMES)), metavar="[NAME]")
def samples(terminal: Terminal, name: str | None) -> None:
    """Print a sample file; without NAME list them."""
    if name is None:
        terminal.show(FILES, NAMES.items())
    elif terminal.as_json:
        terminal.say("", name=name, text=text(name))
    else:
        terminal.write(text(name))
