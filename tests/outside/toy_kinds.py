"""A store, a directory and a SASL mechanism of somebody else's: a row for each.

``docs/embedding.md`` shows parts of this file.
"""

from __future__ import annotations

import hmac

from attrs import frozen
from test_toy_store import ToyBox, ToyDirectory, ToyStore
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import Attribute, implementer

from gateway.config.settings import DirectorySettings, StoreSettings
from gateway.errors import BadCredentials
from gateway.interfaces import Challenge, IMechanism, Proven
from gateway.kinds import (
    DirectoryKind,
    DirectoryParts,
    MechanismKind,
    MechanismParts,
    Offer,
    StoreKind,
    StoreParts,
)


@frozen
class ToyStoreSettings(StoreSettings):
    """``[store]``"""

    letter: str = "Hello."
    copies: int = 1


def make_store(own: ToyStoreSettings, parts: StoreParts) -> ToyStore:
    """Bob's mailbox has some copies of a letter."""
    assert not parts.exclusive
    if own.copies < 0:
        raise ValueError("copies: expected 0 or more")
    store = ToyStore()
    box = store.boxes["bob"] = ToyBox()
    for number in range(own.copies):
        box.messages[number + 1] = f"Subject: {number + 1}\r\n\r\n{own.letter}\r\n".encode()
    return store


TOY_STORE = StoreKind(settings=ToyStoreSettings, make=make_store)


@frozen
class ToyDirectorySettings(DirectorySettings):
    """``[directory]``"""

    users: tuple[str, ...] = ()
    password: str = ""


def make_directory(own: ToyDirectorySettings, parts: DirectoryParts) -> ToyDirectory:
    """All users have one password."""
    assert parts.cache_ttl == own.cache_ttl
    return ToyDirectory(dict.fromkeys(own.users, own.password))


TOY_DIRECTORY = DirectoryKind(
    settings=ToyDirectorySettings,
    make=make_directory,
    faults=lambda own, _: [] if own.users else [("directory.users", "expected somebody")],
)


@frozen
class XToySettings:
    """``[xtoy]``"""

    key: str = ""


class IToyProof(ICredentials):
    """A name, and an HMAC of it."""

    username = Attribute("bytes: the login name.")
    proof = Attribute("bytes: its HMAC under the key, in hexadecimal digits.")


@implementer(IToyProof)
@frozen
class ToyProof:
    """What XTOY proves."""

    username: bytes
    proof: bytes


@implementer(IMechanism)
class XToy:
    """One exchange of XTOY: the server asks, the client answers with name and proof."""

    def step(self, response: bytes | None) -> Deferred[Challenge | Proven]:
        """A challenge, then the credentials."""
        if response is None:
            return succeed(Challenge(b"who?"))
        return execute(lambda: Proven(ToyProof(*response.split(b" ", 1))))


@implementer(ICredentialsChecker)
class ToyChecker:
    """Knows the key."""

    credentialInterfaces = (IToyProof,)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def requestAvatarId(self, credentials: ToyProof) -> Deferred[bytes]:
        """The name, if the proof is right."""
        wanted = hmac.digest(self._key, credentials.username, "sha256").hex().encode()
        if hmac.compare_digest(wanted, credentials.proof):
            return succeed(credentials.username)
        return fail(BadCredentials("wrong proof"))


def offer(own: XToySettings, _: MechanismParts) -> Offer:
    """The mechanism, and who checks what it proves."""
    return Offer(lambda _peer: XToy(), ToyChecker(own.key.encode()))


XTOY = MechanismKind(
    name="XTOY", settings=XToySettings, make=offer, is_set_up=lambda own: bool(own.key)
)

NO_ROW = "something else"
