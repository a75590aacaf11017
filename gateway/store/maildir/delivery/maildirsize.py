"""``maildirsize``: usage of a Maildir, as Dovecot, maildrop and Courier keep it.  Blocks.

Line 1 is the quota; the others are octets and messages to add up (Maildir++).  Each
delivery and removal appends a line, in one write without a lock.  If the file looks
wrong, it is recalculated.  Processes of pop3gw hold the Maildir's ``flock`` from reading
to appending.

Messages with flag T count too, as in Dovecot.
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
from gateway.store.maildir.folders.files import remove, replace
from gateway.store.maildir.folders.place import FOLDERS, Place
from gateway.store.maildir.folders.scan import EXPIRED, stored_size
from gateway.store.maildir.uids.uidlist import base_of

log = Logger()

NAME = "maildirsize"

LONGEST = 5120
"""Octets of the file above which it is recalculated."""

SETTLED = 15 * 60
"""Seconds after which a file that says "full" is recalculated."""

TRIES = 10
"""Attempts to find a message that is renamed while it is counted."""

NOT_COUNTED = frozenset({".", "..", ".Trash"})

_LIMIT = re.compile(rb"([0-9]{1,18})([SC])")
_LINE = re.compile(rb"[ \t]*([+-]?[0-9]{1,18})[ \t]+([+-]?[0-9]{1,18})[ \t\r]*")

Definition = tuple[int, int]
"""The quota of line 1 in octets and messages; 0: no limit."""

Stamp = tuple[int, int, int]
"""Inode, size and ``mtime`` in ns of the file; every change alters it."""


class Totals(NamedTuple):
    """The content of a ``maildirsize``."""

    definition: Definition
    octets: int
    messages: int
    lines: int = 1
    """Lines that were added up."""
    changed: float = 0
    """When the file was last written, in Unix seconds."""
    length: int = 0
    """Octets of the file that were read; 0: unknown."""
    checksum: int = 0
    """Their CRC-32, so that only new lines are added up."""
    stamp: Stamp | None = None
    """Of the file that was read; None: unknown."""

    @property
    def usage(self) -> Usage:
        """What the mailbox holds."""
        return Usage(octets=self.octets, messages=self.messages)

    def fills(self, part: float) -> bool:
        """Whether usage exceeds this share of the quota of line 1."""
        octets, messages = self.definition
        return bool(
            (octets and self.octets > part * octets)
            or (messages and self.messages > part * messages)
        )

    def may_be_wrong(self, now: float) -> bool:
        """Whether a recalculation could differ."""
        return self.lines > 1 or self._is_settled(now)

    def is_doubtful(self, now: float) -> bool:
        """Whether to recalculate before the mailbox is reported as full."""
        # A check before delivery may reject a message a little below the limit.
        return (self.lines > 1 and self.fills(1)) or (self._is_settled(now) and self.fills(0.75))

    def _is_settled(self, now: float) -> bool:
        """Whether the file is old, or has a time in the future."""
        return abs(now - self.changed) >= SETTLED


def definition_of(limits: Limits) -> Definition:
    """Line 1 for these limits."""
    # 0 would mean no limit; one octet allows as little as none.
    return (
        0 if limits.octets is None else max(limits.octets, 1),
        0 if limits.messages is None else max(limits.messages, 1),
    )


def parse(data: bytes, changed: float = 0, before: Totals | None = None) -> Totals | None:
    """Parse the content of a file; None: recalculate.

    ``before``: the result for an earlier, shorter content.
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
    """Parse line 1."""
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
    """Read the file; None: it is missing or must be recalculated.

    ``before``: the result of an earlier reading.  Raises ``OSError``.
    """
    if before is not None and is_current(before, *maildir.reach(NAME)):
        return before
    try:
        file = maildir.open(NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError:
        # A link or socket of a user; the recalculation replaces it.
        if stat.S_ISREG(maildir.lstat(NAME).st_mode):
            raise
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        totals = parse(os.read(file, LONGEST), status.st_mtime, before)
        # A line may have come since; then it is read again.
        return totals and totals._replace(stamp=_stamp_of(status))
    finally:
        os.close(file)


def is_current(totals: Totals, path: str, start: int | None = None) -> bool:
    """Whether the file at this path is as it was read; costs one ``lstat``.

    A relative path starts from an open directory.
    """
    try:
        status = os.lstat(path, dir_fd=start)
        return totals.stamp is not None and totals.stamp == _stamp_of(status)
    except OSError:
        return False


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def current(
    maildir: Place,
    definition: Definition,
    *,
    now: float,
    before: Totals | None = None,
    hidden: bool = False,
) -> Totals:
    """Usage of the mailbox, recalculated if necessary, with ``definition`` in line 1.

    The caller holds the ``flock``.  ``now`` in Unix seconds; ``before``: the result of an
    earlier reading; ``hidden``: whether hidden messages count.  Raises ``OSError``.
    """
    totals = read(maildir, before)
    # A new line 1 needs a recalculation too: a copy could lose a line appended meanwhile.
    if totals is None or totals.definition != definition or totals.is_doubtful(now):
        return count(maildir, definition, now=now, hidden=hidden)
    return totals


def count(maildir: Place, definition: Definition, *, now: float, hidden: bool = False) -> Totals:
    """Recalculate usage and write the file.

    ``hidden``: whether hidden messages count.  For a mailbox that keeps changing no file
    is written.  Raises ``OSError``; a failure to write is only logged.
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


def append(
    maildir: Place, octets: int, messages: int, before: Totals | None = None
) -> Totals | None:
    """Append to the file, if there is one; if that fails, remove it for a recalculation.

    Returns the content if it is ``before`` with this line; None: it must be read.
    """
    path = maildir.at(NAME)
    line = b"%d %d\n" % (octets, messages)
    try:
        if before is None and not exists(maildir):
            return None
        file = maildir.open(NAME, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(file, line) == len(line):
                return before and _grown(before, octets, messages, line, os.fstat(file))
            remove(path)
        finally:
            os.close(file)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warn("{path}: {error}; it will be recalculated", path=named(maildir), error=error)
        remove(path)
    return None


def _grown(
    before: Totals, octets: int, messages: int, line: bytes, status: os.stat_result
) -> Totals | None:
    """``before`` and one line more, unless the file has something else, or is to be rewritten."""
    stamp, length = _stamp_of(status), before.length + len(line)
    if before.stamp is None or stamp[:2] != (before.stamp[0], length) or length >= LONGEST:
        return None
    return before._replace(
        octets=before.octets + octets,
        messages=before.messages + messages,
        lines=before.lines + 1,
        changed=status.st_mtime,
        length=length,
        checksum=zlib.crc32(line, before.checksum),
        stamp=stamp,
    )


def named(maildir: Place) -> str:
    """The path of the file for the log."""
    return f"{maildir.name}/{NAME}"


def exists(maildir: Place) -> bool:
    """Whether the mailbox has the file.  Raises ``OSError``."""
    return maildir.exists(NAME)


def size_on_disk(path: str) -> int:
    """The octets of a message, from its name or else its file.  Raises ``OSError``."""
    named = stored_size(path.rpartition("/")[2])
    return os.lstat(path).st_size if named is None else named


def _changes(maildir: Place, *, hidden: bool) -> dict[tuple[str, str], int]:
    """When each directory with messages last changed, Maildir++ folders included."""
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
        # Messages behind a user's link do not count here.
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
        # They are gone, or another program has just changed their flags.
        names = [name for name in os.listdir(path) if base_of(name) in missed]


def _write(maildir: Place, totals: Totals) -> None:
    """Replace the file by one with a single line of usage."""
    octets, messages = totals.definition
    # Without a limit line 1 must not be empty either.
    line = f"{octets}S,{messages}C" if messages else f"{octets}S"
    data = f"{line}\n{totals.octets} {totals.messages}\n".encode("ascii")
    try:
        replace(maildir.at(NAME), data, sync=False)
    except OSError as error:
        log.warn("{path}: {error}; what is there stays uncounted", path=named(maildir), error=error)
