"""What came into a Maildir since a snapshot.  Blocks: call it in a thread."""

from __future__ import annotations

from collections.abc import Collection

from gateway.store.maildir.folders.duplicates import is_plain
from gateway.store.maildir.folders.place import FOLDERS, Place
from gateway.store.maildir.folders.scan import message_names
from gateway.store.maildir.listing.snapshot import Snapshot
from gateway.store.maildir.uids.gone import may_come_again
from gateway.store.maildir.uids.uidlist import base_of

RENAMED = 100
"""Most renamed files to look up one by one."""


def find_additions(
    maildir: Place, before: Snapshot, *, is_cur_unchanged: bool
) -> dict[str, str] | None:
    """Base name to file of the messages that are not in a snapshot.

    Takes new names of renamed files into the snapshot.  None if messages are gone, or a new
    name needs a whole scan.  Raises ``OSError``.
    """
    folders = FOLDERS[:1] if is_cur_unchanged else FOLDERS
    # Loops of Python: a call into C as long as a large mailbox would block the reactor.
    here = [f"{folder}/{name}" for folder in folders for name in message_names(maildir, folder)]
    known = before.in_new if is_cur_unchanged else set(before.files)
    added = [file for file in here if file not in known]
    files = {_base(file): file for file in added}
    if len(files) != len(added):
        return None
    if len(here) - len(added) != len(known):
        renamed = known.difference(here)
        if not _renamed(before, renamed, files):
            return None
    if any(may_come_again(base) or not is_plain(file) for base, file in files.items()):
        return None
    return files


def _renamed(before: Snapshot, gone: Collection[str], files: dict[str, str]) -> bool:
    """Take new names of files from ``files`` into the snapshot; False: some have none."""
    if len(gone) > RENAMED or any(_base(file) not in files for file in gone):
        return False
    for file in gone:
        try:
            before.rename(before.files.index(file), files[_base(file)])
        except ValueError:
            # A session has just renamed it, and knows its name.
            return False
        del files[_base(file)]
    return True


def _base(file: str) -> str:
    return base_of(file.partition("/")[2])
