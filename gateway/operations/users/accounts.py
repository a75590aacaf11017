"""Accounts of a passwd-file: set a password, remove an account, make an entry."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from gateway.config.settings import Settings, StoreSettings
from gateway.config.table import find_store
from gateway.directory import passwd_entries
from gateway.directory.passwd_kind import PASSWD_FILE
from gateway.errors import BadMailboxName, ConfigError
from gateway.model import Account


@frozen
class AccountChange:
    """What happened to one account."""

    account: str
    file: str
    action: Literal["added", "changed", "removed"]


def check_name(name: str) -> str:
    """The canonical form of a login name.

    Raises ``ValueError`` for one that no account or no mailbox can have.
    """
    canonical = passwd_entries.canonical_name(name)
    try:
        find_store(StoreSettings().kind).check_name(canonical)
    except BadMailboxName as error:
        raise ValueError(str(error)) from None
    return canonical


def accounts_file(settings: Settings, name: str, place: str = "") -> str:
    """The passwd-file of a configuration.

    ``place``: the configuration's name, for errors.  Raises ``ConfigError`` where
    accounts are elsewhere, and ``BadMailboxName`` where ``name`` can have no
    mailbox in ``store.path``.
    """
    if settings.directory_kind is not PASSWD_FILE:
        fault = f"directory.kind is {settings.directory.kind!r}: change the account there"
        raise ConfigError([f"{place}: {fault}" if place else fault])
    login = passwd_entries.canonical_name(name)
    # Any home will do: the entry's line has none yet.
    account = Account(name=login, mailbox=login, home="/")
    settings.store_kind.check_account(settings.store, settings.state_dir, account)
    return settings.path_of(settings.directory.file)


def make_entry(name: str, password: bytes, scheme: str, *, nt_hash: bool | None = None) -> str:
    """A line for a passwd-file.  Raises ``ValueError`` for a bad name or password."""
    check_name(name)
    return passwd_entries.entry(name, password, scheme, nt_hash=nt_hash)


def set_password(
    file: str,
    name: str,
    password: bytes,
    scheme: str = "ARGON2ID",
    *,
    nt_hash: bool | None = None,
) -> AccountChange:
    """Add the account to the file, or change its password and keep its other fields.

    ``nt_hash`` as in ``passwd_entries.entry``.  Raises ``ValueError`` for a bad
    name or password, and ``OSError``.
    """
    canonical = check_name(name)
    there = passwd_entries.put(file, name, password, scheme, nt_hash=nt_hash)
    return AccountChange(canonical, file, "changed" if there else "added")


def remove_account(file: str, name: str) -> AccountChange:
    """Remove the account from the file.  Raises ``ValueError`` when it is not there."""
    if not passwd_entries.delete(file, name):
        raise ValueError(f"{name} is not in {file}: check the name and the file")
    return AccountChange(name, file, "removed")
