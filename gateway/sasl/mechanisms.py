"""The mechanisms that exist, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.interfaces import IMechanism
from gateway.model import Peer
from gateway.sasl.login import LoginMechanism
from gateway.sasl.plain import Plain

Maker = Callable[[Peer], IMechanism]
"""Makes the mechanism for one exchange with a client."""

MECHANISMS: Mapping[str, Maker] = {"PLAIN": lambda _: Plain(), "LOGIN": lambda _: LoginMechanism()}
"""Those that need nothing but a password checker."""
