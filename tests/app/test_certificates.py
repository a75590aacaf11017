"""Certificates of a running server: read again at SIGHUP, new ticket keys by the clock."""

from __future__ import annotations

import os
import shutil

from attrs import evolve
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from certificates import Pair
from gateway.app.parts.certificates import Certificates, certificates_of, described
from gateway.app.parts.parts import Parts
from gateway.config.listeners import CertificateFiles, Listener, Tls
from gateway.config.services import Lmtp
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import CertificateRejected, CertificateReloaded, Event
from gateway.networks import LOOPBACK
from gateway.observe.bus import EventBus


class CertificatesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.events: list[Event] = []
        self.clock = Clock()
        self.org = Pair(self.directory, "org", "pop.example.org")
        self.net = Pair(self.directory, "net", "pop.example.net")
        self.settings = Settings(state_dir=self.directory, tls=Tls(*self.org.paths))

    def certificates(self, *own: Pair, lifetime: float = 600) -> Certificates:
        """Those of a listener ``pop3s``, and of one with ``[tls]``, which LMTP shows as well."""
        several = tuple(CertificateFiles(*one.paths) for one in own)
        self.settings = Settings(
            state_dir=self.directory,
            tls=Tls(*self.org.paths, ticket_key_lifetime=lifetime),
            listeners={
                "pop3s": Listener("tcp:1", certificates=several),
                "pop3": Listener("tcp:2"),
            },
            lmtp=Lmtp("tcp:3", tls="stls"),
        )
        made = Certificates(self.settings, self.events.append)
        self.contexts = [made.of("pop3s"), made.of("pop3"), made.for_mail()]
        return made

    def keys(self) -> list[object]:
        """What stands for the ticket keys of each listener: the context that has them."""
        line = TLSMemoryBIOProtocol(None, None)
        return [one.serverConnectionForTLS(line).get_context() for one in self.contexts]


class ReloadTests(CertificatesCase):
    def test_a_listener_that_asks_again_gets_the_same_with_its_ticket_keys(self) -> None:
        made = self.certificates(self.net)
        again = [made.of("pop3s"), made.of("pop3"), made.for_mail()]
        self.assertEqual(
            [one is other for one, other in zip(again, self.contexts, strict=True)], [True] * 3
        )

    def test_each_file_is_read_once_however_many_listeners_show_it(self) -> None:
        made = self.certificates(self.net, self.org)
        made.reload()
        paths = [event.path for event in self.events if isinstance(event, CertificateReloaded)]
        self.assertEqual(sorted(paths), sorted([self.org.certificate, self.net.certificate]))

    def test_a_faulty_one_is_named_with_its_place_and_the_others_are_taken(self) -> None:
        made = self.certificates(self.org, self.net)
        shutil.copy(self.org.key, self.net.key)
        new = Pair(self.directory, "org", "pop.example.org")
        made.reload()
        (rejected,) = [event for event in self.events if isinstance(event, CertificateRejected)]
        self.assertIn("listeners.pop3s.certificates.2: TLS certificate ", rejected.reason)
        self.assertIn(self.net.certificate, rejected.reason)
        for context in self.contexts:
            self.assertEqual(context.certificates[0].der, new.der)
        self.assertEqual(self.contexts[0].certificates[1].der, self.net.der)

    def test_what_has_not_changed_keeps_its_ticket_keys(self) -> None:
        made = self.certificates(self.net)
        before = self.keys()
        made.reload()
        self.assertEqual(self.keys(), before)
        Pair(self.directory, "net", "pop.example.net")
        made.reload()
        self.assertEqual([one in before for one in self.keys()], [False, True, True])

    def test_one_that_a_listener_cannot_use_is_named_and_the_listener_keeps_the_old(self) -> None:
        made = self.certificates(self.net)
        before = self.keys()
        weak = Pair(self.directory, "net", "pop.example.net", kind="weak")
        self.assertEqual(self.net.certificate, weak.certificate)
        for time in (1, 2):
            (line,) = made.reload()
            self.assertIn("listeners.pop3s: TLS certificate ", line)
            self.assertIn("too small", line)
            rejected = [one for one in self.events if isinstance(one, CertificateRejected)]
            self.assertEqual([one.reason for one in rejected], [line] * time)
            self.assertEqual(self.keys(), before)

    def test_what_is_shown_and_watched_is_what_clients_get_after_one_was_refused(self) -> None:
        made = self.certificates(self.net)
        before = dict(made.expiries()), self.contexts[0].certificates[0].der
        Pair(self.directory, "net", "pop.example.net", "pop.example.com", kind="weak")
        made.reload()
        (used,) = [one for one in made.listeners if one.certificate == self.net.certificate]
        self.assertEqual((dict(made.expiries()), used.der), before)
        rows = {row.path: row for row in described(made, self.settings)}
        self.assertEqual(rows[self.net.certificate].names, ("pop.example.net",))

    def test_one_that_only_some_of_its_listeners_refuse_is_taken_by_none(self) -> None:
        self.settings = evolve(
            self.settings,
            listeners={
                "weak": Listener("tcp:1", ciphers="DEFAULT:@SECLEVEL=0"),
                "pop3": Listener("tcp:2"),
            },
        )
        made = Certificates(self.settings, self.events.append)
        self.contexts = [made.of("weak"), made.of("pop3")]
        before = self.keys()
        Pair(self.directory, "org", "pop.example.org", kind="weak")
        (line,) = made.reload()
        self.assertTrue(line.startswith("listeners.pop3: TLS certificate "))
        self.assertEqual(self.keys(), before)


class OtherSettingsTests(CertificatesCase):
    """A reload that changes more than the files."""

    def setUp(self) -> None:
        super().setUp()
        self.parts = Parts(EventBus())
        self.settings = evolve(
            self.settings, listeners={"pop3s": Listener("tcp:1", "implicit")}, lmtp=Lmtp()
        )
        self.take()

    def take(self, **changed: object) -> list[str]:
        """Have the listener go on with other settings; returns what stays as it was."""
        (listener,) = self.settings.listeners.values()
        listeners = {"pop3s": evolve(listener, **changed)}
        settings = evolve(self.settings, listeners=listeners)
        parts = Parts(EventBus(), self.parts)
        made = certificates_of(settings, parts, self.clock, self.events.append, None)
        self.contexts = [made.of("pop3s")]
        rejected = made.reload()
        parts.start()
        self.addCleanup(parts.stop)
        self.parts, self.settings = parts, settings
        return rejected

    @property
    def der(self) -> bytes:
        return self.contexts[0].certificates[0].der

    def test_one_in_use_that_cannot_be_read_now_stays_and_the_rest_is_taken(self) -> None:
        with open(self.org.key, "w") as file:
            file.write("garbage")
        before = self.keys()
        (line,) = self.take(tls_minimum="1.3")
        self.assertIn(f"tls: TLS certificate {self.org.certificate}", line)
        self.assertEqual(self.der, self.org.der)
        self.assertNotEqual(self.keys(), before)

    def test_one_in_use_that_its_listener_would_refuse_now_stays(self) -> None:
        Pair(self.directory, "org", "pop.example.org", kind="weak")
        (line,) = self.take(tls_minimum="1.3")
        self.assertIn("too small", line)
        self.assertEqual(self.der, self.org.der)

    def test_settings_that_contexts_are_not_made_of_keep_them_with_their_ticket_keys(self) -> None:
        before = self.keys()
        self.assertEqual(self.take(xclient_networks=LOOPBACK, mechanisms=("PLAIN",)), [])
        self.assertEqual(self.keys(), before)

    def test_a_new_one_that_was_not_in_use_is_an_error(self) -> None:
        with open(self.net.key, "w") as file:
            file.write("garbage")
        with self.assertRaises(ConfigError):
            self.take(certificate=self.net.certificate, key=self.net.key)

    def test_ciphers_that_want_a_longer_key_are_taken_together_with_it(self) -> None:
        weak = Pair(self.directory, "org", "pop.example.org", kind="weak")
        self.take(ciphers="DEFAULT:@SECLEVEL=0")
        self.assertEqual(self.der, weak.der)
        with self.assertRaises(ConfigError):
            self.take(ciphers="")
        strong = Pair(self.directory, "org", "pop.example.org")
        self.assertEqual(self.take(ciphers=""), [])
        self.assertEqual(self.der, strong.der)


class TicketKeyTests(CertificatesCase):
    def test_new_ones_come_by_the_clock_until_the_end(self) -> None:
        made = self.certificates(self.net)
        made.start(self.clock)
        seen = [self.keys()]
        for seconds, changes in ((599, False), (1, True), (599, False), (1, True)):
            self.clock.advance(seconds)
            seen.append(self.keys())
            for before, now in zip(seen[-2], seen[-1], strict=True):
                self.assertEqual(before is not now, changes)
        made.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.events, [])

    def test_they_come_although_the_files_are_gone(self) -> None:
        made = self.certificates(self.net)
        made.start(self.clock)
        before = self.keys()
        shutil.rmtree(self.directory)
        self.clock.advance(600)
        self.assertFalse(set(before) & set(self.keys()))
        self.assertEqual(self.events, [])
        made.stop()

    def test_without_resumption_there_is_no_timer(self) -> None:
        made = self.certificates(lifetime=0)
        made.start(self.clock)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        made.stop()


class FaultTests(CertificatesCase):
    def test_all_faulty_certificates_of_a_listener_are_named(self) -> None:
        for pair in (self.org, self.net):
            with open(pair.key, "w") as file:
                file.write("x")
        with self.assertRaises(ConfigError) as caught:
            self.certificates(self.org, self.net)
        one, two = caught.exception.problems
        self.assertTrue(one.startswith("listeners.pop3s.certificates.1: TLS certificate "))
        self.assertTrue(two.startswith("listeners.pop3s.certificates.2: TLS certificate "))
