"""A run: clients and faults for some time, and then a look at everything."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from math import inf
from typing import TextIO

from clients import Shared, attempt, read, write
from fault_plan import Fault, faults
from gateways import EXPIRED, EXPIRES_AFTER, MAILBOXES, Place, Ports, memory_of, some_ports
from mail_model import MailboxModel, Rule, Violation

WRITERS, READERS, DELETERS = 2, 3, 2

REST = 0.02
"""Seconds between two acts of a client: engines, gateways and clients share a machine."""

MOST_MEMORY = 256 * 1024 * 1024
"""Octets that each process of a gateway may use."""

SETTLING = 90.0
"""Seconds within which all is well again after the last fault."""

_MIB = 1024 * 1024


class Run:
    """One run on a place, which has started."""

    def __init__(
        self, place: Place, seed: int, stop: threading.Event, rules: Iterable[Rule] = tuple(Rule)
    ) -> None:
        """``stop`` ends it early, and is set when it ends."""
        self._place = place
        self._seed = seed
        self._stop = stop
        self._rules = frozenset(rules)
        boxes = [
            MailboxModel(
                name,
                self._rules,
                removed_after=EXPIRES_AFTER if name.endswith(EXPIRED) else inf,
                may_count_removed=place.may_count_removed,
            )
            for name in MAILBOXES
        ]
        self.shared = Shared(boxes)
        self.violation: Violation | None = None
        self.errors: list[str] = []
        """Tracebacks of the driver's own faults."""
        self.done: list[tuple[float, float, Fault]] = []
        """Each fault that has ended: begin and end, in seconds of the run, and the fault."""
        self.memory: dict[int, tuple[int, int]] = {}
        """Of each gateway: the largest process, and the largest sum, in octets."""
        self._began = time.monotonic()

    # -- threads ---------------------------------------------------------------

    def perform(self, seconds: float) -> None:
        """Run for this long, and until each kind of fault has happened; look at everything."""
        kinds = (("writer", WRITERS), ("reader", READERS), ("deleter", DELETERS))
        clients = [
            threading.Thread(target=self._repeat, args=(kind, number))
            for kind, most in kinds
            for number in range(most)
        ]
        others = [threading.Thread(target=self._watch_memory)]
        for thread in clients + others:
            thread.start()
        self._guard(partial(self._do_faults, seconds))
        self._stop.set()
        for thread in clients + others:
            thread.join()
        if self.violation is None and not self.errors:
            self._guard(self._look_at_everything)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Violation as violation:
            if violation.rule in self._rules and self.violation is None:
                self.violation = violation
                self._stop.set()
        except Exception:
            self.errors.append(traceback.format_exc())
            self._stop.set()

    def _repeat(self, kind: str, number: int) -> None:
        chance = random.Random(f"{self._seed} {kind} {number}")
        while not self._stop.wait(REST):
            self._guard(partial(self._act, kind, chance))

    def _act(self, kind: str, chance: random.Random) -> None:
        ports = some_ports(self._place, chance)
        if kind == "writer":
            attempt(self.shared, "LMTP", partial(write, self.shared, ports, chance))
            return
        box = chance.choice(self.shared.boxes)
        # Retention has mailboxes to itself.
        delete = 0.4 if kind == "deleter" and not box.name.endswith(EXPIRED) else 0.0
        session = partial(read, self.shared, ports, box, chance, delete=delete)
        attempt(self.shared, box.name, session)

    def _do_faults(self, seconds: float) -> None:
        left = set(self._place.acts)
        began = time.monotonic()
        # The next leader waits for the end of the term of one that was killed.
        while not self.expired and not self._stop.wait(0.1):
            if time.monotonic() > began + max(seconds, SETTLING):
                raise Violation(Rule.SILENT, EXPIRED, "retention removes nothing")
        end = began + seconds
        for fault in faults(self._seed, sorted(self._place.acts)):
            if self._stop.wait(fault.pause) or (time.monotonic() > end and not left):
                return
            since = self._now()
            self._place.acts[fault.kind](fault)
            self.done.append((since, self._now(), fault))
            left.discard(fault.kind)

    def _watch_memory(self) -> None:
        while not self._stop.wait(1):
            for number, octets in memory_of(self._place).items():
                largest, sum_ = self.memory.get(number, (0, 0))
                largest, sum_ = max(largest, *octets, 0), max(sum_, sum(octets))
                self.memory[number] = (largest, sum_)
                self._guard(partial(_check_memory, number, largest))

    @property
    def expired(self) -> int:
        """How many messages retention has removed."""
        return sum(box.expired for box in self.shared.boxes)

    @property
    def ignored(self) -> Counter[Rule]:
        """How often each rule that need not hold did not."""
        return sum((box.ignored for box in self.shared.boxes), Counter())

    def _now(self) -> float:
        return time.monotonic() - self._began

    # -- the end ---------------------------------------------------------------

    def _look_at_everything(self) -> None:
        """By each gateway, once it serves again."""
        gateways = self._place.gateways
        for number, box in enumerate(self.shared.boxes):
            sizes = [self._read_all(box, Ports(one.plain, one.lmtp)) for one in gateways]
            counting = gateways[number % len(gateways)]
            ports = Ports(counting.plain, counting.lmtp)
            # Retention may have removed something between the two.
            while (count := counting.usage(box.name)) and (
                after := self._read_all(box, ports)
            ) != sizes[-1]:
                sizes.append(after)
            with self.shared.lock:
                box.count(sizes[-1], *count)
        for problem in self._place.check_counters():
            raise Violation(Rule.COUNTER, "database", problem)
        for gateway in self._place.gateways:
            if "Traceback" in gateway.log:
                text = gateway.log[gateway.log.index("Traceback") :][:3000]
                raise Violation(Rule.LOG, gateway.directory.name, text)

    def _read_all(self, box: MailboxModel, ports: Ports) -> list[int]:
        """Read a mailbox to its end; the sizes of its messages."""
        chance = random.Random(0)
        end = time.monotonic() + SETTLING
        while True:
            refused = self.shared.counts["messages refused"]
            sizes: list[int] = []

            def read_all(sizes: list[int] = sizes) -> None:
                sizes += read(self.shared, ports, box, chance, retrieve=10**6)

            is_served = attempt(self.shared, box.name, read_all)
            if is_served and self.shared.counts["messages refused"] == refused:
                return sizes
            if time.monotonic() > end:
                raise Violation(Rule.SILENT, box.name, f"not served within {SETTLING:.0f} s")
            time.sleep(0.2)

    # -- the report ------------------------------------------------------------

    def report(self, out: TextIO) -> None:
        """What happened; after a violation: the seed, the plan, the history of the message."""
        say = partial(print, file=out, flush=True)
        say(f"seed {self._seed}, {self._now():.0f} s")
        counts = {**self.shared.counts, "messages expired": self.expired}
        counts |= {f"not checked: {rule.value}": number for rule, number in self.ignored.items()}
        for what, number in sorted(counts.items()):
            say(f"{what}: {number}")
        kinds = Counter(fault.kind for _, _, fault in self.done)
        say("faults:", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
        for what, gap in self.shared.gaps.items():
            say(f"longest time without {what}: {gap.longest:.1f} s")
        for number, (largest, sum_) in sorted(self.memory.items()):
            say(f"gateway {number}: {largest / _MIB:.0f} MiB a process, {sum_ / _MIB:.0f} in all")
        for error in self.errors:
            say(error)
        if self.violation is not None:
            self._report_violation(self.violation, say)

    def _report_violation(self, violation: Violation, say: Callable[..., None]) -> None:
        say(f"\nVIOLATION: {violation}")
        say(f"\nhistory (seconds of the monotonic clock; the run began at {self._began:.3f}):")
        for line in violation.history:
            say(line)
        say(f"\nplan of seed {self._seed}:")
        for begin, end, fault in self.done:
            say(f"{self._began + begin:10.3f} to {self._began + end:10.3f}  {fault}")
        plan = faults(self._seed, sorted(self._place.acts))
        say(f"next, or under way: {next(islice(plan, len(self.done), None))}")

    @property
    def is_good(self) -> bool:
        """Whether all rules held, and the driver has done its work."""
        return self.violation is None and not self.errors


def _check_memory(number: int, largest: int) -> None:
    if largest > MOST_MEMORY:
        text = f"a process uses {largest / _MIB:.0f} MiB"
        raise Violation(Rule.MEMORY, f"gateway {number}", text)
