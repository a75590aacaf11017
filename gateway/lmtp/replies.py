"""The replies of LMTP with their codes: RFC 5321 section 4.2, RFC 2034, RFC 3463.

Replies are constants.  They contain no user input, no usage of a mailbox and no
exception text, because bounces pass them on.
"""

from __future__ import annotations

from typing import NamedTuple


class Reply(NamedTuple):
    """A reply of one line."""

    code: int
    status: str
    """The enhanced status code; empty in a 3xx (RFC 2034 section 3)."""

    text: str

    @property
    def line(self) -> bytes:
        """The line as it is sent."""
        return " ".join(filter(None, (str(self.code), self.status, self.text))).encode() + b"\r\n"


class Refused(Exception):
    """Raised for a command that gets this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


OK = Reply(250, "2.0.0", "Done.")
SENDER = Reply(250, "2.1.0", "Sender noted.")
RECIPIENT = Reply(250, "2.1.5", "Recipient accepted.")
DELIVERED = Reply(250, "2.0.0", "Delivered.")
GO_AHEAD = Reply(354, "", "Send the message; a line with one dot ends it.")
HELP = Reply(214, "2.0.0", "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT HELP")
NOT_VERIFIED = Reply(252, "2.0.0", "RCPT will tell.")
TLS = Reply(220, "2.0.0", "Begin TLS now.")
BYE = Reply(221, "2.0.0", "Goodbye.")

UNKNOWN = Reply(500, "5.5.1", "Unknown command.")
NOT_SMTP = Reply(500, "5.5.1", "This is LMTP: send LHLO.")
TOO_LONG = Reply(500, "5.5.2", "The line is too long.")
NO_TEXT = Reply(500, "5.5.2", "A command is one line of printable UTF-8.")
ARGUMENTS = Reply(501, "5.5.4", "Wrong arguments.")
PARAMETER = Reply(555, "5.5.4", "No such parameter here.")
NO_TLS = Reply(502, "5.5.1", "TLS is not available here.")
TLS_ACTIVE = Reply(503, "5.5.1", "TLS is already active.")
NO_LHLO = Reply(503, "5.5.1", "Send LHLO first.")
NO_MAIL = Reply(503, "5.5.1", "Send MAIL first.")
NO_RECIPIENT = Reply(503, "5.5.1", "No recipient was accepted.")
IN_TRANSACTION = Reply(503, "5.5.1", "Not within a transaction; send RSET.")
MIXED = Reply(503, "5.5.1", "DATA and BDAT cannot be mixed; send RSET.")
OVER = Reply(503, "5.5.1", "The message has ended; send RSET or MAIL.")
BAD_SENDER = Reply(553, "5.1.7", "That is no sender's address.")
BAD_RECIPIENT = Reply(553, "5.1.3", "That is no recipient's address.")
NOT_ASCII = Reply(553, "5.6.7", "An address outside ASCII needs SMTPUTF8.")
TOO_LARGE = Reply(552, "5.3.4", "The message is too large for this server.")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send the others later.")

REFUSED_TOO_OFTEN = Reply(421, "4.7.0", "Too many refused commands; closing.")
BAD_CHUNK = Reply(421, "4.5.4", "Where that chunk ends cannot be told; closing.")
NOT_FROM_HERE = Reply(554, "5.7.1", "Not from here.")
TOO_MANY_CONNECTIONS = Reply(421, "4.3.2", "Too many connections; try again later.")
IDLE = Reply(421, "4.4.2", "Idle for too long; closing.")
CLOSING = Reply(421, "4.3.2", "The server is closing this session.")
GIVEN_UP = Reply(421, "4.3.0", "Temporary trouble; closing.")

UNKNOWN_RECIPIENT = Reply(550, "5.1.1", "No such recipient.")
BARRED = Reply(550, "5.2.1", "The mailbox takes no mail.")
FULL_FOR_NOW = Reply(452, "4.2.2", "The mailbox is full; try again later.")
FULL = Reply(552, "5.2.2", "The mailbox is full.")
LARGER_THAN_QUOTA = Reply(552, "5.2.3", "The message is larger than the mailbox may be.")
MOVED = Reply(550, "5.1.6", "The mailbox is on another server.")
NOT_YET_HERE = Reply(451, "4.3.5", "The mailbox is on another server; try again later.")
POLICY = Reply(550, "5.7.1", "Refused by policy.")
NO_ROOM = Reply(452, "4.3.1", "No room to store mail; try again later.")
MISCONFIGURED = Reply(451, "4.3.5", "The mailbox cannot be used just now; try again later.")
TROUBLE = Reply(451, "4.3.0", "Temporary trouble; try again later.")
