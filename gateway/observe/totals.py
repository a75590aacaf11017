"""Adds up the figures of all processes.

Counters never go down while the server runs: what a process has counted stays when it ends, and
one that hangs counts as it last answered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from gateway.observe.families import FAMILIES, Family
from gateway.observe.figures import Key, Snapshot, Value

_OF_TWO: Mapping[str, Callable[[float, float], float]] = {
    "sum": lambda one, other: one + other,
    "max": max,
    "min": min,
}


class Totals:
    """The figures of processes, by a key for each process."""

    def __init__(self) -> None:
        self._latest: dict[Hashable, Snapshot] = {}
        self._past: Snapshot = []
        """The counters of processes that have ended."""

    def begin(self, process: Hashable) -> None:
        """Take figures of this process from now on."""
        self._latest[process] = []

    def take(self, process: Hashable, snapshot: Snapshot) -> None:
        """The latest figures of a process; they are ignored if it has ended."""
        if process in self._latest:
            self._latest[process] = snapshot

    def end(self, process: Hashable) -> None:
        """The process has ended; its counters stay."""
        ended = self._latest.pop(process, [])
        lasting = [row for row in ended if _family(row[0]).kind != "gauge"]
        self._past = merged([self._past, lasting])

    def snapshot(self, own: Snapshot) -> Snapshot:
        """The sums, with the process's ``own`` figures."""
        return merged([self._past, *self._latest.values(), own])


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot of several, as ``Family.merge`` says."""
    found: dict[Key, Value] = {}
    for snapshot in snapshots:
        for key_as_list, value in snapshot:
            key = tuple(key_as_list)
            before = found.get(key)
            found[key] = value if before is None else _merged(_family(key), before, value)
    return [[list(key), value] for key, value in found.items()]


def _merged(family: Family, one: Any, other: Any) -> Value:
    if family.kind == "histogram":
        return [mine + its for mine, its in zip(one, other, strict=True)]
    return _OF_TWO[family.merge](one, other)


def _family(key: Iterable[str]) -> Family:
    return FAMILIES[next(iter(key))]
