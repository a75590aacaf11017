"""Time: idle sessions, stalled readers, slow back-ends; all on a clock that is advanced."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.net.timeouts import Timeouts
from gateway.pop3.profile import PROFILES, Profile
from gateway.store.memory import MemoryStore
from harness import ALICE, MESSAGES, SECRET, Client, Wire


def wait(client: Client, seconds: float) -> bytes:
    """Let time pass; what came by then."""
    client.wire.clock.advance(seconds)
    return client.read()


class IdleTests(SynchronousTestCase):
    def wire(self, profile: Profile | None = None) -> Wire:
        """A server; Alice has the messages."""
        return Wire(profile=profile)

    def kept(self, wire: Wire) -> list[bytes]:
        """What Alice still has."""
        return list(wire.mailbox.messages.values())

    @pytest.mark.conformance("X-V0002", "X-V0003")
    def test_before_login_60_seconds_and_a_word(self) -> None:
        client = self.wire().connect()
        self.assertEqual(wait(client, 59), b"")
        self.assertRegex(wait(client, 1), rb"\A-ERR [^\r\n]+\r\n\Z")
        self.assertTrue(client.closed)

    @pytest.mark.conformance("X-V0002", "X-V0003")
    def test_after_login_1800_seconds_and_a_word_and_nothing_is_removed(self) -> None:
        wire = self.wire()
        client = wire.login()
        client.send(b"DELE 1")
        self.assertEqual(wait(client, 1799), b"")
        self.assertFalse(client.closed)
        self.assertRegex(wait(client, 1), rb"\A-ERR [^\r\n]+\r\n\Z")
        client.hang_up()
        self.assertEqual(self.kept(wire), list(MESSAGES))

    @pytest.mark.conformance("X-V0002")
    def test_any_command_starts_the_time_anew_even_one_that_is_refused(self) -> None:
        for line in (b"CAPA", b"XYZZY", b"", b"USER a", b"STAT"):
            client = self.wire().connect()
            wait(client, 59)
            client.send(line)
            self.assertEqual(wait(client, 59), b"", line)
            self.assertTrue(wait(client, 1).startswith(b"-ERR "))

    @pytest.mark.conformance("X-V0002")
    def test_after_login_any_command_starts_the_time_anew_too(self) -> None:
        for line in (b"NOOP", b"XYZZY", b"", b"RETR 9", b"STAT"):
            client = self.wire().login()
            wait(client, 1799)
            client.send(line)
            self.assertEqual(wait(client, 1799), b"", line)
            self.assertTrue(wait(client, 1).startswith(b"-ERR "))

    @pytest.mark.conformance("X-V0002")
    def test_the_time_after_login_may_be_the_shorter_one(self) -> None:
        client = self.wire(profile=Profile(preauth_idle_timeout=600, idle_timeout=5)).login()
        self.assertEqual(wait(client, 4), b"")
        self.assertTrue(wait(client, 1).startswith(b"-ERR "))

    def test_octets_that_make_no_line_do_not(self) -> None:
        client = self.wire().connect()
        for _ in range(59):
            client.send_octets(b"x")
            wait(client, 1)
        self.assertTrue(wait(client, 1).startswith(b"-ERR "))

    @pytest.mark.conformance("P-19")
    def test_an_exchange_that_is_stuck_is_idle(self) -> None:
        client = self.wire().connect()
        client.send(b"AUTH LOGIN")
        self.assertTrue(wait(client, 60).startswith(b"-ERR "))
        self.assertTrue(client.closed)

    def test_rfc_1939_wants_ten_minutes_and_silence(self) -> None:
        client = self.wire(profile=PROFILES["rfc1939"]).login()
        self.assertEqual(wait(client, 599), b"")
        self.assertFalse(client.closed)
        self.assertEqual(wait(client, 1), b"")
        self.assertTrue(client.closed)

    def test_each_timer_can_be_set(self) -> None:
        profile = Profile(preauth_idle_timeout=5, idle_timeout=7)
        client = self.wire(profile=profile).connect()
        wait(client, 4)
        client.log_in()
        wait(client, 6)
        self.assertFalse(client.closed)
        wait(client, 1)
        self.assertTrue(client.closed)


@pytest.mark.usefixtures("engines")
@pytest.mark.xdist_group("cluster")
class ClusterIdleTests(Waits, IdleTests):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        for message in MESSAGES:
            self.bench.deliver(message)

    def wire(self, profile: Profile | None = None) -> Wire:
        return Wire(profile=profile, store=self.bench.store)

    def kept(self, wire: Wire) -> list[bytes]:  # noqa: ARG002
        return self.bench.contents()


class StallTests(SynchronousTestCase):
    BIG = (b"x" * 70 + b"\r\n") * 50_000

    @pytest.mark.conformance("P-22")
    def test_a_reader_that_takes_nothing_gets_no_more_to_hold(self) -> None:
        client = Wire([self.BIG]).login()
        client.protocol.pauseProducing()
        sent = client.send(*[b"RETR 1"] * 20)
        self.assertLess(len(sent), 10**6)
        client.protocol.resumeProducing()
        self.assertEqual(client.read().count(b"\r\n.\r\n"), 20)

    @pytest.mark.conformance("P-22")
    def test_a_client_far_ahead_of_its_replies_is_not_read_from(self) -> None:
        client = Wire([self.BIG]).login()
        client.protocol.pauseProducing()
        client.send_octets(b"NOOP\r\n" * 20_000)
        self.assertEqual(client.line.producerState, "paused")
        client.protocol.resumeProducing()
        self.assertEqual(client.read().count(b"+OK"), 20_000)
        self.assertEqual(client.line.producerState, "producing")

    @pytest.mark.conformance("P-22")
    def test_a_reader_that_stalls_for_too_long_is_dropped(self) -> None:
        client = Wire([self.BIG], timeouts=Timeouts(stall=300)).login()
        client.send(b"RETR 1")
        client.protocol.pauseProducing()
        wait(client, 299)
        self.assertFalse(client.closed)
        wait(client, 1)
        self.assertTrue(client.line.aborted)

    @pytest.mark.conformance("P-19")
    def test_a_long_retr_is_no_idleness_while_it_makes_progress(self) -> None:
        profile = Profile(idle_timeout=100)
        client = Wire([self.BIG] * 4, profile=profile, timeouts=Timeouts(stall=300)).login()
        client.protocol.pauseProducing()
        client.send(b"RETR 1", b"RETR 2", b"RETR 3", b"RETR 4")
        for _ in range(5):
            wait(client, 299)
            self.assertFalse(client.closed)
            client.protocol.resumeProducing()
            client.protocol.pauseProducing()
        client.protocol.resumeProducing()
        client.read()
        self.assertEqual(wait(client, 99), b"")
        self.assertTrue(wait(client, 1).startswith(b"-ERR "))


class _Slow(MemoryStore):
    """A store whose answers come when the test says so."""

    def __init__(self, waits_in: str) -> None:
        super().__init__()
        self.mailbox = self.add(ALICE)
        self.mailbox.deliver(b"one\r\n")
        self.answer: Deferred[object] = Deferred()
        self.given_back = 0
        self._waits_in = waits_in

    def open(self, account, mind):  # type: ignore[no-untyped-def]
        """The maildrop, now or later."""

        def slow(opened):  # type: ignore[no-untyped-def]
            maildrop, _ = opened
            if self._waits_in == "open":
                return self.answer.addCallback(lambda _: (maildrop, self._give_back))
            setattr(maildrop, self._waits_in, lambda *_: self.answer)
            return maildrop, self._give_back

        return super().open(account, mind).addCallback(slow)

    def _give_back(self) -> None:
        self.given_back += 1


class WorkTests(SynchronousTestCase):
    @pytest.mark.conformance("P-21")
    def test_a_back_end_that_takes_too_long_is_answered_for_and_is_no_auth(self) -> None:
        for waits_in, commands in (
            ("open", (b"USER " + ALICE.encode(), b"PASS " + SECRET.encode())),
            ("retrieve", (b"RETR 1",)),
            ("finish", (b"DELE 1", b"QUIT")),
        ):
            store = _Slow(waits_in)
            wire = Wire(store=store, timeouts=Timeouts(work=120))
            client = wire.connect() if waits_in == "open" else wire.login()
            client.send(*commands)
            self.assertEqual(wait(client, 119), b"", waits_in)
            self.assertRegex(wait(client, 1), rb"\A-ERR \[SYS/TEMP\] [^\r\n]+\r\n\Z")

    def test_an_answer_that_comes_too_late_gives_back_what_it_brought(self) -> None:
        store = _Slow("open")
        client = Wire(store=store, timeouts=Timeouts(work=120)).connect()
        client.send(b"USER " + ALICE.encode(), b"PASS " + SECRET.encode())
        wait(client, 120)
        self.assertTrue(client.closed)
        client.hang_up()
        store.answer.callback(None)
        self.assertEqual(store.given_back, 1)

    def test_a_line_that_drops_during_login_gives_the_maildrop_back(self) -> None:
        store = _Slow("open")
        client = Wire(store=store).connect()
        client.send(b"USER " + ALICE.encode(), b"PASS " + SECRET.encode())
        client.hang_up()
        store.answer.callback(None)
        self.assertEqual(store.given_back, 1)

    def test_the_maildrop_is_given_back_before_quit_is_answered(self) -> None:
        store = _Slow("nothing")
        client = Wire(store=store).login()
        client.send(b"QUIT")
        self.assertEqual(store.given_back, 1)
        client.hang_up()
        self.assertEqual(store.given_back, 1)

    def test_a_commit_that_runs_when_the_line_drops_is_finished(self) -> None:
        store = _Slow("finish")
        client = Wire(store=store).login()
        client.send(b"DELE 1", b"QUIT")
        client.hang_up()
        self.assertEqual(store.given_back, 0)
        store.answer.callback(None)
        self.assertEqual(store.given_back, 1)
