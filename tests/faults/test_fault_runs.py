"""Servers are killed at random while mail comes and goes: short runs.

By hand, for longer and with other seeds: ``python tests/faults --help``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from clients import FOR_QUOTA
from driver import Run
from gateways import Place, Wait
from mail_model import AFTER_LOSS, Rule
from places import ClusterPlace, MaildirPlace

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("faults")]


def perform(
    make: Callable[[Path, Wait], Place],
    directory: Path,
    *,
    seconds: float,
    seed: int,
    rules: Iterable[Rule] = tuple(Rule),
) -> Run:
    """A run that has ended, and was good."""
    stop = threading.Event()
    place = make(directory, stop.wait)
    try:
        run = Run(place, seed, stop, rules)
        run.perform(seconds)
        run.report(sys.stdout)
    finally:
        stop.set()
        place.close()
    # pytest shows the report.
    assert run.is_good
    counts = run.shared.counts
    for what in ("messages written", "messages retrieved", "messages deleted", FOR_QUOTA):
        assert counts[what] > 0, what
    assert run.expired > 0
    assert {fault.kind for _, _, fault in run.done} == set(place.acts)
    return run


def test_a_cluster_keeps_its_promises_while_anything_of_it_is_killed(tmp_path: Path) -> None:
    perform(ClusterPlace, tmp_path, seconds=30, seed=1)


def test_no_unique_id_is_used_again_after_failovers_that_lose_commits(tmp_path: Path) -> None:
    def place(directory: Path, wait: Wait) -> ClusterPlace:
        made = ClusterPlace(directory, wait, synchronous=False)
        # Each failover takes seconds: no other fault comes between.
        made.acts = {"primary": made.acts["primary"]}
        return made

    run = perform(place, tmp_path, seconds=20, seed=2, rules=AFTER_LOSS)
    assert run.ignored[Rule.LOST] + run.ignored[Rule.RETURNED] > 0


def test_maildir_keeps_its_promises_while_gateway_and_workers_are_killed(tmp_path: Path) -> None:
    perform(MaildirPlace, tmp_path, seconds=20, seed=3)
