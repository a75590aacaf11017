"""A message on its way in: where it ends, and the dots that hid that it does not."""

from __future__ import annotations

_END = b"\r\n.\r\n"

_KEEP = ((b"\r\n.\r", 2), (b"\r\n.", 2), (b"\r\n", 2), (b"\r", 1), (b"", 0))
"""What may be the beginning of the end, the longest first, and how much of it is content anyway."""


class DotUnstuffing:
    """What follows DATA in, the content out, up to the line that ends it (RFC 5321 4.5.2).

    Only CRLF ``.`` CRLF ends a message, and only a dot after CRLF is taken
    away.  A lone LF or CR is content like any other octet, so that nothing
    that another server took for content is ever read as commands here: not
    ``\\n.\\n``, ``\\n.\\r\\n``, ``\\r.\\r\\n``, ``\\r\\n.\\n`` nor ``\\r\\n.\\r``.
    Where the input is cut never shows in what comes out.  There is no
    ``finish``: input that stops before the end is no message.
    """

    __slots__ = ("_given", "_kept", "surplus")

    def __init__(self) -> None:
        # The line end of the DATA command counts: a message may be empty.
        self._kept = b"\r\n"
        self._given = 2
        self.surplus: int | None = None
        """How many of the octets fed last come after the end; None before the end is seen."""

    def feed(self, data: bytes) -> bytes:
        """Content that is certain by now."""
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
