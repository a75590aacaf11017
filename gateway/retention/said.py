"""Which policy holds for a mailbox: its own, its domain's, or the default."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model import Account
from gateway.retention.rules import Policy
from gateway.retention.text import parse


class Policies:
    """All that is said of retention outside the directory."""

    def __init__(self, default: str = "", domains: Mapping[str, str] | None = None) -> None:
        """Texts; empty: nothing is said."""
        self._default = default
        self._domains = {name.lower(): text for name, text in (domains or {}).items()}

    def text(self, account: Account) -> str:
        """The one text that counts, as it is written; empty: retention leaves the mailbox alone."""
        domain = account.mailbox.rpartition("@")[2].lower()
        return account.retention or self._domains.get(domain, "") or self._default

    def policy(self, account: Account) -> Policy:
        """What it stands for; raises ``RetentionMalformed``, and then everything is to be kept."""
        text = self.text(account)
        return parse(text) if text else Policy()
