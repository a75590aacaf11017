"""A directory of ours in front of a slapd."""

from __future__ import annotations

from typing import Any

from gateway.directory.entry_map import EntryMap
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_servers import Reach
from servers import Slapd
from store_contract import run_now


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
