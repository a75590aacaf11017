"""Authentication commands: USER and PASS (RFC 1939 section 7), AUTH (RFC 5034).

A command becomes a ``Login`` or a ``Step``, or is ``Refused``; the shell verifies the
credentials.
"""

from __future__ import annotations

from gateway.pop3.actions import Login, Step
from gateway.pop3.capabilities import Line, mechanisms
from gateway.pop3.profile import Profile
from gateway.pop3.refusals import Refused
from gateway.saslprep import login_name
from gateway.wire import base64
from gateway.wire.lines import LineTooLong


class Authorization:
    """State of a client's authentication."""

    __slots__ = ("_profile", "claimed", "mechanism", "name", "refusal")

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.name: bytes | None = None
        """The name of USER; PASS must follow."""
        self.claimed = b""
        """The last name of USER, for the log."""
        self.mechanism: str | None = None
        """The SASL mechanism of a running exchange: the next line is a response."""
        self.refusal = ""
        """Why a login was rejected without checking credentials: the key of the text."""

    def over(self) -> None:
        """A login attempt was answered, successful or not."""
        self.mechanism, self.refusal = None, ""

    def _refused(self, key: str) -> Refused:
        """The error to raise.  A plain-text line stays the reason for the log."""
        if self.refusal != "cleartext":
            self.refusal = key
        return Refused(key)

    def user(self, name: bytes, line: Line) -> None:
        """USER: the reply never depends on whether the user exists (V0008 to V0010)."""
        self.claimed = name
        if not self._profile.user_pass:
            raise self._refused("unknown")
        if not line.cleartext_allowed:
            raise self._refused("cleartext")
        try:
            login_name(name)
        except ValueError:
            raise self._refused("bad_name") from None
        self.name = name

    @staticmethod
    def password(name: bytes | None, password: bytes) -> Login:
        """PASS; ``name``: the name of the preceding USER."""
        if name is None:
            raise Refused("no_user")
        if not password:
            raise Refused("arguments")
        return Login(name, password)

    def begin(self, mechanism: bytes, initial: bytes | None, line: Line) -> Step:
        """AUTH, optionally with an initial response; ``=`` is an empty one."""
        name = mechanism.decode("ascii").upper()
        if name not in mechanisms(self._profile, line):
            known = name in self._profile.mechanisms
            raise self._refused("cleartext" if known else "mechanism")
        response = None
        if initial is not None:
            response = b"" if initial == b"=" else self._octets(initial)
        self.mechanism = name
        return Step(name, response, True)

    def respond(self, line: bytes | LineTooLong) -> Step:
        """The response to a challenge; anything malformed ends the exchange."""
        mechanism, self.mechanism = self.mechanism, None
        assert mechanism is not None
        if isinstance(line, LineTooLong):
            raise self._refused("too_long")
        if line == b"*":
            raise self._refused("cancelled")
        response = self._octets(line)
        self.mechanism = mechanism
        return Step(mechanism, response, False)

    def _octets(self, text: bytes) -> bytes:
        try:
            return base64.decode(text)
        except ValueError:
            raise self._refused("base64") from None
