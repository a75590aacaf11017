"""``dovecot-uidlist``: which file has which unique-id, in Dovecot's own format.

Reads versions 1 and 3, writes version 3.  A file grows by whole lines and is replaced by
rename, both only under its lock.  Reading needs no lock: text after the last line end
is incomplete.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count, islice

from twisted.logger import Logger

from gateway.durable import sync_directory, write_all
from gateway.errors import MailboxUnusable
from gateway.store.maildir.folders.files import complain, keep_copy, no_link, replace
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.ids import renamed_ids
from gateway.store.maildir.uids.uidlines import (
    BOM,
    HIGHEST,
    carried_number,
    joined,
    kept_fields,
    parse_header,
)

log = Logger()

NAME = "dovecot-uidlist"
REMEMBERED = 512
"""Octets before the end of the last reading, to detect a replaced file."""

PIECE = 1000
"""Lines to make at once."""

Keep = Callable[[Collection[str]], Collection[str]]
"""Selects the base names with a file, perhaps with some others."""


def base_of(filename: str) -> str:
    """The name of a message file without its flags."""
    return filename.partition(":")[0]


class UidFile:
    """A uidlist that is read and appended to, and how much of the file was read.

    It may forget messages that it has read (``Numbering``), so nothing here writes those again:
    what rewrites the file is a ``UidList``.
    """

    def __init__(self, path: str, mark: Mark | None = None) -> None:
        """``mark``: tells the next id if the list cannot."""
        self.path = path
        self._where: tuple[str, int | None] = path, None
        """The path for ``os.open``, and the directory that it starts from."""
        self.mark = mark or Mark()
        self._is_followed = False
        """Since this process last gave ids, lines were only appended."""
        self.uids: dict[str, int] = {}
        """Base name to unique-id, in the order of the file."""
        self.fields: dict[str, str] = {}
        """Base name to the fields between id and name, if any."""
        self.uidvalidity = 0
        self.next_uid = 1
        self.in_order = True
        """The unique-ids increase from line to line."""
        self.only_adds = True
        """Each line adds a message with a higher id, and with no field P or O."""
        self.torn = False
        """The last line is incomplete: a writer died."""
        self.unsure = False
        """Lines were read that may not be synced to disk."""
        self.version = "3"
        self.faults: list[str] = []
        """Malformed lines, for the log; the next change drops them."""
        self._kept: dict[str, str] = {}
        """Base name to fields of messages with a line without a valid unique-id."""
        self._is_next_lost = False
        self._highest = 0
        self._lines = 0
        self._others: tuple[str, ...] = ()
        self._inode = 0
        self._offset = 0
        self._head = self._tail = b""

    @property
    def name(self) -> str:
        """The path of the file for the log."""
        return f"{self.mark.maildir}/{NAME}" if self.mark.maildir else self.path

    def reach(self, maildir: Place) -> None:
        """It is in this Maildir, which stays open while it is used."""
        self.path, self._where = maildir.at(NAME), maildir.reach(NAME)

    def _open(self, flags: int) -> int:
        path, directory = self._where
        try:
            return no_link(path, flags, directory)
        except OSError as error:
            error.filename = self.path
            raise

    # -- reading -------------------------------------------------------------

    def refresh(self) -> None:
        """Read the tail of a file that grew, else all of it.

        Raises ``MailboxUnusable`` if it is no regular file, or line 1 is not a uidlist's.
        """
        try:
            file = self._open(os.O_RDONLY)
        except FileNotFoundError:
            self._forget()
            return
        try:
            data = self._read(file)
        finally:
            os.close(file)
        end = data.rfind(b"\n") + 1
        self.torn = end < len(data)
        # An editor may have written CRLF line ends.
        text = os.fsdecode(data[:end].replace(b"\r\n", b"\n"))
        self._take(text.split("\n")[:-1])
        self._remember(data[:end])
        self.unsure = self.unsure or end > 0

    def _read(self, file: int) -> bytes:
        """The octets after those read before, if these are unchanged; else all."""
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise MailboxUnusable(f"{self.name} is not a regular file")
        # The inode is no proof: a file system may reuse the number of a replaced
        # file at once.
        if self._offset and status.st_ino == self._inode:
            start = self._offset - len(self._tail)
            data = os.pread(file, max(status.st_size - start, 0), start)
            if data.startswith(self._tail) and self._begins_alike(file):
                return data[len(self._tail) :]
        self._forget()
        self._inode = status.st_ino
        return os.pread(file, status.st_size, 0)

    def _begins_alike(self, file: int) -> bool:
        # The compared tail of a short file is the whole file.
        return len(self._tail) == self._offset or self._head == os.pread(file, len(self._head), 0)

    def _remember(self, data: bytes) -> None:
        """Add octets that follow those read or written before."""
        if not self._offset:
            self._head = data[: data.find(b"\n") + 1]
        tail = data if len(data) >= REMEMBERED else self._tail + data
        self._tail = tail[-REMEMBERED:]
        self._offset += len(data)

    def _forget(self) -> None:
        where = self._where
        self.__init__(self.path, self.mark)  # type: ignore[misc]
        self._where = where

    def _take(self, lines: list[str]) -> None:
        if self._offset == 0 and lines:
            self._take_header(lines[0])
            del lines[0]
        uids, fields = self.uids, self.fields
        separator = " " if self.version == "1" else " :"
        highest, taken = self._highest, None
        for at, line in enumerate(lines, self._lines + 1):
            head, _, name = line.partition(separator)
            number, _, extra = head.partition(" ")
            base = base_of(name)
            uid = int(number) if number.isdecimal() and len(number) <= 10 else 0
            if not (base and 0 < uid <= HIGHEST and number.isascii()):
                # Its file, if there is one, gets a new id.
                self._keep(at, line, base, kept_fields(number, extra))
                continue
            if uid > highest:
                highest = uid
            else:
                self.in_order = self.only_adds = False
                taken = set(uids.values()) if taken is None else taken
                if uid in taken and uids.get(base) != uid:
                    self._keep(at, line, base, extra)
                    continue
            if taken is not None:
                taken.add(uid)
            # A dict keeps the first position of a key; the later line applies.
            if uids.pop(base, None) is not None:
                fields.pop(base, None)
                self.only_adds = False
            uids[base] = uid
            if extra:
                self._set_fields(base, extra)
        self._lines += len(lines)
        self._highest = highest
        self.next_uid = max(self.next_uid, highest + 1)

    def _set_fields(self, base: str, fields: str) -> None:
        self.fields[base] = fields
        if "P" in fields or "O" in fields:
            self.only_adds = False

    def _keep(self, at: int, line: str, base: str, fields: str) -> None:
        self.faults.append(f"line {at}: {line[:100]!r}")
        if base and fields:
            self._kept[base] = fields

    def _take_header(self, line: str) -> None:
        try:
            header = parse_header(line)
        except ValueError:
            raise MailboxUnusable(
                f"{self.name}: line 1 is not a uidlist's of version 1 or 3; put back a good"
                " copy, or move the file away and every message gets a new unique-id"
            ) from None
        self.version, self.uidvalidity = header.version, header.uidvalidity
        self._others, self._lines = header.others, 1
        self._is_next_lost = header.next_uid is None
        self.next_uid = header.next_uid or 1
        if self._is_next_lost or line.startswith(BOM):
            self.faults.append(f"line 1: {line[:100]!r}")

    def make_sure(self) -> None:
        """Sync to disk what was read, before a client sees its ids.

        Raises ``OSError``.
        """
        if self.unsure:
            file = self._open(os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            self.unsure = False

    def is_whole(self, *, inode: int, octets: int) -> bool:
        """Whether a file with this inode and length is what was read or written last."""
        return (inode, octets) == (self._inode, self._offset)

    def field(self, base: str, key: str) -> str | None:
        """One field of a message, by its letter."""
        for word in self.fields.get(base, "").split(" "):
            if word[:1] == key:
                return word[1:]
        return None

    # -- writing, under the lock ---------------------------------------------

    def _give(
        self, new: Sequence[str], fields: Mapping[str, str], now: float
    ) -> tuple[list[bytes], bool]:
        """Lines with the next ids, and whether they are the first of a new list."""
        fresh = not self.uids and not self.uidvalidity
        if fresh:
            self._begin(now)
        elif self._is_next_lost:
            self.next_uid = max(self.next_uid, int(now))
        if not self._is_followed or self.next_uid < self.mark.reached:
            self.next_uid = self.mark.begin(self.next_uid, is_new=fresh)
        self.next_uid = self.beyond()
        self._check_room(len(new))
        lines = self._number(new, fields)
        self.mark.cover(self.next_uid)
        return lines, fresh

    def _followed(self) -> None:
        """The ids that were given are in the file."""
        self._is_followed = True
        self.mark.note(self.next_uid)

    @property
    def _is_to_replace(self) -> bool:
        return self.torn or bool(self.faults) or self.version != "3"

    def _check_room(self, count: int = 0) -> None:
        if self.next_uid + count > HIGHEST + 1:
            raise MailboxUnusable(
                f"{self.name}: unique-ids have run out; move the file away and every"
                " message gets a new one"
            )

    def _begin(self, now: float) -> None:
        """Begin a list that is missing, and may have been lost."""
        # It must not restart at 1: a client would take a new message for one that it
        # has seen, and not fetch it.  Without a mark the time exceeds all earlier
        # ids, unless a mailbox gets more than a message a second all its life.
        if self.torn:
            log.warn("{path}: line 1 is incomplete; all messages get new ids", path=self.name)
        self.uidvalidity = self.next_uid = int(now)
        self._others = ("G" + secrets.token_hex(16),)

    def _number(self, new: Sequence[str], fields: Mapping[str, str]) -> list[bytes]:
        """The lines of new messages."""
        for base in [base for base in new if base in fields or base in self._kept]:
            self._set_fields(base, joined(self._kept.get(base, ""), fields.get(base, "")))
        numbered, lines = zip(new, count(self.next_uid), strict=False), []
        # In pieces: each takes the memory that the one before has freed.
        while piece := list(islice(numbered, PIECE)):
            self.uids.update(piece)
            lines.append(self._text(piece))
        self.next_uid += len(new)
        return lines

    def _text(self, numbered: Iterable[tuple[str, int]]) -> bytes:
        """The lines of base names with their unique-ids."""
        fields = self.fields
        lines = [
            f"{uid} {extra} :{base}\n" if (extra := fields.get(base)) else f"{uid} :{base}\n"
            for base, uid in numbered
        ]
        return os.fsencode("".join(lines))

    def beyond(self) -> int:
        """A number larger than every unique-id that is or could be shown."""
        return max(self.next_uid, self._beyond_carried())

    def _beyond_carried(self) -> int:
        """A number larger than every carried-over id that is a number."""
        carried = [self.field(base, "P") for base, text in self.fields.items() if "P" in text]
        return max((carried_number(text) for text in carried if text), default=0) + 1

    def _append(self, lines: bytes, *, sync: bool) -> None:
        file = self._open(os.O_WRONLY | os.O_APPEND)
        try:
            write_all(file, lines)
            if sync:
                os.fsync(file)
        except OSError:
            # Half a batch must not become ids that were not reserved.
            os.ftruncate(file, self._offset)
            raise
        finally:
            os.close(file)
        self._remember(lines)
        self.unsure = not sync

    def _header(self) -> bytes:
        words = ["3", f"V{self.uidvalidity}", f"N{self.next_uid}", *self._others]
        return os.fsencode(" ".join(words)) + b"\n"

    def _replace(self, lines: Sequence[bytes]) -> None:
        data = b"".join([self._header(), *lines])
        status = replace(self.path, data, sync=True)
        sync_directory(os.path.dirname(self.path))
        self.torn, self.unsure, self.version = False, False, "3"
        self.faults, self._kept, self._is_next_lost = [], {}, False
        self._inode, self._offset, self._tail = status.st_ino, 0, b""
        self._remember(data)


class UidList(UidFile):
    """The whole content of a uidlist, which alone can be written again."""

    def add(
        self,
        new: Sequence[str],
        fields: Mapping[str, str],
        *,
        now: float,
        there: int,
        keep: Keep,
    ) -> None:
        """Give each base name in ``new`` the next id, and sync the list to disk.

        ``new``, oldest first, is of names that have no id; ``fields`` are those
        of them that are to have any.  The caller holds the lock and has
        refreshed since.  ``now`` in seconds since 1970; ``there`` is about how
        many messages there are; ``keep`` is asked which of the base names keep
        their lines, if the file has to be rewritten.  Raises ``MailboxUnusable`` when the ids
        would run out, or ``OSError``.
        """
        lines, fresh = self._give(new, fields, now)
        if fresh:
            self._replace(lines)
        elif self._is_to_replace or len(self.uids) > 1000 + 2 * there:
            self._rewrite({*keep(self.uids), *new})
        else:
            self._append(b"".join(lines), sync=True)
        self._followed()

    def move_ahead(self, by: int, keep: Keep) -> None:
        """Raise the next id by ``by``; the list must exist; otherwise as ``add``."""
        self.next_uid = self.beyond() + by
        self._check_room()
        self.mark.cover(self.next_uid)
        self._rewrite({*keep(self.uids)})

    def _rewrite(self, keep: set[str]) -> None:
        if self.faults:
            # They may be written by hand.
            keep_copy(self.path, f"{self.path}.damaged")
        complain(self.name, "lines do not read and are left out", self.faults)
        if self.torn:
            log.warn("{path}: the last line is incomplete and is left out", path=self.name)
        self._pin()
        self.uids = {base: uid for base, uid in self.uids.items() if base in keep}
        self.fields = {base: text for base, text in self.fields.items() if base in keep}
        by_uid = sorted(self.uids.items(), key=lambda item: item[1])
        self._replace([self._text(by_uid)])

    def _pin(self) -> None:
        """Write the ids that differ because an earlier line has the same one."""
        for base, shown in renamed_ids(self).items():
            self.fields[base] = joined(self.fields.get(base, ""), f"P{shown}")
