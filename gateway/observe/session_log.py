"""What the log says of one session; the client is told less."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import BadCredentials, GatewayError, LoginTooSoon, MessageGone
from gateway.pop3.session import Session

_END = (
    "session {number}: {end}; user={user} from={host} tls={tls} by={method}"
    " retr={retr}/{retr_octets} top={top}/{top_octets} dele={removed}/{messages}"
    " {seconds:.1f} s{why}"
)
_FAILED = "session {number}: {doing} of {user} from {host} failed"


class SessionLog:
    """Who the client is, as far as is known, and what is to be remembered of it."""

    log = Logger("pop3gw.pop3")

    __slots__ = ("end", "host", "method", "number", "reason", "user")

    def __init__(self, number: str, host: str) -> None:
        self.number = number
        self.host = host
        self.user = ""
        self.method = ""
        """How the client proved who it is."""
        self.end = ""
        """How the session ended; empty: the client just went."""
        self.reason = ""
        """Why it ended so, or why nobody logged in, where no other line says it."""

    def failed(self, failure: Failure, doing: str) -> None:
        """A back-end said no; a traceback only for what nobody foresaw."""
        error = failure.value
        about: dict[str, Any] = {
            "number": self.number,
            "user": self.user,
            "host": self.host,
            "doing": doing,
        }
        if not isinstance(error, GatewayError):
            self.log.failure(_FAILED, failure, **about)
            return
        if error.logged:
            return
        usual = isinstance(error, BadCredentials | LoginTooSoon | MessageGone)
        report = self.log.info if usual else self.log.warn
        report(_FAILED + ": {kind}: {error}", kind=type(error).__name__, error=error, **about)

    def refused(self, error: Exception) -> None:
        """There are too many connections."""
        self.log.warn("refused a connection from {host}: {error}", host=self.host, error=error)

    def ended(self, session: Session, seconds: float, *, encrypted: bool) -> None:
        """The session's own line."""
        counts = session.counts
        fields = {
            "number": self.number,
            "end": self.end or "dropped",
            "user": self.user or "-",
            "host": self.host,
            "tls": "yes" if encrypted else "no",
            "method": self.method or "-",
            "retr": counts.retr,
            "retr_octets": counts.retr_octets,
            "top": counts.top,
            "top_octets": counts.top_octets,
            "removed": counts.removed,
            "messages": len(session.marks.listing),
            "seconds": seconds,
            "why": f' reason="{self.reason}"' if self.reason else "",
        }
        # Formatted here: the logger's own way takes ten times as long for so many fields.
        self.log.info("{line}", line=_END.format_map(fields), **fields)
