"""``python -m bench.gateways``: one gateway of a cluster, and two, saturated.

Each gateway has the same share of a processor, so that PostgreSQL, S3 and the load generator have
the rest of the machine, and two gateways can be seen to do twice the work of one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.program import USERS, main
from bench.setup import processes
from bench.setup.cluster import Cluster
from bench.setup.cpu_share import limited
from bench.setup.maildirs import CRLF, Copies, Drop, account_lines, attachments, letters
from bench.setup.servers import OWNER, made, running
from bench.work.load import LoadFailed
from bench.work.workers import compiled

CONNECTIONS = 16
"""For each gateway."""

LARGE = 4
"""Messages of 10 MB."""

UNITS = {"login": "logins", "retr": "MB"}


def measure(directory: Path, rounds: int, share: int, seconds: int) -> Mapping[str, str]:
    """What one gateway and two do in a second."""
    generator = compiled(directory)
    both = list(made(directory, {"one": Cluster, "two": Cluster}).values())
    copies = Copies([both[0].mail], OWNER)
    drops = [copies.make(f"user{number:04d}", letters(20, 1200)) for number in range(USERS)]
    drops.append(copies.make("large", attachments(LARGE, 10_000_000, CRLF)))
    both[0].accounts.write_text(account_lines(drops))
    found: dict[tuple[str, int], list[_Measured]] = {}
    with ExitStack() as stack:
        stack.enter_context(running(both[0]))
        both[1].join(both[0])
        stack.enter_context(running(both[1]))
        for kind in UNITS:
            _load(generator, both, kind, 2, drops[-1])
        for _ in range(rounds):
            for kind in UNITS:
                for count in (1, 2):
                    shares = [([one.pid], share / 100) for one in both]
                    with limited(shares):
                        once = _load(generator, both[:count], kind, seconds, drops[-1])
                    found.setdefault((kind, count), []).append(once)
    return _table(found, share)


class _Measured:
    """What gateways did together."""

    def __init__(self, rate: float, amount: float, spent: Sequence[float]) -> None:
        self.rate = rate
        self.costs = [seconds / amount * 1e6 for seconds in spent]
        """Microseconds of CPU of each unit: gateways, PostgreSQL, S3."""


def _load(
    generator: Path, gateways: Sequence[Cluster], kind: str, seconds: int, large: Drop
) -> _Measured:
    each = large.reply_octets // large.messages
    target = [str(USERS)] if kind == "login" else [str(LARGE), large.local, str(each)]
    before = _spent(gateways)
    begun = time.monotonic()
    programs = [
        subprocess.Popen(
            [str(generator), kind, str(one.plain), str(CONNECTIONS), str(seconds), *target],
            stdout=subprocess.PIPE,
        )
        for one in gateways
    ]
    outputs = [program.communicate()[0] for program in programs]
    took = time.monotonic() - begun
    if any(program.returncode for program in programs):
        raise LoadFailed(f"{kind}: a generator failed")
    spent = [after - was for after, was in zip(_spent(gateways), before, strict=True)]
    done = [list(map(float, output.split())) for output in outputs]
    amount = sum(count if kind == "login" else octets / 1e6 for count, octets, *_ in done)
    return _Measured(amount / took, amount, spent)


def _spent(gateways: Sequence[Cluster]) -> list[float]:
    own = sum(processes.cpu(one.pid) for one in gateways)
    return [own, *gateways[0].engines_cpu().values()]


def _table(found: Mapping[tuple[str, int], Sequence[_Measured]], share: int) -> dict[str, str]:
    table = {}
    for (kind, count), rounds in found.items():
        rate = statistics.median(one.rate for one in rounds)
        gateway, database, s3 = (
            statistics.median(one.costs[part] for one in rounds) for part in range(3)
        )
        unit = UNITS[kind]
        title = f"{count} of {share}% of a core: {unit} a second"
        table[title] = (
            f"{rate:,.0f}; CPU of each {gateway:,.0f} us,"
            f" PostgreSQL {database:,.0f} us, S3 {s3:,.0f} us"
        )
        if count == 2:
            one = statistics.median(once.rate for once in found[kind, 1])
            table[f"two beside one: {unit}"] = f"{rate / one:.2f}x"
    return table


AMOUNTS = {"share": 10, "seconds": 5}

if __name__ == "__main__":
    sys.exit(main("bench.gateways", __doc__, measure, AMOUNTS))
