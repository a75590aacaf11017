"""One mailbox in memory, and a session's view of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import MessageGone, StoreDown
from gateway.interfaces import Audit, IBody, IHidingMaildrop
from gateway.model import (
    AS_BEFORE_LOGIN,
    Contents,
    Form,
    Listing,
    Reason,
    Removed,
    StoredMessage,
    Usage,
)
from gateway.store.audited import entry, message_id_in
from gateway.wire.body import Measure


@implementer(IBody)
class BytesBody:
    """A message in memory."""

    def __init__(self, content: bytes, form: Form, *, chunk: int = 128 * 1024) -> None:
        self.form = form
        self.content = content
        """All of it, whatever was read."""
        self._chunk = chunk
        self._at = 0

    def read_now(self) -> bytes:
        """The next chunk."""
        data = self.content[self._at : self._at + self._chunk]
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
        self._next_uid += by
        return self._next_uid

    @property
    def usage(self) -> Usage:
        """Its usage."""
        return Usage(sum(map(len, self.messages.values())), len(self.messages))

    @property
    def contents(self) -> Contents:
        """All its mail."""
        hidden = [len(content) for content, _ in self.hidden.values()]
        return Contents(self.usage, Usage(sum(hidden), len(hidden)))

    def content(self, uid: str) -> bytes:
        """A message, shown or hidden; raises ``MessageGone``."""
        hidden = {number: content for number, (content, _) in self.hidden.items()}
        for number, content in {**hidden, **self.messages}.items():
            if str(number) == uid:
                return content
        raise MessageGone(f"no message has the unique-id {uid[:70]!r}")

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

    def hidden_entries(
        self, uids: Collection[int], action: str, name: str, cause: Reason
    ) -> list[Removed]:
        """The audit entries of hidden messages."""
        return [
            entry(action, name, kept, message_id_in(content), cause)
            for content, kept in map(self.hidden.__getitem__, uids)
        ]

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
        self.terms = AS_BEFORE_LOGIN
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
