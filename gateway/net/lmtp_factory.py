"""LMTP before a directory and a store: it takes mail in, and answers for each recipient."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.events import Emit
from gateway.interfaces import IAdmission, IDelivery
from gateway.lmtp.profile import Profile
from gateway.lmtp.session import Session
from gateway.mailboxes.recipients import Recipients
from gateway.model import Connection
from gateway.net.fair_turns import FairTurns
from gateway.net.lmtp_protocol import LMTPProtocol
from gateway.net.receivers import Receivers
from gateway.net.sessions import SessionFactory
from gateway.net.timeouts import Timeouts
from gateway.observe.log import emit_to_log

__all__ = ["LMTPFactory", "LMTPOptions"]


@frozen
class LMTPOptions:
    """How an LMTP listener behaves."""

    profile: Profile
    allows: Callable[[str], bool]
    """Whether a client at this address may deliver; empty: of a UNIX socket."""

    tls: object | None = None
    """An ``IOpenSSLServerConnectionCreator``, for STARTTLS; None: no STARTTLS."""

    timeouts: Timeouts = Timeouts()
    now: Callable[[], float] = time.time
    """Unix seconds, for Received lines."""


class LMTPFactory(SessionFactory):
    """An LMTP server for a directory and a store."""

    protocol_name = "lmtp"

    def __init__(
        self,
        recipients: Recipients,
        store: IDelivery,
        options: LMTPOptions,
        *,
        admission: IAdmission | None = None,
        emit: Emit = emit_to_log,
        clock: IReactorTime | None = None,
        turns: FairTurns | None = None,
    ) -> None:
        """``admission``: the limit on connections; None: 100.

        Sessions take ``turns``, which other factories may share.
        """
        if admission is None:
            limits = ConnectionLimits(100, 100, setting="lmtp.connections")
            admission = LocalAdmission(lambda: self.clock, limits=limits)
        super().__init__(admission, emit=emit, clock=clock, turns=turns)
        self.receivers = Receivers()
        self.configure(recipients, store, options)

    def configure(self, recipients: Recipients, store: IDelivery, options: LMTPOptions) -> None:
        """Other recipients, store and options from now on; an open session keeps its profile."""
        self.allows = options.allows
        self.tls = options.tls
        self.timeouts = options.timeouts
        self.recipients = recipients
        self.store = store
        self.now = options.now
        self._profile = options.profile

    def buildProtocol(self, addr: object) -> LMTPProtocol:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        return LMTPProtocol(self, addr)

    def session(self, connection: Connection) -> Session:
        """A new session."""
        secure = connection.secure
        can_start_tls = self.tls is not None and not secure
        return Session(self._profile, secure=secure, can_start_tls=can_start_tls)
