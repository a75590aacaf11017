"""The recipient with the mailbox that a message for several is received into."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import Account

REMEMBERED = 10_000
"""Mailboxes with a known last failure."""


class Receivers:
    """Chooses the recipient with the mailbox that a store receives a message into.

    What fails there, as a full disk does in a Maildir's ``tmp``, fails for all recipients; so
    it is another one's turn when the message comes again.
    """

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        """The number of the last failure of a mailbox, the oldest first."""
        self._failures = 0

    def choose(self, accounts: Sequence[Account]) -> Account:
        """The first with a mailbox that has not failed, or did so before those of all others."""
        if not self._failed:
            return accounts[0]
        return min(accounts, key=lambda account: self._failed.get(account.mailbox, 0))

    def failed(self, account: Account) -> None:
        """Its mailbox did not take a message."""
        self._failures += 1
        self._failed.pop(account.mailbox, None)
        self._failed[account.mailbox] = self._failures
        if len(self._failed) > REMEMBERED:
            del self._failed[next(iter(self._failed))]
