"""Removal in a Maildir, by retention and by sessions.  Blocks: call it in a thread.

Every removal holds the Maildir's ``flock``, which excludes other processes of pop3gw, finds
the Maildir open (``folders.closing``), and keeps this order, so that a crash at any step loses
no message that should stay and shows none twice:

- remove, purge: write the audit lines, then remove each file;
- hide: write the audit lines, then rename each file once, to a name that contains its
  unique-id;
- restore: write the audit lines, and the lines of the uidlist under its lock, then rename
  each file once, to its former name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from typing import TypeVar

import attrs

from gateway.durable import sync_directory
from gateway.errors import GatewayError, StoreDown
from gateway.interfaces import Audit
from gateway.model import Reason, StoredMessage
from gateway.store.maildir.folders.closing import check_open
from gateway.store.maildir.folders.dotlock import flocked
from gateway.store.maildir.folders.duplicates import part
from gateway.store.maildir.folders.files import complain, store_error
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import Place, ensure_maildir, opened
from gateway.store.maildir.folders.scan import look, scan
from gateway.store.maildir.folders.there import is_there
from gateway.store.maildir.listing.reader import Reader
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.coming_back import ComingBack
from gateway.store.maildir.removal.hidden import (
    Hidden,
    folder_of,
    hidden_files,
    hidden_name,
    make_folder,
    may_be_name,
)
from gateway.store.maildir.removal.message_info import (
    as_hidden,
    entries,
    look_at,
    look_for,
    only,
    raise_for,
    shown_files,
)
from gateway.store.maildir.removal.take_out import flocked_if_free, in_parts, take_out
from gateway.store.maildir.uids.gone import any_may_come_again, drop_lines
from gateway.store.maildir.uids.uidlist import NAME, UidList, base_of

T = TypeVar("T")

Wanted = Sequence[tuple[str, str]]
"""Unique-ids and files."""

Found = Sequence[tuple[StoredMessage, str]]
"""Messages with their data, and their files."""


class MaildirRetention:
    """One Maildir; each call reads it again."""

    def __init__(
        self,
        maildir: str,
        mailbox: str,
        reading: MaildirOptions,
        audit: Audit,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``mailbox``: its name in the audit log."""
        self._path = maildir
        self._maildir: Place
        """Its open directories during a call."""
        self._mailbox = mailbox
        self._reading = reading
        self._audit = audit
        self._now_ns = now_ns
        self.gone: list[str] = []
        """Base names of the messages that a call has removed or hidden, even if it failed."""
        self._back = 0
        """How many messages a call has restored."""

    @property
    def _now(self) -> float:
        return self._now_ns() / 1e9

    # Methods of IRetentionStore; all raise NoSuchMailbox, MailboxUnusable or StoreDown.

    def scan(self) -> list[StoredMessage]:
        """All messages that POP3 shows; new ones get their unique-ids."""
        return self._safely(self._scan, [])

    def scan_readonly(self) -> list[StoredMessage]:
        """As ``scan``, without writing; a message without a unique-id has its file name."""
        return self._safely(self._scan_readonly, [], mend=False)

    def remove(self, uids: Collection[str], cause: Reason) -> int:
        """Remove messages; returns how many are gone."""
        return self._safely(lambda: self._remove(uids, cause), 0)

    def hide(self, uids: Collection[str], cause: Reason) -> int:
        """Hide messages; returns how many are hidden now."""
        return self._safely(lambda: self._hide(uids, cause), 0)

    def list_hidden(self) -> list[StoredMessage]:
        """The hidden messages."""
        return self._safely(self._hidden, [])

    def restore(self, uids: Collection[str], cause: Reason | None = None) -> int:
        """Restore hidden messages, with audit lines if there is a ``cause``; returns how many."""
        return self._safely(lambda: self._restore(uids, cause), 0)

    def move_ids(self, by: int) -> int:
        """Raise the next unique-id by ``by``; returns it, or 0 without a uidlist."""
        return self._safely(lambda: self._coming_back().move_ids(by), 0)

    def purge(self, uids: Collection[str], cause: Reason) -> int:
        """Remove hidden messages; returns how many are gone."""
        return self._safely(lambda: self._purge(uids, cause), 0)

    def _safely(self, work: Callable[[], T], nothing: T, *, mend: bool = True) -> T:
        """Call ``work`` with the open Maildir; raise the store's errors for an ``OSError``.

        For a Maildir that the next login would create return ``nothing``, and do not create
        it.  ``mend``: whether to create missing parts of an existing one.
        """
        self.gone, self._back = [], 0
        try:
            try:
                return self._done(work)
            except FileNotFoundError:
                has_directory = is_there(self._path)
                if self._reading.create and not has_directory:
                    return nothing
                if has_directory and not mend:
                    raise
                # Perhaps only a part of it is missing.
                ensure_maildir(self._path, create=self._reading.create)
                return self._done(work)
        except GatewayError as error:
            error.after(messages=self._changed)
            raise
        except OSError as error:
            raise store_error(error, self._path).after(messages=self._changed) from error

    @property
    def _changed(self) -> int:
        return len(self.gone) + self._back

    def _done(self, work: Callable[[], T]) -> T:
        with opened(self._path) as self._maildir:
            return work()

    def _coming_back(self) -> ComingBack:
        mark = self._reading.mark_of(self._path)
        return ComingBack(self._maildir, self._reading, mark, self._now)

    # -- scanning -------------------------------------------------------

    def _scan(self) -> list[StoredMessage]:
        shown, others = self._shown()
        if look_at(self._maildir, [("", file) for file in others]):
            # As at a login, but trust the sizes in names.
            reading = attrs.evolve(self._reading, verify_octets=0)
            Reader(self._path, reading, now=lambda: self._now).read(None)
            shown, _ = self._shown()
        return [kept for kept, _ in look_at(self._maildir, shown.items())]

    def _scan_readonly(self) -> list[StoredMessage]:
        shown, others = self._shown()
        unnamed = [(_base(file), file) for file in others]
        return [kept for kept, _ in look_at(self._maildir, [*shown.items(), *unnamed])]

    def _shown(self) -> tuple[dict[str, str], list[str]]:
        """Unique-id to file, and the files without a unique-id."""
        return shown_files(self._maildir, self._reading.mark_of(self._path))

    def part(self, known: Set[str] = frozenset(), *, is_flocked: bool = True) -> None:
        """Rename files until no two share a base name, as ``duplicates.part``."""
        if look(self._maildir)[1]:
            part(self._maildir, (), known, self._now_ns(), is_flocked=is_flocked)

    def _hidden(self) -> list[StoredMessage]:
        files = hidden_files(self._maildir)
        if not files:
            return []
        folder = folder_of(self._maildir)
        named = [(uid, hidden.file) for uid, hidden in files.items()]
        return [kept for kept, _ in look_at(folder, named, as_hidden)]

    def _restore(self, uids: Collection[str], cause: Reason | None) -> int:
        def audit(back: Sequence[Hidden]) -> None:
            if cause is not None:
                folder = folder_of(self._maildir)
                found = look_at(folder, [(one.uid, one.file) for one in back], as_hidden)
                self._audit(entries("restore", folder, self._mailbox, found, cause))

        coming = self._coming_back()
        try:
            return coming.restore(uids, audit)
        finally:
            self._back = coming.back

    # -- removing ------------------------------------------------------------

    def _remove(self, uids: Collection[str], cause: Reason) -> int:
        with flocked(self._maildir, timeout=self._reading.lock_timeout):
            check_open(self._maildir)
            self.part()
            found = look_at(self._maildir, only(self._shown()[0], uids))
            return self._removed(found, cause)

    def remove_marked(
        self,
        maildir: Place,
        wanted: Wanted,
        cause: Reason,
        *,
        versions: Mapping[str, int],
        changed: bool = True,
    ) -> Collection[str]:
        """Remove the messages that a session marked, after a line each in the audit log.

        ``versions``: ``version_of`` the files when the session began, by unique-id.
        What somebody has written to since stays, for the client has not got that;
        its unique-ids are returned.  ``changed``: whether somebody may have put
        files there since then.  ``maildir`` is it, open.  Raises ``StoreDown`` when
        something else is left, or ``OSError``.
        """
        self._maildir = maildir
        with flocked_if_free(maildir, timeout=self._reading.lock_timeout) as is_flocked:
            check_open(maildir)
            if changed:
                # A file with the base name of a removed message must not get its id.
                self.part({file for _, file in wanted}, is_flocked=is_flocked)
            found, restless, written = look_for(maildir, wanted, versions=versions)
            self._removed(found, cause, is_flocked=is_flocked)
            raise_for(maildir, restless)
            return written

    def _removed(self, found: Found, cause: Reason, *, is_flocked: bool = True) -> int:
        take = partial(self._unlink, self._maildir, counted_in=self._maildir)
        try:
            return self._audited("discard", self._maildir, found, cause, take)
        finally:
            if is_flocked:
                self._drop_lines()

    def _drop_lines(self) -> None:
        """Drop lines of the uidlist for messages with names that another message may get.

        Of what is gone, and also if the removal of another one failed.
        """
        gone = set(self.gone)
        if any_may_come_again(gone):
            uidlist = UidList(self._maildir.at(NAME), self._reading.mark_of(self._path))
            drop_lines(self._maildir, uidlist, lambda listed: set(listed) - gone, timeout=1)

    def _audited(
        self,
        action: str,
        directory: Place,
        found: Found,
        cause: Reason,
        take: Callable[[Found], int],
    ) -> int:
        """Remove messages after a line each in the audit log; returns how many."""

        def audit(part: Found) -> None:
            self._audit(entries(action, directory, self._mailbox, part, cause))

        return in_parts(found, audit, take)

    def _unlink(self, directory: Place, found: Found, *, counted_in: Place | None) -> int:
        def leave(file: str) -> None:
            directory.unlink(file)
            self.gone.append(_base(file))

        return take_out(directory, _files(found), leave, counted_in=counted_in)

    def _purge(self, uids: Collection[str], cause: Reason) -> int:
        with flocked(self._maildir, timeout=self._reading.lock_timeout):
            check_open(self._maildir)
            wanted = only(hidden_files(self._maildir), uids)
            if not wanted:
                return 0
            folder = folder_of(self._maildir)
            found = look_at(folder, [(uid, hidden.file) for uid, hidden in wanted])
            counted = self._maildir if self._reading.count_hidden else None
            take = partial(self._unlink, folder, counted_in=counted)
            return self._audited("purge", folder, found, cause, take)

    def _hide(self, uids: Collection[str], cause: Reason) -> int:
        with flocked(self._maildir, timeout=self._reading.lock_timeout):
            check_open(self._maildir)
            self.part()
            return self._put_away(only(self._shown()[0], uids), cause)

    def hide_marked(
        self, maildir: Place, wanted: Wanted, cause: Reason, *, changed: bool = True
    ) -> None:
        """Hide the messages that a session marked in a mailbox on hold.

        ``maildir`` is it, open.  Raises ``StoreDown`` if a message is still there, or ``OSError``.
        """
        self._maildir = maildir
        with flocked(maildir, timeout=self._reading.lock_timeout):
            check_open(maildir)
            if changed:
                self.part({file for _, file in wanted})
            self._put_away(wanted, cause)
            left = look_at(maildir, wanted)
        if left:
            raise StoreDown(f"{self._path}: {len(left)} marked messages could not be hidden")

    def _put_away(self, wanted: Wanted, cause: Reason) -> int:
        """Hide these under the ``flock``; returns how many are hidden now."""
        found = look_for(self._maildir, wanted).found
        if not found:
            return 0
        folder = make_folder(self._maildir)
        taken = scan(folder)
        fine: list[tuple[StoredMessage, str]] = []
        left: list[tuple[StoredMessage, str]] = []
        for kept, file in found:
            name = hidden_name(file.partition("/")[2], kept.uid)
            # A file of this name is the same message, perhaps from a copy of
            # the mailbox: neither may replace the other.
            is_fine = may_be_name(name) and base_of(name) not in taken
            (fine if is_fine else left).append((kept, file))
        complain(self._maildir, "messages cannot be hidden", [file for _, file in left])
        try:
            return self._audited(
                "hide", self._maildir, fine, cause, lambda part: self._move(part, folder)
            )
        finally:
            self._drop_lines()

    def _move(self, found: Found, folder: Place) -> int:
        uids = {_base(file): kept.uid for kept, file in found}

        def leave(file: str) -> None:
            name = file.partition("/")[2]
            hidden = folder.at(f"cur/{hidden_name(name, uids[base_of(name)])}")
            move(self._maildir.at(file), hidden)
            self.gone.append(_base(file))

        counted = None if self._reading.count_hidden else self._maildir
        moved = take_out(self._maildir, _files(found), leave, counted_in=counted)
        sync_directory(folder.folder("cur").path)
        return moved


def _files(found: Found) -> list[str]:
    return [file for _, file in found]


def _base(file: str) -> str:
    return base_of(file.partition("/")[2])
