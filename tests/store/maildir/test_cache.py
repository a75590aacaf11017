"""The mailboxes in memory: which are forgotten, and that counting them costs little."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.store.maildir.cache import EMPTY, MailboxCache
from support.calls import calls_of


class Messages:
    """As much of a ``Mailbox`` as the cache needs."""

    def __init__(self, messages: int) -> None:
        self.messages = messages


class CacheTests(SynchronousTestCase):
    def _filled(self, mailboxes: int) -> MailboxCache:
        cache = MailboxCache(10**9)
        for number in range(mailboxes):
            mailbox: Any = Messages(number)
            cache.add(str(number), mailbox)
            cache.count(str(number), mailbox)
        return cache

    def test_counting_a_mailbox_costs_the_same_however_many_there_are(self) -> None:
        def cost(mailboxes: int) -> int:
            cache = self._filled(mailboxes)
            mailbox = cache.find("1")
            assert mailbox is not None
            return calls_of(lambda: cache.count("1", mailbox))

        self.assertEqual(cost(10), cost(5000))

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=60))
    def test_what_is_kept_fits_and_was_opened_last(self, openings: list[tuple[int, int]]) -> None:
        cache, opened = MailboxCache(500), dict[str, int]()
        for number, messages in openings:
            path = str(number)
            mailbox: Any = cache.find(path)
            if mailbox is None:
                mailbox = Messages(0)
                cache.add(path, mailbox)
            mailbox.messages = messages
            cache.count(path, mailbox)
            opened.pop(path, None)
            opened[path] = EMPTY + messages
            kept = list(cache)
            self.assertEqual(kept, list(opened)[len(opened) - len(kept) :])
            fits = sum(opened[path] for path in kept) <= 500
            self.assertTrue(fits or kept == [path])
            forgotten = list(opened)[: len(opened) - len(kept)]
            for path in forgotten:
                del opened[path]

    def test_an_open_mailbox_that_was_forgotten_does_not_count(self) -> None:
        cache = MailboxCache(2 * EMPTY)
        old: Any = Messages(0)
        for path in ("old", "new", "newest"):
            mailbox: Any = old if path == "old" else Messages(0)
            cache.add(path, mailbox)
            cache.count(path, mailbox)
        old.messages = 1000
        cache.count("old", old)
        self.assertEqual(list(cache), ["new", "newest"])
