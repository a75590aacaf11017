"""What one delivery costs: system calls, syncs and visits to a thread."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from answers import result
from calls import system_calls_of
from gateway.model import Account, Limits
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, admit, run_now

OTHERS = 12345
"""A user who is not this process's."""

OPENS = 4 + 3 + 7
"""A Maildir and the directory above it, a folder twice each at most, and seven files.

These are the message, both locks, the uidlist to read and to append to, maildirsize, which is
not there, and ``new`` to sync it.
"""


def store_in(root: Path, depth: int = 1, *, owner: int | None = None) -> MaildirStore:
    """A store of Maildirs this far below ``root``, of another user if ``owner`` is given."""
    below = root.joinpath(*(f"{level}" for level in range(depth)))
    for account in (ALICE, BOB):
        for folder in ("cur", "new", "tmp"):
            (below / account.mailbox / folder).mkdir(parents=True)
    if owner is not None:
        for directory, _, _ in os.walk(below):
            os.chown(directory, owner, owner)
    return MaildirStore(str(below), "{name}", run_now, admit=admit)


def deliver(store: MaildirStore, *accounts: Account, limits: Limits = NO_LIMITS) -> None:
    incoming = result(store.receive(accounts[0]))
    incoming.write(b"Received: here\r\n")
    incoming.write(b"Subject: one\r\n\r\n" + b"octets\r\n" * 1000)
    for account in accounts:
        assert result(incoming.commit(account, limits)) is None
    result(incoming.close())


def cost_of(store: MaildirStore, *accounts: Account, limits: Limits = NO_LIMITS) -> Counter[str]:
    """The system calls of a delivery that is not the mailboxes' first."""
    deliver(store, *accounts, limits=limits)
    return system_calls_of(lambda: deliver(store, *accounts, limits=limits))


@pytest.mark.parametrize("owner", [None, OTHERS])
def test_a_delivery_opens_its_maildir_once(tmp_path: Path, owner: int | None) -> None:
    cost = cost_of(store_in(tmp_path, owner=owner), ALICE)
    assert cost["open"] <= OPENS
    assert cost.total() <= 61


def test_a_delivery_costs_the_same_however_deep_the_store_lies(tmp_path: Path) -> None:
    costs = [cost_of(store_in(tmp_path / f"{depth}", depth), ALICE) for depth in (1, 9)]
    assert costs[0] == costs[1]


def test_a_delivery_syncs_the_message_and_the_directory_that_names_it(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert cost_of(store, ALICE)["fsync"] == 2
    assert cost_of(store, ALICE, limits=Limits(octets=10**6))["fsync"] == 2


def test_several_recipients_share_one_sync_of_the_message(tmp_path: Path) -> None:
    assert cost_of(store_in(tmp_path), ALICE, BOB)["fsync"] == 3


def test_a_quota_costs_a_line_of_maildirsize(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    limits = Limits(octets=10**6)
    cost_of(store, ALICE, limits=limits)
    extra = cost_of(store, ALICE, limits=limits) - cost_of(store, BOB)
    assert extra == Counter(open=1, write=1, close=1, fstat=1)
