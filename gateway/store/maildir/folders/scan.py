"""Scan a Maildir's ``new`` and ``cur``."""

from __future__ import annotations

import os
import re
import time

from gateway.store.maildir.folders.place import FOLDERS, Place

EXPIRED = ".Expired"
"""The Maildir++ folder of hidden messages, which POP3 does not show."""

TRIES = 4
"""Most readings of directories that keep changing, per scan."""

EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""The first and the last second that a date can be of: years 1 and 9999."""

_FINE = 50_000_000
_COARSE = 2_000_000_000
_SECONDS = re.compile(r"[0-9]{10}\.")
_STORED = re.compile(r",S=([0-9]{1,18})(?=[,:]|$)").search
_WIRE = re.compile(r",W=([0-9]{1,18})(?=[,:]|$)").search

Entry = tuple[int, int, int, int, int]
"""Inode, mtime in ns, size, device and owner."""

Stamp = tuple[Entry | None, ...]
"""Those of ``new``, ``cur`` and the uidlist, if they exist."""

NEVER: Stamp = ()
"""A stamp that no mailbox has."""


def stamp_of(new: str, cur: str, uidlist: str) -> Stamp:
    """A value that changes whenever a message arrives, goes or is renamed.

    It also changes if another directory replaces one of these.  Raises ``OSError`` except
    for a missing file.
    """
    stamps: list[Entry | None] = []
    for path in (new, cur, uidlist):
        try:
            stamps.append(entry_of(os.stat(path)))
        except FileNotFoundError:
            stamps.append(None)
    return tuple(stamps)


def entry_of(status: os.stat_result) -> Entry:
    """The part of a stamp that a file or directory with this status is."""
    inode, changed, size = status.st_ino, status.st_mtime_ns, status.st_size
    return inode, changed, size, status.st_dev, status.st_uid


def settled(stamp: Stamp, now_ns: int) -> bool:
    """Whether any change after ``now_ns`` changes the stamp.

    File systems have coarse clocks: two changes within one tick leave the same mtime.
    A stamp is reliable once its tick has passed.
    """
    return all(entry is None or now_ns - entry[1] >= tick(entry[1]) for entry in stamp)


def tick(mtime: int) -> int:
    """How long after ``mtime`` a change may leave it unchanged; both in ns."""
    return _FINE if mtime % 1_000_000_000 else _COARSE


def scan(maildir: Place) -> dict[str, str]:
    """Base name to file (``new/...`` or ``cur/...``) of every message."""
    return look(maildir)[0]


def look(maildir: Place) -> tuple[dict[str, str], list[str]]:
    """The result of ``scan``, and the files that share a base name with another.

    Reading a directory can miss a file that is renamed meanwhile.  So a directory that
    changed is read again, and results are merged: at worst a message is listed that has
    just been removed.
    """
    found: dict[str, str] = {}
    there: dict[str, str] = {}
    for _ in range(TRIES):
        last, before, begun = there, mtimes(maildir), time.time_ns()
        there, twins = _read(maildir)
        found.update(there)
        # A second rename in the same tick does not change the mtime.  Deliveries
        # need no second reading: they only add names to ``new``.
        is_quiet = abs(begun - before[1]) >= tick(before[1]) or there == last
        if is_quiet and mtimes(maildir) == before:
            break
    return found, twins


def names(maildir: Place) -> dict[str, str]:
    """Base name to file, from one reading of the directories.  Raises ``OSError``."""
    return _read(maildir)[0]


def _read(maildir: Place) -> tuple[dict[str, str], list[str]]:
    listed = {folder: _sorted(message_names(maildir, folder)) for folder in FOLDERS}
    found = {
        name.partition(":")[0]: f"{folder}/{name}"
        for folder, names in listed.items()
        for name in names
    }
    if sum(map(len, listed.values())) == len(found):
        return found, []
    files = (f"{folder}/{name}" for folder, names in listed.items() for name in names)
    return found, [file for file in files if found[file[4:].partition(":")[0]] != file]


def message_names(maildir: Place, folder: str) -> list[str]:
    """The names of the message files in a folder, which are regular files.

    Raises ``OSError``.
    """
    with os.scandir(maildir.folder(folder).path) as entries:
        # Most file systems tell the kind of a file with its name.
        return [
            entry.name
            for entry in entries
            if entry.name[0] != "." and entry.is_file(follow_symlinks=False)
        ]


def _sorted(names: list[str]) -> list[str]:
    """Names in order.

    A directory has them in none.  What is made from sorted names, in their order, is close together
    in memory: all that is done with it later takes a third of the time.  In pieces, since a
    sort holds the interpreter lock.
    """
    pieces: dict[str, list[str]] = {}
    for name in names:
        pieces.setdefault(name[:6], []).append(name)
    return [name for start in sorted(pieces) for name in sorted(pieces[start])]


def mtimes(maildir: Place) -> list[int]:
    """When ``new`` and ``cur`` last changed, in ns.  Raises ``OSError``."""
    return [maildir.folder(folder).stat().st_mtime_ns for folder in FOLDERS]


def stored_size(base: str) -> int | None:
    """``S=`` of a base name: octets on disk."""
    match = _STORED(base)
    return int(match[1]) if match else None


def wire_size(base: str) -> int | None:
    """``W=`` of a base name: octets with CRLF line ends."""
    # It is usually at the end, where it is found in half the time.
    octets = base.rpartition(",W=")[2]
    if octets.isdecimal() and octets.isascii() and len(octets) <= 18 and len(octets) < len(base):
        return int(octets)
    match = _WIRE(base)
    return int(match[1]) if match else None


def delivery_order(base: str) -> tuple[int, str]:
    """A sort key: by the seconds that begin a Maildir name, then by the name."""
    seconds = base.partition(".")[0]
    if seconds.isascii() and seconds.isdigit():
        return (int(seconds), base)
    return (0, base)


def seconds_in(base: str) -> int:
    """The seconds that begin a Maildir name; 0: it has none, or no possible time."""
    seconds = delivery_order(base)[0]
    return seconds if seconds <= LATEST else 0


def in_order(bases: list[str]) -> list[str]:
    """Files by time of delivery, oldest first."""
    # Almost all names begin with ten digits of seconds; then sorting by text gives the
    # same order, at once where they are almost in order, as a scan has them.
    if all(_SECONDS.match(base) for base in bases):
        return sorted(bases)
    return sorted(bases, key=delivery_order)
