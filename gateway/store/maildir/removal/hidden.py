"""The folder of hidden messages; file names in it contain the old unique-ids.  Blocks.

So hidden messages need no other record: they survive the loss of a uidlist or of the
ledger.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote

from gateway.errors import MailboxUnusable
from gateway.store.maildir.folders.files import open_new
from gateway.store.maildir.folders.paths import LONGEST
from gateway.store.maildir.folders.place import ALL, FOLDERS, Place
from gateway.store.maildir.folders.scan import EXPIRED, look
from gateway.store.maildir.uids.ids import may_be_id

MARK = "maildirfolder"
"""The file that makes a directory a folder (Maildir++); made last, when all else is synced."""

_PLAIN = "!\"#$&'()*+-;<=>?@[\\]^`{|}"
"""Characters of unique-ids, besides letters, digits and ``._~``, that names may contain."""

_CARRIED = re.compile(r"(.+),U=([!-+\--~]+)(?:,H=([0-9]{1,12}\.[0-9]{3}))?", re.S)


def folder_of(maildir: Place) -> Place:
    """The folder of a Maildir's hidden messages, which is no link.

    Raises ``MailboxUnusable`` or ``OSError``.
    """
    _checked_directory(maildir.at(EXPIRED), f"{maildir}/{EXPIRED}")
    folder = maildir.folder(EXPIRED)
    for kind in FOLDERS:
        _checked_directory(folder.at(kind), f"{folder}/{kind}")
    return folder


def hidden_name(name: str, uid: str, since: float | None = None) -> str:
    """The file name of a hidden message.

    ``since``: when it was hidden, if the file was made later, in Unix seconds.
    """
    base, _, info = name.partition(":")
    time = "" if since is None else f",H={since:.3f}"
    return f"{base},U={quote(uid, safe=_PLAIN)}{time}:{info or '2,'}"


def may_be_name(name: str) -> bool:
    """Whether the name is short enough for a file."""
    return len(os.fsencode(name)) <= LONGEST


class Hidden(NamedTuple):
    """The data in the file name of a hidden message."""

    file: str
    """The file, relative to the folder."""

    name: str
    """Its name in ``cur`` after a restore."""

    uid: str
    """Its old unique-id."""

    since: float | None = None
    """When it was hidden, in Unix seconds; None: when its file was renamed."""


def hidden_of(file: str) -> Hidden | None:
    """Parse ``cur/...`` of the folder; None: pop3gw did not hide it."""
    base, _, info = file.partition("/")[2].partition(":")
    match = _CARRIED.fullmatch(base)
    uid = unquote(match[2]) if match else ""
    if not (match and may_be_id(uid)):
        return None
    # A line end in a name would end a line of the uidlist.
    name = re.sub("[\r\n]", "_", match[1])
    since = None if match[3] is None else float(match[3])
    return Hidden(file, f"{name}:{info or '2,'}", uid, since)


def hidden_files(maildir: Place) -> dict[str, Hidden]:
    """All hidden messages, by unique-id.

    Two may have the same id after the loss of a uidlist: the later one gets a suffix.
    Raises ``MailboxUnusable`` or ``OSError``.
    """
    try:
        files, twins = look(folder_of(maildir))
    except FileNotFoundError:
        return {}
    found: dict[str, Hidden] = {}
    for file in sorted([*files.values(), *twins]):
        # Ignore files that a user put there with another program.
        if (hidden := hidden_of(file)) is not None:
            uid, suffix = hidden.uid, 0
            while uid in found:
                suffix += 1
                uid = f"{hidden.uid}.{suffix}"
            found[uid] = hidden
    return found


def make_folder(maildir: Place) -> Place:
    """Create the folder if it is missing, with owner and mode of the Maildir.

    Raises ``MailboxUnusable`` or ``OSError``.
    """
    with suppress(FileNotFoundError):
        os.lstat(maildir.at(f"{EXPIRED}/{MARK}"))
        return folder_of(maildir)
    owner = maildir.status
    mode = stat.S_IMODE(owner.st_mode)
    folder = _made(maildir, EXPIRED, owner, mode)
    for kind in ALL:
        _made(folder, kind, owner, mode).sync()
    # A message that is moved here would be lost with it.
    folder.sync()
    maildir.sync()
    mark = open_new(folder.at(MARK), 0o600)
    try:
        with suppress(PermissionError):
            os.fchmod(mark, mode & 0o666)
            os.fchown(mark, owner.st_uid, owner.st_gid)
    finally:
        os.close(mark)
    return folder


def _made(above: Place, name: str, owner: os.stat_result, mode: int) -> Place:
    # A process may have died before it changed the owner of an existing folder.
    with suppress(FileExistsError):
        os.mkdir(above.at(name), 0o700)
    _checked_directory(above.at(name), f"{above}/{name}")
    with above.visit(name) as made, suppress(PermissionError):
        os.chmod(made.path, mode)
        os.chown(made.path, owner.st_uid, owner.st_gid)
    # Opened again: what is put into it belongs to the owner that it has now.
    return above.folder(name)


def _checked_directory(path: str, name: str) -> None:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise MailboxUnusable(f"{name} is not a directory")
