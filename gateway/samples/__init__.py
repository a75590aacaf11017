"""The sample configuration, the systemd unit, the LDAP schema, alert rules and a board."""

from __future__ import annotations

from importlib.resources import files

NAMES = {
    "pop3gw.toml": "the configuration, with every setting explained",
    "pop3gw.service": "a unit for systemd",
    "pop3gw.socket": "ports that systemd binds for it, an example",
    "pop3gw.schema": "the LDAP schema, for slapd.conf",
    "pop3gw.ldif": "the LDAP schema, for cn=config",
    "pop3gw.rules.yml": "alert rules for Prometheus",
    "pop3gw.json": "a board for Grafana",
}
"""The files and what each is; in the source tree each is a link to a file below ``etc``."""


def text(name: str) -> str:
    """The content of a file."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
