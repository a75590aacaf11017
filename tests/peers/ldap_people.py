"""A directory of ours, or a whole gateway, in front of a slapd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.directory.entry_map import EntryMap
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_servers import Reach
from gateway.testing.store_contract import run_now
from servers import Slapd
from toml_text import toml_tables


def directory(server: Slapd, *, uris: tuple[str, ...] = (), **how: Any) -> LdapDirectory:
    """A directory of this server's people, named by their uid."""
    search = {
        "base": server.BASE,
        "bind_dn": server.READER,
        "bind_password": "reader",
        "filter": "(uid={login})",
        "bind_as": "",
        "domains": (),
        "scope": "subtree",
    }
    search |= {key: how.pop(key) for key in tuple(how) if key in search}
    reach = {"timeout": how.pop("timeout", 2), "ca_file": str(server.certificate)}
    reach |= {key: how.pop(key) for key in ("start_tls", "ca_file", "retry_after") if key in how}
    return LdapDirectory(
        Reach(uris=uris or (f"ldap://127.0.0.1:{server.plain}",), **reach),  # type: ignore[arg-type]
        Search(**search),
        how.pop("entries", EntryMap(mailbox=("uid",))),
        run_now,
        **how,
    )


def settings(server: Slapd, *, directory: Mapping[str, Any] | None = None, **ldap: Any) -> str:
    """TOML for a gateway that asks this server by StartTLS; ``ldap`` changes that table.

    A setting that is None is left out.
    """
    known = {
        "uris": [f"ldap://localhost:{server.plain}"],
        "start_tls": True,
        "ca_file": server.certificate,
        "base": server.BASE,
        "bind_dn": server.READER,
        "bind_password": "reader",
    }
    return toml_tables({"directory": {"kind": "ldap", **(directory or {})}, "ldap": known | ldap})
