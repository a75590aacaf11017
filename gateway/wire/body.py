"""A message as RETR and TOP send it: CRLF line ends, the TOP cut, dot-stuffing, the size.

Three stream transformers: call ``feed`` any number of times, and ``finish`` once.  The
result does not depend on how the input is split.
"""

from __future__ import annotations

from gateway.model import Form

__all__ = ["Canonical"]

END = b".\r\n"
"""The line that ends a multi-line response."""

CR_DOT = b"\r."
"""A lone CR before a dot: some clients take the CR for a line end."""


FEW_DOTS = 20
"""Dots that any text may have and still be looked at dot by dot."""

SPARSE = 2048
"""Octets for each dot that a longer text may have."""


def stuffed(text: bytes) -> bytes:
    """A second dot before each dot that follows a line end; the first octet stays as it is.

    Looks for dots, which ``find`` does with memchr, and at what is before each.  Most text has
    few, and base64 has none.  To look for both octets together takes four to thirty times as
    long, but is as fast for many dots.
    """
    pieces, start, at = [], 0, text.find(b".", 1)
    for _ in range(max(FEW_DOTS, len(text) // SPARSE)):
        if at < 0:
            break
        if text[at - 1] == 0x0A:
            pieces.append(text[start:at])
            start = at
        at = text.find(b".", at + 1)
    else:
        return b"\n..".join(text.split(b"\n."))
    if not pieces:
        return text
    pieces.append(text[start:])
    return b".".join(pieces)


def has_dot_lines(data: bytes) -> bool:
    """Whether a dot follows a line end somewhere in ``data``."""
    return len(stuffed(data)) > len(data)


class Canonical:
    """Stored octets in, Internet text out: every line ends in CRLF, the last one too.

    A lone LF becomes CRLF.  So does a lone CR before a dot: a client that ends lines at CR
    would take the dot for the end of the message or for a stuffed one, and the rest for
    the next reply.  Dot-stuffing does not help, since for other clients that dot begins
    no line.  Any other lone CR stays, or with ``convert_cr`` becomes CRLF too.  An empty
    message stays empty.
    """

    __slots__ = ("_convert_cr", "_cr_held", "_ended", "_started")

    def __init__(self, *, convert_cr: bool = False) -> None:
        self._convert_cr = convert_cr
        self._cr_held = False
        self._ended = True

    def feed(self, data: bytes) -> bytes:
        """Add input; returns the output that is known."""
        if self._cr_held:
            data = b"\r" + data
            self._cr_held = False
        if data.endswith(b"\r"):
            # The next octet decides whether the CR is alone.
            data = data[:-1]
            self._cr_held = True
        if not data:
            return b""
        self._ended = data.endswith(b"\n")
        if b"\r" not in data:
            return data.replace(b"\n", b"\r\n")
        # Most text with a CR has only CRLF.  This test is twice as fast as counting,
        # and four times as fast as converting both ways.
        if data.replace(b"\r", b"").replace(b"\n", b"\r\n") == data:
            return data
        data = data.replace(b"\r\n", b"\n")
        data = data.replace(*((b"\r", b"\n") if self._convert_cr else (CR_DOT, b"\n.")))
        return data.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """The rest: a held CR, and the end of the last line."""
        if self._cr_held:
            return b"\r\n" if self._convert_cr else b"\r\r\n"
        return b"" if self._ended else b"\r\n"


def canonical(stored: bytes, *, convert_cr: bool) -> tuple[bytes, Form]:
    """A whole message as ``Canonical`` gives it, and the form of its stored octets."""
    if b"\r" not in stored and stored[-1:] == b"\n":
        return stored.replace(b"\n", b"\r\n"), Form.STORED
    step = Canonical(convert_cr=convert_cr)
    text = step.feed(stored) + step.finish()
    if len(text) != len(stored):
        return text, Form.STORED
    dots = stored.startswith(b".") or has_dot_lines(stored)
    return text, Form.CANONICAL if dots else Form.CLEAN


class TopCut:
    """TOP: the header, the empty line, and the first ``lines`` lines of the body.

    Takes canonical text (RFC 1939 section 7, TOP).  ``done`` is true once the rest of the
    message is not needed.
    """

    __slots__ = ("_in_body", "_left", "_tail", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._in_body = False
        # A message that begins with an empty line has no header.
        self._tail = b"\r\n"
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that TOP sends."""
        if self.done:
            return b""
        if self._in_body:
            return data[: self._lines_end(data, 0)]
        seen = self._tail + data
        gap = seen.find(b"\r\n\r\n")
        if gap < 0:
            self._tail = seen[-3:]
            return data
        self._in_body = True
        return data[: self._lines_end(data, gap + 4 - len(self._tail))]

    def _lines_end(self, data: bytes, start: int) -> int:
        """Where the last wanted line ends in a body that continues at ``start``."""
        lines = data.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return len(data)
        end = start
        for _ in range(self._left):
            end = data.find(b"\n", end) + 1
        self.done = True
        return end

    def finish(self) -> bytes:
        """Nothing: no output is held."""
        return b""


class DotStuffing:
    """A dot before every dot that begins a line, and the final ``.`` line.

    Takes canonical text (RFC 1939 section 3).
    """

    __slots__ = ("_line_begins",)

    def __init__(self) -> None:
        self._line_begins = True

    def feed(self, data: bytes) -> bytes:
        """``data`` with dot-stuffing."""
        if not data:
            return data
        begins, self._line_begins = self._line_begins, data[-1] == 0x0A
        data = stuffed(data)
        if begins and data[0] == 0x2E:
            return b"." + data
        return data

    def finish(self) -> bytes:
        """The end of the response."""
        return END


def as_sent(text: bytes, form: Form) -> bytes:
    """A whole message in canonical text as ``DotStuffing`` sends it, with the final line."""
    if form is not Form.CLEAN:
        text = stuffed(text)
    return b".%b.\r\n" % text if text[:1] == b"." else text + END


class Measure:
    """Counts the octets of ``Canonical`` without converting."""

    __slots__ = ("_convert_cr", "_crs", "_dots", "_last", "_length", "_lfs", "_pairs")

    def __init__(self, *, convert_cr: bool = False) -> None:
        self._convert_cr = convert_cr
        self._length = self._lfs = self._crs = self._pairs = 0
        self._last = b"\n"
        self._dots = False

    def feed(self, data: bytes) -> None:
        """Count these octets."""
        if not data:
            return
        if not self._dots:
            begins = self._last == b"\n" and data[0] == 0x2E
            self._dots = begins or has_dot_lines(data)
        self._length += len(data)
        # replace goes from one to the next by memchr; count looks at each octet.
        self._lfs += len(data.replace(b"\n", b"\r\n")) - len(data)
        if b"\r" in data:
            self._pairs += data.count(b"\r\n")
            self._crs += data.count(b"\r" if self._convert_cr else CR_DOT)
        if self._last == b"\r":
            self._pairs += data[0] == 0x0A
            self._crs += data[0] == 0x2E and not self._convert_cr
        self._last = data[-1:]

    @property
    def length(self) -> int:
        """Octets that were fed."""
        return self._length

    @property
    def octets(self) -> int:
        """Octets that RETR sends for the input."""
        lone = self._lfs - self._pairs + self._crs
        if self._convert_cr:
            lone -= self._pairs
        return self._length + lone + (0 if self.whole else 2)

    @property
    def whole(self) -> bool:
        """Whether the input ends with a line end."""
        return self._last == b"\n" or (self._convert_cr and self._last == b"\r")

    @property
    def form(self) -> Form:
        """The form of the input."""
        if self.octets != self._length:
            return Form.STORED
        return Form.CANONICAL if self._dots else Form.CLEAN
