"""The three messages of NTLM ([MS-NLMP] 2.2): read two of them, build the third.

Pure: octets in, values out.  Whatever is wrong with a message is a
``MechanismFailed`` that says where.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum, IntFlag

from attrs import field, frozen

from gateway.errors import MechanismFailed

SIGNATURE = b"NTLMSSP\0"


class Flags(IntFlag):
    """NEGOTIATE flags (2.2.2.5), those that matter here."""

    UNICODE = 0x00000001
    OEM = 0x00000002
    REQUEST_TARGET = 0x00000004
    SIGN = 0x00000010
    SEAL = 0x00000020
    NTLM = 0x00000200
    ANONYMOUS = 0x00000800
    ALWAYS_SIGN = 0x00008000
    TARGET_TYPE_DOMAIN = 0x00010000
    TARGET_TYPE_SERVER = 0x00020000
    EXTENDED_SESSIONSECURITY = 0x00080000
    TARGET_INFO = 0x00800000
    VERSION = 0x02000000
    KEY_EXCH = 0x40000000


class Av(IntEnum):
    """Ids of attribute-value pairs (2.2.2.1)."""

    EOL = 0
    NB_COMPUTER = 1
    NB_DOMAIN = 2
    DNS_COMPUTER = 3
    DNS_DOMAIN = 4
    DNS_TREE = 5
    FLAGS = 6
    TIMESTAMP = 7
    SINGLE_HOST = 8
    TARGET_NAME = 9
    CHANNEL_BINDINGS = 10


MIC_PRESENT = 0x2
"""In ``Av.FLAGS``: the message has a message integrity code."""

UNTRUSTED_TARGET = 0x4
"""In ``Av.FLAGS``: the client does not vouch for its ``Av.TARGET_NAME``."""

_VERSION = bytes((10, 0, 0x61, 0x4A, 0, 0, 0, 0x0F))
_KEPT = Flags.UNICODE | Flags.OEM | Flags.VERSION
_OURS = (
    Flags.REQUEST_TARGET
    | Flags.NTLM
    | Flags.ALWAYS_SIGN
    | Flags.EXTENDED_SESSIONSECURITY
    | Flags.TARGET_INFO
)
"""No signing, sealing or key exchange: TLS does that for POP3."""


def _part(message: bytes, at: int, what: str) -> tuple[int, bytes]:
    """The payload that the field at ``at`` points to, and where it begins."""
    if len(message) < at + 8:
        raise MechanismFailed(f"NTLM: the message ends before {what}")
    length, offset = struct.unpack_from("<HxxI", message, at)
    if not length:
        return len(message), b""
    if offset + length > len(message):
        raise MechanismFailed(f"NTLM: {what} reaches beyond the message")
    return offset, message[offset : offset + length]


def _header(message: bytes, kind: int) -> None:
    if message[:12] != SIGNATURE + struct.pack("<I", kind):
        raise MechanismFailed(f"NTLM: no message of type {kind}")


def read_negotiate(message: bytes) -> Flags:
    """The client's flags; its names are of no interest, and may be missing."""
    _header(message, 1)
    if len(message) < 16:
        raise MechanismFailed("NTLM: the message ends before its flags")
    flags = Flags(struct.unpack_from("<I", message, 12)[0])
    if not flags & (Flags.UNICODE | Flags.OEM):
        raise MechanismFailed("NTLM: neither Unicode nor OEM strings")
    return flags


def build_challenge(
    client: Flags,
    target: str,
    server_challenge: bytes,
    pairs: Mapping[int, bytes],
    *,
    kind: Flags = Flags.TARGET_TYPE_SERVER,
) -> bytes:
    """A CHALLENGE (2.2.1.2) for a client with these flags; ``pairs`` in the order given.

    ``kind``: whether ``target`` is a server or a domain.
    """
    flags = _OURS | kind | (client & _KEPT)
    if flags & Flags.UNICODE:
        flags &= ~Flags.OEM
    name = (
        target.encode("utf-16-le") if flags & Flags.UNICODE else target.encode("ascii", "replace")
    )
    info = b"".join(struct.pack("<HH", key, len(value)) + value for key, value in pairs.items())
    info += bytes(4)
    start = 56
    return b"".join(
        (
            SIGNATURE,
            struct.pack("<IHHI", 2, len(name), len(name), start),
            struct.pack("<I", flags),
            server_challenge,
            bytes(8),
            struct.pack("<HHI", len(info), len(info), start + len(name)),
            _VERSION if flags & Flags.VERSION else bytes(8),
            name,
            info,
        )
    )


def read_pairs(data: bytes) -> dict[int, bytes]:
    """The attribute-value pairs (2.2.2.1) up to their end, which must be there."""
    pairs: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        key, length = struct.unpack_from("<HH", data, at)
        at += 4
        if key == Av.EOL:
            if length:
                break
            return pairs
        if at + length > len(data):
            raise MechanismFailed(f"NTLM: attribute {key} reaches beyond its list")
        if key in pairs:
            raise MechanismFailed(f"NTLM: attribute {key} twice")
        pairs[key] = data[at : at + length]
        at += length
    raise MechanismFailed("NTLM: the attributes have no end")


@frozen
class Proof:
    """An NTLMv2 response (2.2.2.8) taken apart."""

    proof: bytes = field(repr=False)
    temp: bytes = field(repr=False)
    """As received: that is what the proof is over."""

    timestamp: int
    """A FILETIME: 100 ns since 1601."""

    pairs: Mapping[int, bytes] = field(repr=False)

    @property
    def flags(self) -> int:
        """The value of ``Av.FLAGS``; 0 without one."""
        return int.from_bytes(self.pairs.get(Av.FLAGS, b""), "little")


def read_proof(response: bytes) -> Proof:
    """An NTLMv2 response."""
    if len(response) < 44 + 4:
        raise MechanismFailed("NTLM: the response is too short")
    proof, temp = response[:16], response[16:]
    if temp[:2] != b"\x01\x01":
        raise MechanismFailed("NTLM: a response of an unknown type")
    (timestamp,) = struct.unpack_from("<Q", temp, 8)
    return Proof(proof, temp, timestamp, read_pairs(temp[28:]))


@frozen
class Authenticate:
    """An AUTHENTICATE (2.2.1.3) taken apart."""

    message: bytes = field(repr=False)
    flags: Flags
    user: bytes
    domain: bytes
    """Both as received; ``text`` decodes them."""

    lm_response: bytes = field(repr=False)
    nt_response: bytes = field(repr=False)
    session_key: bytes = field(repr=False)
    """The encrypted random session key, if any."""

    mic_at: int
    """Where the message integrity code stands; 0: there is no room for one."""

    def text(self, octets: bytes) -> str:
        """A string of the message; OEM ones are taken for UTF-8, else for Latin-1."""
        if not self.flags & Flags.UNICODE:
            try:
                return octets.decode("utf-8")
            except UnicodeDecodeError:
                return octets.decode("latin-1")
        try:
            return octets.decode("utf-16-le")
        except UnicodeDecodeError:
            raise MechanismFailed("NTLM: a name is not valid UTF-16") from None

    @property
    def mic(self) -> bytes:
        """The message integrity code."""
        return self.message[self.mic_at : self.mic_at + 16]

    @property
    def without_mic(self) -> bytes:
        """The message with zeros for it, as it was computed over."""
        at = self.mic_at
        return self.message[:at] + bytes(16) + self.message[at + 16 :]


def read_authenticate(message: bytes, agreed: Flags) -> Authenticate:
    """An AUTHENTICATE that answers a challenge with the flags ``agreed``."""
    _header(message, 3)
    if len(message) < 52:
        raise MechanismFailed("NTLM: the message ends before its fields")
    names = ("LmChallengeResponse", "NtChallengeResponse", "DomainName", "UserName", "Workstation")
    parts = [_part(message, 12 + 8 * number, name) for number, name in enumerate(names)]
    lowest = min(offset for offset, _ in parts)
    flags, key = agreed, b""
    # The oldest clients' messages end here, or have their payload here.
    if len(message) >= 64 and lowest >= 64:
        offset, key = _part(message, 52, "EncryptedRandomSessionKey")
        lowest = min(lowest, offset)
        flags = Flags(struct.unpack_from("<I", message, 60)[0])
    if agreed & Flags.UNICODE and not flags & Flags.UNICODE:
        raise MechanismFailed("NTLM: OEM strings after Unicode was agreed on")
    # 2.2.1.3; some clients leave the version out and have all eight octets earlier.
    mic_at = 72 if lowest >= 88 else 64 if lowest >= 80 and not flags & Flags.VERSION else 0
    (_, lm), (_, nt), (_, domain), (_, user), _ = parts
    return Authenticate(message, flags, user, domain, lm, nt, key, mic_at)
