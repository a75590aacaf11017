"""TOP 0 over a store that reads headers alone asks it for the header, on hold or not."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.interfaces import IBody, IHeaderMaildrop, IQuickMaildrop
from gateway.model import AS_BEFORE_LOGIN, Form, Listing
from gateway.store.memory_mailbox import BytesBody
from harness import ALICE, SECRET, Wire

HEADER, BODY = b"Subject: one\r\n\r\n", b"first\r\n"


@implementer(IQuickMaildrop)
class Quick:
    """A maildrop of one message, which is at hand."""

    name, terms = "alice", AS_BEFORE_LOGIN

    def __init__(self) -> None:
        self.asked: list[str] = []

    def listing(self) -> Deferred[Listing]:
        return succeed(Listing([len(HEADER + BODY)], ["1"]))

    def small_message(self, _: int) -> tuple[bytes, Form]:
        self.asked.append("message")
        return HEADER + BODY, Form.CLEAN

    def retrieve(self, _: int) -> Deferred[IBody]:
        raise AssertionError("it is at hand")

    def abandon(self, _: Any) -> Deferred[None]:
        return succeed(None)


@implementer(IHeaderMaildrop)
class WithHeaders(Quick):
    """One that reads headers alone too."""

    def retrieve_header(self, _: int) -> Deferred[IBody]:
        self.asked.append("header")
        return succeed(BytesBody(HEADER, Form.CLEAN))


@pytest.mark.parametrize("may_be_held", [False, True])
@pytest.mark.parametrize(("kind", "read"), [(Quick, "message"), (WithHeaders, "header")])
def test_top_without_lines_asks_for_the_header_where_it_can_be_had_alone(
    kind: type[Quick], read: str, may_be_held: bool
) -> None:
    maildrop, directory = kind(), MemoryDirectory({ALICE: SECRET})

    class Store:
        def open(self, *_: Any) -> Deferred[Any]:
            return succeed((maildrop, lambda: None))

    is_held = (lambda _: False) if may_be_held else None
    realm = MaildropRealm(directory, Store(), is_held=is_held)  # type: ignore[arg-type]
    checker = PasswordChecker(directory, PasswordCache(lambda: 0, ttl=60, size=10))
    client = Wire(portal=Portal(realm, [checker])).login()
    assert client.message(b"TOP 1 0") == HEADER
    assert client.message(b"RETR 1") == HEADER + BODY
    assert maildrop.asked == [read, "message"]
