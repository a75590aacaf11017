"""Mail in memory: for tests, demonstrations and gateways to something else."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import GatewayError, MessageGone, NoSuchMailbox
from gateway.interfaces import Admit, IBody, IDelivery, IIncoming, IMaildrop, IStore
from gateway.model import Account, Form, Limits, Listing, Terms, Usage
from gateway.store.delivery import no_limits
from gateway.wire.body import Canonical, Measure


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

    @property
    def usage(self) -> Usage:
        """What it holds."""
        return Usage(sum(map(len, self.messages.values())), len(self.messages))


@implementer(IMaildrop)
class MemoryMaildrop:
    """A session's view of a ``MemoryMailbox``."""

    def __init__(self, name: str, mailbox: MemoryMailbox) -> None:
        self.name = name
        self.terms = Terms()
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


@implementer(IIncoming)
class MemoryIncoming:
    """One message on its way into mailboxes."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._text = Canonical()
        self._parts: list[bytes] = []
        self._content: bytes | None = None

    def write(self, data: bytes) -> Deferred[None]:
        """Keep it."""
        self._parts.append(self._text.feed(data))
        return succeed(None)

    def commit(self, account: Account, limits: Limits) -> Deferred[None]:
        """Put it into one mailbox."""
        if self._content is None:
            self._content = b"".join([*self._parts, self._text.finish()])
        try:
            mailbox = self._store.mailbox_of(account)
            self._store.admit(mailbox.usage, len(self._content), limits)
        except GatewayError as error:
            return fail(error)
        mailbox.deliver(self._content)
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Forget it."""
        self._parts.clear()
        return succeed(None)


@implementer(IStore, IDelivery)
class MemoryStore:
    """Mailboxes by name."""

    def __init__(self, *, admit: Admit = no_limits) -> None:
        """``admit`` judges whether there is room for a message."""
        self.mailboxes: dict[str, MemoryMailbox] = {}
        self.admit = admit

    def add(self, name: str) -> MemoryMailbox:
        """A new, empty mailbox."""
        return self.mailboxes.setdefault(name, MemoryMailbox())

    def open(self, account: Account) -> Deferred[tuple[MemoryMaildrop, Callable[[], None]]]:
        """The account's maildrop."""
        try:
            mailbox = self.mailbox_of(account)
        except NoSuchMailbox as error:
            return fail(error)
        return succeed((MemoryMaildrop(account.mailbox, mailbox), _nothing))

    def prepare(self, account: Account) -> Deferred[None]:
        """See that the mailbox is there."""
        try:
            self.mailbox_of(account)
        except NoSuchMailbox as error:
            return fail(error)
        return succeed(None)

    def receive(self, account: Account) -> Deferred[MemoryIncoming]:
        """A message that is about to come."""
        return self.prepare(account).addCallback(lambda _: MemoryIncoming(self))

    def names(self) -> Deferred[list[str]]:
        """The names of all there are, sorted."""
        return succeed(sorted(self.mailboxes))

    def usage(self, account: Account) -> Deferred[Usage]:
        """What the account's mailbox holds."""
        try:
            return succeed(self.mailbox_of(account).usage)
        except NoSuchMailbox as error:
            return fail(error)

    def mailbox_of(self, account: Account) -> MemoryMailbox:
        """The account's mailbox; raises ``NoSuchMailbox``."""
        mailbox = self.mailboxes.get(account.mailbox)
        if mailbox is None:
            raise NoSuchMailbox(account.mailbox)
        return mailbox


def _nothing() -> None:
    """Memory holds no lock."""
