"""A store in memory, for tests, demonstrations and gateways to other systems."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from gateway.errors import BadMailboxName, GatewayError, MailboxExists, NoSuchMailbox
from gateway.interfaces import (
    Admit,
    Audit,
    IDelivery,
    IIncoming,
    IMailboxAdmin,
    IMailboxes,
    IMaildrop,
    IRetentionStore,
    IStore,
)
from gateway.model import (
    Account,
    Contents,
    Limits,
    Reason,
    StoredMessage,
    Usage,
    UsageChange,
    cause_of,
)
from gateway.store.audited import no_audit, no_limits
from gateway.store.memory_mailbox import BytesBody, MemoryMailbox, MemoryMaildrop
from gateway.wire.body import Canonical

__all__ = ["BytesBody", "MemoryMailbox", "MemoryStore"]


LONGEST_HEADER = 64 * 1024
"""Octets of a message that an operator sees."""


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


@implementer(IStore, IDelivery, IMailboxes, IRetentionStore, IMailboxAdmin)
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

    def restore(
        self, account: Account, uids: Collection[str], cause: Reason | None = None
    ) -> Deferred[int]:
        """Restore these hidden messages."""

        def restore() -> int:
            mailbox = self.mailbox_of(account)
            found = [uid for uid in mailbox.hidden if str(uid) in set(uids)]
            if cause is not None:
                self._audit(mailbox.hidden_entries(found, "restore", account.mailbox, cause))
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
            mailbox = self.mailbox_of(account)
            found = [uid for uid in mailbox.hidden if str(uid) in set(uids)]
            self._audit(mailbox.hidden_entries(found, "purge", account.mailbox, cause))
            for uid in found:
                del mailbox.hidden[uid]
            return len(found)

        return execute(purge)

    # -- what an operator does --------------------------------------------------

    def contents(self, account: Account) -> Deferred[Contents]:
        """All mail of the mailbox."""
        return execute(lambda: self.mailbox_of(account).contents)

    def header(self, account: Account, uid: str) -> Deferred[bytes]:
        """The message."""
        return execute(lambda: self.mailbox_of(account).content(uid)[:LONGEST_HEADER])

    def recalculate(self, account: Account) -> Deferred[UsageChange]:
        """Usage is always that of the messages."""
        return self.usage(account).addCallback(lambda usage: UsageChange(usage, usage))

    def rename(self, account: Account, target: Account) -> Deferred[None]:
        """Give the mailbox another name."""

        def rename() -> None:
            self.mailbox_of(account)
            if not target.mailbox or "\0" in target.mailbox:
                raise BadMailboxName(f"expected a name without NUL, found {target.mailbox!r}")
            if target.mailbox in self.mailboxes:
                raise MailboxExists(f"there is a mailbox {target.mailbox} already")
            self.mailboxes[target.mailbox] = self.mailboxes.pop(account.mailbox)

        return execute(rename)

    def delete(self, account: Account, cause: Reason) -> Deferred[Contents]:
        """Delete the mailbox."""

        def delete() -> Contents:
            mailbox, name = self.mailbox_of(account), account.mailbox
            removed = mailbox.contents
            self._audit(mailbox.hidden_entries(mailbox.hidden, "purge", name, cause))
            mailbox.hidden.clear()
            mailbox.remove(list(mailbox.messages), "discard", name, cause, self._audit)
            del self.mailboxes[name]
            return removed

        return execute(delete)

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
