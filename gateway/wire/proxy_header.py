"""The header of the PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt).

A proxy sends it before everything else, to say which client it connects for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from gateway.errors import ProxyHeaderMalformed

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How version 2 begins (section 2.2)."""

_WORD = b"PROXY "
"""How version 1 begins (section 2.1)."""

_LINE = 107
"""Most octets of version 1, with its CRLF (section 2.1)."""

LONGEST = 16_384
"""Most octets after the first 16 of version 2.  HAProxy sends below 1 KiB, 4 KiB with a client's
certificate."""

_KINDS: dict[str, type[IPv4Address] | type[IPv6Address]] = {
    "TCP4": IPv4Address,
    "TCP6": IPv6Address,
}
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0, 1
_CRC32C, _UNIQUE_ID, _SSL = 3, 5, 0x20
_OVER_TLS = 1
"""PP2_CLIENT_SSL (section 2.2.6)."""

_UNSPEC, _UNIX = 0, 0x31
_ADDRESSES = {_UNSPEC: 0, 0x11: 4, 0x21: 16, _UNIX: 108}
"""Family and protocol to the octets of an address: stream protocols only."""


class ProxyHeader(NamedTuple):
    """What a header says of the client."""

    length: int
    """Octets of the header."""

    host: str = ""
    """The client's IP address; empty: unknown, or a client of a UNIX socket of the proxy."""

    local: bool = False
    """No client: the proxy connects for itself, to check that the server is there."""

    tls: bool = False
    """The client connected to the proxy over TLS."""

    unique_id: str = ""
    """The proxy's id of the connection."""


def read_header(data: bytes) -> ProxyHeader | None:
    """The header at the start of ``data``; None: it is incomplete.

    Raises ``ProxyHeaderMalformed`` at the first octet that cannot belong to one.
    """
    if data.startswith(SIGNATURE):
        return _read_binary(data)
    if data.startswith(_WORD):
        return _read_line(data)
    if SIGNATURE.startswith(data) or _WORD.startswith(data):
        return None
    raise ProxyHeaderMalformed("the connection begins without a PROXY header")


# -- version 1 ---------------------------------------------------------------


def _read_line(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= _LINE:
            raise ProxyHeaderMalformed(f"version 1 without CRLF in its first {_LINE} octets")
        return None
    length = len(line) + len(end)
    protocol, *fields = line[len(_WORD) :].decode("latin-1").split(" ")
    if protocol == "UNKNOWN":
        # The rest is to be ignored.  HAProxy sends this when it checks the server.
        return ProxyHeader(length, local=True)
    kind = _KINDS.get(protocol)
    if kind is None or len(fields) != 4:
        raise ProxyHeaderMalformed("version 1 with an unknown protocol, or without four fields")
    source, target, *ports = fields
    try:
        host = _host(kind(source))
        kind(target)
    except ValueError:
        raise ProxyHeaderMalformed(
            f"version 1 with an address that is none of {protocol}"
        ) from None
    if not all(_PORT.fullmatch(port) and int(port) < 65536 for port in ports):
        raise ProxyHeaderMalformed("version 1 with a port that is none")
    return ProxyHeader(length, host)


def _host(address: IPv4Address | IPv6Address) -> str:
    """The text of an address; an IPv4 client of an IPv6 socket is one of IPv4."""
    if getattr(address, "scope_id", None):
        raise ValueError("a scope")
    return str(getattr(address, "ipv4_mapped", None) or address)


# -- version 2 ---------------------------------------------------------------


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version, command, family = data[12] >> 4, data[12] & 15, data[13]
    length = int.from_bytes(data[14:16])
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise ProxyHeaderMalformed("version 2 with an unknown version or command")
    if command == _PROXY and family not in _ADDRESSES:
        raise ProxyHeaderMalformed("version 2 for a client that is none of TCP or a UNIX socket")
    if length > LONGEST:
        raise ProxyHeaderMalformed(f"version 2 with more than {LONGEST} octets")
    end = 16 + length
    if len(data) < end:
        return None
    if command == _LOCAL:
        # The rest is to be ignored, its family too.
        return ProxyHeader(end, local=True)
    return _of_client(data[:end], family)


def _of_client(header: bytes, family: int) -> ProxyHeader:
    octets = _ADDRESSES[family]
    ports = 0 if family in (_UNSPEC, _UNIX) else 4
    start = 16 + 2 * octets + ports
    if len(header) < start:
        raise ProxyHeaderMalformed("version 2 that ends within its addresses")
    host = "" if ports == 0 else _host(_address(header[16 : 16 + octets]))
    tls, unique_id = False, ""
    # Of an unknown family, nobody can tell where addresses end.
    for kind, at, value in _tlvs(header, start) if family != _UNSPEC else ():
        if kind == _CRC32C:
            _verify(header, at, value)
        elif kind == _UNIQUE_ID:
            unique_id = _shown(value)
        elif kind == _SSL:
            if len(value) < 5:
                raise ProxyHeaderMalformed("version 2 with a TLS field that is too short")
            tls = bool(value[0] & _OVER_TLS)
    return ProxyHeader(len(header), host, tls=tls, unique_id=unique_id)


def _address(octets: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)


def _tlvs(header: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, place of the value and value of each field (section 2.2.1)."""
    while at < len(header):
        start = at + 3
        end = start + int.from_bytes(header[at + 1 : start])
        if end > len(header) or start > len(header):
            raise ProxyHeaderMalformed("version 2 that ends within a field")
        yield header[at], start, header[start:end]
        at = end


def _shown(value: bytes) -> str:
    """An id as one word of the log; at most 128 octets of it (section 2.2.5)."""
    value = value[:128]
    return value.decode() if re.fullmatch(rb"[!#-~]+", value) else value.hex()


def _verify(header: bytes, at: int, value: bytes) -> None:
    blank = header[:at] + bytes(len(value)) + header[at + len(value) :]
    if len(value) != 4 or int.from_bytes(value) != crc32c(blank):
        raise ProxyHeaderMalformed("version 2 with a wrong CRC32C")


def _step(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRCS = tuple(map(_step, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of section 2.2.3 (RFC 3385).  The standard library has only CRC32."""
    value = 0xFFFFFFFF
    for octet in data:
        value = value >> 8 ^ _CRCS[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF
