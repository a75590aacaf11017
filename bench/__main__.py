"""``python -m bench``: run the rows, print the table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import report, workers
from bench.load import LoadFailed
from bench.maildirs import Copies, account_lines
from bench.report import Result
from bench.rows import QUICK, Row, Sizes, make_mail, rows
from bench.servers import (
    OWNER,
    Dovecot,
    Gateway,
    NotAvailable,
    Server,
    made,
    running,
)
from bench.work import Mail

WORKERS = "workers"
"""The row that has servers of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: everything was measured, whatever came out; 1: something was not."""
    options = _options(arguments)
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    chosen = [row for row in rows(sizes) if not options.only or row.name in options.only]
    directory = Path(options.dir or tempfile.mkdtemp(prefix="pop3gw-bench-")).resolve()
    with_workers = not options.server and (not options.only or WORKERS in options.only)
    found: workers.Found = {}
    try:
        results = _run(directory, sizes, chosen, options.server) if chosen else []
        if with_workers:
            found = _workers(directory / WORKERS, sizes, options.share)
    finally:
        if not options.dir:
            shutil.rmtree(directory, ignore_errors=True)
    parts = [report.table(results)] * bool(results) + [workers.table(found)] * bool(found)
    print("", *parts, sep="\n")
    if options.json:
        document = report.document(results, sys.argv, sizes)
        document["workers"] = workers.document(found)
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    is_whole = bool(found) or not with_workers
    return 0 if is_whole and not any(result.troubles for result in results) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [*(row.name for row in rows(QUICK)), WORKERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write every round's figures there too")
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, default=[])
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument("--rounds", type=int, help="how often the servers take turns")
    parser.add_argument("--dir", help="an empty or new directory to work in, which is kept")
    parser.add_argument(
        "--server", choices=("dovecot", "gateway"), help="only this one, with nothing beside it"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--share",
        type=float,
        default=min(1.0, cores / 4),
        help="of a core, for each worker in the row workers; the generator has the rest",
    )
    parser.epilog = "Rows: " + ", ".join(names)
    return parser.parse_args(arguments)


def _run(directory: Path, sizes: Sizes, chosen: Sequence[Row], only: str | None) -> list[Result]:
    servers = _servers(directory, only)
    _say("making the mail")
    copies = Copies([server.mail for server in servers], OWNER if os.geteuid() == 0 else None)
    mail = make_mail(copies, sizes, {name for row in chosen for name in row.mail})
    accounts = account_lines([drop for drops in mail.values() for drop in drops])
    results = []
    with ExitStack() as stack:
        up = []
        for server in servers:
            server.accounts.write_text(accounts)
            try:
                up.append(stack.enter_context(running(server)))
            except NotAvailable as why:
                _say(f"{server.name} is left out: {why}")
        for row in chosen:
            results.append(_measure(row, up, mail, sizes.rounds))
    return results


def _workers(directory: Path, sizes: Sizes, share: float) -> workers.Found:
    directory.mkdir(parents=True, exist_ok=True)
    directory.parent.chmod(0o755)
    directory.chmod(0o755)
    try:
        return workers.measure(directory, sizes.rounds, sizes.saturated, share, _say)
    except (LoadFailed, NotAvailable, OSError) as why:
        _say(f"{WORKERS}: {why}")
        return {}


def _servers(directory: Path, only: str | None) -> list[Server]:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)  # Dovecot's mail processes are another user's
    kinds = {kind.name: kind for kind in (Dovecot, Gateway) if only in (None, kind.name)}
    return list(made(directory, kinds).values())


def _measure(row: Row, servers: Sequence[Server], mail: Mail, rounds: int) -> Result:
    """The rounds of one row, the servers taking turns; a failing one is left out of it."""
    _say(f"{row.name}: {row.title}")
    result = Result(row)
    for turn in range(rounds):
        for server in servers:
            if server.name in result.troubles:
                continue
            try:
                if row.work.fresh or not server.alive:
                    server.stop()
                    server.start()
                if row.work.fresh or turn == 0:
                    row.work.warm(server, mail)
                figures = row.work.measure(server, mail, turn)
            except (LoadFailed, NotAvailable, OSError) as why:
                result.troubles[server.name] = str(why)
                _say(f"{row.name}: {server.name}: {why}")
            else:
                result.rounds.setdefault(server.name, []).append(figures)
    return result


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
