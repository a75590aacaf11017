"""The reply to RETR or TOP, while it is sent."""

from __future__ import annotations

from gateway.model import Form
from gateway.wire.body import Canonical, DotStuffing, TopCut

LONGEST_HEADER = 256 * 1024
"""Octets of a header that are held until it is known to be ASCII."""


class NotAscii(Exception):
    """The header has other octets."""


def header_of(text: bytes) -> tuple[bytes, bool]:
    """The header of a message that begins so, with LF, and whether it ends there."""
    header, end, _ = (b"\n" + text.replace(b"\r\n", b"\n")).partition(b"\n\n")
    return header, bool(end)


class MessageReply:
    """Stored octets of one message in, reply lines out."""

    __slots__ = ("_clean", "_cut", "_held", "_steps", "_stuffing", "octets", "started")

    def __init__(self, form: Form, lines: int | None, *, convert_cr: bool) -> None:
        """``lines``: body lines of TOP; None: RETR."""
        self.octets = 0
        """Octets of the message sent so far, dot-stuffing not counted."""
        self.started = False
        """Whether ``+OK`` was sent."""
        self._held = b""
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

    def check_header(self, data: bytes) -> bytes:
        """What to ``feed`` of the octets so far: nothing, until the header is known to be ASCII.

        Raises ``NotAscii``.
        """
        text = self._held + data
        header, is_whole = header_of(text)
        if not header.isascii():
            raise NotAscii
        # So long a header is none, and what is ASCII so far is sent.
        is_done = is_whole or len(text) > LONGEST_HEADER
        self._held = b"" if is_done else text
        return text if is_done else b""

    def feed(self, data: bytes) -> bytes:
        """The output of the next stored octets."""
        for step in self._steps:
            data = step.feed(data)
        self.octets += len(data)
        return data if self._clean else self._stuffing.feed(data)

    def finish(self) -> bytes:
        """The rest of the output, with the final line."""
        # A message may have no end of its header.
        data, self._held = self._held, b""
        for step in self._steps:
            data = step.feed(data) + step.finish()
        self.octets += len(data)
        return self._stuffing.feed(data) + self._stuffing.finish()
