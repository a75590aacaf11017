"""A store for tests of retention: what it holds is written down, and what was done to it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from gateway.errors import MessageGone
from gateway.interfaces import IMailboxes, IMaildrop, IRetentionStore
from gateway.model import Account, Form, Listing, Reason, StoredMessage
from gateway.store.memory import BytesBody

CONTENT = b"Subject: x\r\n\r\n"


class Removal(NamedTuple):
    """A message that retention has removed."""

    action: str
    mailbox: str
    uid: str
    rule: str
    when: float


@implementer(IMaildrop)
class Drop:
    """A session's view of a mailbox."""

    def __init__(self, name: str, store: KeptMail) -> None:
        self.name = name
        self._store = store
        self._uids = list(store.mail[name])

    def listing(self) -> Deferred[Listing]:
        """The messages that were there."""
        return succeed(Listing([len(CONTENT)] * len(self._uids), self._uids))

    def retrieve(self, index: int) -> Deferred[BytesBody]:
        """One of them."""

        def body() -> BytesBody:
            if self._uids[index] not in self._store.mail[self.name]:
                raise MessageGone(self._uids[index])
            return BytesBody(CONTENT, Form.CLEAN)

        return execute(body)

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove and mark."""
        for index in removed:
            self._store.mail[self.name].pop(self._uids[index], None)
        return self.abandon(retrieved)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark."""
        for index in retrieved:
            self._store.read(self.name, self._uids[index])
        return succeed(None)


@implementer(IMailboxes, IRetentionStore)
class KeptMail:
    """Mailboxes by name, of messages that are nothing but what retention knows of them."""

    lists_mailboxes = True

    def __init__(self, now: Callable[[], float]) -> None:
        self.mail: dict[str, dict[str, StoredMessage]] = {}
        self.away: dict[str, dict[str, StoredMessage]] = defaultdict(dict)
        self.removals: list[Removal] = []
        self.restorers: list[Reason | None] = []
        """Who had hidden messages restored."""
        self.scans: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.broken: dict[str, Exception] = {}
        """What looking into a mailbox fails with."""
        self.before: Callable[[str], None] = lambda _: None
        """Called with the mailbox before anything is removed there."""
        self._now = now
        self._ids = map(str, itertools.count(1))

    def add(self, mailbox: str, count: int = 1, *, age: float = 0.0) -> list[str]:
        """So many unread messages; their unique-ids."""
        uids = list(itertools.islice(self._ids, count))
        there = self.mail.setdefault(mailbox, {})
        there.update({uid: StoredMessage(self._now() - age, uid, 1, None) for uid in uids})
        return uids

    def add_hidden(self, mailbox: str, count: int, *, age: float = 0.0) -> list[str]:
        """So many messages that were hidden ``age`` seconds ago; their unique-ids."""
        uids = self.add(mailbox, count, age=age)
        self.away[mailbox].update({uid: self.mail[mailbox].pop(uid) for uid in uids})
        return uids

    def read(self, mailbox: str, *uids: str) -> None:
        """They are read now, if they are there and were not before."""
        there = self.mail[mailbox]
        for uid in uids:
            if uid in there and there[uid].read is None:
                there[uid] = there[uid]._replace(read=self._now())

    def names(self) -> Deferred[list[str]]:
        """Of all there are."""
        return succeed(sorted(self.mail))

    def present(self, accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """Of these those that are there."""
        return succeed([account for account in accounts if account.mailbox in self.mail])

    def open(self, account: Account, *_: object) -> Deferred[tuple[Drop, Callable[[], None]]]:
        """For a session."""
        return succeed((Drop(account.mailbox, self), lambda: None))

    def scan(self, account: Account) -> Deferred[list[StoredMessage]]:
        """All messages."""
        self.scans[account.mailbox] += 1
        if account.mailbox in self.broken:
            raise self.broken[account.mailbox]
        return succeed(list(self.mail.get(account.mailbox, {}).values()))

    def scan_readonly(self, account: Account) -> Deferred[list[StoredMessage]]:
        """The same."""
        return self.scan(account)

    def remove(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these for good."""
        return self._take("discard", self.mail[account.mailbox], account, uids, cause)

    def hide(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Put these away."""
        there = self.mail[account.mailbox]
        now = self._now()
        away = {uid: there[uid]._replace(received=now) for uid in uids if uid in there}
        self.away[account.mailbox].update(away)
        return self._take("hide", there, account, uids, cause)

    def list_hidden(self, account: Account) -> Deferred[list[StoredMessage]]:
        """What was put away."""
        return succeed(list(self.away[account.mailbox].values()))

    def restore(
        self, account: Account, uids: Collection[str], cause: Reason | None = None
    ) -> Deferred[int]:
        """Bring these back."""
        self.restorers.append(cause)
        away = self.away[account.mailbox]
        found = {uid: away.pop(uid) for uid in uids if uid in away}
        self.mail.setdefault(account.mailbox, {}).update(found)
        return succeed(len(found))

    def move_ids(self, account: Account, by: int) -> Deferred[int]:
        """Leave so many unique-ids out."""
        if account.mailbox in self.broken:
            return fail(self.broken[account.mailbox])
        self.moved[account.mailbox] += by
        return succeed(self.moved[account.mailbox])

    def purge(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these for good, which were put away."""
        return self._take("purge", self.away[account.mailbox], account, uids, cause)

    def _take(
        self,
        action: str,
        there: dict[str, StoredMessage],
        account: Account,
        uids: Collection[str],
        cause: Reason,
    ) -> Deferred[int]:
        self.before(account.mailbox)
        found = [uid for uid in uids if there.pop(uid, None)]
        when, name = self._now(), account.mailbox
        self.removals += [Removal(action, name, uid, cause.rule, when) for uid in found]
        return succeed(len(found))
