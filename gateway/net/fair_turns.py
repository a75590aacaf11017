"""Fair turns: no session's work holds up the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

TURN = 0.002
"""Seconds that one turn lasts."""

FIRST_TURN = TURN / 4
"""Seconds after which work is long, and goes on behind all that is not.

Ten clients that send without end begin anew for each piece that is read from them.
"""

Work = Callable[[], None]


class _Queue:
    """Work of one kind, and how much of it may be done at once."""

    __slots__ = ("paid", "waiting")

    def __init__(self) -> None:
        self.paid = 0.0
        """When all that was done at once will have taken no more than half of the time."""
        self.waiting: deque[Work] = deque()


class FairTurns:
    """Does at once what little there is, and the rest in turns.

    Two hundred clients that log in at one moment make as many events, each of
    them short; and a client that sends commands without waiting for replies
    makes one that does not end.  So work waits in two queues: of logins and of
    answers by threads, and of what took longer than its first turn.  Between
    two looks at the sockets both have a turn together, and each queue at least
    one piece of its work done.  Sessions that are logged in take their first
    turns without asking.
    """

    log = Logger()

    def __init__(self, clock: Callable[[], IReactorTime]) -> None:
        """``clock`` gives the clock when it is first needed."""
        self._get_clock = clock
        self._logins, self._long = _Queue(), _Queue()
        self._waiting = self._logins.waiting
        self._due = False

    @cached_property
    def _clock(self) -> IReactorTime:
        return self._get_clock()

    def take(self, work: Work, queue: _Queue | None = None) -> None:
        """Have ``work`` done now, or when those that came before it are done."""
        queue = queue or self._logins
        seconds = self._clock.seconds
        begun = seconds()
        if queue.waiting or queue.paid - begun >= TURN:
            queue.waiting.append(work)
            self._look_again()
            return
        work()
        paid = queue.paid
        queue.paid = (paid if paid > begun else begun) + 2 * (seconds() - begun)

    def resume(self, work: Work) -> None:
        """Have ``work`` go on that had to wait for its client: now, or as if it had had a turn."""
        self.take(work, self._long)

    def later(self, work: Work) -> None:
        """Have ``work`` go on that has had a turn, when others like it have had theirs."""
        self._long.waiting.append(work)
        self._look_again()

    def _look_again(self) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._due = False
        seconds = self._clock.seconds
        end = seconds() + TURN
        queues = self._logins.waiting, self._long.waiting
        for waiting in queues:
            # What comes back while its queue is worked off has to wait for the next turn.
            for _ in range(len(waiting)):
                self._do(waiting)
                if seconds() >= end:
                    break
        if any(queues):
            self._look_again()

    def _do(self, waiting: deque[Work]) -> None:
        try:
            waiting[0]()
        except Exception:
            self.log.failure("internal error")
        # Not before it is done: what it brings about comes behind the others.
        waiting.popleft()
