"""An NTLM client of our own, which can be told to do things wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gateway.sasl import ntlm_proof as arithmetic
from gateway.sasl.md4 import nt_hash
from gateway.sasl.ntlm import filetime
from gateway.sasl.ntlmssp import MIC_PRESENT, SIGNATURE, Av, Flags, read_pairs

_NONCE = b"\xaa" * 8


class Client:
    """One login; what is not said is done as a modern client does it."""

    def __init__(
        self,
        user: str,
        password: str,
        *,
        domain: str = "",
        key_domain: str | None = None,
        now: float,
        oem: bool = False,
        mic: bool = True,
        timestamp: bool = True,
        version: bool = True,
        v1: bool = False,
        session_security: bool = False,
        pairs: Mapping[int, bytes] | None = None,
        av_flags: int | None = None,
        flags: int = 0,
        drop: int = 0,
        nt: bytes | None = None,
        lm: bytes | None = None,
        raw_user: bytes | None = None,
    ) -> None:
        self.user, self.domain = user, domain
        self.hash = nt_hash(password)
        self.key_domain = domain if key_domain is None else key_domain
        self.now, self.mic, self.timestamp = now, mic, timestamp
        self.v1, self.session_security = v1, session_security
        self.pairs = dict(pairs or {})
        self.av_flags = (MIC_PRESENT if mic else 0) if av_flags is None else av_flags
        self.extra, self.drop = flags, drop
        self.nt, self.lm, self.raw_user = nt, lm, raw_user
        self.oem = oem
        self.flags = Flags.OEM if oem else Flags.UNICODE | Flags.OEM
        self.flags |= Flags.REQUEST_TARGET | Flags.NTLM | Flags.ALWAYS_SIGN
        if version:
            self.flags |= Flags.VERSION
        if not v1 or session_security:
            self.flags |= Flags.EXTENDED_SESSIONSECURITY
        self._negotiate = b""

    def negotiate(self) -> bytes:
        """The first message."""
        self._negotiate = SIGNATURE + struct.pack("<II", 1, self.flags) + bytes(16)
        return self._negotiate

    def temp(self, challenge: bytes) -> bytes:
        """All of an NTLMv2 response but its proof."""
        pairs = read_pairs(challenge[int.from_bytes(challenge[44:48], "little") :])
        stamp = pairs.get(Av.TIMESTAMP, b"") if self.timestamp else b""
        time = int.from_bytes(stamp, "little") or filetime(self.now)
        if self.av_flags:
            pairs[Av.FLAGS] = self.av_flags.to_bytes(4, "little")
        pairs |= self.pairs
        packed = b"".join(struct.pack("<HH", k, len(v)) + v for k, v in pairs.items())
        return (
            b"\x01\x01" + bytes(6) + struct.pack("<Q", time) + _NONCE + bytes(4) + packed + bytes(8)
        )

    def _responses(self, challenge: bytes) -> tuple[bytes, bytes, bytes]:
        """LM response, NT response, session base key."""
        server = challenge[24:32]
        if self.v1:
            if self.session_security:
                mixed = arithmetic.session_challenge(server, _NONCE)
                return _NONCE + bytes(16), _v1(self.hash, mixed), b""
            response = _v1(self.hash, server)
            return response, response, b""
        user, domain = self.user, self.key_domain
        if self.oem:
            user, domain = (name.encode().decode("latin-1") for name in (user, domain))
        key = arithmetic.ntowf_v2(self.hash, user, domain)
        temp = self.temp(challenge)
        proof = arithmetic.nt_proof(key, server, temp)
        return bytes(24), proof + temp, arithmetic.session_base_key(key, proof)

    def authenticate(self, challenge: bytes) -> bytes:
        """The answer to a challenge."""
        lm, nt, key = self._responses(challenge)
        nt = nt if self.nt is None else self.nt
        lm = lm if self.lm is None else self.lm
        agreed = int.from_bytes(challenge[20:24], "little")
        flags = (agreed | self.extra) & ~self.drop
        encoding = "utf-8" if self.oem else "utf-16-le"
        user = self.user.encode(encoding) if self.raw_user is None else self.raw_user
        parts = [lm, nt, self.domain.encode(encoding), user, b"", b""]
        version = bytes(8) if flags & Flags.VERSION else b""
        mic = bytes(16) if self.mic else b""
        start = 64 + len(version) + len(mic)
        head, body = SIGNATURE + struct.pack("<I", 3), b""
        for part in parts:
            head += struct.pack("<HHI", len(part), len(part), start + len(body))
            body += part
        front = head + struct.pack("<I", flags) + version
        message = front + mic + body
        if self.mic:
            code = arithmetic.integrity_code(key or bytes(16), self._negotiate, challenge, message)
            message = front + code + body
        return message


def _v1(hashed: bytes, challenge: bytes) -> bytes:
    padded = hashed + bytes(5)
    return b"".join(arithmetic._des(padded[at : at + 7], challenge) for at in (0, 7, 14))
