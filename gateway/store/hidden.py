"""The folder of hidden messages, and how a name in it carries the old unique-id.  Blocks.

So nothing needs to remember what was hidden: whatever happens to a uidlist or
a database, the files say it themselves.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote

from gateway.errors import MailboxUnusable
from gateway.store.files import open_new
from gateway.store.ids import may_be_id
from gateway.store.names import LONGEST
from gateway.store.scan import EXPIRED, look

MARK = "maildirfolder"
"""The file that makes a directory a folder (Maildir++); made last."""

_PLAIN = "!\"#$&'()*+-;<=>?@[\\]^`{|}"
"""What a unique-id may have, besides letters, digits and ``._~``, that a name may have too."""

_CARRIED = re.compile(r"(.+),U=([!-~]+)", re.S)


def folder_of(maildir: str) -> str:
    """Where a Maildir's hidden messages are."""
    return f"{maildir}/{EXPIRED}"


def hidden_name(name: str, uid: str) -> str:
    """The name under which a message is hidden."""
    base, _, info = name.partition(":")
    return f"{base},U={quote(uid, safe=_PLAIN)}:{info or '2,'}"


def may_be_name(name: str) -> bool:
    """Whether it is not too long for a file."""
    return len(os.fsencode(name)) <= LONGEST


class Hidden(NamedTuple):
    """What the file of a hidden message says."""

    file: str
    """Below the folder."""

    name: str
    """What it is called in ``cur`` once it is back."""

    uid: str
    """The unique-id that it had."""


def hidden_of(file: str) -> Hidden | None:
    """What ``cur/...`` below the folder says; None for one that was not hidden by us."""
    base, _, info = file.partition("/")[2].partition(":")
    match = _CARRIED.fullmatch(base)
    uid = unquote(match[2]) if match else ""
    return Hidden(file, f"{match[1]}:{info or '2,'}", uid) if match and may_be_id(uid) else None


def hidden_files(maildir: str) -> dict[str, Hidden]:
    """All that were hidden, by unique-id.

    Of two with one id, as there may be after a uidlist was lost, the later
    gets a suffix.  Raises ``MailboxUnusable`` or ``OSError``.
    """
    try:
        files, twins = look(_checked(folder_of(maildir)))
    except FileNotFoundError:
        return {}
    found: dict[str, Hidden] = {}
    for file in sorted([*files.values(), *twins]):
        # What another program's user has put there stays that user's.
        if (hidden := hidden_of(file)) is not None:
            uid, suffix = hidden.uid, 0
            while uid in found:
                suffix += 1
                uid = f"{hidden.uid}.{suffix}"
            found[uid] = hidden
    return found


def make_folder(maildir: str) -> str:
    """Make the folder where it is missing, the Maildir's owner's and of its mode; its path.

    Raises ``MailboxUnusable`` or ``OSError``.
    """
    folder = folder_of(maildir)
    with suppress(FileNotFoundError):
        os.lstat(f"{folder}/{MARK}")
        return _checked(folder)
    owner = os.stat(maildir)
    for directory in (folder, *(f"{folder}/{kind}" for kind in ("tmp", "new", "cur"))):
        # One that is there may be a dead process's, that had not yet given it away.
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        _checked_directory(directory)
        _give(directory, owner, stat.S_IMODE(owner.st_mode))
    os.close(open_new(f"{folder}/{MARK}", 0o600))
    _give(f"{folder}/{MARK}", owner, stat.S_IMODE(owner.st_mode) & 0o666)
    return folder


def _give(path: str, owner: os.stat_result, mode: int) -> None:
    with suppress(PermissionError):
        os.chmod(path, mode)
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _checked(folder: str) -> str:
    """The folder, where nobody has put a link in its place to have us write elsewhere."""
    for directory in (folder, f"{folder}/cur", f"{folder}/new"):
        _checked_directory(directory)
    return folder


def _checked_directory(path: str) -> None:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise MailboxUnusable(f"{path} is not a directory")
