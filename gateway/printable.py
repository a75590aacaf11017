"""Text that others choose, in logs, errors and on terminals."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with an escape in place of each character that cannot be printed.

    A name, a header or a reply then forges no log line, and controls no terminal.  ``keep``:
    characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
