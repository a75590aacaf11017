"""What an operator does to a whole Maildir.  Blocks: call it in a thread.

Everything that changes it holds its ``flock``, as deliveries, sessions that remove mail and
retention do.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from gateway.durable import sync_directory
from gateway.errors import (
    GatewayError,
    MailboxExists,
    MailboxUnusable,
    MessageGone,
    NoSuchMailbox,
    NotSupported,
    StoreDown,
)
from gateway.interfaces import Audit
from gateway.model import Contents, Limits, Reason, UsageChange
from gateway.store.copy_marks import away
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.folders.closing import check_not_held, mark_of
from gateway.store.maildir.folders.dotlock import flocked, lock_file
from gateway.store.maildir.folders.files import remove, store_error
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.moves import move_directory
from gateway.store.maildir.folders.place import FOLDERS, Place, open_place, opened
from gateway.store.maildir.folders.there import is_directory, is_there
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.deletion import Deletion, contents_of, interrupted
from gateway.store.maildir.removal.hidden import folder_of, hidden_files
from gateway.store.maildir.removal.message_info import head_of, raise_for, shown_files
from gateway.store.maildir.uids.high_water import BLOCK
from gateway.store.maildir.uids.uidlist import NAME


class MaildirAdmin:
    """One Maildir; each call opens it again."""

    def __init__(
        self,
        maildir: str,
        mailbox: str,
        reading: MaildirOptions,
        audit: Audit,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``mailbox``: its name in the audit log and in errors."""
        self._path = maildir
        self._mailbox = mailbox
        self._reading = reading
        self._audit = audit
        self._now_ns = now_ns

    # Methods of IMailboxAdmin; all raise NoSuchMailbox, MailboxUnusable or StoreDown.

    def contents(self) -> Contents:
        """All its mail."""
        with self._opened() as place:
            return contents_of(place)

    def header(self, uid: str) -> bytes:
        """The header of a message, shown or hidden."""
        with self._opened() as place:
            folder, file = self._find(place, uid)
            heads: list[bytes] = []

            def read(_: str, file: str) -> None:
                heads.append(head_of(*folder.reach(file)))

            lost = follow(folder, [(uid, file)], read)
            raise_for(folder, lost.restless)
            if not heads:
                raise self._no_message(uid)
            return heads[0]

    def _find(self, place: Place, uid: str) -> tuple[Place, str]:
        """The folder and the file of a message; raises ``MessageGone``."""
        file = shown_files(place, self._reading.mark_of(self._path))[0].get(uid)
        if file is not None:
            return place, file
        hidden = hidden_files(place).get(uid)
        if hidden is None:
            raise self._no_message(uid)
        return folder_of(place), hidden.file

    def _no_message(self, uid: str) -> MessageGone:
        return MessageGone(f"{self._mailbox}: no message has the unique-id {uid[:70]!r}")

    def recalculate(self, otherwise: Limits) -> UsageChange:
        """Count all messages; ``otherwise``: limits for a maildirsize that has none."""
        with self._opened() as place, self._flocked(place):
            before = maildirsize.read(place)
            definition = before.definition if before else maildirsize.definition_of(otherwise)
            after = maildirsize.count(
                place,
                definition,
                now=self._now_ns() / 1e9,
                hidden=self._reading.count_hidden,
            )
            return UsageChange(before.usage if before else None, after.usage)

    def rename(self, target: str) -> None:
        """Rename the Maildir to this path, after its high-water mark.

        Not one that a copy has closed: its name has to stay closed.
        """
        high_water, timeout = self._reading.high_water, self._reading.lock_timeout
        with (
            self._opened() as place,
            self._flocked(place),
            # Dovecot must not be writing the list.
            lock_file(place, NAME, timeout=timeout),
        ):
            check_not_held(place, self._mailbox)
            if mark_of(place):
                raise away(self._mailbox)
            if is_there(target):
                raise MailboxExists(f"{target} is there already: rename or delete that one first")
            try:
                mark = high_water(self._path, 0)
                if mark:
                    # A delivery that waits for the lock may yet show ids a little above it.
                    high_water(target, mark + BLOCK)
                open_place(os.path.dirname(target), (), make=True).close()
                move_directory(self._path, target)
            except FileExistsError:
                raise MailboxExists(f"{target} was made just now: nothing is renamed") from None
            except OSError as error:
                raise _not_renamed(error, self._path, target) from error
            # Our lock, which has another path now; one that stays does no harm for long.
            remove(f"{target}/{NAME}.lock")
            for path in {os.path.dirname(self._path), os.path.dirname(target)}:
                sync_directory(path)

    def delete(self, cause: Reason) -> Contents:
        """Delete it, with a line in the audit log for each message first."""
        if self._is_left_over():
            return Contents()
        with self._opened() as place, self._flocked(place):
            check_not_held(place, self._mailbox)
            mark = self._reading.mark_of(self._path)
            deletion = Deletion(place, self._mailbox, mark, self._audit, cause)
            try:
                deletion.run()
                self._remove_directory(place)
            except GatewayError as error:
                raise interrupted(type(error), place.worded(error), deletion.removed) from error
            except OSError as error:
                kind = type(store_error(place.worded(error), self._path))
                raise interrupted(kind, error, deletion.removed) from error
            return deletion.removed

    def _remove_directory(self, place: Place) -> None:
        """Remove the empty directory itself, and the link of an administrator that led to it.

        Its owner may have put a link or another directory in its place meanwhile.
        """
        with place.above() as (above, name):
            above.remove(name)
            above.sync()
        with self._above() as (above, name):
            with suppress(FileNotFoundError):
                if stat.S_ISLNK(above.lstat(name).st_mode):
                    above.unlink(name)
            above.sync()

    def _is_left_over(self) -> bool:
        """Remove the empty directory that a deletion left when it was interrupted at its end."""
        with suppress(OSError, MailboxUnusable), self._above() as (above, name):
            above.remove(name)
            return True
        return False

    @contextmanager
    def _above(self) -> Iterator[tuple[Place, str]]:
        """The directory that its path names it in, checked, and its name there."""
        above, name = os.path.split(self._path)
        with opened(above, folders=()) as place:
            yield place, name

    @contextmanager
    def _opened(self) -> Iterator[Place]:
        """The open Maildir; raises the store's errors for an ``OSError``."""
        try:
            try:
                # Not both of its directories: a deletion may have ended between them.
                with opened(self._path, folders=("cur",)) as place:
                    for kind in FOLDERS:
                        place.folder(kind, make=True)
                    yield place
            except FileNotFoundError:
                if is_directory(f"{self._path}/cur"):
                    raise
                raise NoSuchMailbox(
                    f"there is no mailbox {self._mailbox!r}: check the name"
                ) from None
        except OSError as error:
            raise store_error(error, self._path) from error

    def _flocked(self, place: Place) -> AbstractContextManager[None]:
        return flocked(place, timeout=self._reading.lock_timeout)


def _not_renamed(error: OSError, path: str, target: str) -> GatewayError:
    """The store's error for a failed rename, which changed nothing."""
    if error.errno == errno.EXDEV:
        return NotSupported(
            f"{target} is on another file system than {path}: stop the server, copy the directory"
            " with its times (cp -a), and delete the old one"
        )
    kind: type[StoreDown | MailboxUnusable] = type(store_error(error))
    return kind(f"{store_error(error, target)}; nothing is renamed")
