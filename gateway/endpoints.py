"""Endpoints of listeners, in Twisted's syntax: ``tcp:110``, ``unix:/run/pop3gw/lmtp:mode=660``.

``haproxy:`` and ``ssl:`` are refused: behind the first every client would have a loopback address,
and with the second no session would know that its connection is encrypted.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address

from attrs import frozen

_NAMES = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
"""The arguments of each kind, in Twisted's order of arguments without names.

``lockfile`` has no effect: a UNIX socket always has a lock, of another kind than Twisted's.
"""

_CURES = {
    "haproxy": "use tcp: with proxy_protocol = true, or every client would count as loopback",
    "ssl": 'use tcp: with tls = "implicit", or no session would know that its line is encrypted',
}

_SHAPES = {
    "port": (r"[0-9]{1,5}", "a port as a number, such as tcp:110"),
    "backlog": (r"[1-9][0-9]{0,5}", "backlog as a number from 1, such as backlog=1024"),
    "mode": (r"[0-7]{3,4}", "mode as octal digits, such as mode=660"),
    "lockfile": (r"[01]", "lockfile=0 or lockfile=1"),
    "domain": (r"INET6?|UNIX", "domain=INET, domain=INET6 or domain=UNIX"),
    "index": (r"[0-9]{1,3}", "index as a number, such as systemd:domain=INET:index=0"),
}

MODE = "660"
"""Default mode of a UNIX socket: Twisted's 666 lets every local user in."""

LONGEST_PATH = 107
"""Longest path of a UNIX socket on Linux, in octets."""

_ANY = "0.0.0.0"


@frozen
class Endpoint:
    """An endpoint; arguments that were not given are missing in ``given``."""

    kind: str
    given: dict[str, str]

    @property
    def port(self) -> int:
        """The TCP port; 0 for any free port, and for other kinds."""
        return int(self.given.get("port", "0"))

    @property
    def path(self) -> str:
        """The path of a UNIX socket; empty for other kinds."""
        return self.given.get("address", "")

    @property
    def is_unix(self) -> bool:
        """Whether it is a UNIX socket, made here or by systemd."""
        return bool(self.path) or self.given.get("domain") == "UNIX"

    @property
    def interface(self) -> str:
        """The address that TCP is bound to."""
        return self.given.get("interface", "::" if self.kind == "tcp6" else "")

    @property
    def says_tls(self) -> bool:
        """Whether its port is that of POP3 over TLS, or one made after it, such as 1995."""
        return str(self.port).endswith("995")

    @property
    def is_for_the_network(self) -> bool:
        """Whether it is bound to one address that is no loopback address."""
        address = ip_address(_canonical(self.interface))
        return self.kind.startswith("tcp") and not (address.is_unspecified or address.is_loopback)

    @property
    def is_reachable(self) -> bool:
        """Whether other machines can connect to it."""
        on_loopback = ip_address(_canonical(self.interface)).is_loopback
        return self.kind.startswith("tcp") and not on_loopback

    def clashes_with(self, other: Endpoint) -> bool:
        """Whether a server cannot listen on both."""
        if self.path or other.path:
            return os.path.normpath(self.path) == os.path.normpath(other.path)
        if self.kind == other.kind == "systemd":
            return self.given == other.given
        if not self.port or self.port != other.port:
            return False
        both = {_canonical(self.interface), _canonical(other.interface)}
        # On Linux "::" accepts IPv4 connections too.
        same_family = len({":" in one for one in both}) == 1
        return len(both) == 1 or "::" in both or (same_family and _ANY in both)


def parse(text: str) -> Endpoint:
    """The endpoint; raises ``ValueError`` that says what was expected."""
    (_, kind), *parts = _parts(text)
    if kind not in _NAMES or not parts:
        wanted = "expected tcp:PORT, tcp6:PORT, unix:/PATH or systemd:domain=INET:index=NUMBER"
        raise ValueError(f"{_CURES[kind]}; {wanted}" if kind in _CURES else wanted)
    names, given = _NAMES[kind], dict[str, str]()
    unnamed = iter(names)
    for said, value in parts:
        name = said or next(unnamed, "")
        if name not in names or name in given:
            raise ValueError(f"expected only {', '.join(names)} after {kind}:")
        given[name] = value
    _check(kind, given)
    return Endpoint(kind, given)


def _parts(text: str) -> list[tuple[str, str]]:
    """Name, if any, and value of each; a backslash takes what follows as it is."""
    parts, name, value = list[tuple[str, str]](), "", ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            value += next(letters, "")
        elif letter == ":":
            parts.append((name, value))
            name = value = ""
        elif letter == "=" and not name:
            name, value = value, ""
        else:
            value += letter
    return [*parts, (name, value)]


def _check(kind: str, given: dict[str, str]) -> None:
    for name, (pattern, expected) in _SHAPES.items():
        if name in given and not re.fullmatch(pattern, given[name]):
            raise ValueError(f"expected {expected}")
    if kind.startswith("tcp"):
        _check_tcp(given)
    elif kind == "unix":
        _check_unix(given.get("address", ""))
    elif "domain" not in given or ("index" in given) == bool(given.get("name")):
        raise ValueError("expected systemd:domain=INET and :index= or :name=")


def _check_tcp(given: dict[str, str]) -> None:
    if int(given.get("port", "99999")) > 65535:
        raise ValueError("expected a port from 0 to 65535, such as tcp:110")
    interface = given.get("interface", "")
    try:
        if interface not in ("", "localhost"):
            ip_address(interface)
    except ValueError:
        wanted = r"interface as an address, such as interface=127.0.0.1 or interface=\:\:1"
        raise ValueError(f"expected {wanted}") from None


def _check_unix(path: str) -> None:
    if not os.path.isabs(path):
        raise ValueError("expected an absolute path, such as unix:/run/pop3gw/lmtp")
    if len(path.encode("utf-8", "surrogateescape")) > LONGEST_PATH:
        raise ValueError(f"expected a path of at most {LONGEST_PATH} octets")


def find(text: str) -> Endpoint | None:
    """The same, or None."""
    try:
        return parse(text) if text else None
    except ValueError:
        return None


def shown(value: object) -> str:
    """A value as a message shows it: not at any length."""
    try:
        text = repr(value[:80] if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        # Python writes no number of 4,301 digits.
        return f"one {type(value).__name__} that is too long"
    longer = len(text) > 80 or (isinstance(value, str) and len(value) > 80)
    return f"{text[:60]}... ({type(value).__name__})" if longer else text


def _canonical(interface: str) -> str:
    named = {"": _ANY, "localhost": "127.0.0.1"}
    return named.get(interface) or str(ip_address(interface))
