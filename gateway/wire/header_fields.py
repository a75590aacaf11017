"""Fields of a message's header as text for people (RFC 5322, RFC 2047, RFC 6532).

A message is untrusted: whatever its header has, the text is one line of printable
characters of limited length.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header

LONGEST = 1000
"""Most characters of a field; the rest is left out."""

_LONGEST_RAW = 16 * LONGEST

_END = re.compile(rb"(?:^|\n)\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


def header_fields(head: bytes, names: tuple[str, ...]) -> dict[str, str]:
    """The first field of each name, decoded; a name without a field is left out.

    ``head``: a header, perhaps with octets of the body after it.
    """
    wanted = {name.lower().encode("ascii"): name for name in names}
    found: dict[str, str] = {}
    for line in _FOLD.sub(b"", _END.split(head, 1)[0]).split(b"\n"):
        name, colon, value = line.partition(b":")
        known = wanted.get(name.strip(b" \t\r").lower())
        if colon and known is not None and known not in found:
            found[known] = decoded(value[:_LONGEST_RAW])
    return found


_MESSAGE_ID = re.compile(
    rb"\n[Mm][Ee][Ss][Ss][Aa][Gg][Ee]-[Ii][Dd][ \t]*:(?:[ \t]|\r?\n[ \t])*([!-~]{1,998})"
)


def message_id(head: bytes) -> str:
    """The Message-ID of a header (RFC 5322 section 3.6.4); empty: there is none.

    As ``header_fields``, for the path of a delivery: it looks for nothing else.
    """
    end = head.find(b"\r\n\r\n")
    found = _MESSAGE_ID.search(b"\n" + (head if end < 0 else head[:end]))
    return found[1].decode("ascii") if found else ""


def decoded(value: bytes) -> str:
    """The text of a field's value."""
    text = value.decode("utf-8", "replace")
    try:
        parts = [_part(*one) for one in decode_header(text)]
    except (HeaderParseError, ValueError):
        parts = [text]
    words = " ".join("".join(parts).split())
    printable = "".join(letter if letter.isprintable() else "�" for letter in words)
    return printable if len(printable) <= LONGEST else printable[: LONGEST - 1] + "…"


def _part(content: str | bytes, charset: str | None) -> str:
    if isinstance(content, str):
        return content
    if charset is None:
        # ``decode_header`` has written other characters as escapes of Python.
        return content.decode("raw-unicode-escape", "replace")
    try:
        return content.decode(charset, "replace")
    except (LookupError, ValueError):
        return content.decode("latin-1")
