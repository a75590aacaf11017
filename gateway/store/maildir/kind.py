"""The row of ``store.kind = "maildir"``: its settings, and the store that it makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from string import Formatter
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from gateway.config import checks as check
from gateway.config.settings import StoreSettings
from gateway.endpoints import shown
from gateway.errors import BadMailboxName
from gateway.kinds import StoreKind, StoreParts
from gateway.model import Account
from gateway.store.maildir.folders.paths import lies_in_homes, mailbox_path

if TYPE_CHECKING:
    from gateway.store.maildir.store import MaildirStore


def _check_mail_path(value: str) -> None:
    try:
        parts = [part for part in Formatter().parse(value) if part[1] is not None]
    except ValueError as error:
        raise ValueError(
            f"expected a path with {{fields}}, found {shown(value)} ({error})"
        ) from None
    fields = {name for _, name, _, _ in parts}
    plain = not any(form or conversion for _, _, form, conversion in parts)
    if not fields or fields - {"name", "local", "domain", "home"} or not plain:
        raise ValueError(
            f"expected a path with at least one of {{name}} {{local}} {{domain}} {{home}}"
            f" as they stand here and no other field, found {shown(value)}"
        )


MAIL_PATH = check.checked(_check_mail_path)


@frozen
class MaildirSettings(StoreSettings):
    """``[store]`` of ``store.kind = "maildir"``: where Maildirs are and how they are read."""

    path: str = field(default="mail/{domain}/{local}", **MAIL_PATH)
    missing: Literal["create", "refuse"] = "create"
    mark_read: bool = True
    outlook_no_nuls: bool = False
    verify_octets: int = field(default=16 * 1024 * 1024, **check.within(0, 2**50))
    cached_messages: int = field(default=2_000_000, **check.within(0, 2**40))
    lock_timeout: float = field(default=20.0, **check.POSITIVE)


def _make(own: MaildirSettings, parts: StoreParts) -> MaildirStore:
    # Commands that read the settings only start sooner without it.
    from gateway.store.maildir.listing.snapshot import MaildirOptions
    from gateway.store.maildir.store import MaildirStore

    reading = MaildirOptions(
        exact=parts.exact_sizes,
        convert_cr=own.bare_cr == "convert",
        no_nuls=own.outlook_no_nuls,
        mark_read=own.mark_read,
        create=own.missing == "create",
        count_hidden=parts.count_hidden,
        verify_octets=own.verify_octets,
        lock_timeout=own.lock_timeout,
        high_water=parts.high_water,
    )
    return MaildirStore(
        parts.state_dir,
        own.path,
        parts.run,
        reading=reading,
        exclusive=parts.exclusive,
        admit=parts.admit,
        audit=parts.audit,
        share=not parts.counts_reading,
        cached_messages=own.cached_messages,
        deliver=parts.deliver,
    )


def _places(own: MaildirSettings, state_dir: str) -> Mapping[str, str]:
    if lies_in_homes(own.path):
        return {}
    above = os.path.dirname(own.path.partition("{")[0])
    return {os.path.normpath(os.path.join(state_dir, above)): "store.path"}


def _check_account(own: MaildirSettings, state_dir: str, account: Account) -> None:
    try:
        mailbox_path(own.path, state_dir, account)
    except BadMailboxName as error:
        raise BadMailboxName(f"{error}; the place is store.path = {own.path!r}") from None


def _check_name(name: str) -> None:
    # One of these is in every store.path.
    parts = "{local}/{domain}" if "@" in name else "{name}"
    mailbox_path(parts, "/", Account(name=name, mailbox=name))


MAILDIR = StoreKind(
    settings=MaildirSettings,
    make=_make,
    places=_places,
    check_name=_check_name,
    check_account=_check_account,
)
