"""The behaviour of an LMTP service, as data."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs.validators import matches_re


@frozen
class Profile:
    """The behaviour of a service.  Lengths in octets, times in seconds."""

    name: str = field(default="localhost", validator=matches_re("[!-~]{1,255}"))
    """The server's host name, in the greeting, the LHLO reply and ``Received:``."""

    max_size: int = 52_428_800
    """The largest message, with CRLF line ends and without dot-stuffing; 0: no limit."""

    max_recipients: int = 1000
    """Most recipients per message; RFC 5321 section 4.5.3.1.8 requires 100."""

    command_limit: int = 2048
    """The longest command line, CRLF included.

    RFC 5321 section 4.5.3.1.4 requires 512, and 53 more for extension parameters; UTF-8
    addresses, and clients that ignore the limit, need more.
    """

    idle_timeout: float = 300.0
    """Seconds until an idle session is closed (RFC 5321 section 4.5.3.2.7)."""

    refused_in_a_row: int = 10
    """Close a session after this many unknown commands in a row."""

    over_quota: Literal["defer", "bounce"] = "defer"
    """Mail for a full mailbox: try again later (452 4.2.2), or never (552 5.2.2)."""

    elsewhere: Literal["defer", "bounce"] = "defer"
    """Mail for a mailbox on another server: try again later (451 4.3.5), or never (550 5.1.6)."""

    def too_large(self, octets: int) -> bool:
        """Whether a message of this size in octets is over the limit."""
        return 0 < self.max_size < octets

    def lhlo_reply(self, *, tls: bool) -> bytes:
        """Replies to LHLO; ``tls``: STARTTLS is available now."""
        lines = [
            self.name,
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            *(["STARTTLS"] if tls else []),
        ]
        text = "".join(f"250-{line}\r\n" for line in lines) + f"250 SIZE {self.max_size}\r\n"
        return text.encode("ascii")
