"""The recipient that lends its mailbox to a message for several, while it comes."""

from __future__ import annotations

from gateway.model import Account
from gateway.net.lenders import REMEMBERED, Lenders

ALICE, BOB, CAROL = (Account(name=name, mailbox=name) for name in ("alice", "bob", "carol"))


def test_it_is_the_first_that_did_not_fail_and_then_the_one_that_failed_long_ago() -> None:
    lenders, people = Lenders(), (ALICE, BOB, CAROL)
    chosen = []
    for _ in range(5):
        chosen.append(lenders.choose(people))
        lenders.failed(chosen[-1])
    assert chosen == [ALICE, BOB, CAROL, ALICE, BOB]
    assert lenders.choose((BOB, ALICE)) == ALICE
    assert lenders.choose((BOB,)) == BOB


def test_old_failures_are_forgotten() -> None:
    lenders = Lenders()
    lenders.failed(ALICE)
    for number in range(REMEMBERED):
        lenders.failed(Account(name=f"{number}", mailbox=f"{number}"))
    assert lenders.choose((ALICE, BOB)) == ALICE
