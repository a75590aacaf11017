"""Mail in memory: for tests, demonstrations and gateways to something else."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import MessageGone, NoSuchMailbox
from gateway.interfaces import IBody, IMaildrop, IStore
from gateway.model import Account, Form, Listing
from gateway.wire.body import Measure


@implementer(IBody)
class BytesBody:
    """A message that is already here."""

    def __init__(self, content: bytes, form: Form, *, chunk: int = 128 * 1024) -> None:
        self.form = form
        self._content = content
        self._chunk = chunk
        self._at = 0

    def read_now(self) -> bytes:
        """The next chunk."""
        data = self._content[self._at : self._at + self._chunk]
        self._at += len(data)
        return data

    def read(self) -> Deferred[bytes]:
        """The next chunk."""
        return succeed(self.read_now())

    def close(self) -> None:
        """Nothing is open."""


class MemoryMailbox:
    """One mailbox: unique-id to stored octets, and which of them were read."""

    def __init__(self) -> None:
        self.messages: dict[int, bytes] = {}
        self.read: set[int] = set()
        self._next_uid = 1

    def deliver(self, content: bytes) -> int:
        """Add a message; its unique-id."""
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        self.messages[uid] = content
        return uid


@implementer(IMaildrop)
class MemoryMaildrop:
    """A session's view of a ``MemoryMailbox``."""

    def __init__(self, name: str, mailbox: MemoryMailbox) -> None:
        self.name = name
        self._mailbox = mailbox
        self._measured = {uid: _measure(content) for uid, content in mailbox.messages.items()}
        self._uids = list(self._measured)

    def listing(self) -> Deferred[Listing]:
        """The messages that were there when the maildrop was opened."""
        sizes = [counted.octets for counted in self._measured.values()]
        return succeed(Listing(sizes, [str(uid) for uid in self._uids]))

    def retrieve(self, index: int) -> Deferred[IBody]:
        """One message's octets."""
        uid = self._uids[index]
        content = self._mailbox.messages.get(uid)
        if content is None:
            return fail(MessageGone(str(uid)))
        return succeed(BytesBody(content, self._measured[uid].form))

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove and mark."""
        for index in removed:
            self._mailbox.messages.pop(self._uids[index], None)
        return self.abandon(retrieved)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark."""
        self._mailbox.read.update(self._uids[index] for index in retrieved)
        return succeed(None)


def _measure(content: bytes) -> Measure:
    counted = Measure()
    counted.feed(content)
    return counted


@implementer(IStore)
class MemoryStore:
    """Mailboxes by name."""

    def __init__(self) -> None:
        self.mailboxes: dict[str, MemoryMailbox] = {}

    def add(self, name: str) -> MemoryMailbox:
        """A new, empty mailbox."""
        return self.mailboxes.setdefault(name, MemoryMailbox())

    def open(self, account: Account) -> Deferred[tuple[MemoryMaildrop, Callable[[], None]]]:
        """The account's maildrop."""
        mailbox = self.mailboxes.get(account.mailbox)
        if mailbox is None:
            return fail(NoSuchMailbox(account.mailbox))
        return succeed((MemoryMaildrop(account.mailbox, mailbox), _nothing))


def _nothing() -> None:
    """Memory holds no lock."""
