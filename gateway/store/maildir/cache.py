"""The mailboxes in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from gateway.store.maildir.mailbox import Mailbox

EMPTY = 20
"""The memory of a mailbox without messages, in messages."""


class MailboxCache:
    """Mailboxes by path; beyond a number of messages it forgets the least recently opened."""

    def __init__(self, most: int) -> None:
        """``most``: messages in all mailboxes."""
        self._most = most
        self._mailboxes: OrderedDict[str, Mailbox] = OrderedDict()
        self._counted: dict[str, int] = {}
        self._total = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._mailboxes)

    def find(self, path: str) -> Mailbox | None:
        """The mailbox of this path, which is now the most recently opened one."""
        mailbox = self._mailboxes.get(path)
        if mailbox is not None:
            self._mailboxes.move_to_end(path)
        return mailbox

    def drop(self, path: str) -> bool:
        """Forget the mailbox of this path; whether it was known."""
        self._total -= self._counted.pop(path, 0)
        return self._mailboxes.pop(path, None) is not None

    def add(self, path: str, mailbox: Mailbox) -> None:
        """Keep a mailbox."""
        self._mailboxes[path] = mailbox
        self._counted[path] = 0

    def count(self, path: str, mailbox: Mailbox) -> None:
        """Count the messages of a mailbox that was read again; takes no longer with more of them.

        A mailbox that was forgotten meanwhile, but is still open, does not count.
        """
        if self._mailboxes.get(path) is not mailbox:
            return
        messages = EMPTY + mailbox.messages
        self._total += messages - self._counted[path]
        self._counted[path] = messages
        while self._total > self._most and len(self._mailboxes) > 1:
            oldest, _ = self._mailboxes.popitem(last=False)
            self._total -= self._counted.pop(oldest)
