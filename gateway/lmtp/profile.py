"""How an LMTP service behaves, as data."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs.validators import matches_re


@frozen
class Profile:
    """One service's behaviour.  Lengths are octets, times seconds."""

    name: str = field(default="localhost", validator=matches_re("[!-~]{1,255}"))
    """How the server calls itself: in the greeting, in the LHLO reply and in ``Received:``."""

    max_size: int = 52_428_800
    """The largest message, counted with CRLF line ends and no dots stuffed; 0: no limit."""

    max_recipients: int = 1000
    """Of one message; RFC 5321 section 4.5.3.1.8 wants 100 at the least."""

    command_limit: int = 2048
    """The longest command line, CRLF included.

    RFC 5321 section 4.5.3.1.4 wants 512, with 53 more for the parameters of
    the extensions; UTF-8 addresses, and clients that do not count, take more.
    """

    idle_timeout: float = 300.0
    """Until a session is closed (RFC 5321 section 4.5.3.2.7)."""

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
