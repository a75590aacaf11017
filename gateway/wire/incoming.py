"""The content after DATA: its end, and removal of dot-stuffing."""

from __future__ import annotations

_END = b"\r\n.\r\n"

_KEEP = ((b"\r\n.\r", 2), (b"\r\n.", 2), (b"\r\n", 2), (b"\r", 1), (b"", 0))
"""Possible beginnings of the end, longest first, and how much of each is content anyway."""


class DotUnstuffing:
    """Input after DATA to content, up to the final line (RFC 5321 section 4.5.2).

    Only CRLF ``.`` CRLF ends a message, and only a dot after CRLF is removed.  A lone LF or
    CR is content, so that content of another server is never parsed as commands here
    (SMTP smuggling): not
    ``\\n.\\n``, ``\\n.\\r\\n``, ``\\r.\\r\\n``, ``\\r\\n.\\n`` nor ``\\r\\n.\\r``.
    The result does not depend on how the input is split.  There is no ``finish``: input
    without the end is no message.
    """

    __slots__ = ("_given", "_kept", "surplus")

    def __init__(self) -> None:
        # The line end of the DATA command counts: a message may be empty.
        self._kept = b"\r\n"
        self._given = 2
        self.surplus: int | None = None
        """Octets of the last input after the end; None: the end was not reached."""

    def feed(self, data: bytes) -> bytes:
        """Add input; returns the content that is known."""
        data, given = self._kept + data, self._given
        end = data.find(_END)
        if end >= 0:
            self.surplus = len(data) - end - len(_END)
            data = data[: end + 2]
        else:
            kept, self._given = next(row for row in _KEEP if data.endswith(row[0]))
            self._kept = kept
            data = data[: len(data) - len(kept) + self._given]
        return data.replace(b"\r\n.", b"\r\n")[given:]
