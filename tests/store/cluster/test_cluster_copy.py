"""A mailbox goes from a Maildir to the cluster and back, and from one cluster to another."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES, ClusterBench, Waits
from copy_suite import Pair, copy_tests
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


class ClusterToMaildirTests(  # type: ignore[misc]
    Waits, copy_tests(lambda test: pair(test, cluster(test), maildirs(test)))
):
    pass


class ClusterToClusterTests(  # type: ignore[misc]
    Waits, copy_tests(lambda test: pair(test, cluster(test), other_cluster(test)))
):
    pass
