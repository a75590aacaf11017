"""The two places of a copy, and a message on its way between them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from gateway.errors import NoSuchMailbox, NotSupported
from gateway.interfaces import IBody, IMailboxClosing, IMailboxTransfer
from gateway.model import Account, CopiedMessage, Form, MailboxImage
from gateway.operations.tools import Tools
from gateway.wire.body import Canonical


class Sum(NamedTuple):
    """What two messages with the same octets have in common."""

    octets: int
    digest: bytes


@implementer(IBody)
class Text:
    """A message on its way, which is counted."""

    form = Form.CANONICAL

    def __init__(self, body: IBody, *, convert_cr: bool) -> None:
        self._body = body
        self._canonical = Canonical(convert_cr=convert_cr) if body.form is Form.STORED else None
        self._digest = hashlib.sha256()
        self._octets = 0
        self._ended = False

    def read_now(self) -> bytes | None:
        """Nothing comes at once but the end."""
        return b"" if self._ended else None

    def read(self) -> Deferred[bytes]:
        """The next octets."""
        return Deferred.fromCoroutine(self._read())

    async def _read(self) -> bytes:
        text = b""
        while not (text or self._ended):
            stored = self._body.read_now()
            if stored is None:
                stored = await self._body.read()
            self._ended = not stored
            text = stored if self._canonical is None else self._converted(stored)
        self._octets += len(text)
        self._digest.update(text)
        return text

    def _converted(self, stored: bytes) -> bytes:
        assert self._canonical is not None
        return self._canonical.feed(stored) if stored else self._canonical.finish()

    async def sum(self) -> Sum:
        """That of all octets, once the rest is read."""
        while self.read_now() is None:
            await self._read()
        return Sum(self._octets, self._digest.digest())

    def close(self) -> None:
        """Close the message."""
        self._body.close()


@frozen
class Side:
    """A mailbox in one of the two places."""

    store: IMailboxTransfer
    closing: IMailboxClosing
    account: Account
    convert_cr: bool

    @classmethod
    def of(cls, tools: Tools, account: Account) -> Side:
        """That of an account; raises ``NotSupported``."""
        store = IMailboxTransfer(tools.store, None)
        closing = IMailboxClosing(tools.store, None)
        if store is None or closing is None:
            kind = tools.settings.store.kind
            raise NotSupported(
                f"store.kind: {kind} cannot be copied from or to: use one that can, such as maildir"
            )
        return cls(store, closing, account, tools.settings.store.bare_cr == "convert")

    async def inspect(self) -> MailboxImage:
        """As it is now."""
        return await self.store.inspect(self.account)

    async def find(self) -> MailboxImage | None:
        """As it is now; None: it is missing."""
        try:
            return await self.inspect()
        except NoSuchMailbox:
            return None

    async def open(self, message: CopiedMessage) -> Text:
        """The octets of a message as RETR sends them."""
        return Text(
            await self.store.open_message(self.account, message), convert_cr=self.convert_cr
        )

    async def mark(self, mark: str, instead_of: str | None = None) -> None:
        """Close it, or open it."""
        await self.closing.mark_away(self.account, mark, instead_of)
