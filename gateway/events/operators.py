"""Events of operators: requests over HTTP, and what they changed."""

from __future__ import annotations

from typing import NamedTuple

from gateway.model import Connection


class RequestServed(NamedTuple):
    """A request over HTTP was answered.

    Of a GET that succeeds the log has a line only with ``log.level = "debug"``.
    """

    connection: Connection
    method: str
    path: str
    """Without the query."""

    status: int
    octets: int
    operator: str
    """Who asked: ``uid 0``, ``token NAME``, ``account NAME``; empty: nobody was let in."""


class OperationDone(NamedTuple):
    """An operator has changed something, or tried to."""

    operator: str
    operation: str
    """The name of the function, such as ``kick_sessions``."""

    target: str
    """The parameters in the path; empty: none."""

    outcome: str
    """``done``, or why not."""
