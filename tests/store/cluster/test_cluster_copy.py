"""A mailbox goes from a Maildir to the cluster and back, and from one cluster to another."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES, ClusterBench, Waits
from copy_suite import Pair, copy_tests, tools_of
from gateway.operations.mail.copy import copy_mailbox
from gateway.postgresql.database import Database
from gateway.postgresql.migrate import migrate
from gateway.store.cluster.store import ClusterOptions
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, run_now

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

NUMBERS = count(1)


def maildirs(test: SynchronousTestCase) -> MaildirStore:
    """Maildirs in a directory."""
    return MaildirStore(test.mktemp(), "{name}", run_now, reading=MaildirOptions())


def cluster(test: SynchronousTestCase, **more: Any) -> Any:
    """A cluster without mailboxes."""
    bench = ClusterBench(test)
    bench.engines.clear()
    return bench.gateway(test, options=ClusterOptions(), **more)


def other_cluster(test: SynchronousTestCase) -> Any:
    """A cluster with another database."""
    postgresql, name = ENGINES[0].postgresql, f"other{next(NUMBERS)}"
    postgresql.make_database(name)
    database = Database(postgresql.url(name))
    migrate(database)
    return cluster(test, database=database)


def pair(test: SynchronousTestCase, old: Any, new: Any) -> Pair:
    """Two places; Alice has a mailbox in the old one."""
    test.successResultOf(old.prepare(ALICE))
    return Pair(old, new)


class MaildirToClusterTests(  # type: ignore[misc]
    Waits, copy_tests(lambda test: pair(test, maildirs(test), cluster(test)))
):
    pass


class OddTimeTests(Waits, SynchronousTestCase):
    def test_a_message_with_an_impossible_time_in_its_name_is_copied(self) -> None:
        old, new = maildirs(self), cluster(self)
        self.successResultOf(old.prepare(ALICE))
        file = Path(old._path(ALICE)) / "cur" / "1700000000123456.abc.host:2,"
        file.write_bytes(b"text\r\n")
        sides = tools_of(old, "old"), tools_of(new, "new")
        copied = copy_mailbox(*sides, mailbox=ALICE.mailbox)
        done = self.successResultOf(Deferred.fromCoroutine(copied))
        self.assertEqual((done.messages, done.is_switched), (1, True))


class ClusterToMaildirTests(  # type: ignore[misc]
    Waits, copy_tests(lambda test: pair(test, cluster(test), maildirs(test)))
):
    pass


class ClusterToClusterTests(  # type: ignore[misc]
    Waits, copy_tests(lambda test: pair(test, cluster(test), other_cluster(test)))
):
    pass
