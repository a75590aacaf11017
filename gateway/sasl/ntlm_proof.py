"""The arithmetic of NTLM ([MS-NLMP] 3.3 and 3.4): keys, proofs and integrity codes.  Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

from gateway.sasl.ntlmssp import Authenticate, Flags, Proof


def upper(name: str) -> str:
    """Upper case as Windows has it: one letter for one, so ß stays ß."""
    return "".join(up if len(up := char.upper()) == 1 else char for char in name)


def _hmac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "md5")


def ntowf_v2(nt_hash: bytes, user: str, domain: str) -> bytes:
    """NTOWFv2: the key of a user's NTLMv2 responses.  The domain counts as it was sent."""
    named = (upper(user) + domain).encode("utf-16-le", "surrogatepass")
    return _hmac(nt_hash, named)


def nt_proof(key: bytes, server_challenge: bytes, temp: bytes) -> bytes:
    """NTProofStr: what a client shows instead of its password."""
    return _hmac(key, server_challenge, temp)


def session_base_key(key: bytes, proof: bytes) -> bytes:
    """What both sides know after an NTLMv2 response."""
    return _hmac(key, proof)


def prove_v2(
    nt_hash: bytes, user: str, domain: str, server_challenge: bytes, proof: Proof
) -> bytes | None:
    """The session base key if the proof is right, or None."""
    for spelt_user, spelt_domain in _spellings(user, domain):
        key = ntowf_v2(nt_hash, spelt_user, spelt_domain)
        expected = nt_proof(key, server_challenge, proof.temp)
        if hmac.compare_digest(expected, proof.proof):
            return session_base_key(key, proof.proof)
    return None


def _spellings(user: str, domain: str) -> Iterator[tuple[str, str]]:
    """What clients take for the names: as sent, without domain, the domain in upper case."""
    yield user, domain
    yield user, ""
    yield user, domain.upper()
    if not (user + domain).isascii():
        # curl widens each octet of its OEM strings.
        yield _widened(user), _widened(domain)


def _widened(name: str) -> str:
    return name.encode("utf-8").decode("latin-1")


def prove_v1(nt_hash: bytes, challenge: bytes, response: bytes) -> bool:
    """Whether a 24-octet response (NTOWFv1 under DES, 3.3.1) is right."""
    padded = nt_hash + bytes(5)
    expected = b"".join(_des(padded[at : at + 7], challenge) for at in (0, 7, 14))
    return hmac.compare_digest(expected, response)


def session_challenge(server_challenge: bytes, client_challenge: bytes) -> bytes:
    """What an NTLM2 session response is computed over instead of the server's challenge."""
    return hashlib.md5(server_challenge + client_challenge, usedforsecurity=False).digest()[:8]


def _des(key: bytes, block: bytes) -> bytes:
    bits = int.from_bytes(key, "big")
    spread = bytes((bits >> shift & 0x7F) << 1 for shift in range(49, -1, -7))
    # Three times the same key make it single DES.
    # Not above: every reader of the settings imports this module.
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    cipher = Cipher(TripleDES(spread * 3), modes.ECB())
    return cipher.encryptor().update(block)


def exported_session_key(base_key: bytes, message: Authenticate) -> bytes:
    """The key of the integrity code: the client's own where it exchanged one (3.4.5.1)."""
    wanted = message.flags & Flags.KEY_EXCH and message.flags & (Flags.SIGN | Flags.SEAL)
    if wanted and len(message.session_key) == 16:
        return rc4(base_key, message.session_key)
    return base_key


def integrity_code(key: bytes, negotiate: bytes, challenge: bytes, authenticate: bytes) -> bytes:
    """The MIC over all three messages (3.1.5.1.2)."""
    return _hmac(key, negotiate, challenge, authenticate)


def channel_binding(end_point: bytes) -> bytes:
    """MD5 of the gss_channel_bindings_struct (2.2.2.1) for a ``tls-server-end-point`` hash."""
    application = b"tls-server-end-point:" + end_point
    struct = bytes(16) + len(application).to_bytes(4, "little") + application
    return hashlib.md5(struct, usedforsecurity=False).digest()


def rc4(key: bytes, data: bytes) -> bytes:
    """RC4; for the one key that it still has to open."""
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) & 255
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for octet in data:
        i = (i + 1) & 255
        j = (j + state[i]) & 255
        state[i], state[j] = state[j], state[i]
        out.append(octet ^ state[(state[i] + state[j]) & 255])
    return bytes(out)
