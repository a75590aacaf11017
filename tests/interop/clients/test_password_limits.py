"""Passwords that a scheme cannot have hashed, and hashes that no scheme has made, on the wire."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from gateway.directory import schemes
from sasl_client import SaslClient
from servers import PASSWORD, USER, Gateway

pytestmark = pytest.mark.interop

WRONG = b"-ERR [AUTH] Wrong name or password."
UNUSABLE = b"-ERR [SYS/PERM] The mailbox cannot be used; ask your administrator."


def by_plain(gateway: Gateway, name: str, password: bytes) -> bytes:
    """The reply to AUTH PLAIN."""
    with SaslClient(gateway) as client:
        assert client.ask(b"AUTH PLAIN").startswith(b"+")
        return client.ask(b64encode(b"\0%b\0%b" % (name.encode(), password)))


def test_a_long_password_is_a_wrong_one_whoever_has_an_account(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "[throttle]\ndelay = 0.0\n")
    lines = [f"{name}:{schemes.make(name.upper(), b'x')}\n" for name in ("sha512-crypt", "ssha")]
    lines += [f"blf-crypt:{schemes.make('BLF-CRYPT', b'x')}\n", "plain:{PLAIN}x\n"]
    gateway.accounts.write_text("".join(lines) + gateway.accounts.read_text())
    gateway.run()
    try:
        for name in ("sha512-crypt", "ssha", "blf-crypt", "plain", "nobody"):
            for password in (b"y" * 511, b"y" * 512, b"y" * 60_000, b"\xff" * 600):
                assert by_plain(gateway, name, password) == WRONG
            assert by_plain(gateway, name, b"x").startswith(b"+OK" if name != "nobody" else WRONG)
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def test_a_damaged_hash_keeps_its_own_account_out_and_the_log_names_it(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "[throttle]\ndelay = 0.0\n")
    damaged = {
        "a": "{SSHA}abc",
        "b": "{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$é",
        "c": "{BLF-CRYPT}$2y$05$lSgeAjfq2vyGBxu7v8ddQ",
        "d": "{SHA512-CRYPT}$6$salt$short",
        "e": "{SSHA256}é",
        "f": "{ARGON2ID}$argon2id$v=19$m=1,t=0,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
    }
    lines = "".join(f"{name}:{secret}\n" for name, secret in damaged.items())
    gateway.accounts.write_text(lines + gateway.accounts.read_text())
    gateway.run()
    try:
        for name in damaged:
            assert by_plain(gateway, name, b"x") == UNUSABLE
            gateway.wait_for(f"{gateway.accounts}: {name}: the hash ".encode())
        assert by_plain(gateway, USER, PASSWORD.encode()).startswith(b"+OK")
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log
    assert "short" not in gateway.log
