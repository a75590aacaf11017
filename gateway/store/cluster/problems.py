"""What a verification finds."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from attrs import define, field

COUNTERS = "wrong counters"
"""The quota of a mailbox is off.  Mended by counting its messages."""

MISSING = "missing body"
"""A message cannot be read: S3 has no such body.  Mended by removing the message."""

DAMAGED = "damaged body"
"""A body has another length than its message.  Nothing mends that."""

UNUSED = "unused body"
"""No message has the body.  Mended by removing it, once it is a day old."""

UPLOAD = "unfinished upload"
"""Parts of a body that a gateway did not finish.  Mended by removing them."""


class Problem(NamedTuple):
    """Something that does not fit, and what was done about it."""

    kind: str
    mailbox: str = ""
    uid: str = ""
    """The unique-id of the message."""

    body: str = ""
    """The key of the body, in hex."""

    made: float | None = None
    """When the body was begun, in Unix seconds: its key has it."""

    message_id: str = ""
    """The Message-ID of the message that is lost, from its header."""

    mended: bool = False
    note: str = ""
    """More about it: what was expected, or why it stays."""


class Span(NamedTuple):
    """The times of the bodies of some problems, in Unix seconds."""

    first: float
    last: float


@define
class Summary:
    """What there was, and what of it does not fit."""

    mailboxes: int = 0
    messages: int = 0
    bodies: int = 0
    """Objects in the bucket that are bodies."""

    young: int = 0
    """Bodies without a message that a delivery under way may be about to have."""

    settled: float = 0.0
    """When no delivery can have any of these any more, in Unix seconds."""

    found: Counter[str] = field(factory=Counter)
    """Problems by kind."""

    mended: int = 0
    spans: dict[str, Span] = field(factory=dict)
    """Of each kind of problem with a body."""

    refused: list[str] = field(factory=list)
    """Why problems were not mended though they should have been, a line each."""

    @property
    def problems(self) -> int:
        """How many there were, mended or not."""
        return self.found.total()

    def count(self, problem: Problem) -> None:
        """Count a problem."""
        self.found[problem.kind] += 1
        self.mended += problem.mended
        if problem.made is not None:
            first, last = self.spans.get(problem.kind) or (problem.made, problem.made)
            self.spans[problem.kind] = Span(min(first, problem.made), max(last, problem.made))
