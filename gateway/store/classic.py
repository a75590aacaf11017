"""An adapter from the classic ``twisted.mail.pop3.IMailbox`` to ``IMaildrop``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import IO, Any

from twisted.internet.defer import Deferred, execute, maybeDeferred, succeed
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from gateway.errors import MessageGone
from gateway.interfaces import IBody, IMaildrop
from gateway.model import AS_BEFORE_LOGIN, Form, Listing

CHUNK = 128 * 1024


@implementer(IBody)
class ReadableBody:
    """A readable file of octets or text with any line ends."""

    form = Form.STORED

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    def read(self) -> Deferred[bytes]:
        """The next chunk."""
        return execute(self.read_now)

    def read_now(self) -> bytes:
        """The next chunk; classic mailboxes have only blocking files."""
        data = self._file.read(CHUNK)
        return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@implementer(IMaildrop)
class ClassicMaildrop:
    """Calls a classic mailbox the way ``twisted.mail.pop3.POP3`` does.

    It trusts the sizes of the mailbox, so LIST is as exact as they are.
    ``deleteMessage`` is called at QUIT only, so that a dropped connection removes nothing,
    whatever the mailbox does at that call.
    """

    def __init__(self, mailbox: IMailboxPOP3, name: str) -> None:
        self.name = name
        self.terms = AS_BEFORE_LOGIN
        self._mailbox = mailbox
        self._numbers: list[int] = []

    def listing(self) -> Deferred[Listing]:
        """The current messages of the mailbox; size 0: no message."""
        return maybeDeferred(self._mailbox.listMessages).addCallback(self._listed)

    def _listed(self, sizes: Iterable[int]) -> Listing:
        sizes = list(sizes)
        self._numbers = [number for number, size in enumerate(sizes) if size]
        uids = [self._mailbox.getUidl(number) for number in self._numbers]
        return Listing(
            [sizes[number] for number in self._numbers],
            [uid.decode("ascii") if isinstance(uid, bytes) else str(uid) for uid in uids],
        )

    def retrieve(self, index: int) -> Deferred[IBody]:
        """Open one message."""
        opened = maybeDeferred(self._mailbox.getMessage, self._numbers[index])
        return opened.addCallbacks(ReadableBody, _gone)

    def finish(
        self,
        removed: Collection[int],
        retrieved: Collection[int],  # noqa: ARG002 - it keeps no marks of its own
    ) -> Deferred[None]:
        """Delete and ``sync``."""
        return execute(self._finish, removed) if removed else succeed(None)

    def _finish(self, removed: Collection[int]) -> None:
        for index in sorted(removed):
            self._mailbox.deleteMessage(self._numbers[index])
        self._mailbox.sync()

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:  # noqa: ARG002
        """Nothing to do."""
        return succeed(None)


def _gone(failure: Any) -> Any:
    failure.trap(ValueError, IndexError, FileNotFoundError)
    raise MessageGone(failure.getErrorMessage())
