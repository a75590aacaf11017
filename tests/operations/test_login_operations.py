"""The last login to each mailbox, as an operator lists it."""

from __future__ import annotations

from typing import Any

from gateway.model import Account, LastLogin
from gateway.operations.users.logins import DAY, list_logins
from memory_tools import NOW, OperationCase


class ListLoginsTests(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        for name in ("alice", "bob", "carol", "Dora@example.org"):
            self.accounts[name] = Account(name=name, mailbox=name)
            self.store.add(name)
        for name, days in (("alice", 1), ("bob", 100), ("Dora@example.org", 90.5), ("gone", 5)):
            self.log_in(name, days)

    def log_in(self, mailbox: str, days: float) -> None:
        """Somebody logged in so many days ago."""
        login = LastLogin(NOW - days * DAY, "PASS", "private")
        self.successResultOf(self.state.keep_logins({mailbox: login}))

    def names(self, **arguments: Any) -> list[str]:
        """The mailboxes of the answer."""
        return [row.mailbox for row in self.ask(list_logins, **arguments).items]

    def test_mailboxes_that_nobody_has_used_come_first_then_the_longest_unused(self) -> None:
        self.assertEqual(self.names(), ["carol", "bob", "Dora@example.org", "alice"])
        self.assertEqual(self.names(sort="newest")[0], "alice")
        self.assertEqual(self.names(sort="mailbox"), ["Dora@example.org", "alice", "bob", "carol"])

    def test_unused_for_90_days_includes_those_that_were_never_used(self) -> None:
        self.assertEqual(self.names(unused_days=90), ["carol", "bob", "Dora@example.org"])
        self.assertEqual(self.names(unused_days=101), ["carol"])

    def test_a_row_says_when_how_and_since_when_it_is_known(self) -> None:
        never, bob = self.ask(list_logins, per_page=2).items
        since = NOW - DAY
        self.assertEqual((never.at, never.method, never.known_since), (None, "", since))
        self.assertEqual((bob.at, bob.method, bob.network), (NOW - 100 * DAY, "PASS", "private"))

    def test_pages_are_parts_of_one_list(self) -> None:
        page = self.ask(list_logins, page=1, per_page=3)
        self.assertEqual([row.mailbox for row in page.items], ["alice"])
        self.assertEqual((page.page, page.per_page, page.total), (1, 3, 4))
        self.assertEqual(self.names(page=9), [])

    def test_a_search_finds_a_part_of_the_name_in_any_case(self) -> None:
        self.assertEqual(self.names(search="dORA@"), ["Dora@example.org"])
        self.assertEqual(self.names(search="%"), [])

    def test_more_logins_than_one_piece_are_all_read(self) -> None:
        logins = {f"u{n:05}": LastLogin(NOW, "PASS", "local") for n in range(12_000)}
        self.successResultOf(self.state.keep_logins(logins))
        for name in ("u00000", "u04999", "u05000", "u11999"):
            self.accounts[name] = Account(name=name, mailbox=name)
            self.store.add(name)
        rows = self.ask(list_logins, search="u", sort="mailbox").items
        self.assertEqual([row.at for row in rows], [NOW] * 4)
