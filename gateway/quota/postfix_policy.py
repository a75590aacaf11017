"""Postfix's policy protocol (SMTPD_POLICY_README): requests, and the actions to reply with.

A request is lines ``name=value`` and an empty line; a reply is one line and an empty
line; LF ends lines.  If no action is known, the connection is closed without a reply:
Postfix asks again, and then uses its ``smtpd_policy_service_default_action``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Literal

from attrs import frozen

from gateway.errors import RequestMalformed
from gateway.model import Limits, Usage
from gateway.quota.verdict import Verdict, verdict
from gateway.wire.dialogue import Dialogue
from gateway.wire.lines import LineBuffer

LONGEST_LINE = 4096
"""Octets of a line with its LF.  Postfix limits SMTP lines, and so addresses, to 2048."""

MOST_LINES = 100
"""Lines of a request; Postfix 3.10 sends about 30."""

LARGEST = 64 * 1024
"""Octets of a request."""

DUNNO = "DUNNO"
"""No decision.  ``OK`` would skip all restrictions that follow."""

_ADDRESS = re.compile(
    # RFC 5321 section 4.1.2, with UTF-8 (RFC 6531).  Postfix takes the quotes off a local part:
    # it sends ``"a b"@example.org`` as ``a b@example.org``.  Surrogates: octets that are not UTF-8.
    r"""(?:"(?:[^"\\\x00-\x1f\ud800-\udfff]|\\[ -~])*"|[^@\x00-\x1f\x7f\ud800-\udfff]+)"""
    r"""@([^\s"(),:;<>@\[\]\\\x00-\x20\x7f\ud800-\udfff]+|\[[!-Z^-~]+\])"""
)


@frozen
class Request:
    """A request; only the attributes that are used."""

    attributes: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def number(self, name: str) -> int:
        """The number in an attribute; 0: absent, empty or no number."""
        text = self[name]
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def recipient(self) -> str | None:
        """The recipient of the request; None: no single one.

        At ``END-OF-MESSAGE`` there is one only if the message has one recipient.
        """
        if self["protocol_state"] not in ("RCPT", "END-OF-MESSAGE"):
            return None
        if self["protocol_state"] != "RCPT" and self.number("recipient_count") > 1:
            return None
        address = self["recipient"]
        return address if _ADDRESS.fullmatch(address) else None

    @property
    def names_nobody(self) -> bool:
        """Whether RCPT has an address that no mailbox can have, such as ``@domain``.

        Addresses with a second ``@`` are excluded: Postfix may take them for a route.
        """
        is_rcpt, address = self["protocol_state"] == "RCPT", self["recipient"]
        return is_rcpt and address.count("@") == 1 and not _ADDRESS.fullmatch(address)

    @property
    def size(self) -> int:
        """Octets: SIZE of MAIL FROM; at the end of the message its real size; 0: unknown."""
        return self.number("size")


class Requests(LineBuffer):
    """Parses requests from octets, however the octets are split."""

    __slots__ = ("_attributes", "_lines", "_octets", "_wrong")

    def __init__(self) -> None:
        super().__init__()
        self._attributes: dict[str, str] = {}
        self._lines = self._octets = 0
        self._wrong = ""

    def take_request(self) -> Request | None:
        """The next request; None: more octets needed.

        Raises ``RequestMalformed``, and then at every further call, because the start
        of the next request is unknown.
        """
        try:
            return self._take()
        except RequestMalformed as error:
            self._wrong = str(error)
            self.clear()
            raise

    def _take(self) -> Request | None:
        if self._wrong:
            raise RequestMalformed(self._wrong)
        while (end := self.data.find(b"\n", self._at, self._at + LONGEST_LINE)) >= 0:
            line, self._at = self.data[self._at : end], end + 1
            if not line:
                return self._end()
            self._take_attribute(line)
        if len(self) >= LONGEST_LINE:
            raise RequestMalformed(f"a line is longer than {LONGEST_LINE} octets")
        return None

    def _take_attribute(self, line: bytes) -> None:
        self._lines += 1
        self._octets += len(line) + 1
        if self._lines > MOST_LINES or self._octets > LARGEST:
            raise RequestMalformed(f"more than {MOST_LINES} attributes or {LARGEST} octets")
        name, equals, value = line.decode("utf-8", "surrogateescape").partition("=")
        if not (name and equals) or b"\0" in line:
            raise RequestMalformed(f"expected name=value, found {line[:80]!r}")
        self._attributes[name] = value

    def _end(self) -> Request:
        kind = self._attributes.get("request", "")
        if kind != "smtpd_access_policy":
            raise RequestMalformed(f"expected request=smtpd_access_policy, found {kind[:80]!r}")
        request = Request(self._attributes)
        self._attributes = {}
        self._lines = self._octets = 0
        return request


# -- answers ------------------------------------------------------------------


@frozen
class Room:
    """The mailbox of the recipient, and whether it has room."""

    usage: Usage
    limits: Limits


class Unsaid(Enum):
    """Why there is no verdict."""

    UNKNOWN = "unknown"
    """There is no such address."""

    BARRED = "barred"
    """The account gets no mail: an administrator disabled it."""

    NOT_ASKED = "not asked"
    """Another server has the mailbox, or the request has no single recipient."""

    TROUBLE = "trouble"
    """The directory or the store did not answer."""


@frozen
class Answers:
    """Settings of the answers."""

    over: Literal[452, 552] = 552
    """To mail for a full mailbox: 452 has the sender try again, 552 give up."""

    unknown: Literal["dunno", "reject"] = "dunno"
    """For an unknown recipient, or one that gets no mail."""


OVER = {452: "452 4.2.2 Mailbox is full, try again later", 552: "552 5.2.2 Mailbox is full"}
LARGER = "552 5.2.3 Message is larger than the mailbox may be"
REJECTED = {
    Unsaid.UNKNOWN: "550 5.1.1 No such mailbox",
    Unsaid.BARRED: "550 5.2.1 The mailbox takes no mail",
}


def decide(request: Request, found: Room | Unsaid, answers: Answers) -> str | None:
    """The action to reply with (access(5)); None: no reply, close the connection.

    ``found`` belongs to ``request.recipient``.  A request without a recipient gets
    ``DUNNO``, or is rejected if no mailbox can have its address.
    """
    if request.recipient is None:
        found = Unsaid.UNKNOWN if request.names_nobody else Unsaid.NOT_ASKED
    if isinstance(found, Room):
        said = verdict(found.usage, request.size, found.limits)
        over = OVER[answers.over]
        return {Verdict.FINE: DUNNO, Verdict.OVER: over, Verdict.LARGER_THAN_QUOTA: LARGER}[said]
    if found is Unsaid.TROUBLE:
        return None
    return REJECTED.get(found, DUNNO) if answers.unknown == "reject" else DUNNO


def reply(action: str) -> bytes:
    """The reply with an action, which is one line of ASCII."""
    return f"action={action}\n\n".encode("ascii")


# -- the session ---------------------------------------------------------------


@frozen
class Ask:
    """Look up the recipient's mailbox; then ``Session.answered``."""

    request: Request


@frozen
class HangUp:
    """Close the connection; with ``abort`` at once."""

    abort: bool = False
    malformed: str = ""
    """Why the client's request cannot be read."""


class Session(Dialogue[Ask | HangUp]):
    """The server's side of one connection: one request is looked up at a time."""

    _input: Requests

    def __init__(self, answers: Answers) -> None:
        super().__init__(Requests())
        self.answers = answers
        self._request = Request({})
        self._stopping = False

    def _take_next(self) -> bool:
        try:
            request = self._input.take_request()
        except RequestMalformed as error:
            self._hang_up(HangUp(abort=True, malformed=str(error)))
            return True
        if request is None:
            return False
        self._request = request
        self._action = Ask(request)
        return True

    def answered(self, found: Room | Unsaid) -> str | None:
        """Reply to the last ``Ask``; returns the action that Postfix got, None: no reply."""
        if self.closed:
            return DUNNO
        self._owed = False
        action = decide(self._request, found, self.answers)
        if action is not None:
            self.output.put(reply(action))
        if action is None or self._stopping:
            # Without a reply Postfix asks again, and then does what it is set to.
            self._hang_up(HangUp())
        return action

    def secured(self) -> None:
        """Never called: the policy protocol has no TLS."""

    def idle(self) -> None:
        """Close: the client has been silent for too long."""
        self._hang_up(HangUp(abort=True))

    def dismiss(self) -> None:
        """Close, after the reply that is owed: the server is stopping."""
        self._stopping = True
        if not self._owed:
            self._hang_up(HangUp())

    def give_up(self, error: BaseException) -> None:  # noqa: ARG002
        """Close: the look-up takes too long."""
        self._hang_up(HangUp(abort=True))
