"""``maildirsize``: what a Maildir holds, as Dovecot, maildrop and Courier keep it too.  Blocks.

Line 1 is the quota, the others are numbers of octets and messages to be added
up (Maildir++).  Whoever delivers or removes appends a line, in one write and
under no lock, so the file is right but for accidents, and is counted anew
where one shows.  Our own processes hold the Maildir's ``flock`` from reading
to appending.

Counted is what takes room: messages with flag T too, as Dovecot does.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from typing import NamedTuple

from twisted.logger import Logger

from gateway.errors import MailboxUnusable
from gateway.model import Limits, Usage
from gateway.store.maildir.folders.files import no_link, remove, replace
from gateway.store.maildir.folders.place import FOLDERS, Place
from gateway.store.maildir.folders.scan import EXPIRED, stored_size
from gateway.store.maildir.uids.uidlist import base_of

log = Logger()

NAME = "maildirsize"

LONGEST = 5120
"""Octets from which on the file is counted anew."""

SETTLED = 15 * 60
"""Seconds after which what says "full" is not believed any more."""

TRIES = 10
"""How often a file that is renamed while it is counted is looked for."""

NOT_COUNTED = frozenset({".", "..", ".Trash"})

_LIMIT = re.compile(rb"([0-9]{1,18})([SC])")
_LINE = re.compile(rb"[ \t]*([+-]?[0-9]{1,18})[ \t]+([+-]?[0-9]{1,18})[ \t\r]*")

Definition = tuple[int, int]
"""The quota of line 1 in octets and in messages; 0 for none, as is the custom."""


class Totals(NamedTuple):
    """What a ``maildirsize`` says."""

    definition: Definition
    octets: int
    messages: int
    lines: int = 1
    """How many numbers were added up."""
    changed: float = 0
    """When the file was last written, in seconds since 1970."""
    length: int = 0
    """How many octets say this; 0 where it is not known."""
    checksum: int = 0
    """Their CRC-32, so that what was added up is not added up again."""

    @property
    def usage(self) -> Usage:
        """What the mailbox holds."""
        return Usage(octets=self.octets, messages=self.messages)

    def fills(self, part: float) -> bool:
        """Whether more than this part of the quota of line 1 is used."""
        octets, messages = self.definition
        return bool(
            (octets and self.octets > part * octets)
            or (messages and self.messages > part * messages)
        )

    def may_be_wrong(self, now: float) -> bool:
        """Whether counting anew could find something else."""
        return self.lines > 1 or self._is_settled(now)

    def is_doubtful(self, now: float) -> bool:
        """Whether to count again before the mailbox is reported as full."""
        # A check before delivery may refuse a message a little below the limit.
        return (self.lines > 1 and self.fills(1)) or (self._is_settled(now) and self.fills(0.75))

    def _is_settled(self, now: float) -> bool:
        """Whether the file is old, or its time cannot be believed since it is yet to come."""
        return abs(now - self.changed) >= SETTLED


def definition_of(limits: Limits) -> Definition:
    """Line 1 for these limits."""
    # 0 would mean no limit; a single octet is as good as none.
    return (
        0 if limits.octets is None else max(limits.octets, 1),
        0 if limits.messages is None else max(limits.messages, 1),
    )


def parse(data: bytes, changed: float = 0, before: Totals | None = None) -> Totals | None:
    """What the content of a file says; None where it has to be counted anew.

    ``before`` is what an earlier content said, of which this may be more.
    """
    if len(data) >= LONGEST or not data.endswith(b"\n"):
        return None
    if before is None or not before.length or not _only_grew(data, before):
        before = _begun(data)
    if before is None:
        return None
    octets, messages, lines = before.octets, before.messages, before.lines
    rest = data[before.length :]
    for line in rest.split(b"\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        octets += int(match[1])
        messages += int(match[2])
        lines += 1
    if not lines or octets < 0 or messages < 0:
        return None
    checksum = zlib.crc32(rest, before.checksum)
    return Totals(before.definition, octets, messages, lines, changed, len(data), checksum)


def _only_grew(data: bytes, before: Totals) -> bool:
    return zlib.crc32(memoryview(data)[: before.length]) == before.checksum


def _begun(data: bytes) -> Totals | None:
    """What line 1 says."""
    first = data[: data.index(b"\n") + 1]
    limits = {b"S": 0, b"C": 0}
    for word in first.strip().split(b",") if first.strip() else ():
        match = _LIMIT.fullmatch(word)
        if match is None:
            return None
        limits[match[2]] = int(match[1])
    definition = limits[b"S"], limits[b"C"]
    return Totals(definition, 0, 0, 0, length=len(first), checksum=zlib.crc32(first))


def read(maildir: Place, before: Totals | None = None) -> Totals | None:
    """What the file says; None where there is none or it has to be counted anew.

    ``before`` is what was read earlier.  Raises ``OSError``.
    """
    path = maildir.at(NAME)
    try:
        file = no_link(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError:
        # A link or a socket of a user's; the count will take its place.
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        return parse(os.read(file, LONGEST), status.st_mtime, before)
    finally:
        os.close(file)


def current(
    maildir: Place,
    definition: Definition,
    *,
    now: float,
    before: Totals | None = None,
    hidden: bool = False,
) -> Totals:
    """What the mailbox holds, counted if need be, and ``definition`` in line 1.

    The caller holds the ``flock``.  ``now`` in seconds since 1970; ``before``
    is what was read earlier; ``hidden``: whether hidden messages count.
    Raises ``OSError``.
    """
    totals = read(maildir, before)
    # A new line 1 takes a count as well: a copy could lose a line that comes meanwhile.
    if totals is None or totals.definition != definition or totals.is_doubtful(now):
        return count(maildir, definition, now=now, hidden=hidden)
    return totals


def count(maildir: Place, definition: Definition, *, now: float, hidden: bool = False) -> Totals:
    """Add up what is there, and write it down.

    ``hidden``: whether hidden messages count.  A mailbox that changes all the
    while is left without a file.  Raises ``OSError``; if only the writing fails
    that is logged.
    """
    for _ in range(4):
        before = _changes(maildir, hidden=hidden)
        octets, messages = _sum(maildir, before)
        totals = Totals(definition, octets, messages, changed=now)
        _write(maildir, totals)
        if _changes(maildir, hidden=hidden) == before:
            return totals
    remove(maildir.at(NAME))
    return totals


def append(maildir: Place, octets: int, messages: int) -> None:
    """Add to the file, if there is one; where that fails it goes, to be counted anew."""
    path = maildir.at(NAME)
    line = b"%d %d\n" % (octets, messages)
    try:
        file = no_link(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(file, line) != len(line):
                remove(path)
        finally:
            os.close(file)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warn("{path}: {error}; it will be counted anew", path=named(maildir), error=error)
        remove(path)


def named(maildir: Place) -> str:
    """What an administrator knows the file by."""
    return f"{maildir.name}/{NAME}"


def exists(maildir: Place) -> bool:
    """Whether what the mailbox holds is written down."""
    return os.path.lexists(maildir.at(NAME))


def size_on_disk(path: str) -> int:
    """The octets a message takes, by its name or else by its file.  Raises ``OSError``."""
    named = stored_size(path.rpartition("/")[2])
    return os.lstat(path).st_size if named is None else named


def _changes(maildir: Place, *, hidden: bool) -> dict[tuple[str, str], int]:
    """When each directory of messages last changed, Maildir++ folders included."""
    left_out = NOT_COUNTED if hidden else NOT_COUNTED | {EXPIRED}
    with os.scandir(maildir.path) as entries:
        folders = [
            entry.name
            for entry in entries
            if entry.name[0] == "."
            and entry.name not in left_out
            and entry.is_dir(follow_symlinks=False)
        ]
    found = {}
    for directory in product(("", *folders), FOLDERS):
        # What a user has linked into a folder of his own takes no room here.
        with suppress(FileNotFoundError, MailboxUnusable), _inside(maildir, directory) as path:
            found[directory] = os.stat(path).st_mtime_ns
    return found


@contextmanager
def _inside(maildir: Place, directory: tuple[str, str]) -> Iterator[str]:
    """The path of ``new`` or ``cur`` of a folder; ``""`` is the Maildir itself."""
    folder, kind = directory
    if not folder:
        yield maildir.folder(kind).path
        return
    with maildir.visit(folder) as below:
        yield below.folder(kind).path


def _sum(maildir: Place, directories: Iterable[tuple[str, str]]) -> tuple[int, int]:
    octets = messages = 0
    for directory in directories:
        with _inside(maildir, directory) as path:
            sizes = list(_sizes_in(path))
        octets += sum(sizes)
        messages += len(sizes)
    return octets, messages


def _sizes_in(path: str) -> Iterator[int]:
    names = os.listdir(path)
    for _ in range(TRIES):
        missed = set()
        for name in names:
            if name[0] != ".":
                try:
                    yield size_on_disk(f"{path}/{name}")
                except FileNotFoundError:
                    missed.add(base_of(name))
        if not missed:
            break
        # They are gone, or another program has just given them other flags.
        names = [name for name in os.listdir(path) if base_of(name) in missed]


def _write(maildir: Place, totals: Totals) -> None:
    """Put a file of one number in the place of what is there."""
    octets, messages = totals.definition
    # Without a limit there has to be something to read all the same.
    line = f"{octets}S,{messages}C" if messages else f"{octets}S"
    data = f"{line}\n{totals.octets} {totals.messages}\n".encode("ascii")
    try:
        replace(maildir.at(NAME), data, sync=False)
    except OSError as error:
        log.warn("{path}: {error}; what is there stays uncounted", path=named(maildir), error=error)
