"""One mail transaction: its envelope, and its content on the way to the store."""

from __future__ import annotations

from gateway.lmtp.envelope import Sender
from gateway.lmtp.replies import Reply
from gateway.lmtp.trace import ReturnPathCut
from gateway.wire.body import Canonical


class Transaction:
    """From MAIL to the last reply about the content.

    **A lone LF becomes CRLF, a lone CR only before a dot.**  A store that keeps LF line
    ends cannot distinguish lone LFs, and RETR sends CRLF for both
    (``gateway.wire.body.Canonical``).  With the change made here, the octets counted,
    stored and sent are the same.  The end of the message and stuffed dots are found
    before line ends are changed, so the change creates neither.
    """

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.recipients: list[str] = []
        self.chunked = False
        """Whether BDAT was used: then only BDAT may follow (RFC 3030)."""
        self.open = False
        """Whether the shell has open content, which must be finished or aborted."""
        self.spoiled: Reply | None = None
        """Why the message is rejected; its further content is dropped."""
        self.octets = 0
        """Octets of the content so far, as RETR counts them."""
        self._canonical = Canonical()
        self._cut = ReturnPathCut()

    def take(self, data: bytes, *, last: bool) -> bytes:
        """The next octets of content, without dot-stuffing, in the form for the store."""
        data = self._canonical.feed(data)
        if last:
            data += self._canonical.finish()
        self.octets += len(data)
        data = self._cut.feed(data)
        if last:
            data += self._cut.finish()
        return data
