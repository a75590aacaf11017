"""``python -m bench.flame``: functions and their times out of sampled stacks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.flame import Share, busy, lines, shares
from bench.rows import Sizes, rows

STACKS = [
    "run (reactor.py:1);accept (tcp.py:2) 3",
    "run (reactor.py:1);read (tcp.py:9);read (tcp.py:9);send (writer.py:4) 6",
    "run (reactor.py:1) 1",
]
IDLE = [
    "Thread.run (threading.py:9);ThreadPool._work (gateway/jobs/thread_pool.py:186) 50",
    "run (reactor.py:1);EPollReactor.doPoll (twisted/internet/epollreactor.py:215) 9",
]
(LOGIN,) = [row for row in rows(Sizes()) if row.name == "login"]


class FlameTests(SynchronousTestCase):
    def test_each_function_has_its_own_time_and_that_of_what_it_calls(self) -> None:
        self.assertEqual(
            shares(STACKS),
            [
                Share("send (writer.py:4)", 6, 6),
                Share("accept (tcp.py:2)", 3, 3),
                Share("run (reactor.py:1)", 1, 10),
            ],
        )

    def test_a_function_that_calls_itself_is_counted_once(self) -> None:
        again = shares(["read (tcp.py:9);read (tcp.py:9) 4"])
        self.assertEqual(again, [Share("read (tcp.py:9)", 4, 4)])

    def test_threads_that_wait_are_left_out(self) -> None:
        self.assertEqual(busy([*STACKS, *IDLE]), STACKS)

    def test_all_samples_are_the_time_that_was_measured_without_them(self) -> None:
        self.assertEqual(
            lines(LOGIN, shares(STACKS), 2, 200.0),
            [
                "login: 200 us of CPU per session, 10 samples",
                "",
                "  own us with callees  function",
                "   120.0        120.0  send (writer.py:4)",
                "    60.0         60.0  accept (tcp.py:2)",
            ],
        )
