"""The state and the leader of a cluster keep the promises of all others, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ENGINES, leaders_on, states_on
from gateway.model import DigestClaim, Level
from gateway.postgresql.database import Database
from gateway.state.cluster.leader import TERM, ClusterLeader
from gateway.state.cluster.state import ClusterState
from gateway.testing.state_contract import leader_tests, state_tests
from gateway.testing.store_contract import run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


def database() -> Database:
    """As gateways find it."""
    return Database(ENGINES[0].url)


state, candidate = states_on(database), leaders_on(database)


class ClusterStateTests(state_tests(state)):  # type: ignore[misc]
    pass


class RepeatedTests(SynchronousTestCase):
    def setUp(self) -> None:
        ENGINES[0].clear()
        self.relay = Relay(ENGINES[0].postgresql.port)
        self.addCleanup(self.relay.stop)
        self.state = ClusterState(Database(ENGINES[0].url_by(self.relay.port)), run_now)
        self.addCleanup(self.state.close)
        self.relay.lose_answer_to = b"COMMIT"

    def test_a_warning_of_which_the_commit_was_not_answered_is_still_sent(self) -> None:
        change = self.successResultOf(self.state.weigh("alice", Level.WARN, 5.0, 60.0))
        self.assertEqual((change.notice, self.relay.cuts), (Level.WARN, 1))
        again = self.successResultOf(self.state.weigh("alice", Level.WARN, 6.0, 60.0))
        self.assertIsNone(again.notice)

    def test_so_is_a_digest(self) -> None:
        claim = self.successResultOf(self.state.take_digest("root", 5.0, 60.0))
        self.assertEqual((claim, self.relay.cuts), (DigestClaim(None, 5.0), 1))
        self.assertIsNone(self.successResultOf(self.state.take_digest("root", 6.0, 60.0)))


class ClusterLeaderTests(leader_tests(candidate)):  # type: ignore[misc]
    def until(self) -> object:
        """When the term ends."""
        ((until,),) = ENGINES[0].owner.read("SELECT until FROM pop3gw.leader")
        return until

    def pass_time(self, seconds: float) -> None:
        """Let the database's clock go on."""
        ENGINES[0].owner.write(
            "UPDATE pop3gw.leader SET until = until - %s * interval '1 second'", (seconds,)
        )

    def test_a_failed_attempt_extends_no_term(self) -> None:
        self.leads(self.one)
        before = self.until()
        self.assertFalse(self.leads(self.other))
        self.assertEqual(self.until(), before)
        self.leads(self.one)
        self.assertGreater(self.until(), before)

    def test_another_leads_when_the_term_of_a_dead_leader_has_ended(self) -> None:
        self.leads(self.one)
        self.pass_time(TERM + 1)
        self.assertTrue(self.leads(self.other))
        self.assertFalse(self.leads(self.one))

    def test_who_has_not_asked_for_a_term_does_not_know_whether_anybody_leads(self) -> None:
        clock, connections = Clock(), database()
        self.addCleanup(connections.close)
        follower = ClusterLeader(connections, run_now, clock.seconds)
        self.leads(self.one)
        self.leads(follower)
        clock.advance(TERM - 1)
        self.assertTrue(follower.is_led)
        clock.advance(1)
        self.assertFalse(follower.is_led)

    def test_who_has_lost_its_term_resigns_for_nobody(self) -> None:
        self.leads(self.one)
        self.pass_time(TERM + 1)
        self.leads(self.other)
        self.successResultOf(self.one.resign())
        self.assertFalse(self.leads(self.one))
