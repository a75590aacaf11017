"""What is done again and again, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()


def looping(
    call: Callable[[], object], what: str, clock: IReactorTime | None = None
) -> LoopingCall:
    """A ``LoopingCall`` that no fault ends: ``what`` is in its line, and the next call comes.

    One of Twisted's own stops for good at the first exception, and says so to nobody who waits.
    ``clock``: None if it is set later.
    """

    def failed(failure: Failure) -> None:
        log.failure("internal error: {what}", failure, what=what)

    def call_safely() -> Deferred[object]:
        return maybeDeferred(call).addErrback(failed)

    calls = LoopingCall(call_safely)
    if clock is not None:
        calls.clock = clock
    return calls
