"""Files that share a base name get new names.  Blocks: call it in a thread.

A message is identified by its base name, the part before the colon.  Delivery programs
make unique ones; cp and rsync do not: ``Re: one.eml`` and ``Re: two.eml`` have the base
name ``Re``, and a copy with other flags has that of its original.  All but one are
renamed, as in Dovecot.  Two names of one file are no two messages: one goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence, Set
from contextlib import suppress
from typing import NamedTuple

from gateway.durable import sync_directory
from gateway.errors import StoreDown
from gateway.store.maildir.delivery.incoming import unique_name
from gateway.store.maildir.folders.dotlock import lock_file
from gateway.store.maildir.folders.files import complain
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import FOLDERS, Place
from gateway.store.maildir.folders.scan import look, stored_size, wire_size
from gateway.store.maildir.uids.uidlist import NAME, base_of

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


class _Message(NamedTuple):
    """A file, and its names that share a base name."""

    names: list[str]
    changed: int
    """Its ctime, in ns since 1970."""


def part(
    maildir: Place,
    odd: Collection[str],
    known: Set[str],
    now_ns: int,
    *,
    is_flocked: bool = True,
) -> bool:
    """Rename files that share a base name, and leave a file one name.

    The caller holds the Maildir's ``flock``, or a file keeps its names; and not the uidlist's
    lock.  Of files with one base name the one in ``known`` keeps it, since clients have seen its
    id, else the one that was there first; those with a base name in ``odd`` keep it only if
    they are plain.  False if one may be a file in the midst of a rename, or
    cannot get another name.  Raises ``OSError`` where that is about a folder.
    """
    superfluous: list[str] = []
    linked: list[list[str]] = []
    is_sure = True
    for base, group in _groups(maildir, odd).items():
        is_taken = False
        for names, changed in _in_turn(maildir, group, known):
            file = names[-1]
            if len(names) > 1 and now_ns - changed < YOUNG * 1_000_000_000:
                is_sure = False
            elif len(names) > 1 and not (is_flocked and _left_one(maildir, names)):
                linked.append(names)
            elif is_taken or (base in odd and not is_plain(file)):
                superfluous.append(file)
            is_taken = True
    complain(maildir, "files have two names and are looked at again", [one[0] for one in linked])
    return _rename(maildir, superfluous, now_ns) and is_sure and not linked


def _groups(maildir: Place, odd: Collection[str]) -> dict[str, list[str]]:
    """The files that share a base name, and those with one in ``odd``."""
    files, others = look(maildir)
    groups = {base: [files[base]] for base in odd if base in files}
    for file in others:
        base = base_of(file.partition("/")[2])
        groups.setdefault(base, [files[base]]).append(file)
    return groups


def _in_turn(maildir: Place, group: Sequence[str], known: Set[str]) -> list[_Message]:
    """Files that are there, and first the one that has the best claim to its name."""
    there: dict[tuple[int, int], _Message] = {}
    for file in sorted(group, key=_as_moved):
        with suppress(FileNotFoundError):
            status = os.lstat(maildir.at(file))
            message = _Message([], status.st_ctime_ns)
            there.setdefault((status.st_dev, status.st_ino), message).names.append(file)
    return sorted(
        there.values(),
        key=lambda one: (
            known.isdisjoint(one.names),
            not is_plain(one.names[-1]),
            one.changed,
            one.names,
        ),
    )


def _as_moved(file: str) -> tuple[bool, bool, int, str]:
    """Sorts the names of a file: last the one that a move gives it, in ``cur`` and with flags."""
    flags = _FLAGS.search(file)
    return is_plain(file), file.startswith("cur/"), len(flags[1]) if flags else 0, file


def _left_one(maildir: Place, names: Sequence[str]) -> bool:
    """Remove all names of one file but the last; False: not now.

    A move by link leaves two names if its process dies between the two steps.  If it only
    sleeps, it will remove the first name, so the last one stays.  Dovecot may remove either, and so
    this holds the lock that it has then.
    """
    *others, last = names
    try:
        with lock_file(maildir, NAME, timeout=0):
            kept = maildir.lstat(last)
            for file in others:
                if not maildir.has(file, kept):
                    return False
                maildir.unlink(file)
    except (OSError, StoreDown):
        return False
    complain(maildir, "files had a second name, which is removed", others)
    return True


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
