"""The sample configuration, the systemd unit and the LDAP schema, as the package brings them."""

from __future__ import annotations

from importlib.resources import files

NAMES = ("pop3gw.toml", "pop3gw.service", "pop3gw.schema", "pop3gw.ldif")
"""Of the files; in the source tree each is a link to the one below ``etc``."""


def text(name: str) -> str:
    """What the file of that name says."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
