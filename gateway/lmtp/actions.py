"""The seven actions that an LMTP session asks of its shell.

The shell performs one at a time and answers each, ``HangUp`` excepted.

Content is open from ``begun`` until the last ``delivered``, until ``aborted``, or until
``HangUp`` or the end of the connection; then the shell releases it, in the last two
cases by itself.
"""

from __future__ import annotations

from typing import NamedTuple


class Recipient(NamedTuple):
    """RCPT.  Answer ``accepted`` or ``refused``."""

    address: str
    """``local@domain``, or ``local``; quoted only if necessary."""

    size: int
    """The SIZE parameter of MAIL, in octets (RFC 1870); 0: absent."""

    place: int
    """Its place among the accepted recipients of the transaction, from 0.

    Recipients that a shell keeps from this place on belong to an earlier transaction.
    """


class Begin(NamedTuple):
    """Prepare for content.  Answer ``begun`` or ``begin_failed``."""

    sender: str
    """The address of the sender; empty for ``<>``."""

    recipients: tuple[str, ...]
    """The accepted recipients in the order of RCPT, with duplicates."""

    utf8: bool
    """MAIL had SMTPUTF8 (RFC 6531)."""


class Write(NamedTuple):
    """The next octets of the content.  Answer ``written`` or ``write_failed``.

    At most 128 KiB, with CRLF line ends and without dot-stuffing; the whole content
    ends in CRLF, or is empty.
    """

    data: bytes

    def __repr__(self) -> str:
        return f"Write({len(self.data)} octets)"


class Finish(NamedTuple):
    """The content is complete.  Answer ``delivered`` once per recipient, in any order."""


class Abort(NamedTuple):
    """Discard the content.  Answer ``aborted``, even if that fails."""


class StartTLS(NamedTuple):
    """Send all pending output in clear text, then start TLS.  Answer ``secured``."""


class HangUp(NamedTuple):
    """Close after all pending output is sent; with ``abort`` at once."""

    abort: bool = False


Action = Recipient | Begin | Write | Finish | Abort | StartTLS | HangUp
