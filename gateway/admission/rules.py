"""What the admission of one service allows, for one process and for several."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from gateway.admission.limits import ConnectionLimits
from gateway.admission.throttle import ThrottleLimits
from gateway.errors import BadCredentials, GatewayError, TooManyGuesses, WrongPassword
from gateway.pop3.profile import Profile


@frozen
class AdmissionRules:
    """The limits of a service; workers share them."""

    limits: ConnectionLimits = ConnectionLimits()
    throttle: ThrottleLimits | None = None
    """None: nobody waits after wrong passwords."""

    profile: Profile = Profile()
    """For its LOGIN-DELAY."""


def counted_limits(limits: ConnectionLimits) -> Mapping[str, int]:
    """The limits by the name of what is counted."""
    return {
        "connections": limits.connections,
        "address": limits.per_address,
        "user": limits.per_user,
    }


def refusal_to_json(error: GatewayError | None) -> list[str]:
    """A verdict of the throttle between processes; empty: try the password."""
    if isinstance(error, BadCredentials):
        return ["wrong", str(error), error.account]
    return [] if error is None else ["many", str(error), ""]


def refusal_from_json(refusal: list[str]) -> GatewayError | None:
    """The verdict that ``refusal_to_json`` made."""
    if not refusal:
        return None
    kind, text, account = refusal
    return WrongPassword(text, account=account) if kind == "wrong" else TooManyGuesses(text)
