"""Files that share a base name get new names.  Blocks: call it in a thread.

A message is identified by its base name, the part before the colon.  Delivery programs
make unique ones; cp and rsync do not: ``Re: one.eml`` and ``Re: two.eml`` have the base
name ``Re``, and a copy with other flags has that of its original.  All but one are
renamed, as in Dovecot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from gateway.durable import sync_directory
from gateway.store.maildir.delivery.incoming import unique_name
from gateway.store.maildir.folders.files import complain
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import FOLDERS, Place
from gateway.store.maildir.folders.scan import look, stored_size, wire_size
from gateway.store.maildir.uids.uidlist import base_of

YOUNG = 30
"""Seconds after a rename in which a file may briefly have two names."""

_PLAIN = re.compile(r"(?:new|cur)/[^:\r\n]+(?::[12],[^\r\n]*)?").fullmatch
_FLAGS = re.compile(r":2,([A-Za-z]*)")


def is_plain(file: str) -> bool:
    """Whether ``new/...`` or ``cur/...`` has a valid name for Maildirs and uidlists.

    Another file may get the base name of one with a colon without flags, and a line end
    in a name would end a line of the uidlist.
    """
    return _PLAIN(file) is not None


def part(maildir: Place, odd: Collection[str], known: Collection[str], now_ns: int) -> bool:
    """Rename files that share a base name.

    The caller holds the Maildir's ``flock``.  Of files with one base name the
    one in ``known`` keeps it, since clients have seen its id, else the one
    that was there first; those with a base name in ``odd`` keep it only if
    they are plain.  False if one may be a file in the midst of a rename, or
    cannot get another name.  Raises ``OSError`` where that is about a folder.
    """
    files, others = look(maildir)
    groups = {base: [files[base]] for base in odd if base in files}
    for file in others:
        base = base_of(file.partition("/")[2])
        groups.setdefault(base, [files[base]]).append(file)
    superfluous: list[str] = []
    is_sure = True
    for base, group in groups.items():
        seen: set[int] = set()
        for file, status in _in_turn(maildir, group, known):
            is_young = now_ns - status.st_ctime_ns < YOUNG * 1_000_000_000
            if is_young and status.st_ino in seen:
                is_sure = False
            elif seen or (base in odd and not is_plain(file)):
                superfluous.append(file)
            seen.add(status.st_ino)
    return _rename(maildir, superfluous, now_ns) and is_sure


def _in_turn(
    maildir: Place, group: Sequence[str], known: Collection[str]
) -> list[tuple[str, os.stat_result]]:
    """Files that are there, and first the one that has the best claim to its name."""
    there = []
    for file in group:
        try:
            there.append((file, os.lstat(maildir.at(file))))
        except FileNotFoundError:
            continue
    return sorted(
        there, key=lambda one: (one[0] not in known, not is_plain(one[0]), one[1].st_ctime_ns, one)
    )


def _rename(maildir: Place, files: Sequence[str], now_ns: int) -> bool:
    renamed, failed = [], []
    for file in files:
        name = _own_name(file, now_ns)
        try:
            move(maildir.at(file), maildir.at(name))
        except FileNotFoundError:
            continue
        except OSError as error:
            failed.append(f"{file!r} ({error.strerror})")
        else:
            renamed.append(f"{file!r} as {name}")
    if renamed:
        for folder in FOLDERS:
            sync_directory(maildir.folder(folder).path)
    complain(maildir, "files had no name of their own and were renamed", renamed)
    complain(maildir, "files have no name of their own and are not shown", failed)
    return not failed


def _own_name(file: str, now_ns: int) -> str:
    """A name that nobody else has, with the sizes and flags of the old one.

    As Dovecot does it, in ``new``, unless that would lose flags.
    """
    base, _, info = file.partition("/")[2].partition(":")
    name = unique_name(now_ns)
    if (size := stored_size(base)) is not None:
        name += f",S={size}"
    if (size := wire_size(base)) is not None:
        name += f",W={size}"
    flags = _FLAGS.fullmatch(f":{info}")
    return f"cur/{name}:2,{flags[1]}" if flags and flags[1] else f"new/{name}"
