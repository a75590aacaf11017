"""The recipient with the mailbox that a message for several is received into."""

from __future__ import annotations

from gateway.model import Account
from gateway.net.receivers import REMEMBERED, Receivers

ALICE, BOB, CAROL = (Account(name=name, mailbox=name) for name in ("alice", "bob", "carol"))


def test_it_is_the_first_that_did_not_fail_and_then_the_one_that_failed_long_ago() -> None:
    receivers, people = Receivers(), (ALICE, BOB, CAROL)
    chosen = []
    for _ in range(5):
        chosen.append(receivers.choose(people))
        receivers.failed(chosen[-1])
    assert chosen == [ALICE, BOB, CAROL, ALICE, BOB]
    assert receivers.choose((BOB, ALICE)) == ALICE
    assert receivers.choose((BOB,)) == BOB


def test_old_failures_are_forgotten() -> None:
    receivers = Receivers()
    receivers.failed(ALICE)
    for number in range(REMEMBERED):
        receivers.failed(Account(name=f"{number}", mailbox=f"{number}"))
    assert receivers.choose((ALICE, BOB)) == ALICE
