"""``python -m bench --only workers``: one and two worker processes, beside Dovecot, saturated.

Each worker has the same share of a processor, so that the load generator has the rest of the
machine and two workers can be seen to do twice the work of one even where there are two cores.
Dovecot has the same shares for all of its processes together.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from bench.setup import processes
from bench.setup.cpu_share import limited
from bench.setup.maildirs import CRLF, Copies, Drop, account_lines, attachments, letters
from bench.setup.servers import OWNER, Dovecot, Gateway, NotAvailable, Server, made, running
from bench.work.load import LoadFailed

USERS = 200
LARGE = 4
"""Messages of 10 MB, for RETR."""

UNITS = {"login": "login", "retr": "MB"}
CONNECTIONS = {"login": 30, "retr": 8}
"""For each share; fewer than a queue takes, or the kernel has clients wait for a second."""

LEAST_RATE = 1.8
"""What two workers have to do, beside one."""

MOST_CPU = 1.1
"""What a login may cost with two workers, beside one."""


class OneWorker(Gateway):
    """The gateway as one process."""

    workers = 1

    def _settings(self) -> str:
        return f"{super()._settings()}\n[processes]\nworkers = {self.workers}\n"

    def serving(self) -> list[int]:
        """The processes that serve clients."""
        return [self.pid]


class TwoWorkers(OneWorker):
    """The gateway with two workers and their parent."""

    workers = 2

    def start(self, seconds: float = 60.0) -> None:
        """Return once both workers serve."""
        super().start(seconds)
        end = time.monotonic() + seconds
        log = self.directory / "gateway.log"
        while b" info ready: " not in log.read_bytes():
            if time.monotonic() > end or not self.alive:
                raise NotAvailable(f"{self.name}: its workers do not serve: {self._last_words()}")
            time.sleep(0.05)

    def serving(self) -> list[int]:
        return processes.tree(self.pid)[1:]


class Setting(NamedTuple):
    """A server with so many shares."""

    title: str
    server: str
    shares: int


SETTINGS = (
    Setting("Dovecot, one share", "dovecot", 1),
    Setting("Dovecot, two shares", "dovecot", 2),
    Setting("one worker", "one", 1),
    Setting("two workers", "two", 2),
)
BESIDE = {"Dovecot, two shares": "Dovecot, one share", "two workers": "one worker"}
"""What a setting is compared with."""


class Measured(NamedTuple):
    """What a server did in a round; CPU in processors."""

    amount: float
    """Logins or megabytes."""

    rate: float
    """The same in a second."""

    cost: float
    """Microseconds of CPU of each."""

    server: float
    client: float


class Case(NamedTuple):
    """What was measured."""

    share: float
    """Of a processor, for each worker; 0: whatever the generator leaves."""

    kind: str
    setting: Setting


Found = dict[Case, list[Measured]]


def measure(
    directory: Path, rounds: int, seconds: float, share: float, say: Callable[[str], None]
) -> Found:
    """All rounds; ``share``: of a processor, for each worker.

    Raises ``NotAvailable`` and ``LoadFailed``.
    """
    generator = compiled(directory)
    kinds: Mapping[str, type[Server]] = {"dovecot": Dovecot, "one": OneWorker, "two": TwoWorkers}
    servers = made(directory, kinds)
    large = _make_mail(list(servers.values()))
    cases = [
        Case(each, kind, setting)
        for each in (share, 0.0)
        for kind in UNITS
        for setting in SETTINGS
        if each or setting.server != "dovecot" or setting.shares == 2
    ]
    found: Found = {case: [] for case in cases}
    with ExitStack() as stack:
        up = {name: stack.enter_context(running(server)) for name, server in servers.items()}
        for server in up.values():
            say(f"workers: opening all mailboxes: {server.directory.name}")
            _open_all(generator, server, large)
        for turn in range(rounds):
            say(f"workers: round {turn + 1} of {rounds}")
            for case in cases:
                server = up[case.setting.server]
                with _limited(server, case):
                    found[case].append(
                        _load(generator, server, case.kind, seconds, large, case.setting.shares)
                    )
    return found


def _open_all(generator: Path, server: Server, large: Drop) -> None:
    """Until each worker has opened each mailbox, for all that it caches."""
    _load(generator, server, "retr", 1.0, large)
    end = time.monotonic() + 120
    sessions = 0.0
    while sessions < 10 * USERS:
        if time.monotonic() > end:
            raise LoadFailed(f"{server.name}: only {sessions:.0f} sessions in 120 s")
        sessions += _load(generator, server, "login", 1.0, large).amount


def _limited(server: Server, case: Case) -> AbstractContextManager[None]:
    """Each worker within its share; Dovecot within all of them; the generator has no limit."""
    if not case.share:
        return nullcontext()
    generator = [os.getpid()], float(len(os.sched_getaffinity(0)))
    if isinstance(server, OneWorker):
        return limited([generator, *(([pid], case.share) for pid in server.serving())])
    shares = case.share * case.setting.shares
    return limited([generator, (processes.tree(server.pid), shares)])


def _load(
    generator: Path, server: Server, kind: str, seconds: float, large: Drop, shares: int = 1
) -> Measured:
    each = large.reply_octets // large.messages
    target = [str(USERS)] if kind == "login" else [str(LARGE), large.local, str(each)]
    command = [
        str(generator),
        kind,
        str(server.plain),
        str(shares * CONNECTIONS[kind]),
        str(seconds),
    ]
    before = processes.settle(server.pid)
    done = subprocess.run([*command, *target], capture_output=True, text=True, check=False)
    spent = processes.settle(server.pid) - before
    if done.returncode:
        raise LoadFailed(f"{server.name}: {kind}: {done.stderr.strip()}")
    count, octets, took, client = map(float, done.stdout.split())
    amount = count if kind == "login" else octets / 1e6
    return Measured(amount, amount / took, spent / amount * 1e6, spent / took, client / took)


def compiled(directory: Path) -> Path:
    """The load generator.  Raises ``NotAvailable``."""
    program = directory / "saturate"
    command = ["gcc", "-O2", "-o", str(program), str(Path(__file__).with_name("saturate.c"))]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotAvailable("no C compiler: apt-get install gcc libc6-dev") from error
    return program


def _make_mail(servers: Sequence[Server]) -> Drop:
    """The mail of all users; the large messages, all of one size."""
    copies = Copies([one.mail for one in servers], OWNER)
    drops = [copies.make(f"user{number:04d}", letters(20, 1200)) for number in range(USERS)]
    drops.append(copies.make("large", attachments(LARGE, 10_000_000, CRLF)))
    for server in servers:
        server.accounts.write_text(account_lines(drops))
    return drops[-1]


def document(found: Found) -> list[dict[str, object]]:
    """Every round, for machines."""
    return [
        {
            "share": case.share,
            "kind": case.kind,
            "setting": case.setting.title,
            "rounds": [one._asdict() for one in rounds],
        }
        for case, rounds in found.items()
    ]


def read(saved: Sequence[Mapping[str, Any]]) -> Found:
    """What ``document`` wrote."""
    settings = {setting.title: setting for setting in SETTINGS}
    return {
        Case(one["share"], one["kind"], settings[one["setting"]]): [
            Measured(**measured) for measured in one["rounds"]
        ]
        for one in saved
    }


def lines(found: Found) -> list[list[str]]:
    """Medians over the rounds, and what was to be reached."""
    head = ["saturated", "each has", "server", "rate", "x one", "CPU of each", "x one"]
    head += ["server's cores", "generator's", "reach", ""]
    return [head, *(_cells(found, case) for case in found)]


def _cells(found: Found, case: Case) -> list[str]:
    _, rate, cost, server, client = _medians(found[case])
    unit = UNITS[case.kind]
    cells = [f"{rate:,.0f} {unit}/s", "", f"{cost:,.1f} us", "", f"{server:.2f}", f"{client:.2f}"]
    reach = ["", ""]
    if beside := BESIDE.get(case.setting.title):
        others = [one for one in found if one[:2] == case[:2] and one.setting.title == beside]
        for other in others:
            one = _medians(found[other])
            cells[1], cells[3] = f"{rate / one.rate:.2f}", f"{cost / one.cost:.2f}"
            if case.share and case.setting.server == "two":
                is_met = rate >= LEAST_RATE * one.rate
                reach[0] = f">= {LEAST_RATE}x"
                if case.kind == "login":
                    is_met &= cost <= MOST_CPU * one.cost
                    reach[0] += f", CPU <= {MOST_CPU}x"
                reach[1] = "ok" if is_met else "MISSED"
    share = f"{case.share:.2f} core" if case.share else "the rest"
    return [case.kind, share, case.setting.title, *cells, *reach]


def _medians(rounds: Sequence[Measured]) -> Measured:
    return Measured(*map(statistics.median, zip(*rounds, strict=True)))
