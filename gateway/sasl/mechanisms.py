"""The rows of the mechanisms that need only a password checker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.interfaces import IMechanism
from gateway.kinds import MechanismKind, NoSettings, Offer
from gateway.model import Peer
from gateway.sasl.login import LoginMechanism
from gateway.sasl.plain import Plain

Maker = Callable[[Peer], IMechanism]
"""Makes the mechanism for one exchange with a client."""

MECHANISMS: Mapping[str, Maker] = {
    "PLAIN": lambda _: Plain(),
    "LOGIN": lambda _: LoginMechanism(),
}
"""The default mechanisms of ``POP3Factory``."""

PLAIN = MechanismKind[NoSettings](
    name="PLAIN", make=lambda *_: Offer(MECHANISMS["PLAIN"]), cleartext=True
)
LOGIN = MechanismKind[NoSettings](
    name="LOGIN", make=lambda *_: Offer(MECHANISMS["LOGIN"]), cleartext=True
)
