"""Which faults happen when: chosen at random, and the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PAUSES = (1.0, 5.0)
"""Seconds between the end of a fault and the next one, at least and at most."""

OUTAGES = (0.2, 4.0)
"""Seconds for which something is away, at least and at most, besides its start."""


class Fault(NamedTuple):
    """Something that is killed, and comes back."""

    pause: float
    """Seconds before it."""

    kind: str
    """A kind of the place."""

    choice: float
    """Of several victims: which, from 0 to below 1."""

    outage: float
    """Seconds for which it is away."""

    def __str__(self) -> str:
        return (
            f"after {self.pause:.1f} s kill {self.kind} ({self.choice:.2f}) for {self.outage:.1f} s"
        )

    def victim(self, count: int) -> int:
        """Which of these."""
        return int(self.choice * count)


def faults(seed: int, kinds: Sequence[str]) -> Iterator[Fault]:
    """Without an end; in each round each kind once, in an order of chance."""
    chance = random.Random(seed)
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            yield Fault(chance.uniform(*PAUSES), kind, chance.random(), chance.uniform(*OUTAGES))
