"""The policy of a mailbox: its own, its domain's, or the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from gateway.errors import RetentionMalformed
from gateway.model import Account
from gateway.retention.expire import after_login, before_login
from gateway.retention.rules import Policy
from gateway.retention.text import parse

_parsed = lru_cache(maxsize=1000)(parse)
"""Parse a text once: few texts serve all mailboxes."""


class Policies:
    """Retention policies of the configuration: the default and those of domains."""

    def __init__(self, default: str = "", domains: Mapping[str, str] | None = None) -> None:
        """Texts of policies; empty: not set."""
        self._default = default
        self._domains = {name.lower(): text for name, text in (domains or {}).items()}

    def text(self, account: Account) -> str:
        """The text that applies to the mailbox; empty: no retention."""
        domain = account.mailbox.rpartition("@")[2].lower()
        return account.retention or self._domains.get(domain, "") or self._default

    def source(self, account: Account) -> str:
        """Where the policy is from: ``account``, ``domain NAME``, ``default``; empty: no policy."""
        domain = account.mailbox.rpartition("@")[2].lower()
        if account.retention:
            return "account"
        if self._domains.get(domain):
            return f"domain {domain}"
        return "default" if self._default else ""

    def policy(self, account: Account) -> Policy:
        """The policy of the mailbox.  Raises ``RetentionMalformed``: then keep all mail."""
        text = self.text(account)
        return _parsed(text) if text else Policy()

    def is_held(self, account: Account) -> bool:
        """Whether nothing may be removed, not by DELE either; true for a policy with errors."""
        try:
            return self.policy(account).hold
        except RetentionMalformed:
            return True

    def expire(self, account: Account) -> str:
        """The arguments of EXPIRE after login of the account."""
        try:
            return after_login(self.policy(account))
        except RetentionMalformed:
            return after_login(Policy())

    def expire_of_all(self, own: Iterable[str]) -> str:
        """The arguments of EXPIRE before login; ``own``: the policies of accounts.

        The default and the domains' policies count too, because new accounts get them.
        """
        policies = []
        for text in {self._default, *filter(None, (*self._domains.values(), *own))}:
            try:
                policies.append(_parsed(text) if text else Policy())
            except RetentionMalformed:
                policies.append(Policy())
        return before_login(policies)
