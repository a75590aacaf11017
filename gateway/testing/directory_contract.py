"""What every directory promises, as a suite: give it a directory and it is a TestCase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import BadCredentials
from gateway.interfaces import IDirectory

__all__ = ["PASSWORDS", "directory_tests"]

PASSWORDS = {"alice@example.org": "wonderland", "bob@example.org": "grün €", "jürgen": " a  b "}


def directory_tests(
    make_directory: Callable[[SynchronousTestCase, dict[str, str]], Any],
) -> type[SynchronousTestCase]:
    """The suite for the directory that ``make_directory`` fills with these passwords."""

    class DirectoryTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.directory = make_directory(self, PASSWORDS)

        def test_it_provides_what_it_says(self) -> None:
            self.assertTrue(IDirectory.providedBy(self.directory))

        def test_an_account_is_found_by_its_canonical_name(self) -> None:
            for name in PASSWORDS:
                account = self.successResultOf(self.directory.find(name))
                self.assertEqual((account.name, account.mailbox), (name, name))

        def test_an_unknown_name_is_none(self) -> None:
            for name in ("nobody", "alice", "", "*", "alice*"):
                self.assertIsNone(self.successResultOf(self.directory.find(name)))

        def test_mail_to_an_address_is_for_the_account_that_has_it(self) -> None:
            for name in PASSWORDS:
                if "@" in name:
                    account = self.successResultOf(self.directory.recipient(name))
                    self.assertEqual(account.name, name)
            for name in ("nobody@example.org", "alice", "*@example.org", "", "@"):
                self.assertIsNone(self.successResultOf(self.directory.recipient(name)))

        def test_the_owner_of_a_mailbox_is_found_by_its_name(self) -> None:
            for name in PASSWORDS:
                account = self.successResultOf(self.directory.owner(name))
                self.assertEqual((account.name, account.mailbox), (name, name))
            for name in ("nobody", "alice", "", "*", "alice*"):
                self.assertIsNone(self.successResultOf(self.directory.owner(name)))

        def test_it_tells_of_everybody(self) -> None:
            found = self.successResultOf(self.directory.accounts())
            self.assertEqual(sorted(account.mailbox for account in found), sorted(PASSWORDS))

        def test_the_right_password_gives_the_account(self) -> None:
            for name, password in PASSWORDS.items():
                answer = self.directory.verify(name, password.encode())
                self.assertEqual(self.successResultOf(answer).name, name)

        def test_any_other_password_is_bad_credentials(self) -> None:
            for password in (b"", b"Wonderland", b"wonderland ", b"wonderlan", b"\xff", b"\0"):
                self.failureResultOf(
                    self.directory.verify("alice@example.org", password), BadCredentials
                )

        def test_an_unknown_name_is_bad_credentials(self) -> None:
            self.failureResultOf(self.directory.verify("nobody", b"wonderland"), BadCredentials)
            self.failureResultOf(self.directory.verify("nobody", b""), BadCredentials)

        def test_a_secret_is_not_shown_by_the_accounts_repr(self) -> None:
            account = self.successResultOf(self.directory.find("alice@example.org"))
            self.assertNotIn("wonderland", repr(account))

    return DirectoryTests
