"""Other settings for a POP3 server while clients are connected."""

from __future__ import annotations

from attrs import evolve
from twisted.cred.portal import Portal
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.rules import AdmissionRules
from gateway.admission.throttle import ThrottleLimits
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.net.pop3_factory import POP3Options
from gateway.pop3.profile import Profile
from harness import ALICE, SECRET, Wire


class ReconfiguredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.admissions: list[LocalAdmission] = []

        def remember(local: LocalAdmission) -> LocalAdmission:
            self.admissions.append(local)
            return local

        self.wire = Wire(admission=remember, throttle=ThrottleLimits(free=1000, network_free=1000))
        self.profile = self.wire.factory.profile

    def configure(self, portal: Portal | None = None, **options: object) -> None:
        """Give the factory another portal and other options."""
        options = {"profile": self.profile} | options
        known = self.wire.factory.login._portal
        self.wire.factory.configure(portal or known, POP3Options(**options))  # type: ignore[arg-type]

    def admit(
        self,
        limits: ConnectionLimits = ConnectionLimits(),
        throttle: ThrottleLimits | None = None,
        profile: Profile | None = None,
    ) -> None:
        """Give the admission other limits."""
        rules = AdmissionRules(limits, throttle or ThrottleLimits(), profile or self.profile)
        self.admissions[0].configure(rules)

    def test_an_open_session_keeps_its_profile_and_new_ones_have_the_new(self) -> None:
        early = self.wire.connect()
        self.configure(greeting="New.", profile=evolve(self.profile, implementation="new"))
        self.assertEqual(self.wire.connect().greeting, b"+OK New.\r\n")
        self.assertIn(b"IMPLEMENTATION new", self.wire.connect().lines(b"CAPA"))
        self.assertNotIn(b"IMPLEMENTATION new", early.lines(b"CAPA"))
        self.assertTrue(early.log_in().startswith(b"+OK"))

    def test_who_has_yet_to_log_in_logs_in_to_the_new_portal(self) -> None:
        early, inside = self.wire.connect(), self.wire.login()
        directory = MemoryDirectory({ALICE: "another"})
        cache = PasswordCache(self.wire.clock.seconds, ttl=60, size=10)
        realm = MaildropRealm(directory, self.wire.store)
        self.configure(Portal(realm, [PasswordChecker(directory, cache)]))
        self.assertIn(b"[AUTH]", early.log_in(password=SECRET))
        self.assertTrue(early.log_in(password="another").startswith(b"+OK"))
        self.assertTrue(inside.send(b"RETR 1").startswith(b"+OK"))

    def test_a_mechanism_that_was_taken_away_is_no_wrong_password(self) -> None:
        early = self.wire.connect()
        self.assertIn(b"SASL PLAIN LOGIN", early.lines(b"CAPA"))
        self.configure(mechanisms={})
        reply = early.send(b"AUTH PLAIN AGFsaWNlAHg=")
        self.assertTrue(reply.startswith(b"-ERR"), reply)
        self.assertNotIn(b"[AUTH]", reply)
        self.assertTrue(early.log_in().startswith(b"+OK"))

    def test_stls_on_a_listener_that_has_no_tls_any_more_ends_the_session(self) -> None:
        self.wire.factory.tls = object()
        early = self.wire.connect()
        self.assertIn(b"STLS", early.lines(b"CAPA"))
        self.configure()
        early.send(b"STLS")
        self.assertTrue(early.line.disconnecting or early.line.aborting)
        self.assertNotIn(b"STLS", self.wire.connect().lines(b"CAPA"))

    def test_who_is_in_counts_against_new_limits_and_stays(self) -> None:
        inside = self.wire.login()
        self.admit(ConnectionLimits(per_user=1))
        self.assertIn(b"[SYS/TEMP]", self.wire.connect().log_in())
        self.assertTrue(inside.send(b"NOOP").startswith(b"+OK"))
        inside.send(b"QUIT")
        self.assertTrue(self.wire.connect().log_in().startswith(b"+OK"))

    def test_wrong_passwords_of_before_count(self) -> None:
        for password in ("one", "two"):
            self.assertIn(b"[AUTH]", self.wire.connect().log_in(password=password))
        self.admit(throttle=ThrottleLimits(free=1000, network_free=1000, refuse_after=2))
        self.assertIn(b"[SYS/TEMP]", self.wire.connect().log_in())

    def test_the_time_of_a_login_is_known_to_a_longer_login_delay(self) -> None:
        short = evolve(self.profile, login_delay="60")
        self.admit(profile=short)
        self.wire.login().send(b"QUIT")
        self.wire.clock.advance(100)
        self.admit(profile=evolve(self.profile, login_delay="300"))
        self.assertIn(b"[LOGIN-DELAY]", self.wire.connect().log_in())
        self.admit(profile=short)
        self.assertTrue(self.wire.connect().log_in().startswith(b"+OK"))
