"""Work in turns: what is done at once, what waits, and who need not."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.fair_turns import TURN, FairTurns
from harness import ALICE, SECRET, Wire


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = FairTurns(lambda: self.clock)
        self.done: list[str] = []

    def take(self, name: str, seconds: float = 0.0) -> None:
        """Work that takes so long."""

        def work() -> None:
            self.done.append(name)
            self.clock.rightNow += seconds

        self.turns.take(work)

    def test_what_takes_no_time_is_done_at_once(self) -> None:
        for _ in range(1000):
            self.take("work")
        self.assertEqual(len(self.done), 1000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_work_with_pauses_as_long_is_done_at_once(self) -> None:
        for _ in range(1000):
            self.take("work", TURN / 2)
            self.clock.rightNow += TURN / 2
        self.assertEqual(len(self.done), 1000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_all_at_once_leaves_others_their_time_and_keeps_its_order(self) -> None:
        names = [str(number) for number in range(20)]
        for name in names:
            self.take(name, TURN * 0.6)

        def others() -> None:
            self.done.append("others")
            if names[-1] not in self.done:
                self.clock.callLater(0, others)

        others()
        self.clock.advance(0)
        self.assertEqual([one for one in self.done if one != "others"], names)
        stretches = " ".join(self.done).split("others")
        self.assertEqual(max(len(stretch.split()) for stretch in stretches), 2)

    def test_what_work_brings_about_comes_after_what_was_there(self) -> None:
        self.take("first", 10 * TURN)
        self.turns.take(lambda: self.take("fourth"))
        self.take("second")
        self.take("third")
        self.clock.advance(0)
        self.assertEqual(self.done, ["first", "second", "third", "fourth"])

    def test_a_fault_in_one_piece_is_logged_and_keeps_no_other_from_its_turn(self) -> None:
        self.take("first", 10 * TURN)
        self.turns.take(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        self.take("second")
        self.clock.advance(0)
        self.assertEqual(self.done, ["first", "second"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Busy(FairTurns):
    """Whatever comes has to wait."""

    def take(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)

    def go_on(self) -> None:
        """Let all of it have its turn."""
        self._turn()


class SessionTests(SynchronousTestCase):
    def test_who_is_logged_in_goes_before_those_who_are_about_to(self) -> None:
        wire = Wire()
        early = wire.login()
        turns = wire.factory.turns = Busy(lambda: wire.clock)
        late = wire.connect()
        self.assertEqual(late.greeting, b"")
        self.assertEqual(late.send(b"USER " + ALICE.encode(), b"PASS " + SECRET.encode()), b"")
        self.assertTrue(early.send(b"NOOP").startswith(b"+OK"))
        turns.go_on()
        self.assertEqual(late.read().count(b"+OK"), 3)
        self.assertTrue(late.send(b"NOOP").startswith(b"+OK"))

    def test_who_waits_for_a_turn_is_not_read_without_end(self) -> None:
        wire = Wire()
        turns = wire.factory.turns = Busy(lambda: wire.clock)
        client = wire.connect()
        for _ in range(2):
            client.send_octets(b"CAPA\r\n" * 8_000)
        self.assertEqual(client.line.producerState, "paused")
        turns.go_on()
        self.assertEqual(client.read().count(b"\r\n.\r\n"), 16_000)
        self.assertEqual(client.line.producerState, "producing")

    def test_a_client_that_drops_before_its_turn_leaves_nothing_behind(self) -> None:
        wire = Wire()
        turns = wire.factory.turns = Busy(lambda: wire.clock)
        client = wire.connect()
        client.hang_up()
        turns.go_on()
        self.assertEqual(len(wire.factory._sessions), 0)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
