"""What a session asks its shell to do: the only seven things that touch the world.

The shell performs one at a time and answers each, ``HangUp`` excepted.
"""

from __future__ import annotations

from typing import NamedTuple


class Login(NamedTuple):
    """USER and PASS.  Answer ``logged_in`` or ``login_failed``."""

    name: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login({self.name!r})"


class Step(NamedTuple):
    """One SASL response.  Answer ``challenged``, ``logged_in`` or ``login_failed``."""

    mechanism: str
    response: bytes | None
    first: bool
    """The exchange begins: a new mechanism is needed."""

    def __repr__(self) -> str:
        return f"Step({self.mechanism!r}, first={self.first})"


class StartTLS(NamedTuple):
    """Send all pending output in clear text, then start TLS.  Answer ``secured``."""


class XClient(NamedTuple):
    """XCLIENT: a proxy names its client.  Answer ``identified`` or ``give_up``."""

    host: str
    """The client's IP address; empty: the proxy does not say."""

    session: str
    """The id of the client's session in the proxy's log; empty: unknown."""

    tls: bool
    """The proxy says that the client is connected over TLS."""


class Fetch(NamedTuple):
    """RETR or TOP of a message, counted from 0.

    Answer ``fetched``, then ``body`` while ``wants_body``, then ``body_ended``;
    or at any point ``fetch_failed``.
    """

    message: int
    lines: int | None = None
    """Lines of the body that TOP sends; 0: the header is enough; None: RETR."""


class Commit(NamedTuple):
    """QUIT.  Answer ``committed`` or ``commit_failed``."""

    removed: frozenset[int]
    retrieved: frozenset[int]


class HangUp(NamedTuple):
    """Close after all pending output is sent; with ``abort`` at once."""

    abort: bool = False


Action = Login | Step | StartTLS | XClient | Fetch | Commit | HangUp
