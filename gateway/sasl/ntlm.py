"""AUTH NTLM: framing of [MS-OXPOP3], computation of [MS-NLMP]; NTLMv2 by default."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from attrs import field, frozen
from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from gateway.errors import BadCredentials, MechanismFailed
from gateway.interfaces import Challenge, IMechanism, INtlmResponse, Proven
from gateway.model import Peer
from gateway.sasl import channel
from gateway.sasl.ntlm_proof import (
    channel_binding,
    exported_session_key,
    integrity_code,
    session_challenge,
)
from gateway.sasl.ntlmssp import (
    MIC_PRESENT,
    UNTRUSTED_TARGET,
    Authenticate,
    Av,
    Flags,
    Proof,
    build_challenge,
    read_authenticate,
    read_negotiate,
    read_pairs,
    read_proof,
)

_SEPARATOR = re.compile(r"[\\/]")

_ECHOED = (
    Av.NB_COMPUTER,
    Av.NB_DOMAIN,
    Av.DNS_COMPUTER,
    Av.DNS_DOMAIN,
    Av.DNS_TREE,
    Av.TIMESTAMP,
)


def filetime(seconds: float) -> int:
    """Unix seconds as a FILETIME: 100 ns since 1601."""
    return int((seconds + 11_644_473_600) * 10_000_000)


@frozen
class NtlmOptions:
    """The server's names in challenges, and requirements of clients."""

    computer: str = "MAIL"
    domain: str = "WORKGROUP"
    dns_computer: str = ""
    dns_domain: str = ""
    joined: bool = False
    """The server is a member of the domain and says so; some clients then take its name for the
    user's, where they know no other."""

    require_mic: bool = True
    """Send a timestamp; clients must then send a message integrity code.

    False: send none, for clients without integrity codes.
    """

    bindings: Literal["off", "allow", "require"] = "allow"
    """``allow``: a channel binding must match if the client sends one."""

    targets: frozenset[str] = frozenset()
    """Accepted service principal names, in lower case; empty: any."""

    max_skew: float = 36 * 3600.0
    """Largest difference of a client's clock, in seconds."""

    @property
    def target(self) -> tuple[str, Flags]:
        """The server's names in a challenge ([MS-NLMP] 3.2.5.1.1)."""
        if self.joined:
            return self.domain, Flags.TARGET_TYPE_DOMAIN
        return self.computer, Flags.TARGET_TYPE_SERVER

    def pairs(self, now: float, *, timestamp: bool) -> dict[int, bytes]:
        """The TargetInfo of a challenge."""
        names = {
            Av.NB_DOMAIN: self.domain,
            Av.NB_COMPUTER: self.computer,
            Av.DNS_DOMAIN: self.dns_domain,
            Av.DNS_COMPUTER: self.dns_computer,
        }
        pairs = {int(key): name.encode("utf-16-le") for key, name in names.items() if name}
        if timestamp:
            pairs[Av.TIMESTAMP] = filetime(now).to_bytes(8, "little")
        return pairs


@implementer(IMechanism)
class Ntlm:
    """One exchange of NTLM.  A challenge accepts one response."""

    def __init__(
        self,
        options: NtlmOptions,
        peer: Peer,
        *,
        now: Callable[[], float],
        random: Callable[[int], bytes],
        legacy: bool = False,
        end_point: Callable[[bytes], bytes] = channel.end_point,
    ) -> None:
        """``now`` in Unix seconds; ``legacy``: this peer may use NTLMv1.

        ``end_point``: the channel binding of a certificate.
        """
        self._options = options
        self._peer = peer
        self._now = now
        self._random = random
        self._legacy = legacy
        self._end_point = end_point
        self._negotiate = b""
        self._challenge = b""

    def step(self, response: bytes | None) -> Deferred[Challenge | Proven]:
        """An empty challenge, the CHALLENGE, done."""
        return execute(self._step, response)

    def _step(self, response: bytes | None) -> Challenge | Proven:
        if response is None:
            return Challenge(b"")
        if not self._challenge:
            return Challenge(self._challenged(response))
        return Proven(self._answered(response))

    def _challenged(self, message: bytes) -> bytes:
        flags, options = read_negotiate(message), self._options
        self._negotiate = message
        # OEM clients, such as curl, know no integrity codes; a timestamp would
        # require one ([MS-NLMP] 3.1.5.1.2).
        timestamp = options.require_mic and bool(flags & Flags.UNICODE)
        target, kind = options.target
        pairs = options.pairs(self._now(), timestamp=timestamp)
        self._challenge = build_challenge(flags, target, self._random(8), pairs, kind=kind)
        return self._challenge

    def _answered(self, message: bytes) -> Response:
        sent = Sent.of(self._negotiate, self._challenge)
        answer = read_authenticate(message, sent.flags)
        if not answer.user or answer.flags & Flags.ANONYMOUS:
            raise MechanismFailed("NTLM: anonymous logins are refused")
        return Response(
            sent, answer, self._proof(answer), self._options, self._bound_to, self._now()
        )

    def _proof(self, answer: Authenticate) -> Proof | None:
        """The content of an NTLMv2 response; None: a legacy response, which is allowed."""
        if len(answer.nt_response) > 24:
            return read_proof(answer.nt_response)
        if len(answer.nt_response) < 24:
            raise MechanismFailed("NTLM: LM responses alone are refused")
        if not self._legacy:
            raise MechanismFailed(
                f"NTLM: {self._peer.host} answers as NTLMv1, which only ntlm.legacy_networks may"
            )
        return None

    def _bound_to(self) -> list[bytes]:
        return [self._end_point(one) for one in self._peer.certificates()]


@frozen
class Sent:
    """The messages before the AUTHENTICATE."""

    negotiate: bytes = field(repr=False)
    challenge: bytes = field(repr=False)
    flags: Flags
    server_challenge: bytes
    pairs: Mapping[int, bytes]

    @classmethod
    def of(cls, negotiate: bytes, challenge: bytes) -> Sent:
        """Parse the messages that were sent."""
        flags = Flags(int.from_bytes(challenge[20:24], "little"))
        start = int.from_bytes(challenge[44:48], "little")
        pairs = read_pairs(challenge[start:])
        return cls(negotiate, challenge, flags, challenge[24:32], pairs)


@implementer(INtlmResponse)
class Response:
    """The credentials of an AUTHENTICATE."""

    def __init__(
        self,
        sent: Sent,
        answer: Authenticate,
        proof: Proof | None,
        options: NtlmOptions,
        end_points: Callable[[], Sequence[bytes]],
        now: float,
    ) -> None:
        self.user = answer.text(answer.user)
        self.domain = answer.text(answer.domain)
        if not (self.user + self.domain).isprintable():
            # Names go into the log, where line ends would forge lines.
            raise MechanismFailed("NTLM: a name has characters that cannot be printed")
        if _SEPARATOR.search(self.domain) or (self.domain and _SEPARATOR.search(self.user)):
            # No name of Windows has one.  Together they would be read in several ways, and each
            # of these would have wrong passwords of its own.
            raise BadCredentials("NTLM: a name has a slash or backslash within it", guessed=False)
        # A UPN has its domain; ignore another one.
        name = self.user if "@" in self.user else f"{self.domain}\\{self.user}"
        self.username = name.removeprefix("\\").encode("utf-8", "replace")
        self.response = answer.nt_response
        self.legacy = proof is None
        self.proof = proof
        self.challenge = sent.server_challenge
        if self.legacy and answer.lm_response[8:] == bytes(16):
            # An NTLM2 session response; its flag cannot be relied on, since
            # old clients repeat it without knowing what it means.
            self.challenge = session_challenge(sent.server_challenge, answer.lm_response[:8])
        self._sent = sent
        self._answer = answer
        self._options = options
        self._end_points = end_points
        self._now = now

    def __repr__(self) -> str:
        return f"Response({self.username!r})"

    def check(self, session_base_key: bytes) -> None:
        """The order is that of [MS-NLMP] 3.2.5.1.2; what is legacy promises nothing."""
        if self.proof is None:
            return
        self._check_integrity(session_base_key, self.proof)
        self._check_echo(self.proof)
        skew = abs(self.proof.timestamp - filetime(self._now)) / 10_000_000
        if skew > self._options.max_skew:
            raise self._refused(f"the client's clock is {skew:.0f} s off")
        self._check_binding(self.proof)
        self._check_target(self.proof)

    def _refused(self, reason: str) -> BadCredentials:
        # The client has proven the password.
        return BadCredentials(f"NTLM: {reason}", guessed=False)

    def _check_integrity(self, session_base_key: bytes, proof: Proof) -> None:
        if not proof.flags & MIC_PRESENT:
            if Av.TIMESTAMP in self._sent.pairs:
                raise self._refused('no integrity code (ntlm.mic = "allow" lets such clients in)')
            return
        if not self._answer.mic_at:
            raise MechanismFailed("NTLM: an integrity code is promised and not there")
        expected = integrity_code(
            exported_session_key(session_base_key, self._answer),
            self._sent.negotiate,
            self._sent.challenge,
            self._answer.without_mic,
        )
        if not hmac.compare_digest(expected, self._answer.mic):
            raise self._refused("the integrity code is wrong")

    def _check_echo(self, proof: Proof) -> None:
        """A client that repeats another server's names was relayed from there."""
        for key in _ECHOED:
            if key in proof.pairs and proof.pairs[key] != self._sent.pairs.get(key, b""):
                raise self._refused(f"{key.name} is not what this server sent")
        if Av.TIMESTAMP in self._sent.pairs and Av.TIMESTAMP not in proof.pairs:
            raise self._refused("the timestamp is missing")

    def _check_binding(self, proof: Proof) -> None:
        binding, value = self._options.bindings, proof.pairs.get(Av.CHANNEL_BINDINGS, b"")
        if binding == "off":
            return
        if not value.strip(b"\0"):
            if binding == "require":
                raise self._refused("no channel binding")
            return
        bindings = [channel_binding(hashed) for hashed in self._end_points() if hashed]
        if not any(hmac.compare_digest(one, value) for one in bindings):
            raise self._refused("the channel binding is of another connection")

    def _check_target(self, proof: Proof) -> None:
        if proof.flags & UNTRUSTED_TARGET or not self._options.targets:
            return
        name = proof.pairs.get(Av.TARGET_NAME, b"").decode("utf-16-le", "replace").lower()
        if name and name not in self._options.targets:
            raise self._refused(f"meant for {name!r}")
