"""Database and bucket that do not fit together are found, and mended as far as that is possible."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.model import Usage
from gateway.store.cluster.verify import YOUNG, Problem, Verification
from gateway.testing.store_contract import ALICE, run_now

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class VerifyTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        for number in range(3):
            self.bench.deliver(b"Message-ID: <%d@example.org>\r\n\r\nbody\r\n" % number)
        found = self.bench.read("SELECT body FROM pop3gw.message ORDER BY uid")
        self.bodies = [body for (body,) in found]

    def verify(self, *, later: float = 0, **more: Any) -> list[Problem]:
        """What there is to find."""
        problems: list[Problem] = []
        verification = Verification(
            self.bench.engines.owner,
            self.bench.blobs(),
            run_now,
            problems.append,
            now=lambda: time.time() + later,
            **more,
        )
        self.successResultOf(Deferred.fromCoroutine(verification.verify()))
        return problems

    def usage(self) -> Usage:
        """Of Alice's mailbox."""
        usage: Usage = self.successResultOf(self.bench.store.usage(ALICE))
        return usage

    def test_what_fits_is_no_problem(self) -> None:
        self.bench.expunge_first()
        self.assertEqual(self.verify(later=2 * YOUNG, repair=True), [])
        self.assertEqual(self.usage().messages, 2)

    def test_a_message_without_its_body_is_named_and_then_removed(self) -> None:
        self.successResultOf(self.bench.blobs().remove(self.bodies[1]))
        lost = Problem(
            "missing body", ALICE.mailbox, 2, self.bodies[1].hex, "<1@example.org>", mended=False
        )
        self.assertEqual(self.verify(), [lost])
        self.assertEqual(self.usage().messages, 3)
        self.assertEqual(self.verify(repair=True), [lost._replace(mended=True)])
        self.assertEqual(self.usage().messages, 2)
        self.assertEqual(self.verify(), [])

    def test_a_body_without_a_message_is_found_once_it_is_old_and_then_removed(self) -> None:
        orphan = self.bench.blobs().new()
        self.successResultOf(orphan.finish(self.bench.content(b"orphan\r\n")))
        self.assertEqual(self.verify(repair=True), [])
        unused = Problem("unused body", body=orphan.key.hex)
        self.assertEqual(self.verify(later=2 * YOUNG), [unused])
        self.assertEqual(self.verify(later=2 * YOUNG, repair=True), [unused._replace(mended=True)])
        self.assertEqual(self.verify(later=2 * YOUNG), [])
        self.assertEqual(len(self.bench.contents()), 3)

    def test_counters_that_are_off_are_set_right(self) -> None:
        right = self.usage()
        self.bench.change("UPDATE pop3gw.mailbox SET octets = 5, messages = 99 WHERE messages > 0")
        wrong = Problem("wrong counters", ALICE.mailbox)
        self.assertEqual(self.verify(), [wrong])
        self.assertEqual(self.usage().messages, 99)
        self.assertEqual(self.verify(repair=True), [wrong._replace(mended=True)])
        self.assertEqual(self.usage(), right)

    def test_a_database_that_is_older_than_the_bucket_shows_it(self) -> None:
        # As after a restore of the database alone: its last two messages are not there yet.
        for table in ("message", "head"):
            self.bench.change(f"DELETE FROM pop3gw.{table} WHERE uid > 1")
        kinds = sorted(problem.kind for problem in self.verify(later=2 * YOUNG, repair=True))
        self.assertEqual(kinds, ["unused body", "unused body", "wrong counters"])
        self.assertEqual(self.verify(later=2 * YOUNG), [])
        self.assertEqual(self.usage().messages, 1)
