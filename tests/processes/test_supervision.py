"""The supervision of workers, on a clock that is advanced."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from channels import Ends
from gateway.errors import AskFailed
from gateway.events import (
    Event,
    QueueTaken,
    SessionsCounted,
    WorkerEnded,
    WorkerKilled,
    WorkerReady,
    WorkerStarted,
    WorkerUnusable,
)
from gateway.processes.channel import ANSWER_WITHIN, Channel
from gateway.processes.supervision import (
    GRACE,
    LONGEST_DELAY,
    READY_WITHIN,
    SHOW_STACKS,
    SHOWN_WITHIN,
    SOON,
    START_WITHIN,
    TAKEN_AFTER,
    Running,
    Supervisor,
)


class Process:
    """A worker process, or what stands for one."""

    def __init__(self, clock: Clock, pid: int, ended: Callable[[str], None]) -> None:
        self.pid = pid
        self.ends = Ends(clock)
        self.channel: Channel = self.ends.parent
        self.worker = self.ends.worker
        self.signals: list[int] = []
        self.told: list[tuple[str, object]] = []
        self._ended = ended
        self.is_alive = True
        for name in ("drain", "hurry", "queues"):
            self.worker.handle(name, lambda body, name=name: self.told.append((name, body)))

    def signal(self, number: int) -> None:
        """It gets a signal."""
        self.signals.append(number)

    def end(self, reason: str = "signal SIGSEGV") -> None:
        """It ends."""
        self.is_alive = False
        self.ends.end()
        self._ended(reason)

    @property
    def queues(self) -> list[object]:
        """Of which workers it was told to serve the queues, one time after the other."""
        return [body for name, body in self.told if name == "queues"]


class SupervisorCase(SynchronousTestCase):
    hang_timeout = 10.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.processes: list[list[Process]] = [[], [], []]
        self.ready: list[str] = []
        self.unusable: list[list[str]] = []
        self.cannot: OSError | None = None
        self.beating = True
        self.supervisor = Supervisor(
            self.clock,
            self.start,
            workers=3,
            hang_timeout=self.hang_timeout,
            emit=self.events.append,
            all_ready=self.ready.append,
            unusable=self.unusable.append,
        )

    def start(self, number: int, ended: Callable[[str], None]) -> Running:
        """Start a process."""
        if self.cannot is not None:
            raise self.cannot
        pid = 100 * (number + 1) + len(self.processes[number])
        self.processes[number].append(Process(self.clock, pid, ended))
        return self.processes[number][-1]

    def now(self, number: int) -> Process:
        """The present process of a worker."""
        return self.processes[number][-1]

    def say(self, number: int, name: str, body: object = None) -> None:
        """A worker tells its parent something."""
        self.now(number).worker.tell(name, body)
        self.turn()

    def turn(self) -> None:
        """What is due now is done."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def pass_(self, seconds: int, *silent: int) -> None:
        """Time passes, in which all workers but some beat."""
        for _ in range(seconds):
            for number in range(3):
                if number not in silent and self.processes[number] and self.now(number).is_alive:
                    self.now(number).worker.tell("beat", {})
            self.turn()
            self.clock.advance(1)
            self.turn()

    def begin(self) -> None:
        """All workers serve."""
        self.supervisor.begin()
        for number in range(3):
            self.say(number, "ready", "")
        self.events.clear()

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if type(event) is kind]


class StartTests(SupervisorCase):
    def test_all_workers_are_started_and_the_server_is_ready_when_all_are(self) -> None:
        self.supervisor.begin()
        self.assertEqual(self.of(WorkerStarted), [WorkerStarted(n, n * 100) for n in (1, 2, 3)])
        self.say(0, "ready", "")
        self.say(1, "ready", "")
        self.assertEqual(self.ready, [])
        self.say(2, "ready", "no answer")
        self.assertEqual(self.ready, ["no answer"])
        self.assertEqual(self.of(WorkerReady), [WorkerReady(n, n * 100) for n in (1, 2, 3)])

    def test_the_server_is_ready_in_time_though_a_worker_is_not(self) -> None:
        self.supervisor.begin()
        self.say(0, "ready", "")
        self.pass_(int(READY_WITHIN) - 1)
        self.assertEqual(self.ready, [])
        self.pass_(1)
        self.say(1, "ready", "")
        self.say(2, "ready", "")
        self.assertEqual(self.ready, [""])

    def test_a_worker_that_finds_that_it_cannot_serve_ends_the_start(self) -> None:
        self.supervisor.begin()
        self.say(0, "unusable", ["key.pem: Permission denied"])
        self.say(1, "unusable", ["key.pem: Permission denied"])
        self.assertEqual(self.unusable, [["key.pem: Permission denied"]])
        self.assertEqual(len(self.of(WorkerUnusable)), 2)

    def test_once_one_has_served_a_worker_that_cannot_is_only_reported(self) -> None:
        self.begin()
        self.now(1).end()
        self.turn()
        self.say(1, "unusable", ["key.pem: No such file"])
        self.assertEqual(self.unusable, [])
        self.assertEqual(self.of(WorkerUnusable), [WorkerUnusable(2, ("key.pem: No such file",))])

    def test_a_start_may_take_longer_than_a_hang(self) -> None:
        self.supervisor.begin()
        self.pass_(int(START_WITHIN) - 1, 0, 1, 2)
        self.assertEqual(self.of(WorkerKilled), [])
        self.pass_(1, 0, 1, 2)
        self.assertEqual(len(self.of(WorkerKilled)), 3)

    def test_a_process_that_cannot_be_started_is_tried_again(self) -> None:
        self.cannot = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.supervisor.begin()
        reason = "cannot be started: Resource temporarily unavailable"
        self.assertEqual(self.of(WorkerEnded)[0], WorkerEnded(1, 0, reason, 0))
        self.cannot = None
        self.pass_(1)
        self.assertEqual(len(self.of(WorkerStarted)), 3)


class EndTests(SupervisorCase):
    def test_a_worker_that_ends_is_replaced_at_once(self) -> None:
        self.begin()
        self.now(1).end("signal SIGKILL")
        self.assertEqual(self.events, [WorkerEnded(2, 200, "signal SIGKILL", 0)])
        self.turn()
        self.assertEqual(self.of(WorkerStarted), [WorkerStarted(2, 201)])

    def test_one_that_ends_again_and_again_is_replaced_more_and_more_slowly(self) -> None:
        self.begin()
        for expected in (0, 1, 2, 4, 8, 16, LONGEST_DELAY, LONGEST_DELAY):
            self.now(0).end()
            self.assertEqual(
                self.of(WorkerEnded)[-1],
                WorkerEnded(1, self.now(0).pid, "signal SIGSEGV", expected),
            )
            started = len(self.processes[0])
            if expected:
                self.pass_(int(expected) - 1)
                self.assertEqual(len(self.processes[0]), started)
                self.pass_(1)
            self.turn()
            self.assertEqual(len(self.processes[0]), started + 1)

    def test_one_that_has_lived_long_is_replaced_at_once_again(self) -> None:
        self.begin()
        for _ in range(3):
            self.now(0).end()
            self.pass_(5)
        self.pass_(int(SOON))
        self.now(0).end()
        self.assertEqual(
            self.of(WorkerEnded)[-1], WorkerEnded(1, self.now(0).pid, "signal SIGSEGV", 0)
        )

    def test_a_message_of_a_process_that_has_ended_says_nothing_of_the_next(self) -> None:
        self.begin()
        old = self.now(0)
        late = old.channel
        old.end()
        self.turn()
        late.dataReceived(b'{"tell":"ready","body":""}\n')
        self.assertEqual(self.of(WorkerReady), [])


class HangTests(SupervisorCase):
    def test_a_worker_that_does_not_beat_is_killed_and_replaced(self) -> None:
        self.begin()
        self.pass_(9, 2)
        self.assertEqual(self.now(2).signals, [])
        self.pass_(1, 2)
        self.assertEqual(self.now(2).signals, [SHOW_STACKS])
        self.clock.advance(SHOWN_WITHIN)
        self.assertEqual(self.now(2).signals, [SHOW_STACKS, signal.SIGKILL])
        self.assertEqual(
            self.of(WorkerKilled), [WorkerKilled(3, 300, "it did not respond for 10 s")]
        )
        self.pass_(5, 2)
        self.assertEqual(self.now(2).signals, [SHOW_STACKS, signal.SIGKILL])
        self.now(2).end("signal SIGKILL")
        self.turn()
        self.assertEqual(self.of(WorkerStarted), [WorkerStarted(3, 301)])

    def test_a_parent_that_was_stopped_itself_kills_nobody(self) -> None:
        self.begin()
        self.pass_(3)
        self.clock.advance(3600)
        self.pass_(3)
        self.assertEqual(self.of(WorkerKilled), [])

    def test_a_fault_in_a_look_is_logged_and_the_next_look_comes(self) -> None:
        self.begin()

        def refuse(_: int) -> None:
            raise PermissionError

        self.now(0).signal = refuse  # type: ignore[method-assign]
        self.pass_(10, 0)
        self.assertEqual(len(self.flushLoggedErrors(PermissionError)), 1)
        self.pass_(10, 1)
        self.assertEqual(self.now(1).signals, [SHOW_STACKS])

    def test_workers_that_beat_are_left_alone(self) -> None:
        self.begin()
        self.pass_(100)
        self.assertEqual(self.events, [])


class QueueTests(SupervisorCase):
    def test_the_queue_of_a_worker_that_stays_away_is_served_by_another(self) -> None:
        self.begin()
        for _ in range(4):
            self.now(0).end()
            self.pass_(2)
        self.now(0).end()
        self.pass_(TAKEN_AFTER)
        (taken,) = self.of(QueueTaken)[-1:]
        self.assertEqual(taken, QueueTaken(1, 2))
        self.assertEqual(self.now(1).queues[-1], [0, 1])
        self.pass_(10)
        self.say(0, "ready", "")
        self.assertEqual(self.now(1).queues[-1], [1])

    def test_a_short_absence_moves_nothing(self) -> None:
        self.begin()
        self.now(0).end()
        self.pass_(TAKEN_AFTER - 1)
        self.say(0, "ready", "")
        self.pass_(10)
        self.assertEqual(self.of(QueueTaken), [])
        self.assertEqual(self.now(1).queues, [])

    def test_at_the_start_of_the_server_workers_have_more_time(self) -> None:
        self.supervisor.begin()
        self.say(0, "ready", "")
        self.pass_(int(READY_WITHIN) - 1)
        self.assertEqual(self.of(QueueTaken), [])
        self.pass_(1)
        self.assertEqual(self.of(QueueTaken), [QueueTaken(2, 1), QueueTaken(3, 1)])

    def test_the_queue_of_a_worker_that_hangs_is_served_until_it_responds(self) -> None:
        self.begin()
        self.pass_(TAKEN_AFTER, 0)
        self.assertEqual(self.of(QueueTaken), [QueueTaken(1, 2)])
        self.pass_(2)
        self.assertEqual(self.now(1).queues, [[0, 1], [1]])

    def test_the_queue_of_a_worker_that_leaves_is_served_by_another_at_once(self) -> None:
        self.begin()
        self.say(2, "leaving")
        self.assertEqual(self.of(QueueTaken), [QueueTaken(3, 1)])
        self.assertEqual(self.now(0).queues, [[0, 2]])
        self.now(2).end("exit status 0")
        self.turn()
        self.say(2, "ready", "")
        self.assertEqual(self.now(0).queues, [[0, 2], [0]])

    def test_where_nobody_serves_nothing_moves(self) -> None:
        self.begin()
        for number in range(3):
            self.now(number).end()
        self.pass_(TAKEN_AFTER + 1)
        self.assertEqual(self.of(QueueTaken), [])


class AskTests(SupervisorCase):
    def test_one_that_hangs_serves_and_does_not_respond(self) -> None:
        def numbers(channels: Iterable[tuple[int, object]]) -> list[int]:
            return [number for number, _ in channels]

        self.begin()
        self.pass_(TAKEN_AFTER, 1)
        self.assertEqual(numbers(self.supervisor.responding), [0, 2])
        self.assertEqual(numbers(self.supervisor.serving), [0, 1, 2])
        self.pass_(1)
        self.assertEqual(numbers(self.supervisor.responding), [0, 1, 2])

    def test_all_that_serve_are_asked_and_failures_are_left_out(self) -> None:
        self.begin()
        self.now(0).worker.handle("sessions", lambda _: ["a"])
        self.now(1).worker.handle("sessions", lambda _: ["b"])
        asked = self.supervisor.ask_all("sessions")
        self.turn()
        self.assertEqual(self.successResultOf(asked), {0: ["a"], 1: ["b"]})

    def answer_all(self) -> None:
        for number in range(3):
            self.now(number).worker.handle("sessions in", lambda _, number=number: number)

    def test_one_that_drains_still_has_sessions_and_is_asked(self) -> None:
        self.begin()
        self.answer_all()
        self.say(1, "leaving")
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.assertEqual(self.successResultOf(asked), [0, 1, 2])

    def test_one_that_is_not_ready_accepts_clients_already_and_is_asked(self) -> None:
        self.begin()
        self.now(1).end()
        self.turn()
        self.answer_all()
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.assertEqual(self.successResultOf(asked), [0, 1, 2])

    def test_one_that_starts_and_does_not_answer_yet_may_have_sessions(self) -> None:
        self.begin()
        self.now(1).end()
        self.turn()
        self.answer_all()
        self.now(1).worker.handle("sessions in", lambda _: Deferred())
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.clock.advance(ANSWER_WITHIN)
        self.assertIn("no answer of worker 2,", str(self.failureResultOf(asked, AskFailed).value))

    def test_one_that_hangs_has_not_said_that_it_has_none(self) -> None:
        self.begin()
        self.answer_all()
        self.now(1).worker.handle("sessions in", lambda _: Deferred())
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.assertNoResult(asked)
        self.clock.advance(ANSWER_WITHIN)
        self.assertIn("no answer of worker 2,", str(self.failureResultOf(asked, AskFailed).value))

    def test_one_that_is_killed_counts_until_it_has_ended(self) -> None:
        self.begin()
        self.answer_all()
        self.pass_(int(self.hang_timeout) + 1, 1)
        killed = self.now(1)
        killed.worker.handle("sessions in", lambda _: Deferred())
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.clock.advance(ANSWER_WITHIN)
        self.failureResultOf(asked, AskFailed)
        killed.end()
        asked = self.supervisor.ask_everyone("sessions in", "bob")
        self.turn()
        self.assertEqual(self.successResultOf(asked), [0, 2])


class CountTests(SupervisorCase):
    def test_open_sessions_are_summed_and_told_when_they_change(self) -> None:
        self.begin()
        self.say(0, "beat", {"pop3": 2, "lmtp": 1})
        self.say(1, "beat", {"pop3": 3})
        self.clock.advance(1)
        self.assertEqual(self.events, [SessionsCounted({"pop3": 5, "lmtp": 1})])
        self.clock.advance(1)
        self.assertEqual(len(self.events), 1)
        self.now(0).end()
        self.clock.advance(1)
        self.assertEqual(self.of(SessionsCounted)[-1], SessionsCounted({"pop3": 3}))


class StopTests(SupervisorCase):
    def test_all_are_drained_and_the_stop_ends_with_the_last(self) -> None:
        self.begin()
        stopped = self.supervisor.stop(10)
        self.turn()
        for number in range(3):
            self.assertEqual(self.now(number).told, [("drain", None)])
            self.assertNoResult(stopped)
            self.now(number).end("exit status 0")
        self.successResultOf(stopped)
        self.assertEqual(self.of(WorkerEnded)[0], WorkerEnded(1, 100, "exit status 0", None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_late_is_killed(self) -> None:
        self.begin()
        stopped = self.supervisor.stop(10)
        self.now(0).end("exit status 0")
        self.clock.advance(10 + GRACE)
        self.assertEqual([one[0].signals for one in self.processes], [[], [9], [9]])
        self.assertEqual(len(self.of(WorkerKilled)), 2)
        for number in (1, 2):
            self.now(number).end("signal SIGKILL")
        self.successResultOf(stopped)

    def test_a_second_signal_hurries_them(self) -> None:
        self.begin()
        self.supervisor.stop(3600)
        self.supervisor.hurry()
        self.turn()
        self.assertEqual(self.now(1).told, [("drain", None), ("hurry", None)])
        self.clock.advance(GRACE)
        self.assertEqual(self.now(1).signals, [signal.SIGKILL])

    def test_a_worker_that_has_not_begun_is_killed_at_once(self) -> None:
        self.supervisor.begin()
        stopped = self.supervisor.stop(10)
        for number in range(3):
            self.assertEqual(self.now(number).signals, [signal.SIGKILL])
            self.now(number).end("signal SIGKILL")
        self.successResultOf(stopped)

    def test_a_worker_that_waits_for_its_next_start_is_not_started(self) -> None:
        self.begin()
        for _ in range(2):
            self.now(0).end()
            self.turn()
        stopped = self.supervisor.stop(10)
        for number in (1, 2):
            self.now(number).end("exit status 0")
        self.successResultOf(stopped)
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
