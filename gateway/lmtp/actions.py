"""What a session asks its shell to do: the only seven things that touch the world.

The shell performs one at a time and answers each, ``HangUp`` excepted.

Content is open from ``begun`` until the last ``delivered``, until ``aborted``,
or until ``HangUp`` or the loss of the line; then the shell gives back what it
holds of it, in the last two cases unasked.
"""

from __future__ import annotations

from typing import NamedTuple


class Recipient(NamedTuple):
    """RCPT.  Answer ``accepted`` or ``refused``."""

    address: str
    """``local@domain``, or ``local`` alone; quotes only where they are needed."""

    size: int
    """What the client says of the message's size, in octets; 0 where it says nothing."""

    place: int
    """Which of the transaction's recipients it will be, from 0, if it is accepted.

    Whatever a shell keeps of recipients at and after this place is of an
    earlier transaction.
    """


class Begin(NamedTuple):
    """Content is about to come.  Answer ``begun`` or ``begin_failed``."""

    sender: str
    """An address like a recipient's; empty for ``<>``."""

    recipients: tuple[str, ...]
    """The accepted ones in the order of RCPT, doubles included."""

    utf8: bool
    """SMTPUTF8 was asked for (RFC 6531)."""


class Write(NamedTuple):
    """The next octets of the content.  Answer ``written`` or ``write_failed``.

    At most 128 KiB.  Every LF has its CR, no dots are stuffed, and what all
    pieces together hold ends in CRLF, or is empty.
    """

    data: bytes

    def __repr__(self) -> str:
        return f"Write({len(self.data)} octets)"


class Finish(NamedTuple):
    """That was all of it.  Answer ``delivered`` once for each recipient, in any order."""


class Abort(NamedTuple):
    """What was written is worthless.  Answer ``aborted``, also when that went wrong."""


class StartTLS(NamedTuple):
    """Everything sent so far goes out in clear, then TLS.  Answer ``secured``."""


class HangUp(NamedTuple):
    """Close once what was said has been sent, or with ``abort`` at once."""

    abort: bool = False


Action = Recipient | Begin | Write | Finish | Abort | StartTLS | HangUp
