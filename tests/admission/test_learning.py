"""A worker passes on what other machines say of passwords; the parent counts it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from admission_of_workers import Workers
from gateway.admission.limits import ConnectionLimits
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import GatewayError, TooManyGuesses, WrongPassword
from gateway.model import Forgiveness, Guess, LoginAttempt, Peer

HERE = "192.0.2.1"


class LearningTests(SynchronousTestCase):
    def setUp(self) -> None:
        rules = AdmissionRules(ConnectionLimits(), ThrottleLimits(refuse_after=2))
        self.workers = Workers(2, Clock(), rules)

    def learn(self, worker: int, digest: str, *, is_right: bool = False) -> None:
        """Another machine has tried a password."""
        guess = Guess("alice", HERE, digest, "alice", False, is_right)
        self.workers.admissions[worker].learn(guess)
        self.workers.advance(0)

    def login(self, worker: int, digest: str) -> Deferred[str]:
        """A login with the right password."""
        attempt = LoginAttempt(Peer(HERE, True, "1"), b"alice", digest.encode())
        login = self.workers.admissions[worker].attempt(attempt, lambda: succeed("in"))
        self.workers.advance(0)
        return login

    def refused(self, login: Deferred[str], kind: type[GatewayError]) -> None:
        """It fails so, after its delay."""
        self.workers.advance(60)
        self.failureResultOf(login, kind)

    def test_wrong_passwords_of_other_machines_count_in_all_workers(self) -> None:
        self.learn(0, "one")
        self.learn(0, "one")
        self.assertEqual(self.successResultOf(self.login(1, "right")), "in")
        self.learn(0, "one")
        self.learn(1, "two")
        self.refused(self.login(0, "another"), TooManyGuesses)

    def test_the_same_password_is_the_same_in_all_machines(self) -> None:
        self.learn(0, "one")
        self.refused(self.login(1, "one"), WrongPassword)

    def test_a_password_that_another_machine_finds_changed_is_trusted_in_no_worker(self) -> None:
        for worker in range(2):
            self.assertEqual(self.successResultOf(self.login(worker, "old")), "in")
        self.learn(0, "old")
        for worker in range(2):
            self.refused(self.login(worker, "old"), WrongPassword)

    def test_a_right_password_in_another_machine_forgives(self) -> None:
        self.learn(0, "one")
        self.learn(1, "two")
        self.learn(1, "right", is_right=True)
        self.learn(0, "three")
        self.assertEqual(self.successResultOf(self.login(0, "right")), "in")

    def test_what_an_operator_of_another_machine_forgives_is_forgiven_and_told_no_further(
        self,
    ) -> None:
        told: list[Forgiveness] = []
        for admission in self.workers.admissions.values():
            admission.forgiven = told.append
        for digest in ("one", "two"):
            self.learn(0, digest)
        self.workers.admissions[1].learn(Forgiveness(("alice",), "", ()))
        self.workers.advance(0)
        self.assertEqual(self.successResultOf(self.login(0, "right")), "in")
        self.assertEqual(told, [])

    def test_what_an_operator_forgives_here_is_told_to_other_machines_once(self) -> None:
        told: list[Forgiveness] = []
        for admission in self.workers.admissions.values():
            admission.forgiven = told.append
        self.workers.served.forgive({"names": ["alice"], "address": "", "mailboxes": ["a"]})
        self.workers.advance(0)
        self.assertEqual(told, [Forgiveness(("alice",), "", ("a",))])
        self.workers.kill(0)
        self.workers.served.forgive({"names": [], "address": HERE, "mailboxes": []})
        self.workers.advance(0)
        self.assertEqual(told[1:], [Forgiveness((), HERE, ())])
