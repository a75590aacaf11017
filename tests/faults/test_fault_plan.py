"""Plans of faults can be repeated."""

from __future__ import annotations

from itertools import islice

from fault_plan import OUTAGES, faults

KINDS = ("gateway", "worker", "primary")


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    plan = list(islice(faults(7, KINDS), 30))
    assert plan == list(islice(faults(7, KINDS), 30))
    assert plan != list(islice(faults(8, KINDS), 30))


def test_each_round_has_each_kind_once() -> None:
    for seed in range(20):
        plan = list(islice(faults(seed, KINDS), 9))
        for start in (0, 3, 6):
            assert {one.kind for one in plan[start : start + 3]} == set(KINDS)


def test_victims_are_chosen_among_all() -> None:
    plan = list(islice(faults(1, KINDS), 200))
    assert {one.victim(3) for one in plan} == {0, 1, 2}
    assert all(OUTAGES[0] <= one.outage <= OUTAGES[1] for one in plan)
