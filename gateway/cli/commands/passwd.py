"""``pop3gw passwd``: accounts of a passwd-file."""

from __future__ import annotations

import getpass
import os
import sys

import click

from gateway.cli.command import command
from gateway.cli.terminal import Terminal
from gateway.directory.schemes import SCHEMES


@command(
    "passwd",
    "pop3gw passwd --config /etc/pop3gw.toml bob@example.org",
    "echo SECRET | pop3gw passwd --file /var/lib/pop3gw/accounts bob@example.org",
    "pop3gw passwd --config /etc/pop3gw.toml --delete bob@example.org",
)
@click.argument("name")
@click.option(
    "--file", metavar="FILE", type=click.Path(), help="Change this passwd-file; do not print."
)
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    type=click.Path(),
    help="Change the passwd-file of this configuration; do not print.",
)
@click.option("--delete", is_flag=True, help="Remove the account from the file.")
@click.option(
    "--scheme",
    type=click.Choice(list(SCHEMES)),
    metavar="|".join(SCHEMES),
    default="ARGON2ID",
    show_default=True,
    help="How the password is hashed.",
)
@click.option(
    "--nt-hash/--no-nt-hash",
    default=None,
    help="Store an NT hash too, for NTLM, or remove it. Default: as the entry has it.",
)
@click.option("--stdin", is_flag=True, help="Read the password from standard input at a terminal.")
def passwd(
    terminal: Terminal,
    name: str,
    file: str | None,
    config: str | None,
    delete: bool,
    scheme: str,
    nt_hash: bool | None,
    stdin: bool,
) -> None:
    """Add an account to a passwd-file, or change its password.

    Asks for the password twice; without a terminal reads one line of
    standard input. Without --file and --config prints the entry.
    """
    from gateway.operations.users import accounts

    if file and config:
        raise click.UsageError("--file and --config exclude each other")
    if delete and not (file or config):
        raise click.UsageError("--delete needs --file or --config")
    if config:
        file = _file_of(config, name)
    if delete and file:
        change = accounts.remove_account(file, name)
    else:
        accounts.check_name(name)
        password = _ask(stdin)
        if not file:
            line = accounts.make_entry(name, password, scheme, nt_hash=nt_hash)
            terminal.say(line, account=name, entry=line)
            return
        change = accounts.set_password(file, name, password, scheme, nt_hash=nt_hash)
    if terminal.as_json:
        terminal.say("", account=change.account, file=change.file, action=change.action)


def _file_of(config: str, name: str) -> str:
    from gateway.config.load import load_settings
    from gateway.operations.users.accounts import accounts_file

    return accounts_file(load_settings(config, os.environ), name, config)


def _ask(stdin: bool) -> bytes:
    """The password: typed twice, or one line of standard input."""
    if stdin or sys.stdin is None or not sys.stdin.isatty():
        line = sys.stdin.buffer.readline() if sys.stdin is not None else b""
        if not line:
            raise ValueError("expected a password on standard input (docker run needs -i)")
        return line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        raise ValueError("no password was typed: type it twice, or give it by --stdin") from None
    if again != password:
        raise ValueError("the two passwords differ: try again")
    return password.encode("utf-8", "surrogateescape")
