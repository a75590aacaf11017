"""Mailbox names to directories, without a way to any other directory."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache
from string import Formatter

from gateway.errors import BadMailboxName
from gateway.model import Account
from gateway.store.maildir.folders.there import is_directory
from gateway.utf8 import as_text, on_disk

LONGEST = 255
"""Most octets of a path component on common file systems."""

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})

_NO_WAY = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors of a path that stay until somebody changes it: no outage."""


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
    if "home" in fields and (not os.path.isabs(home or "") or "\0" in str(home)):
        raise BadMailboxName(f"{account}: the account has no home for [store] path")
    return on_disk(_tidy(os.path.join(root, template.format(**values, home=home))))


def _tidy(path: str) -> str:
    """The path without the slashes that it does not need, and with its dots.

    The name of a mailbox is what follows the last slash, for whoever renames or deletes it.
    """
    return re.sub("//+", "/", path).rstrip("/") or path[:1]


def mailboxes(template: str, root: str) -> Iterator[tuple[str, str]]:
    """Name and Maildir of every existing mailbox, in any order.  Blocks.

    None if Maildirs are in home directories, which only the directory knows.  Raises ``OSError``
    if a directory of mailboxes cannot be read now.
    """
    if lies_in_homes(template):
        return
    # An absolute template is not below the root.
    root = "/" if os.path.isabs(template) else _tidy(root)
    template = _tidy(template).lstrip("/")
    shown = "".join(
        re.escape(text) + ("" if field is None else f"(?P<{field}>[^/]+)")
        for text, field in _named_once(template)
    )
    wanted = re.compile(re.escape(os.path.join(root, "")) + shown)
    matches = {path: wanted.fullmatch(as_text(path)) for path in _paths(template, root)}
    for path in maildirs([path for path, match in matches.items() if match is not None]):
        if (match := matches[path]) is not None:
            said = match.groupdict()
            domain = said.get("domain", "")
            local = said.get("local", "")
            name = said.get("name") or (f"{local}@{domain}" if domain else local)
            if _leads_to(template, root, name, path):
                yield name, path


def maildirs(paths: Sequence[str]) -> list[str]:
    """Those of these paths with a Maildir.  Raises ``OSError`` if nobody can tell of any of them.

    A single one of which nobody can tell is there: whoever opens it has the error, and no other
    mailbox suffers.  One that this process may not enter is none: nobody can log in to it
    either, and it may be the ``lost+found`` of a disk.
    """
    found, failures = list[str](), list[OSError]()
    for path in paths:
        try:
            if is_directory(f"{path}/cur"):
                found.append(path)
        except OSError as error:
            if error.errno not in _NO_WAY:
                found.append(path)
                failures.append(error)
    if failures and len(failures) == len(paths):
        raise failures[0]
    return found


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


def _paths(template: str, root: str) -> list[str]:
    """The paths that a template may lead to, in any order."""
    paths, passed_over = [on_disk(root)], _MISSING
    for part in template.split("/"):
        if _fields(part):
            every = ((path, _names_in(path or ".", passed_over)) for path in paths)
            # A field begins with no dot.
            paths = [
                os.path.join(path, name)
                for path, names in every
                for name in names
                if name.startswith(".") == part.startswith(".")
            ]
            # From here on it is in directories that any program may have made.
            passed_over = _MISSING | _NO_WAY
        else:
            paths = [os.path.join(path, on_disk(part.format())) for path in paths]
    return paths


def _names_in(path: str, passed_over: Collection[int]) -> list[str]:
    """The names in a directory; none after an error that is to be passed over."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in passed_over:
            return []
        raise


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
