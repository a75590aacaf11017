"""From a mailbox name to a directory, and never to any other directory."""

from __future__ import annotations

import os
from string import Formatter

from gateway.errors import BadMailboxName
from gateway.model import Account

LONGEST = 255
"""Octets a path component may have on the file systems that matter."""


def mailbox_path(template: str, root: str, account: Account) -> str:
    """The account's Maildir: ``template`` below ``root``, its fields filled in.

    ``{name}`` is the whole mailbox name, ``{local}`` and ``{domain}`` what
    stands before and after its last ``@``, ``{home}`` the absolute directory
    that the administrator gave the account.  Raises ``BadMailboxName`` where
    a value is not one plain path component.
    """
    local, _, domain = account.mailbox.rpartition("@")
    if not local:
        local, domain = domain, ""
    values = {"name": account.mailbox, "local": local, "domain": domain}
    wanted = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    for field in sorted(wanted - {"home"}):
        _check(field, values[field], account)
    if "home" in wanted and not os.path.isabs(account.home or ""):
        raise BadMailboxName(f"{account.name}: the account has no home for [store] path")
    return os.path.join(root, template.format(**values, home=account.home))


def _check(field: str, value: str, account: Account) -> None:
    if not value:
        problem = "is empty"
    elif value.startswith("."):
        problem = "begins with a dot"
    elif "/" in value or not value.isprintable():
        problem = "has a slash or an unprintable character"
    elif len(value.encode("utf-8", "surrogateescape")) > LONGEST:
        problem = f"is longer than {LONGEST} octets"
    else:
        return
    raise BadMailboxName(f"{account.name!r}: {{{field}}} of its mailbox name {problem}")
