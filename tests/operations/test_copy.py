"""A mailbox goes from one Maildir store to another."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from copy_suite import Pair, copy_tests
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, run_now


def maildirs(test: SynchronousTestCase) -> Pair:
    """Two directories."""
    stores = [
        MaildirStore(test.mktemp(), "{name}", run_now, reading=MaildirOptions(create=True))
        for _ in range(2)
    ]
    test.successResultOf(stores[0].prepare(ALICE))
    return Pair(*stores)


class MaildirToMaildirTests(copy_tests(maildirs)):  # type: ignore[misc]
    pass
