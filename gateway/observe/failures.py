"""Failed work: what the log gets."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import DirectoryDown, GatewayError
from gateway.events import Problem, problem_of


def complain(log: Logger, what: str, failure: Failure, **about: Any) -> None:
    """Log a failure: an unforeseen one with its traceback, one that is logged already not at all.

    ``what`` is a format for ``about``.
    """
    error = failure.value
    if not isinstance(error, GatewayError):
        log.failure(what, failure, **about)
    elif not error.logged:
        log.warn(what + ": {error}", error=error, **about)


def problem_in(failure: Failure, log: Logger, what: str, **about: Any) -> Problem:
    """The problem behind a failure, for an event.

    An unforeseen error is logged with its traceback; ``what`` is a format for ``about``.
    """
    error = failure.value
    assert error is not None
    if not isinstance(error, GatewayError):
        log.failure(what, failure, **about)
    return problem_of(error)


def meets_all(error: BaseException) -> bool:
    """Whether work on every other mailbox would fail likewise."""
    return isinstance(error, DirectoryDown) or getattr(error, "logged", False)
