"""What a process counts, and which labels it may have."""

from __future__ import annotations

import json
from threading import Thread
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway import errors, events
from gateway.events import EVENTS, Event, problem_of
from gateway.model import Account, Connection, Level
from gateway.observe.bus import EventBus
from gateway.observe.families import FAMILIES
from gateway.observe.figures import Figures
from gateway.observe.labels import END_OF, reason_of
from gateway.observe.loop_lag import LoopLag
from harness import SECRET, Wire

CLIENT = Connection("1f", "192.0.2.1")
WRONG = problem_of(errors.BadCredentials("wrong password"))


class FiguresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.figures = Figures()
        self.bus = EventBus()
        self.bus.subscribe(self.figures.subscription)

    def emit(self, *told: Event) -> dict[tuple[str, ...], Any]:
        """All figures after these events."""
        for event in told:
            self.bus.emit(event)
        return {tuple(key): value for key, value in self.figures.snapshot()}

    def test_events_become_counters_with_the_labels_of_their_family(self) -> None:
        alice, down = Account("alice", "alice"), problem_of(errors.DirectoryDown("x", logged=True))
        found = self.emit(
            events.ConnectionOpened(CLIENT, "pop3"),
            events.ConnectionRefused(CLIENT, "lmtp", "full"),
            events.LoginFailed(CLIENT, "alice", "PASS", WRONG),
            events.LoginFailed(CLIENT, "alice", "PLAIN", down),
            events.LoginSucceeded(CLIENT, "alice", "alice", "NTLM"),
            events.LoginDelayed("1f", "alice", "192.0.2.1", 2.5),
            events.CachedPasswordAccepted("alice", down),
            events.NTLMv1Accepted("alice"),
            events.ActionFailed(CLIENT, "alice", "marking as read", down),
            events.POP3SessionEnded(
                *(CLIENT, "quit", "alice", "TLSv1.3", "NTLM", 2, 70, 1, 9, 1, 5, 3.0, "")
            ),
            events.LMTPSessionEnded(CLIENT, "over", "no", "mx", 1, 1, 0, 5, ""),
            events.MessageDelivered(CLIENT, "1f.1", alice, 500, 0.02),
            events.RecipientRefused(CLIENT, "x", problem_of(errors.LargerThanQuota("large"))),
            events.DeliveryFailed(CLIENT, problem_of(errors.NoRoom("disk"))),
            events.QuotaDecided("policy", "OVER"),
            events.QuotaWarningSent("alice", Level.OVER),
            events.QuotaCheckFailed("alice", down),
            events.QuotaLevelsCounted(4, 2),
            events.MessagesExpired("alice", 7, 1, hidden=True),
            events.RetentionStopped("alice", "guard"),
            events.RetentionPostponed("alice", down),
            events.DirectoryAsked("LDAP server ldap://a", 0.004, answered=True),
            events.DirectoryAsked("LDAP server ldap://b", 5.0, answered=False),
            events.BackEndAsked("PostgreSQL db", 0.004, answered=True),
            events.BackEndAsked("S3 mail", 5.0, answered=False),
            events.BackEndDown("LDAP server ldap://b", "refused"),
            events.DirectoryProblem("twice"),
            events.CacheLookup("accounts", "remembered"),
            events.TLSEstablished(CLIENT, "TLSv1.3"),
            events.WorkerEnded(1, 10, "signal SIGKILL", 0.0),
            events.ReloadEnded(problems=("bad",)),
            events.RequestServed(CLIENT, "GET", "/metrics", 401, 5, ""),
        )
        expected: dict[tuple[str, ...], float] = {
            ("connections_opened_total", "pop3"): 1,
            ("connections", "pop3"): 1,
            ("sessions_logged_in",): 1,
            ("connections_refused_total", "lmtp"): 1,
            ("logins_total", "PASS", "wrong_credentials"): 1,
            ("logins_total", "PLAIN", "directory_down"): 1,
            ("logins_total", "NTLM", "ok"): 1,
            ("logins_delayed_total",): 1,
            ("login_delay_seconds_total",): 2.5,
            ("cached_logins_total",): 1,
            ("ntlmv1_logins_total",): 1,
            ("actions_failed_total", "marking_as_read", "directory_down"): 1,
            ("sessions_ended_total", "pop3", "quit"): 1,
            ("sessions_ended_total", "lmtp", "closed"): 1,
            ("retrieved_messages_total", "RETR"): 2,
            ("retrieved_bytes_total", "RETR"): 70,
            ("retrieved_messages_total", "TOP"): 1,
            ("retrieved_bytes_total", "TOP"): 9,
            ("deleted_messages_total",): 1,
            ("deliveries_total",): 1,
            ("delivered_bytes_total",): 500,
            ("recipients_refused_total", "larger_than_quota"): 1,
            ("deliveries_failed_total", "disk_full"): 1,
            ("quota_decisions_total", "policy", "over"): 1,
            ("quota_warnings_total", "over"): 1,
            ("quota_checks_failed_total", "directory_down"): 1,
            ("quota_mailboxes", "warn"): 4,
            ("quota_mailboxes", "over"): 2,
            ("retention_messages_total", "hidden"): 7,
            ("retention_stops_total",): 1,
            ("retention_postponed_total", "directory_down"): 1,
            ("directory_failures_total", "LDAP server ldap://b"): 1,
            ("backend_failures_total", "S3 mail"): 1,
            ("backend_up", "LDAP server ldap://a"): 1,
            ("backend_up", "LDAP server ldap://b"): 0,
            ("backend_up", "PostgreSQL db"): 1,
            ("directory_problems_total",): 1,
            ("cache_lookups_total", "accounts", "remembered"): 1,
            ("tls_handshakes_total", "1.3"): 1,
            ("worker_ends_total", "failed"): 1,
            ("reloads_total", "rejected"): 1,
            ("http_requests_total", "4xx"): 1,
            ("config_last_reload_successful",): 0,
        }
        named = {(f"pop3gw_{name}", *labels): value for (name, *labels), value in expected.items()}
        numbers = {key: value for key, value in found.items() if not isinstance(value, list)}
        self.assertEqual(numbers, named)
        times = {key for key, value in found.items() if isinstance(value, list)}
        self.assertEqual(
            times,
            {
                ("pop3gw_session_seconds",),
                ("pop3gw_delivery_seconds",),
                ("pop3gw_directory_seconds", "LDAP server ldap://a"),
                ("pop3gw_backend_seconds", "PostgreSQL db"),
            },
        )
        for family, *labels in found:
            self.assertEqual(len(labels), len(FAMILIES[family].labels), family)
        json.dumps(self.figures.snapshot())

    def test_each_kind_that_is_counted_is_an_event(self) -> None:
        self.assertLessEqual(set(self.figures.subscription), set(EVENTS))

    def test_a_histogram_has_each_time_in_the_bucket_of_the_next_bound(self) -> None:
        for seconds in (0.0, 0.0001, 0.0002, 29.0, 31.0):
            self.bus.emit(events.CommandsDone(CLIENT, [("NOOP", False, seconds, False)]))
        found = self.emit()["pop3gw_command_seconds", "NOOP", "transaction"]
        self.assertEqual(found[:3], [2, 1, 0])
        self.assertEqual(found[-3:-1], [1, 1])
        self.assertAlmostEqual(found[-1], 60.0003)
        self.assertEqual(len(found), len(FAMILIES["pop3gw_command_seconds"].buckets) + 2)

    def test_a_back_end_is_up_again_or_gone_after_its_outage(self) -> None:
        name = "winbind"
        found = self.emit(events.BackEndDown(name, "gone"), events.BackEndBack(name, 3))
        self.assertEqual(found["pop3gw_backend_up", name], 1)
        found = self.emit(events.BackEndDown(name, "gone"), events.BackEndReplaced(name))
        self.assertNotIn(("pop3gw_backend_up", name), found)

    def test_full_mailboxes_are_unknown_after_quota_warnings_end(self) -> None:
        found = self.emit(events.QuotaLevelsCounted(4, 2), events.QuotaLevelsCounted(None, None))
        self.assertNotIn(("pop3gw_quota_mailboxes", "over"), found)

    def test_a_directory_may_count_on_any_thread(self) -> None:
        def ask() -> None:
            for _ in range(20_000):
                self.bus.emit(events.DirectoryAsked("ldap", 0.001, answered=True))
                self.bus.emit(events.DirectoryAsked("ldap", 0.001, answered=False))

        threads = [Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = self.emit()
        self.assertEqual(found["pop3gw_directory_failures_total", "ldap"], 80_000)
        self.assertEqual(sum(found["pop3gw_directory_seconds", "ldap"][:-1]), 80_000)

    def test_what_a_thread_counts_for_the_first_time_breaks_no_snapshot(self) -> None:
        emit, names = self.bus.emit, iter("abc")

        class Compared(str):
            """A label of which a comparison has a thread count something new."""

            def __eq__(self, other: object) -> bool:
                down = events.BackEndDown(next(names), "gone")
                thread = Thread(target=emit, args=(down,))
                thread.start()
                thread.join()
                return str.__eq__(self, other)

            __hash__ = str.__hash__

        self.figures.add(Compared("pop3gw_deliveries_total"))
        found = self.emit()
        self.assertNotIn(("pop3gw_backend_up", "a"), found)
        self.assertIn(("pop3gw_backend_up", "a"), self.emit())

    def test_readings_are_made_at_each_snapshot(self) -> None:
        lengths = iter((3, 4))
        self.figures.read("queues", lambda: [(("pop3gw_pool_outstanding", "disk"), next(lengths))])
        self.assertEqual(self.emit()["pop3gw_pool_outstanding", "disk"], 3)
        self.assertEqual(self.emit()["pop3gw_pool_outstanding", "disk"], 4)
        self.figures.read("queues", tuple)
        self.assertNotIn(("pop3gw_pool_outstanding", "disk"), self.emit())

    def test_a_session_counts_its_commands_by_the_state_in_which_they_came(self) -> None:
        client = Wire(emit=self.bus.emit).connect()
        for line in (b"CAPA", b"XYZZY %s" % (b"a" * 40), b"USER Alice@example.org"):
            client.send(line)
        client.send(b"PASS " + SECRET.encode())
        self.assertEqual(self.emit()["pop3gw_sessions_logged_in",], 1)
        client.send(b"RETR 99")
        client.send(b"QUIT")
        client.hang_up()
        found = self.emit()
        family, before, after = "pop3gw_command_seconds", "authorization", "transaction"
        done = {key[1:]: sum(found[key][:-1]) for key in found if key[0] == family}
        self.assertEqual(
            done,
            {
                **{(name, before): 1 for name in ("CAPA", "other", "USER", "PASS")},
                **{(name, after): 1 for name in ("RETR", "QUIT")},
            },
        )
        refused = [key[1:] for key in found if key[0] == "pop3gw_commands_refused_total"]
        self.assertEqual(refused, [("other", before), ("RETR", after)])
        self.assertEqual(found["pop3gw_sessions_logged_in",], 0)


class LabelTests(SynchronousTestCase):
    def test_no_client_can_make_a_label(self) -> None:
        figures = Figures()
        bus = EventBus()
        bus.subscribe(figures.subscription)
        evil = 'x"} 1\n'
        ended = (CLIENT, evil, evil, True, evil, 0, 0, 0, 0, 0, 0, 1.0, evil)
        bus.emit(events.POP3SessionEnded(*ended))
        bus.emit(events.LoginFailed(CLIENT, evil, evil, WRONG))
        bus.emit(events.LoginSucceeded(CLIENT, evil, evil, evil))
        bus.emit(events.TLSEstablished(CLIENT, evil))
        bus.emit(events.RecipientRefused(CLIENT, evil, problem_of(ValueError(evil))))
        self.assertNotIn("x", {label for key, _ in figures.snapshot() for label in key[1:]})
        self.assertNotIn(evil.strip(), json.dumps(figures.snapshot()))

    def test_each_error_of_ours_has_a_word_or_is_other(self) -> None:
        self.assertEqual(reason_of(errors.BadCredentials), "wrong_credentials")
        self.assertEqual(reason_of(errors.WrongPassword), "wrong_password")
        self.assertEqual(reason_of(errors.UnknownLogin), "no_such_user")
        self.assertEqual(reason_of(errors.PeerGone), "other")
        self.assertEqual(reason_of(ZeroDivisionError), "internal_error")
        for word in END_OF.values():
            self.assertRegex(word, r"^[a-z_0-9]+$")


class LoopLagTests(SynchronousTestCase):
    def test_the_time_by_which_a_second_is_late_is_measured(self) -> None:
        clock, lags = Clock(), list[float]()
        lag = LoopLag(clock, lags.append)
        lag.start()
        clock.advance(1.0)
        clock.advance(1.25)
        clock.advance(0.75)
        clock.advance(3.5)
        clock.advance(0.5)
        lag.stop()
        self.assertEqual([round(one, 6) for one in lags], [0.0, 0.25, 0.0, 2.5, 0.0])
        self.assertEqual(clock.getDelayedCalls(), [])
