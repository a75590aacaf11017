"""The reply to RETR or TOP, while it is sent."""

from __future__ import annotations

from gateway.model import Form
from gateway.wire.body import Canonical, DotStuffing, TopCut


class MessageReply:
    """Stored octets of one message in, reply lines out."""

    __slots__ = ("_clean", "_cut", "_steps", "_stuffing", "octets", "started")

    def __init__(self, form: Form, lines: int | None, *, convert_cr: bool) -> None:
        """``lines``: body lines of TOP; None: RETR."""
        self.octets = 0
        """Octets of the message sent so far, dot-stuffing not counted."""
        self.started = False
        """Whether ``+OK`` was sent."""
        self._clean = form is Form.CLEAN
        self._cut = None if lines is None else TopCut(lines)
        self._steps: list[Canonical | TopCut] = []
        if form is Form.STORED:
            self._steps.append(Canonical(convert_cr=convert_cr))
        if self._cut is not None:
            self._steps.append(self._cut)
        self._stuffing = DotStuffing()

    @property
    def complete(self) -> bool:
        """Whether the rest of the message is not needed."""
        return self._cut is not None and self._cut.done

    def feed(self, data: bytes) -> bytes:
        """The output of the next stored octets."""
        for step in self._steps:
            data = step.feed(data)
        self.octets += len(data)
        return data if self._clean else self._stuffing.feed(data)

    def finish(self) -> bytes:
        """The rest of the output, with the final line."""
        data = b""
        for step in self._steps:
            data = step.feed(data) + step.finish()
        self.octets += len(data)
        return self._stuffing.feed(data) + self._stuffing.finish()
