"""One timer for waits that follow each other."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.task import Clock

from gateway.s3.time_limit import TimeLimit


class Waiting:
    """Something with a time limit."""

    def __init__(self, clock: Clock) -> None:
        self.limit = TimeLimit(clock)
        self.expired = 0

    def expire(self) -> None:
        """The time is up."""
        self.expired += 1


def test_each_wait_has_its_time_and_all_have_one_timer() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    for _ in range(5):
        waiting.limit.begin(3.0, waiting.expire)
        clock.advance(2.0)
        assert len(clock.getDelayedCalls()) == 1
    assert not waiting.expired
    clock.advance(1.0)
    assert waiting.expired == 1
    assert not clock.getDelayedCalls()


def test_a_wait_that_is_shorter_than_the_one_before_ends_sooner() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.limit.begin(30.0, waiting.expire)
    waiting.limit.begin(1.0, waiting.expire)
    clock.advance(1.0)
    assert waiting.expired == 1


def test_it_begins_again_after_it_was_stopped_and_after_it_expired() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    for expired in (0, 1):
        waiting.limit.begin(1.0, waiting.expire)
        waiting.limit.stop()
        clock.advance(2.0)
        assert waiting.expired == expired
        waiting.limit.begin(1.0, waiting.expire)
        clock.advance(1.0)
        assert waiting.expired == expired + 1


def test_who_has_one_is_freed_without_the_garbage_collector() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.limit.begin(1.0, waiting.expire)
    waiting.limit.stop()
    known = weakref.ref(waiting)
    gc.disable()
    try:
        del waiting
        assert known() is None
    finally:
        gc.enable()
