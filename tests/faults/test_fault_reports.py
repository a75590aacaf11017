"""What a run makes of answers, and what it says when a rule does not hold."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from clients import Shared, attempt, text_of
from driver import Run
from fault_plan import faults
from gateways import KillableGateway, Place
from line_clients import NoAnswer, Refused, Silence
from mail_model import Rule, Violation


def failing(error: Exception) -> Callable[[], NoReturn]:
    """What raises this."""

    def fail() -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (Refused("-ERR [AUTH] Wrong name or password."), Rule.AUTH),
        (Refused("-ERR [SYS/PERM] The mailbox cannot be used."), Rule.REPLY),
        (Refused("-ERR Unknown command."), Rule.REPLY),
        (Refused("552 5.2.2 The mailbox is full."), Rule.REPLY),
        (Silence("no reply within 60 s"), Rule.SILENT),
    ],
)
def test_an_answer_that_no_outage_explains_is_a_violation(error: Exception, rule: Rule) -> None:
    with pytest.raises(Violation) as caught:
        attempt(Shared([]), "alice", failing(error))
    assert caught.value.rule is rule


@pytest.mark.parametrize(
    "error",
    [
        NoAnswer("the connection ended"),
        Refused("-ERR [SYS/TEMP] Temporary trouble; try again later."),
        Refused("451 4.3.0 Temporary trouble; try again later."),
    ],
)
def test_an_answer_of_an_outage_is_none(error: Exception) -> None:
    shared = Shared([])
    assert not attempt(shared, "alice", failing(error))
    assert shared.counts.total() == 1


def test_a_message_is_the_same_each_time_and_another_for_each_name() -> None:
    assert text_of("m1") == text_of("m1") != text_of("m2")
    lines = [line for number in range(50) for line in text_of(f"m{number}").split(b"\r\n")]
    assert any(line.startswith(b".") for line in lines)
    assert not any(b"\n" in line or b"\r" in line for line in lines)


class BrokenPlace(Place):
    """Its gateway never runs, and after its one fault a message is lost."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, lambda _: None)
        self.gateways = [KillableGateway(directory / "gateway", "")]
        lost = Violation(Rule.LOST, "alice", "m1", ["12.000  m1: acknowledged"])
        self.acts = {"disk": lambda _: failing(lost)()}


SEED = next(seed for seed in range(1000) if next(faults(seed, ["disk"])).pause < 1.1)
"""Of a plan that begins early."""


def test_a_violation_is_reported_with_seed_plan_and_history(tmp_path: Path) -> None:
    run = Run(BrokenPlace(tmp_path), SEED, threading.Event())
    run.shared.boxes[0].expired = 1  # retention has had its turn
    out = io.StringIO()
    run.perform(0)
    run.report(out)
    assert not run.is_good
    text = out.getvalue()
    assert "VIOLATION: an acknowledged message is missing: alice: m1" in text
    assert "12.000  m1: acknowledged" in text
    assert f"plan of seed {SEED}:" in text
    assert f"next, or under way: {next(faults(SEED, ['disk']))}" in text
