"""The table of password schemes: how each verifies a password and makes an entry."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import re
import secrets as randomness
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import argon2
import bcrypt

from gateway.errors import DirectoryMisconfigured


class Scheme(NamedTuple):
    """A password scheme."""

    verify: Callable[[str, bytes], bool]
    """Verifies a password; called only with a well-formed hash."""

    make: Callable[[bytes], str]
    cost: int
    """Rank by duration: the decoy uses the slowest scheme."""

    is_whole: Callable[[str], object]
    """A true value if the text is a well-formed hash."""


QUICK = 1
"""The highest ``Scheme.cost`` of schemes that are not slow by design."""


# Parameters of OWASP: 19 MiB, two passes, one lane.
_ARGON2 = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def _verify_argon2(stored: str, password: bytes) -> bool:
    try:
        return _ARGON2.verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
        raise DirectoryMisconfigured(f"the hash cannot be computed: {error}") from None


def _verify_bcrypt(stored: str, password: bytes) -> bool:
    if b"\0" in password:
        return False
    try:
        # bcrypt uses the first 72 octets only.
        return bcrypt.checkpw(password[:72], stored.encode("ascii"))
    except ValueError as error:
        raise DirectoryMisconfigured(f"the hash cannot be computed: {error}") from None


def _make_bcrypt(password: bytes) -> str:
    if len(password) > 72:
        raise ValueError("bcrypt reads only 72 octets of a password; take another scheme")
    return bcrypt.hashpw(password, bcrypt.gensalt(10)).decode("ascii")


def _salted(name: str) -> Scheme:
    length = hashlib.new(name).digest_size

    def digest(password: bytes, salt: bytes) -> bytes:
        return hashlib.new(name, password + salt).digest()

    def verify(stored: str, password: bytes) -> bool:
        octets = _octets(stored, length)
        return hmac.compare_digest(octets[:length], digest(password, octets[length:]))

    def make(password: bytes) -> str:
        salt = os.urandom(16)
        return base64.b64encode(digest(password, salt) + salt).decode("ascii")

    return Scheme(verify, make, 1, lambda stored: len(_octets(stored, length)) >= length)


def _octets(stored: str, length: int) -> bytes:
    """The octets of Base64 or hexadecimal digits (Dovecot's ``.HEX``); b"" for other text."""
    octets = b""
    with suppress(ValueError):
        octets = base64.b64decode(stored, validate=True)
    if len(stored) % 2 == 0 and len(stored) >= 2 * length:
        with suppress(ValueError):
            octets = bytes.fromhex(stored)
    return octets


class _Libcrypt:
    """``crypt_r`` of the C library; unlike Python's ``crypt`` it lets other threads run."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("crypt") or "libcrypt.so.1"
        try:
            self._crypt_r = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            raise DirectoryMisconfigured(
                f"{name} is missing; on Debian: apt-get install libcrypt1"
            ) from None
        self._crypt_r.restype = ctypes.c_char_p

    def hash(self, password: bytes, setting: bytes) -> bytes:
        """The hash of ``password`` with scheme and salt of ``setting``."""
        # struct crypt_data is 128 KiB in glibc and 32 KiB in libxcrypt.
        state = ctypes.create_string_buffer(131_232)
        return self._crypt_r(password, setting, state) or b""


_libcrypt = cache(_Libcrypt)


_LONGEST_CRYPT = 511
"""Longest password in octets that libxcrypt hashes."""


def _verify_crypt(stored: str, password: bytes) -> bool:
    if b"\0" in password:
        return False
    # A password that is too long takes as long as a wrong one.
    hashed = _libcrypt().hash(password[:_LONGEST_CRYPT], stored.encode("ascii"))
    if len(hashed) < 13:
        raise DirectoryMisconfigured("this machine's crypt does not know the hash")
    is_right = hmac.compare_digest(hashed, stored.encode("ascii"))
    return is_right and len(password) <= _LONGEST_CRYPT


def _make_sha512_crypt(password: bytes) -> str:
    if b"\0" in password:
        raise ValueError("a password has no NUL")
    if len(password) > _LONGEST_CRYPT:
        raise ValueError(f"crypt reads only passwords of up to {_LONGEST_CRYPT} octets")
    salt = randomness.token_urlsafe(12).replace("-", ".").replace("_", "/")
    return _libcrypt().hash(password, f"$6${salt}".encode()).decode("ascii")


def _verify_plain(stored: str, password: bytes) -> bool:
    return hmac.compare_digest(stored.encode("utf-8", "surrogateescape"), password)


def _make_plain(password: bytes) -> str:
    return password.decode("utf-8")


def _shaped(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII).fullmatch


_WHOLE_ARGON2 = _shaped(
    r"\$argon2(?:id|i|d)\$(?:v=\d{1,4}\$)?m=\d{1,10},t=\d{1,10},p=\d{1,8}"
    r"\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
)
_WHOLE_BCRYPT = _shaped(r"\$2[abxy]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_WHOLE_SHA512_CRYPT = _shaped(r"\$6\$(?:rounds=\d{1,9}\$)?[!-#%-9;-~]{0,16}\$[./A-Za-z0-9]{86}")

SCHEMES: Mapping[str, Scheme] = {
    "ARGON2ID": Scheme(_verify_argon2, _ARGON2.hash, 3, _WHOLE_ARGON2),
    "BLF-CRYPT": Scheme(_verify_bcrypt, _make_bcrypt, 4, _WHOLE_BCRYPT),
    "SHA512-CRYPT": Scheme(_verify_crypt, _make_sha512_crypt, 2, _WHOLE_SHA512_CRYPT),
    "SSHA": _salted("sha1"),
    "SSHA256": _salted("sha256"),
    "SSHA512": _salted("sha512"),
    "PLAIN": Scheme(_verify_plain, _make_plain, 0, lambda _: True),
}

_ALIASES = {"BCRYPT": "BLF-CRYPT", "ARGON2": "ARGON2ID", "ARGON2I": "ARGON2ID"}
_PREFIXES = {"$6$": "SHA512-CRYPT", "$2": "BLF-CRYPT", "$argon2": "ARGON2ID"}


def scheme_of(secret: str) -> tuple[str, str]:
    """The name of the scheme in ``SCHEMES``, and the hash after the braces.

    Raises ``DirectoryMisconfigured``, also for text without a scheme, which is
    never a plain-text password.
    """
    stored = secret
    name = ""
    if secret.startswith("{"):
        name, brace, stored = secret[1:].partition("}")
        if not brace:
            raise DirectoryMisconfigured("the password's scheme has no closing brace")
        name = name.upper().removesuffix(".B64").removesuffix(".HEX")
    name = _ALIASES.get(name, name)
    if name in ("", "CRYPT"):
        name = next(
            (scheme for prefix, scheme in _PREFIXES.items() if stored.startswith(prefix)), name
        )
    if name not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise DirectoryMisconfigured(
            f"the password's scheme {name or '(none)'} is not one of {known}"
        )
    return name, stored


def whole(secret: str) -> tuple[Scheme, str]:
    """The scheme and the hash of a password field.

    Raises ``DirectoryMisconfigured`` for a malformed hash, without showing it.
    """
    name, stored = scheme_of(secret)
    if not SCHEMES[name].is_whole(stored):
        raise DirectoryMisconfigured(f"the hash is damaged: {name} makes none like it")
    return SCHEMES[name], stored


def is_quick(secret: str) -> bool:
    """Whether a hash of this scheme takes microseconds, less than to hand it to a thread.

    Raises ``DirectoryMisconfigured``.
    """
    return SCHEMES[scheme_of(secret)[0]].cost <= QUICK


def verify(secret: str, password: bytes) -> bool:
    """Whether ``password`` matches ``secret``.

    A password that the scheme cannot hash is wrong.  Slow by design unless ``is_quick``:
    call it in a thread.  Raises ``DirectoryMisconfigured``.
    """
    scheme, stored = whole(secret)
    return scheme.verify(stored, password)


def make(scheme: str, password: bytes) -> str:
    """A hash of ``password``.  Raises ``ValueError`` if the scheme cannot hash it."""
    return f"{{{scheme}}}{SCHEMES[scheme].make(password)}"


def decoy(secrets: Iterable[str]) -> str:
    """The hash of a random password, as slow to verify as the slowest of ``secrets``."""
    names = {scheme_of(secret)[0] for secret in secrets}
    costliest = max(names, key=lambda name: SCHEMES[name].cost, default="ARGON2ID")
    return make(costliest, randomness.token_hex(16).encode())
