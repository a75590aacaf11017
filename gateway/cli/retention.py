"""``python -m gateway.cli.retention``: see what retention would remove, release it, restore mail.

  preview   what would go now, and why; nothing is removed (--json: a line of JSON each)
  run-now   have the running server look at a mailbox at once
  release   the same, and all that is due there now may go, however much it is
  hidden    what was hidden
  restore   bring hidden mail back, all of it or that with these unique-ids
  move-ids  give all mailboxes' new messages larger unique-ids: after a restore from a backup

Run it as the user that the server runs as.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from gateway.app.assembly import Tools, tools
from gateway.app.logins import all_mailboxes_of
from gateway.app.retention import guard_of, keeping_of, mailboxes_of, policies_of
from gateway.config.load import load_settings
from gateway.config.settings import Settings
from gateway.errors import ConfigError, GatewayError
from gateway.interfaces import IRetentionStore
from gateway.jobs.retention import Mailboxes
from gateway.model import Account
from gateway.retention.preview import (
    Forecast,
    described,
    forecast,
    hidden_described,
    hidden_line,
    line,
    message_line,
    purged_line,
)
from gateway.retention.records import Order
from gateway.retention.removal_guard import Guard, objection
from gateway.state.ledger import Ledger
from gateway.utf8 import insist

_WIDTH = 40
"""Of the progress bar, in characters."""


@frozen
class Terminal:
    """Where results go, and where all else goes."""

    out: TextIO
    err: TextIO

    def say(self, text: str) -> None:
        """A line of the result."""
        print(text, file=self.out, flush=True)

    def complain(self, text: str) -> None:
        """What went wrong."""
        print(f"pop3gw keeping: {text}", file=self.err, flush=True)

    def progress(self, done: int, total: int) -> None:
        """Draw the bar, where somebody sits at a terminal; at the end take it away."""
        if self.err.isatty():
            filled = _WIDTH * done // max(total, 1)
            bar = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {done}/{total}"
            self.err.write(f"\r{bar}" if done < total else f"\r{' ' * len(bar)}\r")
            self.err.flush()


async def preview(
    settings: Settings, found: Tools, options: Any, terminal: Terminal, now: float
) -> int:
    """Show what would go; 0, or 1 when a mailbox could not be looked into."""
    mailboxes = mailboxes_of(
        settings, found.directory, found.store, policies_of(settings.retention)
    )
    store, guard = keeping_of(found.store), guard_of(settings.retention)
    names = [options.mailbox] if options.mailbox else await mailboxes.names()
    going = total = failed = 0
    for number, name in enumerate(names):
        terminal.progress(number, len(names))
        try:
            one = await _look(mailboxes, store, guard, name, now)
        except GatewayError as error:
            failed += 1
            terminal.progress(len(names), len(names))
            terminal.complain(f"{name}: {error}")
            continue
        if one is None and options.mailbox:
            terminal.complain(f"{name}: retention has no policy for it")
        if one is not None:
            going, total = going + len(one.gone), total + one.messages
            if one.gone or one.purged or options.mailbox or options.json:
                terminal.progress(len(names), len(names))
                _show(one, options, terminal)
    terminal.progress(len(names), len(names))
    stops = objection(guard, going, total, "the store within a day")
    if options.json:
        whole = {"mailboxes": len(names), "failed": failed, "messages": total, "would_go": going}
        terminal.say(json.dumps({"store": whole | {"stops": stops}}))
    else:
        terminal.say(f"{going} of {total} messages in {len(names)} mailboxes would go")
        if stops:
            terminal.say(stops)
    return 1 if failed else 0


async def _look(
    mailboxes: Mailboxes, store: IRetentionStore, guard: Guard, name: str, now: float
) -> Forecast | None:
    account = await mailboxes.account(name)
    text = "" if account is None else mailboxes.policies.text(account)
    if account is None or not text:
        return None
    policy = mailboxes.policies.policy(account)
    kept, hidden = await store.glance(account), await store.hidden(account)
    return forecast(name, text, policy, kept, hidden, guard, now)


def _show(one: Forecast, options: Any, terminal: Terminal) -> None:
    if options.json:
        terminal.say(json.dumps(described(one, messages=bool(options.mailbox))))
        return
    terminal.say(line(one))
    if options.mailbox:
        for gone in one.gone:
            terminal.say(message_line(gone))
        for purged in one.purged:
            terminal.say(purged_line(purged))


async def hidden(
    settings: Settings, found: Tools, options: Any, terminal: Terminal, _: float
) -> int:
    """Show what was hidden."""
    account = await _account(settings, found, options.mailbox)
    for one in sorted(await keeping_of(found.store).hidden(account)):
        terminal.say(json.dumps(hidden_described(one)) if options.json else hidden_line(one))
    return 0


async def restore(
    settings: Settings, found: Tools, options: Any, terminal: Terminal, _: float
) -> int:
    """Bring back; 1 when not all came that were named."""
    account = await _account(settings, found, options.mailbox)
    store = keeping_of(found.store)
    uids = options.uids or [one.uid for one in await store.hidden(account)]
    came = await store.restore(account, uids)
    terminal.say(f"{came} of {len(uids)} messages are back in {options.mailbox}")
    return 0 if came == len(uids) else 1


async def move_ids(
    settings: Settings, found: Tools, options: Any, terminal: Terminal, _: float
) -> int:
    """Move the next ids of all mailboxes ahead; 1 when one could not be written."""
    store = keeping_of(found.store)
    accounts = await all_mailboxes_of(settings, found.directory, found.store).accounts()
    failed = 0
    for number, account in enumerate(accounts):
        terminal.progress(number, len(accounts))
        try:
            await store.move_ids(account, options.by)
        except GatewayError as error:
            failed += 1
            terminal.complain(f"{account.mailbox}: {error}")
    terminal.progress(len(accounts), len(accounts))
    terminal.say(
        f"{len(accounts) - failed} of {len(accounts)} mailboxes go on {options.by} further"
    )
    return 1 if failed else 0


def _raise_high_water(settings: Settings, by: int) -> None:
    """For mailboxes that have lost their uidlist, too."""
    ledger = Ledger(settings.state_dir, survives_power=True)
    try:
        ledger.raise_all(by)
    finally:
        ledger.close()


async def _account(settings: Settings, found: Tools, name: str) -> Account:
    """Whose mailbox it is; outside homes one of a user who is gone is found by its name."""
    account: Account | None = await found.directory.owner(name)
    if account is None and settings.store.in_homes:
        raise ConfigError([f"{name}: nobody has it, and only the directory knows where it is"])
    return account or Account(name=name, mailbox=name)


def order(settings: Settings, options: Any, terminal: Terminal, now: float) -> int:
    """Leave word for the server; 1 when there is nobody to leave it for."""
    release = options.command == "release"
    ledger = Ledger(settings.state_dir)
    try:
        looks = ledger.looks()
        wanted = [name for name, look in sorted(looks.items()) if look.stopped or not release]
        names = wanted if options.all else [options.mailbox]
        if options.mailbox and options.mailbox not in looks:
            raise ConfigError([f"{options.mailbox}: retention has not looked there yet"])
        for name in names:
            ledger.order(name, Order(now, released=release))
    finally:
        ledger.close()
    for name in names:
        stopped = looks[name].stopped
        terminal.say(f"{name}: {stopped}; released" if release and stopped else f"{name}: ordered")
    terminal.say(f"{len(names)} mailboxes; a running server begins within a minute")
    return 0


_WITH_STORE = {"preview": preview, "hidden": hidden, "restore": restore, "move-ids": move_ids}


def perform(settings: Settings, options: Any, terminal: Terminal) -> int:
    """Do what the options say, in a reactor of its own where that is needed."""
    if options.command not in _WITH_STORE:
        return order(settings, options, terminal, time.time())
    if options.command == "move-ids":
        _raise_high_water(settings, options.by)
    results: list[int] = []

    async def work(reactor: Any) -> None:
        with tools(reactor, settings) as found:
            keeping_of(found.store)
            command = _WITH_STORE[options.command]
            results.append(await command(settings, found, options, terminal, time.time()))

    try:
        react(lambda reactor: Deferred.fromCoroutine(_in_words(work(reactor), terminal)))
    except SystemExit:
        return results[0] if results else 1
    raise AssertionError("react always ends so")


async def _in_words(work: Any, terminal: Terminal) -> None:
    try:
        await work
    except GatewayError as error:
        terminal.complain(str(error))


def _check_user(state: str) -> None:
    """Files that root makes the server could not change."""
    if not os.path.isdir(state):
        raise ConfigError([f"{state}: no such directory: has the server never run?"])
    owner = os.stat(state).st_uid
    if os.geteuid() == 0 != owner:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise ConfigError([f"run it as the server's user, as sudo -u {name} does"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.cli.retention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, some, shows in (
        ("preview", False, True),
        ("run-now", True, False),
        ("release", True, False),
        ("hidden", False, True),
        ("restore", False, False),
    ):
        command = commands.add_parser(name)
        command.add_argument("--config", help="the server's file; else POP3GW_CONFIG")
        if shows:
            command.add_argument("--json", action="store_true", help="a line of JSON for each")
        if some:
            which = command.add_mutually_exclusive_group(required=True)
            which.add_argument("--all", action="store_true", help="all that this is about")
            which.add_argument("mailbox", nargs="?", help="a mailbox")
        else:
            needed = {} if name != "preview" else {"nargs": "?"}
            command.add_argument("mailbox", help="a mailbox", **needed)  # type: ignore[arg-type]
        if name == "restore":
            command.add_argument("uids", nargs="*", metavar="UID", help="without any: all")
    _add_move_ids(commands)
    return parser


def _add_move_ids(commands: Any) -> None:
    command = commands.add_parser("move-ids")
    command.add_argument("--config", help="the server's file; else POP3GW_CONFIG")
    command.add_argument(
        "--by",
        type=int,
        choices=range(1, 100_000_001),
        metavar="IDS",
        default=1_000_000,
        help="more than any mailbox got since the backup (1000000)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when done, 1 when it says why not."""
    options = _parser().parse_args(arguments)
    terminal = Terminal(sys.stdout, sys.stderr)
    try:
        settings = load_settings(options.config, os.environ)
        _check_user(settings.state_dir)
        return perform(settings, options, terminal)
    except ConfigError as error:
        for problem in error.problems:
            terminal.complain(problem)
    except GatewayError as error:
        terminal.complain(str(error))
    return 1


if __name__ == "__main__":
    insist()
    sys.exit(main())
