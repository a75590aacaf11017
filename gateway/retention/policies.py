"""Which policy holds for a mailbox: its own, its domain's, or the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from gateway.errors import RetentionMalformed
from gateway.model import Account
from gateway.retention.expire import after_login, before_login
from gateway.retention.rules import Policy
from gateway.retention.text import parse

_parsed = lru_cache(maxsize=1000)(parse)
"""A few texts hold for all mailboxes."""


class Policies:
    """Retention policies of the configuration: the default and those of domains."""

    def __init__(self, default: str = "", domains: Mapping[str, str] | None = None) -> None:
        """Texts of policies; empty: not set."""
        self._default = default
        self._domains = {name.lower(): text for name, text in (domains or {}).items()}

    def text(self, account: Account) -> str:
        """The one text that counts, as it is written; empty: retention leaves the mailbox alone."""
        domain = account.mailbox.rpartition("@")[2].lower()
        return account.retention or self._domains.get(domain, "") or self._default

    def policy(self, account: Account) -> Policy:
        """What it stands for; raises ``RetentionMalformed``, and then everything is to be kept."""
        text = self.text(account)
        return _parsed(text) if text else Policy()

    def is_held(self, account: Account) -> bool:
        """Whether nothing may be removed, not by DELE either; true for a policy with errors."""
        try:
            return self.policy(account).hold
        except RetentionMalformed:
            return True

    def expire(self, account: Account) -> str:
        """What EXPIRE says to the account's user once he has logged in."""
        try:
            return after_login(self.policy(account))
        except RetentionMalformed:
            return after_login(Policy())

    def expire_of_all(self, own: Iterable[str]) -> str:
        """What EXPIRE says before a login, where accounts have these policies of their own.

        The default and the domains' hold for whoever comes tomorrow, and so count.
        """
        policies = []
        for text in {self._default, *filter(None, (*self._domains.values(), *own))}:
            try:
                policies.append(_parsed(text) if text else Policy())
            except RetentionMalformed:
                policies.append(Policy())
        return before_login(policies)
