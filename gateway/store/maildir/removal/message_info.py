"""Data of stored messages for retention and the audit log.  Blocks: call it in a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from gateway.errors import StoreDown
from gateway.model import Reason, Removed, StoredMessage
from gateway.store.audited import END_OF_HEADER, entry, message_id_in
from gateway.store.maildir.folders.files import open_message, version_of
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.folders.scan import (
    EARLIEST,
    LATEST,
    look,
    seconds_in,
    stored_size,
)
from gateway.store.maildir.listing.compressed import HEAD, Unpacked, is_packed, kind_of
from gateway.store.maildir.removal.hidden import hidden_of
from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.ids import ordered, shown_ids
from gateway.store.maildir.uids.uidlist import NAME, UidList, base_of

OPENING = 4096
"""Octets that contain most headers completely."""

HEADER = 64 * 1024
"""Octets to search for a Message-ID."""

T = TypeVar("T")

See = Callable[[str, str, os.stat_result], StoredMessage]
"""The data of a message from its unique-id, name and file."""


def as_delivered(uid: str, name: str, status: os.stat_result) -> StoredMessage:
    """Its age is the smaller of those in its name and of its file.

    So copies and touched files are kept longer.  The time of reading is the ctime, which
    the rename that adds the flag S sets; any later change makes it later.
    """
    base, _, info = name.partition(":")
    received = _possible(max(float(seconds_in(base)), status.st_mtime))
    is_read = info.startswith("2,") and "S" in info
    read = max(received, status.st_ctime) if is_read else None
    return StoredMessage(received, uid, status.st_size, read)


def as_hidden(uid: str, name: str, status: os.stat_result) -> StoredMessage:
    """Its age counts from the rename that hid it, or from the time in its name."""
    hidden = hidden_of(f"cur/{name}")
    since = None if hidden is None else hidden.since
    since = status.st_ctime if since is None else _possible(since)
    return as_delivered(uid, name, status)._replace(received=since)


def _possible(seconds: float) -> float:
    """The nearest time that has a date: neither an audit log nor a database holds others."""
    return min(max(seconds, EARLIEST), LATEST)


class Looked(NamedTuple):
    """The result of ``look_for``."""

    found: list[tuple[StoredMessage, str]]
    """The data of each message, and the current name of its file."""

    restless: list[str]
    """Unique-ids of messages that other programs keep renaming."""

    written: list[str]
    """Unique-ids of messages with changed files."""


def look_for(
    maildir: Place,
    wanted: Iterable[tuple[str, str]],
    see: See = as_delivered,
    versions: Mapping[str, int] = {},
) -> Looked:
    """Find the data of each unique-id and file, even if another program renamed it.

    Missing messages, and files that are not regular, are left out.  ``versions``: by
    unique-id, ``version_of`` the files when they were last read.
    """
    written: list[str] = []
    seen: dict[int, tuple[StoredMessage, str]] = {}
    uids = []
    files = []
    for index, (uid, file) in enumerate(wanted):
        uids.append(uid)
        files.append((index, file))

    def look(index: int, file: str) -> None:
        status = maildir.lstat(file)
        version = versions.get(uids[index])
        if version is not None and version != version_of(status):
            written.append(uids[index])
        elif stat.S_ISREG(status.st_mode):
            kept = see(uids[index], file.partition("/")[2], status)
            octets = _octets(maildir, file, status.st_size)
            seen[index] = kept if octets == kept.octets else kept._replace(octets=octets), file

    restless = follow(maildir, files, look).restless
    found = [seen[index] for index in sorted(seen)]
    return Looked(found, [uids[index] for index in restless], written)


def _octets(maildir: Place, file: str, stored: int) -> int:
    """The size of a message for quotas; of a compressed one the size in its name."""
    named = stored_size(base_of(file.partition("/")[2]))
    if named is None or named == stored:
        return stored
    try:
        return named if is_packed(maildir.at(file)) else stored
    except FileNotFoundError:
        raise
    except OSError:
        return stored


def look_at(
    maildir: Place, wanted: Iterable[tuple[str, str]], see: See = as_delivered
) -> list[tuple[StoredMessage, str]]:
    """As ``look_for``, but raises ``StoreDown`` for messages that keep being renamed."""
    looked = look_for(maildir, wanted, see)
    raise_for(maildir, looked.restless)
    return looked.found


def raise_for(maildir: object, restless: Sequence[str]) -> None:
    """Raise ``StoreDown`` if other programs keep renaming messages."""
    if restless:
        raise StoreDown(
            f"{maildir}: another program goes on renaming {len(restless)} messages,"
            f" the first is {restless[0]}"
        )


def entries(
    action: str,
    maildir: Place,
    mailbox: str,
    found: Sequence[tuple[StoredMessage, str]],
    cause: Reason,
) -> Iterator[Removed]:
    """The audit entries of messages."""
    named: dict[int, str | None] = {}

    def read(index: int, file: str) -> None:
        try:
            named[index] = message_id_in(head_of(*maildir.reach(file)))
        except FileNotFoundError:
            raise
        except OSError:
            named[index] = None

    follow(maildir, [(index, file) for index, (_, file) in enumerate(found)], read)
    for index, (kept, _) in enumerate(found):
        yield entry(action, mailbox, kept, named.get(index), cause)


def message_id(path: str) -> str | None:
    """The Message-ID in the header of a message; None: not found."""
    try:
        return message_id_in(head_of(path))
    except OSError:
        return None


def head_of(path: str, directory: int | None = None) -> bytes:
    """The header of a message, perhaps with octets of its body: 64 KiB at most.

    A relative path starts from an open ``directory``.  Raises ``OSError``.
    """
    file, _ = open_message(path, directory)
    try:
        head = os.pread(file, OPENING, 0)
        kind = kind_of(head[:HEAD])
        packed = kind and Unpacked(file, kind, path)
        head = packed.read() if packed else head
        while 0 < len(head) < HEADER and not END_OF_HEADER.search(head):
            more = packed.read() if packed else os.pread(file, HEADER - len(head), len(head))
            if not more:
                break
            head += more
        return head[:HEADER]
    finally:
        os.close(file)


def shown_files(maildir: Place, mark: Mark) -> tuple[dict[str, str], list[str]]:
    """Unique-id to file, and the files without a unique-id.  Raises ``OSError``."""
    files, twins = look(maildir)
    uidlist = UidList(maildir.at(NAME), mark)
    uidlist.refresh()
    bases = ordered(uidlist, files)
    shown = {uid: files[base] for uid, base in zip(shown_ids(uidlist, bases), bases, strict=True)}
    return shown, [file for base, file in files.items() if base not in uidlist.uids] + twins


def only(files: Mapping[str, T], uids: Collection[str]) -> list[tuple[str, T]]:
    """The messages of ``uids`` that are in ``files``, each once, with their data."""
    return [(uid, files[uid]) for uid in dict.fromkeys(uids) if uid in files]
