"""One mail transaction: its envelope, and its content on the way to the store."""

from __future__ import annotations

from gateway.lmtp.envelope import Sender
from gateway.lmtp.replies import Reply
from gateway.lmtp.trace import ReturnPathCut
from gateway.wire.body import Canonical


class Transaction:
    """From MAIL to the last reply about the content.

    **A lone LF becomes CRLF, a lone CR only before a dot.**  A store that keeps LF line
    ends cannot tell a lone LF from another, and RETR makes CRLF of both
    (``gateway.wire.body.Canonical``); to do so here already means that what is
    counted, stored and sent are the same octets.  Nothing is lost but the
    difference.  The end of a message, and the dots that are not content, are
    found before line ends are changed, so changing them makes neither.
    """

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.recipients: list[str] = []
        self.chunked = False
        """Whether a BDAT has come: then nothing but BDAT may follow (RFC 3030)."""
        self.open = False
        """Whether the shell has content of it that must be finished or aborted."""
        self.spoiled: Reply | None = None
        """Why there will be no message; what still comes of it is dropped."""
        self.octets = 0
        """Of the content so far, as RETR will count them."""
        self._canonical = Canonical()
        self._cut = ReturnPathCut()

    def take(self, data: bytes, *, last: bool) -> bytes:
        """The form for the store of the next octets of content, dots un-stuffed."""
        data = self._canonical.feed(data)
        if last:
            data += self._canonical.finish()
        self.octets += len(data)
        data = self._cut.feed(data)
        if last:
            data += self._cut.finish()
        return data
