"""The servers that a connection string names, and the order in which they are tried."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address
from typing import NamedTuple

from gateway.postgresql.conninfo import Words, completed


class Server(NamedTuple):
    """One server, as libpq has it in the words of the same names; empty: its default."""

    host: str
    hostaddr: str
    port: str


class Servers:
    """Those of a connection string.  The one that served last is tried first the next time.

    So a machine that is switched off costs time once, and not at each new connection.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._is_random = False
        self._served: tuple[Server, Server] | None = None
        """The same server twice: as the string names it, and with its address."""

    def in_order(self) -> list[Server]:
        """Each as the string names it, or the environment, or a service file.

        Raises ``OperationalError`` for what libpq refuses.
        """
        words = completed(self._words)
        servers = _split(words)
        self._is_random = words.get("load_balance_hosts") == "random"
        if self._is_random:
            return random.sample(servers, len(servers))
        # Another thread may change it meanwhile.
        served = self._served
        return sorted(servers, key=lambda one: served is not None and one != served[0])

    def addresses_of(self, server: Server) -> list[Server]:
        """The same server with each of its addresses.  Raises ``OSError``; asks the resolver."""
        found = [server._replace(hostaddr=one) for one in _look_up(server)]
        if self._is_random:
            return random.sample(found, len(found))
        served = self._served
        return sorted(found, key=lambda one: served is not None and one != served[1])

    def remember(self, server: Server, address: Server) -> None:
        """This one serves."""
        self._served = server, address

    def forget(self) -> None:
        """The one that served last may be the wrong one: begin as the string does."""
        self._served = None


def _split(words: Words) -> list[Server]:
    # libpq has compared how many there are.
    lists = [words.get(key, "").split(",") for key in Server._fields]
    count = max(map(len, lists))
    return [Server(*one) for one in zip(*(one * (count // len(one)) for one in lists), strict=True)]


def _look_up(server: Server) -> list[str]:
    is_local = not server.host or server.host.startswith(("/", "@"))
    if server.hostaddr or is_local:
        return [server.hostaddr]
    if _is_address(server.host):
        return [server.host]
    try:
        found = socket.getaddrinfo(server.host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError("no name of a host") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
