"""A store in memory, for tests, demonstrations and gateways to other systems."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from gateway.errors import GatewayError, MessageGone, NoSuchMailbox, StoreDown
from gateway.interfaces import (
    Admit,
    Audit,
    IBody,
    IDelivery,
    IHidingMaildrop,
    IIncoming,
    IMailboxes,
    IMaildrop,
    IRetentionStore,
    IStore,
)
from gateway.model import (
    Account,
    Form,
    Limits,
    Listing,
    Reason,
    StoredMessage,
    Terms,
    Usage,
    cause_of,
)
from gateway.store.audited import entry, message_id_in, no_audit, no_limits
from gateway.wire.body import Canonical, Measure

__all__ = ["BytesBody", "MemoryMailbox", "MemoryStore"]


@implementer(IBody)
class BytesBody:
    """A message in memory."""

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
        """Nothing to close."""


class MemoryMailbox:
    """A mailbox: unique-id to stored octets, and its history for tests."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.messages: dict[int, bytes] = {}
        self.received: dict[int, float] = {}
        self.read: dict[int, float] = {}
        """When each message was first read."""
        self.hidden: dict[int, tuple[bytes, StoredMessage]] = {}
        self.now = now
        self._next_uid = 1

    def deliver(self, content: bytes) -> int:
        """Add a message; returns its unique-id."""
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        self.messages[uid] = content
        self.received[uid] = self.now()
        return uid

    def move_ids(self, by: int) -> int:
        """Skip this many unique-ids; returns the next one."""
        if self._next_uid == 1:
            return 0
        self._next_uid += by
        return self._next_uid

    @property
    def usage(self) -> Usage:
        """Its usage."""
        return Usage(sum(map(len, self.messages.values())), len(self.messages))

    def kept(self, uid: int) -> StoredMessage:
        """The data of a message for retention."""
        content, read = self.messages[uid], self.read.get(uid)
        return StoredMessage(self.received[uid], str(uid), len(content), read)

    def remove(
        self, uids: Collection[int], action: str, name: str, cause: Reason, audit: Audit
    ) -> None:
        """Discard or hide messages, after a call of ``audit``."""
        audit(
            entry(action, name, self.kept(uid), message_id_in(self.messages[uid]), cause)
            for uid in uids
        )
        for uid in uids:
            kept, content = self.kept(uid), self.messages.pop(uid)
            if action == "hide":
                self.hidden[uid] = content, kept._replace(received=self.now())

    def restore(self, uid: int) -> None:
        """Restore a hidden message; its age restarts."""
        self.messages[uid] = self.hidden.pop(uid)[0]
        self.received[uid] = self.now()


@implementer(IHidingMaildrop)
class MemoryMaildrop:
    """A session's view of a ``MemoryMailbox``."""

    def __init__(
        self,
        name: str,
        mailbox: MemoryMailbox,
        cause: Reason,
        audit: Audit,
    ) -> None:
        self.name = name
        self.terms = Terms()
        self._cause = cause
        self._audit = audit
        self._mailbox = mailbox
        self._measured = {uid: _measure(content) for uid, content in mailbox.messages.items()}
        self._uids = list(self._measured)

    def listing(self) -> Deferred[Listing]:
        """The messages that were there when the maildrop was opened."""
        sizes = [counted.octets for counted in self._measured.values()]
        return succeed(Listing(sizes, [str(uid) for uid in self._uids]))

    def retrieve(self, index: int) -> Deferred[IBody]:
        """The octets of a message."""
        uid = self._uids[index]
        content = self._mailbox.messages.get(uid)
        if content is None:
            return fail(MessageGone(str(uid)))
        return succeed(BytesBody(content, self._measured[uid].form))

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove and mark."""
        return self._end(removed, retrieved, "discard")

    def hide(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Hide and mark."""
        return self._end(removed, retrieved, "hide")

    def _end(
        self, removed: Collection[int], retrieved: Collection[int], action: str
    ) -> Deferred[None]:
        uids = [self._uids[index] for index in removed]
        there = [uid for uid in uids if uid in self._mailbox.messages]
        try:
            self._mailbox.remove(there, action, self.name, self._cause, self._audit)
        except StoreDown as error:
            failed: Deferred[None] = fail(error)
            return self.abandon(retrieved).addCallback(lambda _: failed)
        return self.abandon(retrieved)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark."""
        for index in retrieved:
            self._mailbox.read.setdefault(self._uids[index], self._mailbox.now())
        return succeed(None)


def _measure(content: bytes) -> Measure:
    counted = Measure()
    counted.feed(content)
    return counted


@implementer(IIncoming)
class MemoryIncoming:
    """A message that is being delivered."""

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
        """Deliver it into a mailbox."""
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


@implementer(IStore, IDelivery, IMailboxes, IRetentionStore)
class MemoryStore:
    """Mailboxes by name."""

    lists_mailboxes = True

    def __init__(
        self,
        *,
        admit: Admit = no_limits,
        audit: Audit = no_audit,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``admit`` checks whether a message has room; ``audit`` is called before removals."""
        self.mailboxes: dict[str, MemoryMailbox] = {}
        self.admit = admit
        self._audit = audit
        self._now = now

    def add(self, name: str) -> MemoryMailbox:
        """A new, empty mailbox."""
        return self.mailboxes.setdefault(name, MemoryMailbox(self._now))

    def open(
        self, account: Account, mind: object
    ) -> Deferred[tuple[IMaildrop, Callable[[], None]]]:
        """The account's maildrop."""
        try:
            mailbox = self.mailbox_of(account)
        except NoSuchMailbox as error:
            return fail(error)
        maildrop = MemoryMaildrop(account.mailbox, mailbox, cause_of(mind), self._audit)
        return succeed((maildrop, _nothing))

    def prepare(self, account: Account) -> Deferred[None]:
        """Check that the mailbox exists."""
        try:
            self.mailbox_of(account)
        except NoSuchMailbox as error:
            return fail(error)
        return succeed(None)

    def receive(self, account: Account) -> Deferred[IIncoming]:
        """Begin a message."""
        return self.prepare(account).addCallback(lambda _: MemoryIncoming(self))

    def names(self) -> Deferred[list[str]]:
        """The names of all mailboxes, sorted."""
        return succeed(sorted(self.mailboxes))

    def present(self, accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """The accounts with a mailbox."""
        return succeed([account for account in accounts if account.mailbox in self.mailboxes])

    def usage(self, account: Account) -> Deferred[Usage]:
        """Usage of the account's mailbox."""
        try:
            return succeed(self.mailbox_of(account).usage)
        except NoSuchMailbox as error:
            return fail(error)

    def scan(self, account: Account) -> Deferred[list[StoredMessage]]:
        """All messages."""
        return execute(lambda: self._kept(account))

    scan_readonly = scan

    def remove(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these messages."""
        return execute(self._remove, account, uids, cause, "discard")

    def hide(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Hide these messages."""
        return execute(self._remove, account, uids, cause, "hide")

    def list_hidden(self, account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages."""
        return execute(lambda: [kept for _, kept in self.mailbox_of(account).hidden.values()])

    def restore(self, account: Account, uids: Collection[str]) -> Deferred[int]:
        """Restore these hidden messages."""

        def restore() -> int:
            mailbox = self.mailbox_of(account)
            found = [uid for uid in mailbox.hidden if str(uid) in set(uids)]
            for uid in found:
                mailbox.restore(uid)
            return len(found)

        return execute(restore)

    def move_ids(self, account: Account, by: int) -> Deferred[int]:
        """Skip this many unique-ids."""
        return execute(lambda: self.mailbox_of(account).move_ids(by))

    def purge(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these hidden messages."""

        def purge() -> int:
            hidden = self.mailbox_of(account).hidden
            found = [uid for uid in hidden if str(uid) in set(uids)]
            said = [
                entry("purge", account.mailbox, kept, message_id_in(content), cause)
                for content, kept in map(hidden.__getitem__, found)
            ]
            self._audit(said)
            for uid in found:
                del hidden[uid]
            return len(found)

        return execute(purge)

    def _kept(self, account: Account) -> list[StoredMessage]:
        mailbox = self.mailbox_of(account)
        return [mailbox.kept(uid) for uid in mailbox.messages]

    def _remove(self, account: Account, uids: Collection[str], cause: Reason, action: str) -> int:
        mailbox = self.mailbox_of(account)
        found = [uid for uid in mailbox.messages if str(uid) in set(uids)]
        mailbox.remove(found, action, account.mailbox, cause, self._audit)
        return len(found)

    def mailbox_of(self, account: Account) -> MemoryMailbox:
        """The account's mailbox; raises ``NoSuchMailbox``."""
        mailbox = self.mailboxes.get(account.mailbox)
        if mailbox is None:
            raise NoSuchMailbox(account.mailbox)
        return mailbox


def _nothing() -> None:
    """Nothing to release."""
