"""Headers of the PROXY protocol, as a proxy writes them."""

from __future__ import annotations

from ipaddress import ip_address

from gateway.wire.proxy_header import SIGNATURE, crc32c

CRC32C, NOOP, UNIQUE_ID, TLS = 3, 4, 5, 0x20


def line(client: str = "192.0.2.7", server: str = "198.51.100.1") -> bytes:
    """Version 1."""
    kind = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {kind} {client} {server} 40000 110\r\n".encode()


UNKNOWN = b"PROXY UNKNOWN\r\n"
"""What HAProxy's ``send-proxy`` sends in health checks."""


def tlv(kind: int, value: bytes) -> bytes:
    """One further field of version 2."""
    return bytes([kind]) + len(value).to_bytes(2) + value


def over_tls(flags: int = 1) -> bytes:
    """The field that a proxy adds for a client of its TLS; 0: of its plain port."""
    return tlv(TLS, bytes([flags]) + bytes(4) + tlv(0x21, b"TLSv1.3"))


def binary(
    client: str = "192.0.2.7", *more: bytes, command: int = 1, family: int | None = None
) -> bytes:
    """Version 2 with these further fields."""
    source = ip_address(client).packed
    target = ip_address("::1" if ":" in client else "198.51.100.1").packed
    kind = (0x21 if ":" in client else 0x11) if family is None else family
    block = source + target + bytes([156, 64, 0, 110]) + b"".join(more)
    return SIGNATURE + bytes([0x20 | command, kind]) + len(block).to_bytes(2) + block


def with_checksum(client: str, *more: bytes) -> bytes:
    """Version 2 with its CRC32C, which covers the fields before and after it."""
    blank = binary(client, tlv(CRC32C, bytes(4)), *more)
    return binary(client, tlv(CRC32C, crc32c(blank).to_bytes(4)), *more)


LOCAL = SIGNATURE + b"\x20\0\0\0"
"""What HAProxy's ``send-proxy-v2`` sends in health checks."""

OF_A_UNIX_SOCKET = SIGNATURE + b"\x21\x31" + (216).to_bytes(2) + b"/run/a".ljust(216, b"\0")
OF_NO_FAMILY = SIGNATURE + b"\x21\0" + (5).to_bytes(2) + b"other"
