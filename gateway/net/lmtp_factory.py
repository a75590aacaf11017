"""LMTP on a transport: takes mail in, and answers for each recipient."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory

from gateway.events import Emit
from gateway.interfaces import IDelivery
from gateway.lmtp import replies
from gateway.lmtp.profile import Profile
from gateway.lmtp.replies import Reply
from gateway.lmtp.session import Session
from gateway.mailboxes.recipients import Recipients
from gateway.net.fair_turns import FairTurns
from gateway.net.lmtp_protocol import LMTPProtocol
from gateway.net.sessions import Sessions
from gateway.net.timeouts import Timeouts
from gateway.observe.log import emit_to_log

__all__ = ["LMTPFactory"]


class LMTPFactory(ServerFactory):
    """An LMTP server before a directory and a store."""

    noisy = False

    def __init__(
        self,
        recipients: Recipients,
        store: IDelivery,
        *,
        clock: IReactorTime,
        profile: Profile,
        allows: Callable[[str], bool],
        tls: object | None = None,
        connections: int = 100,
        timeouts: Timeouts | None = None,
        turns: FairTurns | None = None,
        emit: Emit = emit_to_log,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``allows`` tells of a client's address whether it may deliver; ``now`` in Unix seconds.

        ``emit`` takes what happens.  What clients send is worked off in ``turns``, which
        others may share.
        """
        self.recipients = recipients
        self.store = store
        self.clock = clock
        self.profile = profile
        self.tls = tls
        self.timeouts = timeouts or Timeouts()
        self.turns = turns or FairTurns(lambda: clock)
        self.emit = emit
        self.now = now
        self._allows = allows
        self._connections = connections
        self._sessions: Sessions[LMTPProtocol] = Sessions(lambda: clock)
        self.opened, self.closed = self._sessions.opened, self._sessions.closed

    def buildProtocol(self, addr: object) -> LMTPProtocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return LMTPProtocol(self, addr)

    def refusal(self, host: str) -> tuple[Reply, str] | None:
        """What a client is told that is not let in, and why; or None."""
        if not self._allows(host):
            return replies.NOT_FROM_HERE, "lmtp.allowed_networks has no such address"
        if len(self._sessions) >= self._connections:
            return replies.TOO_MANY_CONNECTIONS, f"{self._connections} connections are open"
        return None

    def session(self) -> Session:
        """A new session."""
        return Session(self.profile, can_start_tls=self.tls is not None)

    def drain(self, seconds: float) -> Deferred[Any]:
        """Let messages that are coming in finish, and after ``seconds`` drop the rest."""
        return self._sessions.drain(seconds)

    def abort(self) -> None:
        """End all sessions now."""
        self._sessions.abort()
