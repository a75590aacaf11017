"""Gateways that can be killed, and what serves them: what a run needs of either store."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import process_tree
from fault_plan import Fault
from gateway.directory import passwd_entries
from line_clients import NoAnswer, Pop3
from servers import PASSWORD, Gateway, free_port

WORKERS = 2

KEPT = "keep.example.org"
EXPIRED = "expire.example.org"
"""The domain in which retention removes mail."""

EXPIRES_AFTER = 5.0
"""Seconds."""

QUOTA = 20_000
"""Octets that the mailboxes of ``FULL`` may have: a few messages, so mail is refused often."""

FULL = "full.example.org"

MAILBOXES = (
    *(f"box{number}@{KEPT}" for number in range(6)),
    *(f"box{number}@{EXPIRED}" for number in range(2)),
    *(f"box{number}@{FULL}" for number in range(2)),
)

_SETTINGS = """
[lmtp]
endpoint = "tcp:{lmtp}:interface=127.0.0.1"
[processes]
workers = {workers}
[log]
sessions = false
[quota.domains."{full}"]
octets = "{quota}"
[retention]
enabled = true
check_every = 2.0
rate = 1000.0
max_removal_share = 1.0
[retention.domains."{expired}"]
policy = "any {age:.0f}s"
"""


class KillableGateway(Gateway):
    """A gateway with all mailboxes; its log is a file, and it is served when it says so."""

    def __init__(self, directory: Path, store: str) -> None:
        """``store``: the TOML table ``[store]``."""
        directory.mkdir()
        self.lmtp = free_port()
        values = {"full": FULL, "quota": QUOTA, "expired": EXPIRED, "age": EXPIRES_AFTER}
        super().__init__(
            directory, _SETTINGS.format(lmtp=self.lmtp, workers=WORKERS, **values) + store
        )
        for name in MAILBOXES:
            passwd_entries.put(str(self.accounts), name, PASSWORD.encode(), "SSHA256")
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that it has logged so far."""
        return self._log.read_text(errors="replace")

    def begin(self) -> None:
        """Start it, and return at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )

    def until_served(self, seconds: float = 60) -> None:
        """Return once it greets a client."""
        end = time.monotonic() + seconds
        while True:
            with suppress(NoAnswer), Pop3(self.plain):
                return
            assert self._process is not None
            assert self._process.poll() is None, f"the gateway has ended:\n{self.log}"
            assert time.monotonic() < end, f"the gateway does not serve:\n{self.log}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End all of its processes at once."""
        assert self._process is not None
        process_tree.kill_all(self._process.pid)
        self._process.wait(30)

    def kill_worker(self, choice: Fault) -> bool:
        """End one of its workers, if there is one that serves; the parent starts another."""
        ready = [int(pid) for pid in re.findall(r"worker \d+ ready: pid=(\d+)", self.log)]
        alive = [pid for pid in ready if pid in self.processes()]
        if alive:
            process_tree.kill(alive[choice.victim(len(alive))])
        return bool(alive)

    def processes(self) -> list[int]:
        """Its processes."""
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process.pid, *process_tree.descendants(self._process.pid)]

    def end(self) -> None:
        """Stop it as an administrator does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def usage(self, mailbox: str) -> tuple[int, int]:
        """Messages and octets, as ``pop3gw quota`` shows them."""
        program = Path(sys.executable).with_name("pop3gw")
        command = [sys.executable, program, "quota", "--config", self.config, "--json", mailbox]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
        row = json.loads(done.stdout)
        return row["messages"], row["octets"]


Act = Callable[[Fault], None]
"""Kills something, lets it be away, and brings it back."""


class Wait(Protocol):
    """Waits for seconds."""

    def __call__(self, seconds: float, /) -> object:
        """Wait."""


class Place:
    """Gateways on one store.  A store with engines adds those to ``acts``."""

    may_count_removed = False
    """As in ``MailboxModel``."""

    def __init__(self, directory: Path, wait: Wait) -> None:
        self.directory = directory
        self.wait = wait
        self.running = ExitStack()
        self.gateways: list[KillableGateway] = []
        self.acts: dict[str, Act] = {"gateway": self._kill_gateway, "worker": self._kill_worker}
        """Each kind of fault."""

    def start_gateways(self, *stores: str) -> None:
        """Start a gateway for each of these tables ``[store]``."""
        for number, store in enumerate(stores):
            self.gateways.append(KillableGateway(self.directory / f"gateway{number}", store))
            self.running.callback(self.gateways[-1].end)
            self.gateways[-1].begin()
        for one in self.gateways:
            one.until_served()

    def close(self) -> None:
        """End all."""
        self.running.close()

    def check_counters(self) -> Iterator[str]:
        """What is wrong with the counters, by means of the store's own."""
        yield from ()

    def _victim(self, fault: Fault) -> tuple[KillableGateway, Fault]:
        """A gateway, and what chooses one of its processes."""
        count = len(self.gateways)
        within = fault.choice * count % 1
        return self.gateways[fault.victim(count)], fault._replace(choice=within)

    def _kill_gateway(self, fault: Fault) -> None:
        gateway, _ = self._victim(fault)
        gateway.kill()
        self.wait(fault.outage)
        gateway.begin()
        gateway.until_served()

    def _kill_worker(self, fault: Fault) -> None:
        gateway, within = self._victim(fault)
        while not gateway.kill_worker(within):
            self.wait(0.1)


class Ports(NamedTuple):
    """Where clients find a gateway."""

    pop3: int
    lmtp: int


def some_ports(place: Place, chance: random.Random) -> Ports:
    """Those of one gateway."""
    gateway = chance.choice(place.gateways)
    return Ports(gateway.plain, gateway.lmtp)


def memory_of(place: Place) -> Mapping[int, list[int]]:
    """The octets that each process of each gateway uses, by the number of the gateway."""
    return {
        number: [process_tree.memory(pid) for pid in gateway.processes()]
        for number, gateway in enumerate(place.gateways)
    }
