"""The messages of the corpus, and what they are on the wire."""

from __future__ import annotations

from servers import corpus

MESSAGES = [content for _, content in corpus()]


def canonical(message: bytes) -> bytes:
    """Internet text: every line ends in CRLF, the last one too; the corpus has no lone CR."""
    text = message.replace(b"\r\n", b"\n")
    return text.replace(b"\n", b"\r\n") + (b"" if text.endswith(b"\n") else b"\r\n")
