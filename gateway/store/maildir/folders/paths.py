"""Mailbox names to directories, without a way to any other directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from glob import escape, iglob
from string import Formatter

from gateway.errors import BadMailboxName
from gateway.model import Account
from gateway.utf8 import as_text, on_disk

LONGEST = 255
"""Most octets of a path component on common file systems."""


def mailbox_path(template: str, root: str, account: Account) -> str:
    """The account's Maildir: ``template`` below ``root``, its fields filled in.

    ``{name}``: the mailbox name; ``{local}`` and ``{domain}``: the parts before and after its
    last ``@``; ``{home}``: the absolute home directory of the account.  Raises
    ``BadMailboxName`` unless each value is one plain path component.
    """
    return _path_of(template, root, account.name, account.mailbox, account.home)


@lru_cache(maxsize=1000)
def _path_of(template: str, root: str, account: str, mailbox: str, home: str | None) -> str:
    """As ``mailbox_path``; a delivery asks three times."""
    local, _, domain = mailbox.rpartition("@")
    if not local:
        local, domain = domain, ""
    values = {"name": mailbox, "local": local, "domain": domain}
    fields = _fields(template)
    for field in fields:
        if field != "home":
            _check(field, values[field], account)
    if "home" in fields and not os.path.isabs(home or ""):
        raise BadMailboxName(f"{account}: the account has no home for [store] path")
    return on_disk(os.path.join(root, template.format(**values, home=home)))


def mailboxes(template: str, root: str) -> Iterator[tuple[str, str]]:
    """Name and Maildir of every existing mailbox, in any order.  Blocks.

    None if Maildirs are in home directories, which only the directory knows.
    """
    if lies_in_homes(template):
        return
    shown = "".join(
        re.escape(text) + ("" if field is None else f"(?P<{field}>[^/]+)")
        for text, field in _named_once(template)
    )
    wanted = re.compile(re.escape(os.path.join(root, "")) + shown)
    for path in iglob(on_disk(os.path.join(escape(root), *_starred(template).split("/")))):
        match = wanted.fullmatch(as_text(path))
        if match is not None and os.path.isdir(f"{path}/cur"):
            said = match.groupdict()
            domain = said.get("domain", "")
            local = said.get("local", "")
            name = said.get("name") or (f"{local}@{domain}" if domain else local)
            if _leads_to(template, root, name, path):
                yield name, path


def lies_in_homes(template: str) -> bool:
    """Whether Maildirs are in home directories, which only the directory knows."""
    return "home" in _fields(template)


@cache
def _fields(template: str) -> tuple[str, ...]:
    return tuple(
        sorted({field for _, field, _, _ in Formatter().parse(template) if field is not None})
    )


def _leads_to(template: str, root: str, name: str, path: str) -> bool:
    """Whether ``path`` is the Maildir of ``name``: another program may have made it."""
    try:
        return mailbox_path(template, root, Account(name=name, mailbox=name)) == path
    except BadMailboxName:
        return False


def _named_once(template: str) -> Iterator[tuple[str, str | None]]:
    """The parts of a template; a repeated field must equal its first occurrence."""
    seen: set[str] = set()
    again = 0
    for text, field, _, _ in Formatter().parse(template):
        yield text, None if field in seen else field
        if field in seen:
            again += 1
            yield "", f"again{again}"
        seen.add(str(field))


def _starred(template: str) -> str:
    return "".join(
        escape(text) + ("" if field is None else "*")
        for text, field, _, _ in Formatter().parse(template)
    )


def _check(field: str, value: str, account: str) -> None:
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
    raise BadMailboxName(f"{account!r}: {{{field}}} of its mailbox name {problem}")
