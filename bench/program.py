"""What the programs beside ``python -m bench`` share: options, a place to work, the printing."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from bench.setup.maildirs import Copies, Drop, account_lines, letters
from bench.setup.servers import OWNER, NotAvailable, Server

USERS = 200

Measure = Callable[..., Mapping[str, str]]
"""Directory to work in, rounds, and how much of each unit; figures with their names."""


def main(
    name: str,
    about: str | None,
    measure: Measure,
    amounts: Mapping[str, int],
    arguments: Sequence[str] | None = None,
) -> int:
    """Measure and print; ``amounts``: units, as options name them, and how much of each.

    Exit status 0 when everything was measured, 1 when something for it is not here.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    for unit, amount in amounts.items():
        parser.add_argument(f"--{unit}", type=int, default=amount, help=f"how many; else {amount}")
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="pop3gw-bench-")).resolve()
    directory.chmod(0o755)  # Dovecot's mail processes are another user's
    try:
        found = measure(directory, options.rounds, *(getattr(options, unit) for unit in amounts))
    except NotAvailable as why:
        print(why, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for title, value in found.items():
        print(f"{title:<64} {value}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


def need(file: str, cure: str) -> None:
    """Raise ``NotAvailable``, which says what would cure it, where this file is missing."""
    if not Path(file).exists():
        raise NotAvailable(cure)


def users_at(servers: Collection[Server]) -> list[Drop]:
    """The same users at all servers, with an account and 20 short messages each."""
    copies = Copies([one.mail for one in servers], OWNER)
    drops = [copies.make(f"user{number:04d}", letters(20, 1200)) for number in range(USERS)]
    for server in servers:
        server.accounts.write_text(account_lines(drops))
    return drops
