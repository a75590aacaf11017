"""Leases and holds are found by their mailbox: a table of a million is not read for one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench
from gateway.postgresql.database import Cursor, Database, Parameters
from gateway.store.cluster.leases import HOLDS, SESSIONS, LeaseRows

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class Explained(Database):
    """Does nothing, and notes how it would be done with large tables."""

    plan = ""

    def write(self, statement: str, parameters: Parameters = ()) -> None:
        """Ask for the plan."""

        def explain(cursor: Cursor, _: bool) -> Sequence[Any]:
            # Small tables are read as a whole where that is possible at all.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
            return cursor.execute(f"EXPLAIN {statement}", parameters).fetchall()

        self.plan = "\n".join(row[0] for row in self.transact(explain))


class LeasesByKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.database = Explained(self.bench.engines.url)
        self.addCleanup(self.database.close)

    def check(self, rows: LeaseRows) -> None:
        """Both statements use the key, and not each row."""
        mailbox, holder = 1, uuid4()
        for act in (
            lambda: rows.renew(self.database, {holder: mailbox}),
            lambda: rows.end(self.database, mailbox, holder),
        ):
            act()
            self.assertRegex(self.database.plan, "Index Cond: .*(mailbox|id) = ")

    def test_a_session_finds_its_lease_by_the_mailbox(self) -> None:
        self.check(SESSIONS)

    def test_a_hold_is_found_by_the_mailbox(self) -> None:
        self.check(HOLDS)
