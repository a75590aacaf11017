"""Fuzz what reads NTLM's messages, with coverage for its guide.

``python tests/fuzz/fuzz_ntlm.py -runs=1000000``; any other option of libFuzzer is taken, too, and
a directory for what it learns.  Wants ``pip install atheris``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

with atheris.instrument_imports(include=["gateway.sasl"]):
    from gateway.errors import BadCredentials, MechanismFailed
    from gateway.interfaces import Challenge
    from gateway.model import Peer
    from gateway.sasl.ntlm import Ntlm, NtlmOptions
    from gateway.sasl.ntlmssp import (
        Flags,
        read_authenticate,
        read_negotiate,
        read_pairs,
        read_proof,
    )

from answers import result  # noqa: E402
from ntlm_client import Client  # noqa: E402

NOW = 1_609_459_200.0
OPTIONS = NtlmOptions("MAIL", "EXAMPLE", bindings="require", targets=frozenset({"pop/mail"}))
PEER = Peer("192.0.2.1", True, "1")


def negotiate(data: bytes) -> None:
    """A first message."""
    read_negotiate(data)


def authenticate(data: bytes) -> None:
    """A last message, after any flags were agreed on."""
    message = read_authenticate(data[4:], Flags(int.from_bytes(data[:4], "little")))
    assert not message.mic_at or len(message.mic) == 16
    assert len(message.without_mic) == len(data) - 4 or not message.mic_at
    for octets in (message.user, message.domain):
        assert octets in data
        message.text(octets)


def pairs(data: bytes) -> None:
    """A list of attributes."""
    assert all(value in data for value in read_pairs(data).values())


def proof(data: bytes) -> None:
    """An NTLMv2 response."""
    read = read_proof(data)
    assert read.proof + read.temp == data
    assert read.flags >= 0


def exchange(data: bytes) -> None:
    """A whole exchange, and every check once the proof is taken for right."""
    first, last = data[1 : 1 + data[0]], data[1 + data[0] :]
    mechanism = Ntlm(OPTIONS, PEER, now=lambda: NOW, random=bytes, legacy=True)
    assert isinstance(result(mechanism.step(first)), Challenge)
    credentials = result(mechanism.step(last)).credentials
    assert credentials.username.decode().isprintable()
    credentials.check(bytes(16))


TARGETS = (negotiate, authenticate, pairs, proof, exchange)


def one_input(data: bytes) -> None:
    """The first octet chooses what is fed."""
    if len(data) < 2:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except (MechanismFailed, BadCredentials):
        return


def seeds() -> list[bytes]:
    """What good clients send."""
    found = []
    for how in ({}, {"oem": True, "mic": False}, {"v1": True, "mic": False}, {"version": False}):
        client = Client("alice", "wonderland", domain="EXAMPLE", now=NOW, **how)  # type: ignore[arg-type]
        first = client.negotiate()
        mechanism = Ntlm(OPTIONS, PEER, now=lambda: NOW, random=bytes, legacy=True)
        challenge = result(mechanism.step(first)).octets
        last = client.authenticate(challenge)
        response = read_authenticate(last, Flags(int.from_bytes(challenge[20:24], "little")))
        start = int.from_bytes(challenge[44:48], "little")
        found += [
            b"\0" + first,
            b"\1" + challenge[20:24] + last,
            b"\2" + challenge[start:],
            b"\3" + response.nt_response,
            b"\4" + bytes([len(first)]) + first + last,
        ]
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(seeds()):
            Path(directory, f"seed-{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, directory], one_input)
        atheris.Fuzz()
