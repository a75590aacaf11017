"""``python -m bench``: run the rows, print the tables; ``compare A B``; ``page RESULT``."""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from bench.figures import compare, machine, page, passes, quiet, report, results
from bench.figures.results import QUIET, Result, Run
from bench.rows import LONG, QUICK, Row, Sizes, beside_other_commit, rows
from bench.setup import cluster
from bench.setup.servers import ROOT, Dovecot, Gateway, NotAvailable, Server
from bench.work import memory, workers
from bench.work.load import LoadFailed

WORKERS, MEMORY = "workers", "memory"
"""Rows that have servers of their own. The first needs three minutes: only if asked for."""

KEPT = ROOT / "var" / "bench"
"""Where the figures of each run are kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: everything was measured, whatever came out; 1: something was not."""
    options = _options(arguments)
    try:
        if options.verb == "page":
            page.write(*map(results.read, [options.result, *options.again]))
            return 0
        sizes = _sizes(options)
        if options.verb == "compare":
            return _compare(options, sizes)
        return _run(options, sizes, *_chosen(options, sizes))
    except (ValueError, OSError) as why:
        print(f"bench: {why}", file=sys.stderr)
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [*(row.name for row in rows(QUICK)), MEMORY, WORKERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.set_defaults(verb="run")
    verbs = parser.add_subparsers(dest="verb", metavar="compare | page")
    both = verbs.add_parser("compare", help="two files of results, or two commits")
    both.add_argument("first", metavar="A")
    both.add_argument("second", metavar="B")
    written = verbs.add_parser("page", help="write the figures of a run to docs/performance.md")
    written.add_argument("result", metavar="RESULT", type=Path)
    written.add_argument(
        "again",
        metavar="AGAIN",
        type=Path,
        nargs="*",
        help="later runs of the same commit: their rows take the place of those in RESULT",
    )
    for one in (parser, both):
        one.add_argument("--only", metavar="NAME", action="append", choices=names, default=[])
        one.add_argument("--long", action="store_true", help="more of everything; an hour")
        one.add_argument("--quick", action="store_true", help="small sizes, two rounds")
        one.add_argument("--rounds", type=int, help="how often the servers take turns")
        one.add_argument("--json", type=Path, help=f"where to keep the figures; else in {KEPT}")
        one.add_argument(
            "--wait", type=float, default=0, help="seconds to wait for a quiet machine, each row"
        )
    parser.add_argument("--store", choices=("maildir", "cluster"), default="maildir")
    parser.add_argument(
        "--beside",
        choices=("dovecot", "maildir"),
        default="dovecot",
        help="what a gateway of a cluster is compared with: Dovecot, or ours with Maildirs",
    )
    parser.add_argument(
        "--body-cache", action="store_true", help="a gateway of a cluster keeps bodies on its disk"
    )
    parser.set_defaults(share=min(1.0, len(os.sched_getaffinity(0)) / 4))
    parser.add_argument(
        "--share",
        type=float,
        default=argparse.SUPPRESS,
        help="of a core, for each worker in the row workers; the generator has the rest",
    )
    parser.epilog = "Rows: " + ", ".join(names)
    options = parser.parse_args(arguments)
    options.verb = options.verb or "run"
    return options


def _chosen(
    options: argparse.Namespace, sizes: Sizes
) -> tuple[list[Row], tuple[type[Server], type[Server]]]:
    """The rows, and the two servers; in a cluster only rows that need no Maildir."""
    theirs = Gateway if options.beside == "maildir" else Dovecot
    if options.store == "maildir":
        return rows(sizes), (Dovecot, Gateway)
    options.only = options.only or list(cluster.ROWS)
    ours = cluster.CachingCluster if options.body_cache else cluster.Cluster
    return [row for row in rows(sizes) if row.name in cluster.ROWS], (theirs, ours)


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else LONG if options.long else Sizes()
    return replace(sizes, rounds=options.rounds) if options.rounds else sizes


def _compare(options: argparse.Namespace, sizes: Sizes) -> int:
    files = Path(options.first), Path(options.second)
    if all(file.is_file() for file in files):
        print(compare.table(*map(results.read, files)))
        return 0
    chosen = [beside_other_commit(row) for row in rows(sizes)]
    options.only = options.only or [row.name for row in chosen]
    with _directory() as directory:
        commits = options.first, options.second
        with compare.checked_out(commits, directory) as kinds:
            return _run(options, sizes, chosen, kinds)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pop3gw-bench-")).resolve()
    directory.chmod(0o755)  # Dovecot's mail processes are another user's.
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(
    options: argparse.Namespace,
    sizes: Sizes,
    table: Sequence[Row],
    kinds: Sequence[type[Server]],
) -> int:
    begun = time.monotonic()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run = Run(
        now,
        compare.commit(),
        ["python", "-m", "bench", *sys.argv[1:]],
        machine.machine(),
        machine.versions(),
        asdict(sizes),
        theirs=kinds[0].name,
        ours=kinds[1].name,
    )
    chosen = [row for row in table if not options.only or row.name in options.only]
    parts: list[Callable[[Path], None]] = []
    if chosen:
        parts.append(lambda place: _measure(place, run, sizes, chosen, kinds, options.wait))
    if not options.only or MEMORY in options.only:
        parts.append(lambda place: run.memory.extend(memory.measure(place, sizes, _say)))
    if WORKERS in options.only or (options.long and not options.only):
        parts.append(
            lambda place: run.workers.extend(
                workers.document(
                    workers.measure(place, sizes.rounds, sizes.saturated, options.share, _say)
                )
            )
        )
    whole = [_part(part) for part in parts]
    run.seconds = time.monotonic() - begun
    print(report.tables(run))
    kept = options.json or KEPT / f"{now[:19].replace(':', '')}-{run.commit}.json"
    run.save(kept)
    _say(f"kept in {kept}; {run.seconds:.0f} seconds")
    return 0 if all(whole) and not any(result.troubles for result in run.results) else 1


def _part(part: Callable[[Path], None]) -> bool:
    with _directory() as directory:
        try:
            part(directory)
        except (LoadFailed, NotAvailable, OSError) as why:
            _say(str(why))
            return False
    return True


def _measure(
    directory: Path,
    run: Run,
    sizes: Sizes,
    chosen: Sequence[Row],
    kinds: Sequence[type[Server]],
    wait: float,
) -> None:
    _say("making the mail")
    with passes.serving(directory, kinds, sizes, chosen) as (servers, drops):
        for row in chosen:
            load = quiet.wait(wait, _say)
            noise = "" if load <= QUIET else f" (other programs use {load:.0%} of the machine)"
            _say(f"{row.name}: {row.title}{noise}")
            result: Result = passes.rounds(row, servers, drops, sizes.rounds, _say)
            run.results.append(result)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
