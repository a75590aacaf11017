"""What the log says of work that failed."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import DirectoryDown, GatewayError


def complain(log: Logger, what: str, failure: Failure, **about: Any) -> None:
    """Log it: with a traceback where nobody foresaw it, not at all where that is done.

    ``what`` is a format for ``about``.
    """
    error = failure.value
    if not isinstance(error, GatewayError):
        log.failure(what, failure, **about)
    elif not error.logged:
        log.warn(what + ": {error}", error=error, **about)


def meets_all(error: BaseException) -> bool:
    """Whether what failed for one mailbox would fail for each other one, too."""
    return isinstance(error, DirectoryDown) or getattr(error, "logged", False)
