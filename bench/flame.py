"""``python -m bench.flame ROW``: which functions of a gateway take the CPU of a row.

py-spy, which must be on the path (``pip install py-spy``), looks a thousand times a second at what
runs.  A system call or a function in C is charged to the Python function that calls it.  All stacks
are kept in a file that viewers of flame graphs read.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.figures import passes
from bench.rows import Row, Sizes, rows
from bench.setup import processes
from bench.setup.servers import Gateway, NotAvailable, Server
from bench.work.load import LoadFailed
from bench.work.work import Mail

RATE = 1000
"""Samples a second."""

ROUNDS = 3

WAITING = ("ThreadPool._work (", "EPollReactor.doPoll (")
"""Where idle threads wait, which py-spy takes for work: what these do themselves is left out."""


class Share(NamedTuple):
    """What one function takes, in samples."""

    function: str
    own: int
    """In it and in what it calls that is not Python."""

    with_callees: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the table was printed; 1: something for it is not here."""
    parser = argparse.ArgumentParser(prog="python -m bench.flame", description=__doc__)
    table = {row.name: row for row in rows(Sizes())}
    parser.add_argument("row", metavar="ROW", choices=table, help=", ".join(table))
    parser.add_argument("--most", type=int, default=25, help="functions in the table")
    parser.add_argument("--stacks", type=Path, help="where to keep the stacks")
    options = parser.parse_args(arguments)
    row = table[options.row]
    try:
        with tempfile.TemporaryDirectory(prefix="pop3gw-bench-") as place:
            directory = Path(place)
            directory.chmod(0o755)
            stacks, spent = _profile(row, directory)
    except (LoadFailed, NotAvailable, OSError) as why:
        print(f"bench.flame: {why}", file=sys.stderr)
        return 1
    if options.stacks:
        options.stacks.write_text("".join(f"{line}\n" for line in stacks))
    print("\n".join(lines(row, shares(stacks), options.most, spent)))
    return 0


def _profile(row: Row, directory: Path) -> tuple[list[str], float]:
    """The stacks of some rounds, and the microseconds of CPU per unit of rounds without samples."""
    with passes.serving(directory, [Gateway], Sizes(), [row]) as ([server], drops):
        plain = [_measured(row, server, drops) for _ in range(ROUNDS)]
        stacks: list[str] = []
        for turn in range(ROUNDS):
            row.work.prepare(server, drops)
            file = directory / f"stacks-{turn}"
            with _sampled(server, file):
                row.work.measure(server, drops)
            stacks += busy(file.read_text().splitlines())
    return stacks, min(plain)


def _measured(row: Row, server: Server, drops: Mail) -> float:
    row.work.prepare(server, drops)
    return row.work.measure(server, drops)["cpu_us"]


@contextmanager
def _sampled(server: Server, file: Path) -> Iterator[None]:
    """Stacks of all processes of a server go to ``file``.  Raises ``NotAvailable``."""
    if shutil.which("py-spy") is None:
        raise NotAvailable("py-spy is not on the path: pip install py-spy")
    command = ["py-spy", "record", "--pid", str(server.pid), "--subprocesses", "--function"]
    command += ["--rate", str(RATE), "--format", "raw", "--output", str(file)]
    spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    try:
        if spy.poll() is not None:
            raise NotAvailable(f"py-spy: {' '.join(spy.communicate()[1].split())}")
        yield
    finally:
        if spy.poll() is None:
            processes.settle(server.pid)
            spy.send_signal(signal.SIGINT)
        spy.communicate(timeout=30)


def busy(stacks: Sequence[str]) -> list[str]:
    """Those in which something runs."""
    return [stack for stack in stacks if not stack.rpartition(";")[2].startswith(WAITING)]


def shares(stacks: Sequence[str]) -> list[Share]:
    """What each function takes, the most first; each line has a stack and how often it was seen."""
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for line in stacks:
        stack, _, seen = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(seen)
        for frame in set(frames):
            with_callees[frame] += int(seen)
    return [Share(name, seen, with_callees[name]) for name, seen in own.most_common()]


def lines(row: Row, found: Sequence[Share], most: int, spent: float) -> list[str]:
    """The table; ``spent``: microseconds per unit, of all samples."""
    samples = sum(share.own for share in found)
    each = spent / samples if samples else 0
    return [
        f"{row.name}: {spent:.0f} us of CPU per {row.unit}, {samples} samples",
        "",
        f"{'own us':>8} {'with callees':>12}  function",
        *(
            f"{share.own * each:8.1f} {share.with_callees * each:12.1f}  {share.function}"
            for share in found[:most]
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
