"""Copies of a whole Maildir, from it and to it.  Blocks: call it in a thread.

What ``take`` does leaves a Maildir that reads at every step:

1. the message is in ``tmp``, with its time, synced to disk;
2. its line is in the uidlist, synced to disk;
3. it is renamed to its place.

A line without a file goes when the message is taken again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import attrs

from gateway.durable import sync_directory
from gateway.errors import MailboxUnusable, MessageGone, NoSuchMailbox, SizeChanged
from gateway.interfaces import IBody, Run
from gateway.model import CopiedMessage, Form, Limits, MailboxImage, StoredMessage
from gateway.store.copy_marks import check_mark
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.delivery.incoming import HELD, Draft, unique_name
from gateway.store.maildir.folders import closing
from gateway.store.maildir.folders.dotlock import flocked, lock_file
from gateway.store.maildir.folders.files import FileBody, open_message, store_error, version_of
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import FOLDERS, Place, make_maildir, opened
from gateway.store.maildir.folders.scan import EXPIRED, scan, seconds_in
from gateway.store.maildir.folders.there import is_directory, is_there
from gateway.store.maildir.listing.compressed import HEAD, UnpackedBody, kind_of
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.deletion import count_in_folders
from gateway.store.maildir.removal.hidden import (
    folder_of,
    hidden_files,
    hidden_name,
    make_folder,
    may_be_name,
)
from gateway.store.maildir.removal.message_info import as_delivered, as_hidden, look_at
from gateway.store.maildir.uids.copied import CopiedIds
from gateway.store.maildir.uids.ids import ordered, shown_ids
from gateway.store.maildir.uids.uidlines import HIGHEST, carried_number
from gateway.store.maildir.uids.uidlist import NAME, UidList, base_of
from gateway.store.pieces import next_piece

SAME = 0.002
"""Seconds by which equal times may differ: names have milliseconds."""


class Where(NamedTuple):
    """The handle of a message."""

    file: str
    """``new/...`` or ``cur/...``, of the Maildir or of its folder of hidden messages."""

    is_hidden: bool


class MaildirTransfer:
    """One Maildir that is copied."""

    def __init__(
        self,
        maildir: str,
        mailbox: str,
        reading: MaildirOptions,
        limits: Limits,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``limits``: for a maildirsize that has none."""
        self._path = maildir
        self._mailbox = mailbox
        # Sizes are those of RETR, and names are trusted: the copy counts all octets itself.
        self._reading = attrs.evolve(reading, create=False, exact=True, verify_octets=0)
        self._limits = limits
        self._now_ns = now_ns
        self._mark = reading.mark_of(maildir)
        self._ids = CopiedIds(f"{maildir}/{NAME}", self._mark)
        self._hidden_files: dict[str, str] | None = None
        """Unique-id to path of the hidden messages, as ``take`` knows them."""

    @property
    def _now(self) -> float:
        return self._now_ns() / 1e9

    @contextmanager
    def _opened(self) -> Iterator[Place]:
        """The open Maildir; raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``StoreDown``."""
        try:
            if not is_directory(f"{self._path}/cur"):
                raise NoSuchMailbox(f"there is no mailbox {self._mailbox!r}: check the name")
            with opened(self._path, create=False) as place:
                yield place
        except OSError as error:
            raise store_error(error, self._path) from error

    @contextmanager
    def _alone(self, mark: str) -> Iterator[Place]:
        """The Maildir that this copy copies to, with its locks, and the uidlist as it is."""
        timeout = self._reading.lock_timeout
        with (
            self._opened() as place,
            flocked(place, timeout=timeout),
            lock_file(place, NAME, timeout=timeout),
        ):
            check_mark(self._mailbox, closing.mark_of(place), mark)
            self._ids.reach(place)
            self._ids.refresh()
            yield place

    # -- from it -----------------------------------------------------------------

    def inspect(self) -> MailboxImage:
        """All messages."""
        with self._opened():
            # As at a login: gives ids, and renames what shares a name.
            Reader(self._path, self._reading, now=lambda: self._now).read(None)
        with self._opened() as place:
            away = closing.mark_of(place)
            shown = self._shown(place)
            hidden = self._hidden(place, {one.uid for one in shown})
            # After the messages: it is above them all.
            next_uid = self._next_uid(place, hidden)
            folders = count_in_folders(place)
        return MailboxImage([*shown, *hidden], next_uid, away, folders)

    def _shown(self, place: Place) -> list[CopiedMessage]:
        files = scan(place)
        uidlist = UidList(place.at(NAME), self._mark)
        uidlist.refresh()
        bases = ordered(uidlist, files)
        named = list(zip(shown_ids(uidlist, bases), map(files.__getitem__, bases), strict=True))
        versions: dict[str, int] = {}

        def see(uid: str, name: str, status: os.stat_result) -> StoredMessage:
            versions[uid] = version_of(status)
            return as_delivered(uid, name, status)

        return [
            CopiedMessage(
                kept.uid,
                kept.octets,
                kept.received,
                kept.read,
                None,
                versions[kept.uid],
                Where(file, is_hidden=False),
            )
            for kept, file in look_at(place, named, see)
        ]

    def _hidden(self, place: Place, shown: set[str]) -> list[CopiedMessage]:
        files = hidden_files(place)
        if not files:
            return []
        since: dict[str, float] = {}
        versions: dict[str, int] = {}

        def see(uid: str, name: str, status: os.stat_result) -> StoredMessage:
            versions[uid] = version_of(status)
            since[uid] = as_hidden(uid, name, status).received
            return as_delivered(uid, name, status)

        named = [(uid, hidden.file) for uid, hidden in files.items()]
        found = []
        for kept, file in look_at(folder_of(place), named, see):
            where, version = Where(file, is_hidden=True), versions[kept.uid]
            # The id of another message, perhaps after a restore of some files from a backup.
            uid = f"{kept.uid[:62]}.hidden" if kept.uid in shown else kept.uid
            found.append(
                CopiedMessage(
                    uid, kept.octets, kept.received, kept.read, since[kept.uid], version, where
                )
            )
        return found

    def _next_uid(self, place: Place, hidden: Sequence[CopiedMessage]) -> int:
        uidlist = UidList(place.at(NAME), self._mark)
        uidlist.refresh()
        mark = self._reading.high_water(self._path, 0)
        return max(
            uidlist.beyond(),
            self._mark.reached,
            # Beyond it the list was damaged or full, as ``Mark.begin`` has it.
            mark if mark <= HIGHEST else 0,
            *(carried_number(one.uid) + 1 for one in hidden),
        )

    def open_message(self, message: CopiedMessage, run: Run) -> IBody:
        """The octets of a message as they are stored."""
        where = message.handle
        assert isinstance(where, Where)
        found: list[tuple[int, os.stat_result, str]] = []
        with self._opened() as place:
            folder = folder_of(place) if where.is_hidden else place

            def open_it(_: str, file: str) -> None:
                found.append((*open_message(*folder.reach(file)), f"{folder}/{file}"))

            follow(folder, [(message.uid, where.file)], open_it)
        if not found:
            raise MessageGone(f"{self._mailbox}: {message.uid}")
        file, status, path = found[0]
        try:
            if version_of(status) != message.version:
                raise SizeChanged(f"{path}: was written to after it was listed")
            is_packed = kind_of(os.pread(file, HEAD, 0)) is not None
        except BaseException:
            os.close(file)
            raise
        if is_packed:
            return UnpackedBody(file, Form.STORED, path=path, no_nuls=False, run=run)
        return FileBody(file, status.st_size, Form.STORED, path=path, no_nuls=False, run=run)

    # -- to it -------------------------------------------------------------------

    def draft(self, message: CopiedMessage) -> Draft:
        """A message that is being copied."""
        received = int(message.received * 1e9)
        return Draft(received, convert_cr=False, share=False, received_ns=received)

    def spill(self, draft: Draft) -> None:
        """Write what is in memory to disk."""
        draft.spill(self._opened)

    def take(self, mark: str, message: CopiedMessage, draft: Draft) -> None:
        """Add a message."""
        try:
            with self._alone(mark) as place:
                try:
                    draft.complete(place)
                    self._put(place, message, draft)
                finally:
                    draft.keep_name(place)
        except OSError as error:
            raise store_error(error, self._path) from error

    def _put(self, place: Place, message: CopiedMessage, draft: Draft) -> None:
        self._clear_way(place, message.uid)
        # The time of the message, and a name that no other file has.
        name = f"{unique_name(int(message.received * 1e9))},S={draft.size},W={draft.size}"
        flags = ":2,S" if message.read is not None else ""
        if message.hidden is not None:
            self._put_hidden(place, message, draft, f"{name}{flags}")
            counted = self._reading.count_hidden
        else:
            self._ids.take(name, message.uid, now=self._now)
            draft.place(place, f"{name}{flags}", "cur" if flags else "new")
            counted = True
        if counted:
            maildirsize.append(place, draft.size, 1)

    def _put_hidden(self, place: Place, message: CopiedMessage, draft: Draft, name: str) -> None:
        hidden = hidden_name(name, message.uid, message.hidden)
        if not may_be_name(hidden):
            raise MailboxUnusable(f"{self._path}: {hidden}: is too long for the name of a file")
        draft.place(make_folder(place), hidden, "cur")
        self._known_hidden(place)[message.uid] = f"cur/{hidden}"

    def _known_hidden(self, place: Place) -> dict[str, str]:
        # Nobody else changes a mailbox that is copied to.
        if self._hidden_files is None:
            found = hidden_files(place) if _has_hidden(place) else {}
            self._hidden_files = {uid: one.file for uid, one in found.items()}
        return self._hidden_files

    def _clear_way(self, place: Place, uid: str) -> None:
        """Remove what has the unique-id of a message that comes."""
        if (hidden := self._known_hidden(place).pop(uid, None)) is not None:
            with suppress(FileNotFoundError):
                os.unlink(folder_of(place).at(hidden))
        base = self._ids.find(uid)
        if base is not None:
            file = scan(place).get(base)
            if file is not None:
                os.unlink(place.at(file))
            self._ids.drop([base])

    def adjust(self, mark: str, image: MailboxImage) -> None:
        """Make it like ``image``, as far as its messages are here."""
        wanted = {one.uid: one for one in image.messages}
        self._hidden_files = None
        with self._alone(mark) as place:
            self._ids.raise_next(image.next_uid, now=self._now)
            shown = self._shown(place)
            gone: list[str] = []
            for one in shown:
                if not self._adjusted(place, one, wanted.get(one.uid)):
                    gone.append(base_of(_file(one).partition("/")[2]))
            self._ids.drop(gone)
            for one in self._hidden(place, set()):
                self._adjusted(folder_of(place), one, wanted.get(one.uid))
            self._arrange(place, image)
            # A copy that was killed may have made a part of it.
            for folder in (place, make_folder(place)) if _has_hidden(place) else (place,):
                for kind in FOLDERS:
                    sync_directory(folder.folder(kind).path)
            self._count(place)

    def _count(self, place: Place) -> None:
        """Count again what counts for quotas, where somebody does."""
        if maildirsize.exists(place) or not self._limits.is_none:
            definition = maildirsize.definition_of(self._limits)
            hidden = self._reading.count_hidden
            maildirsize.count(place, definition, now=self._now, hidden=hidden)

    def _adjusted(self, folder: Place, one: CopiedMessage, wanted: CopiedMessage | None) -> bool:
        """Give a message its flag and its time; False: it is removed."""
        file = _file(one)
        path = folder.at(file)
        if wanted is None or not _is_same_but_for_marks(one, wanted):
            os.unlink(path)
            return False
        if abs(one.received - wanted.received) > SAME:
            if seconds_in(file.partition("/")[2]) > wanted.received:
                os.unlink(path)
                return False
            received = int(wanted.received * 1e9)
            os.utime(path, ns=(received, received))
        if (one.read is None) != (wanted.read is None):
            move(path, folder.at(_flagged(file, read=wanted.read is not None)))
        return True

    def _arrange(self, place: Place, image: MailboxImage) -> None:
        """Have the listing in the order of ``image``."""
        files = scan(place)
        bases = ordered(self._ids, files)
        shown = dict(zip(shown_ids(self._ids, bases), bases, strict=True))
        wanted = [shown[one.uid] for one in image.messages if one.uid in shown]
        if wanted != bases:
            self._ids.arrange(wanted)

    # -- closing -------------------------------------------------------------------

    def hold(self) -> Callable[[], None]:
        """Close it; returns what opens it."""
        with self._opened() as place, flocked(place, timeout=self._reading.lock_timeout):
            file = closing.hold(place)
        return lambda: closing.release(self._path, file)

    def mark_away(self, mark: str, instead_of: str | None = None) -> None:
        """Close it with a mark, or open it."""
        try:
            make_maildir(self._path)
        except OSError as error:
            raise store_error(error, self._path) from error
        with self._opened() as place, flocked(place, timeout=self._reading.lock_timeout):
            if instead_of is not None:
                check_mark(self._mailbox, closing.mark_of(place), instead_of)
            closing.mark(place, mark)


async def take_in(
    transfer: MaildirTransfer, mark: str, message: CopiedMessage, body: IBody, run: Run
) -> None:
    """Add a message that is being read."""
    draft = transfer.draft(message)
    try:
        while data := await next_piece(body):
            draft.take(data)
            if draft.held >= HELD:
                await run(partial(transfer.spill, draft))
        await run(partial(transfer.take, mark, message, draft))
    finally:
        await run(draft.discard)


def _file(one: CopiedMessage) -> str:
    assert isinstance(one.handle, Where)
    return one.handle.file


def _has_hidden(place: Place) -> bool:
    return is_there(place.at(EXPIRED))


def _is_same_but_for_marks(one: CopiedMessage, wanted: CopiedMessage) -> bool:
    """Whether both are shown, or hidden since the same time."""
    if one.hidden is None or wanted.hidden is None:
        return one.hidden is wanted.hidden
    return abs(one.hidden - wanted.hidden) <= SAME


def _flagged(file: str, *, read: bool) -> str:
    """The name in ``cur`` of a message that is read, or is not."""
    base, _, info = file.partition("/")[2].partition(":")
    flags = set(info[2:]) - {"S"} if info.startswith("2,") else set()
    return f"cur/{base}:2,{''.join(sorted(flags | {'S'} if read else flags))}"
