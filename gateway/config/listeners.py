"""The settings of POP3: ``[listeners]``, ``[tls]``, ``[pop3]``, ``[limits]``, ``[throttle]``."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from gateway.config import checks as check
from gateway.config.proxies import BehindProxy
from gateway.config.table import find_mechanism
from gateway.networks import LOOPBACK, Network
from gateway.pop3.texts import LANGUAGES, SETS


def _check_mechanisms(value: tuple[str, ...] | None) -> None:
    for name in value or ():
        find_mechanism(name)


_MECHANISM_NAMES = check.checked(_check_mechanisms)


@frozen
class CertificateFiles:
    """``[[listeners.NAME.certificates]]`` and ``[[tls.certificates]]``: one of several."""

    certificate: str = field(**check.PATH)
    key: str = field(**check.PATH)


@frozen
class Listener(BehindProxy):
    """``[listeners.NAME]``: one address on which the server accepts POP3 clients."""

    endpoint: str = field(**check.ENDPOINT)
    tls: Literal["none", "stls", "implicit"] = "stls"
    tls_minimum: Literal["1.0", "1.1", "1.2", "1.3"] = "1.2"
    ciphers: str = ""
    certificate: str = ""
    key: str = ""
    certificates: tuple[CertificateFiles, ...] = ()
    mechanisms: tuple[str, ...] | None = field(default=None, **_MECHANISM_NAMES)
    proxy_tls: Literal["off", "stated", "always"] = "off"
    xclient_networks: tuple[Network, ...] = ()


DEFAULT_LISTENERS = {
    "pop3": {"endpoint": "tcp:1110:interface=127.0.0.1:backlog=1024", "tls": "stls"},
    "pop3s": {"endpoint": "tcp:1995:interface=127.0.0.1:backlog=1024", "tls": "implicit"},
}
"""The listeners if neither the file nor the environment names any."""


@frozen
class Tls:
    """``[tls]``: the certificates of listeners without their own, and of LMTP; resumption."""

    certificate: str = field(default="tls/cert.pem", **check.PATH)
    key: str = field(default="tls/key.pem", **check.PATH)
    certificates: tuple[CertificateFiles, ...] = ()
    self_signed: bool = True
    names: tuple[str, ...] = ()
    expiry_warning: float = field(default=14.0, **check.within(0, 10**6))
    ticket_key_lifetime: float = field(default=43_200.0, **check.NONE_OR_LIFETIME)


@frozen
class Pop3:
    """``[pop3]``: a profile, and items to replace; None keeps the item of the profile."""

    profile: Literal["exchange2010", "exchange2007", "rfc1939"] = "exchange2010"
    greeting: str = field(default="", **check.TEXT)
    secure_networks: tuple[Network, ...] = LOOPBACK
    command_limit: int | None = None
    sasl_line_limit: int | None = field(default=None, **check.within(1024, 2**24))
    preauth_idle_timeout: float | None = field(default=None, **check.POSITIVE)
    idle_timeout: float | None = field(default=None, **check.POSITIVE)
    idle_notice: bool | None = None
    exclusive: bool | None = None
    exact_sizes: bool | None = None
    refused_in_a_row: int | None = field(default=None, **check.COUNT)
    user_pass: bool | None = None
    mechanisms: tuple[str, ...] | None = field(default=None, **_MECHANISM_NAMES)
    expire: str | None = field(default=None, **check.EXPIRE)
    login_delay: str | None = field(default=None, **check.DELAY)
    implementation: str | None = field(default=None, **check.TEXT)
    texts: str | None = field(default=None, **check.one_of(SETS))
    language: str | None = field(default=None, **check.one_of(LANGUAGES))
    utf8_headers: Literal["send", "refuse"] | None = None


@frozen
class LimitSettings:
    """``[limits]``: connections and sessions; timeouts in seconds."""

    connections: int = field(default=10_000, **check.COUNT)
    connections_per_address: int = field(default=1000, **check.COUNT)
    sessions_per_user: int = field(default=16, **check.COUNT)
    stall_timeout: float = field(default=300.0, **check.POSITIVE)
    work_timeout: float = field(default=120.0, **check.POSITIVE)
    proxy_timeout: float = field(default=5.0, **check.within(0.1, 60))
    drain_timeout: float = field(default=10.0, **check.POSITIVE)


@frozen
class ThrottleSettings:
    """``[throttle]``: delays of logins after wrong passwords, in seconds."""

    free: int = field(default=3, **check.within(0, 1000))
    network_free: int = field(default=20, **check.within(0, 100_000))
    delay: float = field(default=1.0, **check.within(0, 60))
    longest: float = field(default=15.0, **check.within(0, 60))
    refuse_after: int | None = field(default=None, **check.within(0, 1000))
    wrong_ttl: float = field(default=60.0, **check.within(0, 86_400))
    window: float = field(default=1800.0, **check.POSITIVE)
    trust: float = field(default=30 * 86_400.0, **check.within(0, 10**9))
    ipv4_prefix: int = field(default=32, **check.within(1, 32))
    ipv6_prefix: int = field(default=64, **check.within(1, 128))
    entries: int = field(default=20_000, **check.COUNT)
