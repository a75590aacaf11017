"""From a Maildir and its uidlist to a snapshot.  Blocks: for a worker."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from twisted.logger import Logger

from gateway.errors import MailboxUnusable, NoSuchMailbox
from gateway.model import Listing
from gateway.store.dotlock import dotlock, flocked
from gateway.store.files import FULL, store_error
from gateway.store.follow import may_be_there
from gateway.store.ids import ordered, shown_ids
from gateway.store.scan import NEVER, Stamp, delivery_order, look, scan, stamp_of
from gateway.store.sizes import Sizer, Sizes
from gateway.store.snapshot import CLAIMED, UNREADABLE, Reading, Snapshot
from gateway.store.twins import is_plain, part
from gateway.store.uidlist import NAME, UidList

log = Logger()

BIG = 1000
"""Messages from which on replies are rendered on the worker, not in the reactor's thread."""

WRITTEN_BACK = 600.0
"""Seconds after which a kernel has written back what was written; Linux's default is 30."""

_SECONDS = re.compile(r"[0-9]{10}\.")


class Reader:
    """Reads one mailbox again and again, each time only what is new."""

    def __init__(
        self, maildir: str, reading: Reading, *, now: Callable[[], float] = time.time
    ) -> None:
        self._maildir = maildir
        self._reading = reading
        self._now = now
        self._list_path = f"{maildir}/{NAME}"
        self._uidlist = UidList(self._list_path)
        self.sizer = Sizer(maildir, reading)
        """Finds its messages' sizes."""

    def stamp(self) -> Stamp:
        """The mailbox's stamp as it is now."""
        return stamp_of(self._maildir, self._list_path)

    def read(self, before: Snapshot | None) -> Snapshot:
        """The mailbox as it is now.

        Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``StoreDown``.
        """
        try:
            return self._read(before)
        except OSError as error:
            raise store_error(error) from error
        finally:
            if self._uidlist.torn:
                self._uidlist = UidList(self._list_path)

    def _read(self, before: Snapshot | None) -> Snapshot:
        known = before.files if before else ()
        try:
            stamp, files = self._scanned(known)
        except FileNotFoundError:
            ensure_maildir(self._maildir, create=self._reading.create)
            # Only a part of it may have been missing, and ``cur`` full of mail.
            stamp, files = self._scanned(known)
        sizes = Sizes(*before.known(), {}) if before else Sizes({}, {}, {})
        listed = self._uidlist.uids
        new = _in_order([base for base in files if base not in listed])
        sized = sizes.octets
        unknown = [base for base in listed if base in files and base not in sized]
        unknown += [base for base in new if base not in sized]
        self.sizer.find(unknown, files, self._uidlist, sizes)
        if new := [base for base in new if base in files]:
            complete = self._listed(new, files, sizes)
            stamp = (*stamp[:2], self.stamp()[2]) if stamp and complete else NEVER
        if not self._made_sure():
            stamp = NEVER
        return self._snapshot(files, sizes, stamp)

    def _made_sure(self) -> bool:
        """See to it that ids given by others, who may not have waited for the disk, last.

        False if there is no room for that, which is no reason to lock a user out.
        """
        uidlist = self._uidlist
        if not uidlist.unsure:
            return True
        try:
            if self._now() - os.stat(self._list_path).st_mtime < WRITTEN_BACK:
                uidlist.make_sure()
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in FULL:
                raise
            log.warn("{path}: {error}", path=self._list_path, error=error)
            return False
        uidlist.unsure = False
        return True

    def _scanned(self, known: Collection[str]) -> tuple[Stamp, dict[str, str]]:
        """What is there, each file with a name of its own, and the uidlist read.

        ``known`` are the files that clients have been shown.
        """
        stamp, (files, twins) = self.stamp(), look(self._maildir)
        self._uidlist.refresh()
        odd = self._odd(files)
        if not (twins or odd):
            return stamp, files
        with flocked(self._maildir, timeout=self._reading.lock_timeout):
            is_done = part(self._maildir, odd, set(known), int(self._now() * 1e9))
        stamp, files = self.stamp(), scan(self._maildir)
        for base in self._odd(files):
            del files[base]
        return stamp if is_done else NEVER, files

    def _odd(self, files: dict[str, str]) -> set[str]:
        """New base names that the next message could have as well, or that no uidlist can."""
        listed = self._uidlist.uids
        return {base for base in files if base not in listed and not is_plain(files[base])}

    # -- new messages --------------------------------------------------------

    def _listed(self, new: list[str], files: dict[str, str], sizes: Sizes) -> bool:
        """Give ids to new messages; False if there is no room for that.

        Then what has ids already is served, since a user who cannot log in
        cannot delete and make room.  None having one, an empty maildrop would
        be a lie that makes clients forget what they know.  A lock that others
        hold too long stays a failure: that passes by itself, and who holds it
        may be giving ids to these very messages.
        """
        try:
            self._list_new(new, files, sizes)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._uidlist.refresh()
            left_out = [base for base in files if base not in self._uidlist.uids]
            if len(left_out) == len(files):
                raise store_error(error, self._list_path) from error
            log.warn(
                "{maildir}: {count} messages are left out until they can get ids: {reason}",
                maildir=self._maildir,
                count=len(left_out),
                reason=error.strerror,
            )
            return False
        return True

    def _list_new(self, new: list[str], files: dict[str, str], sizes: Sizes) -> None:
        with dotlock(self._list_path, timeout=self._reading.lock_timeout):
            uidlist = self._uidlist
            ours = uidlist.next_uid
            uidlist.refresh()
            listed = uidlist.uids
            new = [base for base in new if base not in listed]
            if not new:
                return
            measured = sizes.measured
            fields = {
                base: field
                for base in new
                if base in measured and (field := self.sizer.field(base, measured[base]))
            }
            try:
                uidlist.add(
                    new,
                    fields,
                    now=self._now(),
                    there=len(files),
                    keep=lambda _: self._worth_keeping(ours),
                )
            except BaseException:
                # What memory says was not made to last.
                self._uidlist = UidList(self._list_path)
                raise

    def _worth_keeping(self, since: int) -> set[str]:
        """Whose lines a rewritten uidlist needs; ``since``: the next id before the lock was had.

        What was there when the mailbox was scanned does not tell: while
        messages were measured, and the lock was waited for, others may have
        been delivered and listed by another program.
        """
        uids = self._uidlist.uids
        there = may_be_there(self._maildir, uids)
        return {*there, *(base for base, uid in uids.items() if uid >= since)}

    # -- the snapshot --------------------------------------------------------

    def _snapshot(self, files: dict[str, str], sizes: Sizes, stamp: Stamp) -> Snapshot:
        bases = ordered(self._uidlist, files)
        # Loops of Python and not ``map``, which would keep the interpreter
        # from the reactor's thread for as long as it takes.
        octets = [sizes.octets[base] for base in bases]
        listing = Listing(octets, shown_ids(self._uidlist, bases))
        if len(listing) >= BIG:
            listing.prepare()
        measured = sizes.measured
        forms = bytearray([measured[base].form if base in measured else CLAIMED for base in bases])
        if sizes.unreadable:
            for index, base in enumerate(bases):
                if base in sizes.unreadable:
                    forms[index] = UNREADABLE
        return Snapshot(listing, bases, [files[base] for base in bases], forms, stamp)


def ensure_maildir(maildir: str, *, create: bool) -> None:
    """Make what is missing of a Maildir, if that is wanted.

    Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``OSError``.
    """
    if not create:
        raise NoSuchMailbox(f"{maildir} is not a Maildir")
    if os.path.lexists(maildir) and not os.path.isdir(maildir):
        raise MailboxUnusable(f"{maildir} is not a directory")
    make_maildir(maildir)


def make_maildir(maildir: str) -> None:
    """Make a Maildir and what is missing above it, for its user only.

    Made by root it is its parent's owner's, so that Dovecot's user may enter.
    """
    missing, above = [f"{maildir}/{folder}" for folder in ("cur", "new", "tmp")], maildir
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above) or "."
    owner = os.stat(above)
    for directory in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            if os.geteuid() == 0:
                os.chown(directory, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _in_order(bases: list[str]) -> list[str]:
    """Sorted by delivery, oldest first."""
    # Almost always every name begins with ten digits of seconds, and then
    # their order as texts is the same and found several times quicker; in
    # pieces, since a sort keeps the interpreter to itself.
    if all(_SECONDS.match(base) for base in bases):
        hours: dict[str, list[str]] = {}
        for base in bases:
            hours.setdefault(base[:6], []).append(base)
        return [base for hour in sorted(hours) for base in sorted(hours[hour])]
    return sorted(bases, key=delivery_order)
