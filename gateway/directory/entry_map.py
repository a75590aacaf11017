"""How entries of different schemas tell the same things."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen
class EntryMap:
    """Which attributes of an entry say what; an empty name says nothing."""

    mailbox: str = "mail"
    home: str = ""
    enabled: str = ""
    """FALSE bars the account."""

    barred: Mapping[str, frozenset[str]] = {}
    """Attribute to values, in lower case, that bar the account."""

    @property
    def attributes(self) -> list[str]:
        """All that is asked for."""
        return [name for name in (self.mailbox, self.home, self.enabled, *self.barred) if name]


MAPS: Mapping[str, EntryMap] = {
    "openldap": EntryMap(),
    "qmail-ldap": EntryMap(
        home="mailMessageStore",
        barred={"accountStatus": frozenset({"noaccess", "disabled", "deleted"})},
    ),
}
"""Ready-made maps, by the schemas they fit."""
