"""Searches the audit log and its older files, newest line first.  Blocks: for a worker.

A question reads a bounded number of octets and answers with a cursor for the next one: the file,
by its inode, and the place in it.  So it goes on at the right place after a rotation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

from gateway.errors import StoreDown
from gateway.model import AuditEntry, AuditLines, AuditQuery

OCTETS = 16 * 2**20
"""Octets that one question reads at most."""

_BLOCK = 64 * 1024

_LONGEST = 2**20
"""Octets of the longest line; a longer one is damaged."""

_TIME = re.compile(rb'\{"time": "([0-9T:.Z-]+)"')

_LATE = 3600.0
"""Seconds by which lines may be out of order, where a clock was set."""


class _Place(NamedTuple):
    """A file of the log, and how many octets of it are still to be read."""

    inode: int
    octets: int


def find_lines(
    path: str, wanted: AuditQuery, *, cursor: str = "", most: int, octets: int = OCTETS
) -> AuditLines:
    """Up to ``most`` wanted lines from the cursor of an answer on; empty: from the newest line.

    Reads no more than about ``octets``.  Raises ``ValueError`` for a cursor that is none, and
    ``StoreDown``.
    """
    search = _Search(wanted, most, octets)
    try:
        with ExitStack() as files:
            search.go_through(_from(list(_opened(path, files)), _place(cursor)))
    except OSError as error:
        raise StoreDown(f"{path}: {error.strerror or error}") from error
    return AuditLines(search.found, search.cursor, search.damaged)


class _Search:
    def __init__(self, wanted: AuditQuery, most: int, octets: int) -> None:
        self._wanted = wanted
        # Looking for these costs less than reading the line.
        self._needles = [json.dumps(value).encode() for value in wanted.fields.values()]
        self._most = most
        self._left = octets
        self.found: list[AuditEntry] = []
        self.damaged = 0
        self.cursor = ""

    def go_through(self, files: list[tuple[int, _Place]]) -> None:
        """Read the files in this order, each from its place to its start."""
        for file, (inode, octets) in files:
            for line, start in _backwards(file, octets, self._spend):
                if len(self.found) >= self._most:
                    self.cursor = f"{inode}:{start + len(line) + 1}"
                    return
                if not self._take(line):
                    return
                if self._left <= 0:
                    self.cursor = f"{inode}:{start}"
                    return

    def _spend(self, octets: int) -> None:
        self._left -= octets

    def _take(self, line: bytes) -> bool:
        """Look at a line; False: all further ones are too old."""
        if not line:
            return True
        if not all(needle in line for needle in self._needles):
            return self._is_new(line)
        read = _parsed(line)
        if read is None:
            self.damaged += 1
            return True
        if self._wanted.fits(read):
            self.found.append(read)
        return read.at >= self._wanted.since - _LATE

    def _is_new(self, line: bytes) -> bool:
        """Whether the line, or one before it, may be as new as is wanted."""
        if not self._wanted.since:
            return True
        found = _TIME.match(line)
        with suppress(ValueError):
            return not found or _seconds(found[1].decode()) >= self._wanted.since - _LATE
        return True


def _place(cursor: str) -> _Place | None:
    if not cursor:
        return None
    found = re.fullmatch(r"([0-9]{1,20}):([0-9]{1,20})", cursor, re.ASCII)
    if not found:
        raise ValueError(f"{cursor[:60]!r} is no cursor: take it from the answer before")
    return _Place(int(found[1]), int(found[2]))


def _opened(path: str, files: ExitStack) -> Iterator[tuple[int, _Place]]:
    """The files of the log, the newest first, each once though they are renamed meanwhile."""
    seen = set()
    number = 0
    while True:
        try:
            name = f"{path}.{number}" if number else path
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if number:
                return
        else:
            files.callback(os.close, file)
            status = os.fstat(file)
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                yield file, _Place(status.st_ino, status.st_size)
        number += 1


def _from(files: list[tuple[int, _Place]], place: _Place | None) -> list[tuple[int, _Place]]:
    """The files from a place on; none if its file is gone: what came after it is gone as well."""
    if place is None:
        return files
    numbers = [number for number, (_, one) in enumerate(files) if one.inode == place.inode]
    if not numbers:
        return []
    file, whole = files[numbers[0]]
    start = file, _Place(place.inode, min(place.octets, whole.octets))
    return [start, *files[numbers[0] + 1 :]]


def _backwards(file: int, end: int, spend: Callable[[int], None]) -> Iterator[tuple[bytes, int]]:
    """The lines that end before ``end``, the last first, and where each begins.

    What follows the last line end is being written, or was never finished: it is left out.
    """
    tail, is_ended = b"", False
    while end:
        begin = max(0, end - _BLOCK)
        tail = os.pread(file, end - begin, begin) + tail
        spend(end - begin)
        end = begin
        parts = tail.split(b"\n")
        starts = accumulate((len(part) + 1 for part in parts), initial=begin)
        for part, start in [*zip(parts, starts, strict=False)][:0:-1]:
            if is_ended:
                yield part, start
            is_ended = True
        # A line without end takes no more memory than this; it is damaged.
        tail = parts[0] if len(parts[0]) <= _LONGEST else parts[0][:100]
    if tail and is_ended:
        yield tail, 0


def _parsed(line: bytes) -> AuditEntry | None:
    """The line, or None if it is damaged."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        fields: dict[str, Any] = json.loads(line)
        read = fields["read"]
        told = AuditEntry(
            at=_seconds(fields["time"]),
            action=fields["action"],
            mailbox=fields["mailbox"],
            uid=fields["uid"],
            message_id=fields["message_id"],
            octets=fields["size"],
            received=_seconds(fields["received"]),
            read=None if read is None else _seconds(read),
            rule=fields.get("rule") or "",
            session=fields.get("session") or "",
            client=fields.get("client") or "",
            operator=fields.get("operator") or "",
        )
        texts = (told.action, told.mailbox, told.uid)
        if all(isinstance(one, str) for one in texts) and isinstance(told.octets, int):
            return told
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
