"""The settings of the services beside POP3: ``[lmtp]``, ``[policy]``, ``[http]``, ``[log]``."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from gateway.config import checks as check
from gateway.config.proxies import BehindProxy
from gateway.endpoints import shown
from gateway.model import Scope
from gateway.networks import LOOPBACK, Network


@frozen
class Lmtp(BehindProxy):
    """``[lmtp]``: the LMTP server."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    tls: Literal["none", "stls"] = "none"
    proxy_tls: Literal["off", "stated", "always"] = "off"
    allowed_networks: tuple[Network, ...] = LOOPBACK
    name: str = field(default="", **check.NAME)
    max_size: str = field(default="50 MB", **check.SOME_SIZE)
    max_recipients: int = field(default=1000, **check.within(100, 100_000))
    connections: int = field(default=100, **check.COUNT)
    over_quota: Literal["defer", "bounce"] = "defer"
    elsewhere: Literal["defer", "bounce"] = "defer"
    recipient_delimiter: str = field(default="+", **check.shaped(r".?", "one character, or none"))
    idle_timeout: float = field(default=300.0, **check.POSITIVE)
    threads: int = field(default=16, **check.within(1, 64))


@frozen
class PolicyServiceSettings(BehindProxy):
    """``[policy]``: the server for Postfix's ``check_policy_service``."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    allowed_networks: tuple[Network, ...] = LOOPBACK
    connections: int = field(default=1000, **check.COUNT)
    over_quota: Literal["defer", "bounce"] = "bounce"
    unknown: Literal["dunno", "reject"] = "dunno"


SCOPES = tuple(one.value for one in Scope)
"""What a token may be good for."""

_SECRET_TOKEN = {check.SECRET: True, **check.TOKEN["metadata"]}


def _check_scopes(value: tuple[str, ...]) -> None:
    for name in value:
        if name not in SCOPES:
            raise ValueError(f"expected some of {', '.join(SCOPES)}, found {shown(name)}")


@frozen
class HttpToken:
    """``[http.tokens.NAME]``: a token, and what it is good for."""

    scopes: tuple[str, ...] = field(**check.checked(_check_scopes))
    token: str = field(default="", repr=False, metadata=_SECRET_TOKEN)
    token_file: str = ""


@frozen
class Http(BehindProxy):
    """``[http]``: figures, health, the operator's API and page."""

    endpoint: str = field(default="", **check.NO_OR_ENDPOINT)
    tls: Literal["none", "implicit"] = "none"
    tls_minimum: Literal["1.2", "1.3"] = "1.2"
    ciphers: str = ""
    certificate: str = ""
    key: str = ""
    proxy_tls: Literal["off", "stated", "always"] = "off"
    token: str = field(default="", repr=False, metadata=_SECRET_TOKEN)
    token_file: str = ""
    tokens: dict[str, HttpToken] = field(factory=dict, **check.TOKEN_NAMES)
    page: bool = False
    operators: tuple[str, ...] = ()


@frozen
class Log:
    """``[log]``: which lines there are, and how they look."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warn", "error"] = "info"
    sessions: bool = True
    counts: float = field(default=3600.0, **check.within(0, 10**9))
