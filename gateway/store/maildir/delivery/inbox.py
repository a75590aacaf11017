"""Delivery into one Maildir.  Blocks: call it in a thread, one call at a time.

The order of the steps ensures that a crash between any two of them loses no message
that was reported as delivered, and shows no incomplete one:

1. the message is in ``tmp``, synced to disk;
2. under the Maildir's ``flock``: the quota is checked;
3. under the uidlist's lock: the message gets its line, then its name in ``new``, so that
   no reader sees it without its unique-id;
4. ``maildirsize`` gets its line;
5. ``new`` is synced to disk.

The line of the uidlist is not synced: if it is lost, the next reading gives an
id to a message with an id that no client has seen, since a reader syncs before it shows.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from attrs import define, field
from twisted.logger import Logger

from gateway.errors import GatewayError, LargerThanQuota, MailboxUnusable, NoSuchMailbox, OverQuota
from gateway.interfaces import Admit
from gateway.model import Limits, Usage
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.delivery.incoming import Draft, unique_name
from gateway.store.maildir.folders.closing import check_open
from gateway.store.maildir.folders.dotlock import flocked, lock_file
from gateway.store.maildir.folders.files import store_error
from gateway.store.maildir.folders.follow import follow, may_be_there
from gateway.store.maildir.folders.place import ALL, Place, opened
from gateway.store.maildir.folders.there import is_there
from gateway.store.maildir.folders.way import NOTHING
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.uids.numbering import Numbering
from gateway.store.maildir.uids.uidlist import NAME

log = Logger()

SWEEP_EVERY = 3600
"""Seconds between two cleanups of a ``tmp``."""

STALE = 36 * 3600
"""Seconds after which a file in ``tmp`` was left by a dead program."""


@define(eq=False)
class Put:
    """A draft to deliver into the mailbox, and the result."""

    draft: Draft
    limits: Limits
    error: GatewayError | None = None
    name: str = field(default="", init=False)


class Inbox:
    """Delivers into one Maildir."""

    def __init__(
        self,
        maildir: str,
        reading: MaildirOptions,
        admit: Admit,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.maildir = maildir
        self.is_there = False
        """The Maildir exists, as far as known."""
        self._reading = reading
        self._admit = admit
        self._now_ns = now_ns
        self._numbers = Numbering(f"{maildir}/{NAME}", reading.mark_of(maildir))
        self._totals: maildirsize.Totals | None = None
        self._swept = 0.0
        self._trusted = NOTHING
        """The part of its path that need not be checked again, as ``Place.trusted``."""

    @property
    def _now(self) -> float:
        return self._now_ns() / 1e9

    def prepare(self) -> None:
        """Check that the Maildir exists, or create it.

        Raises ``NoSuchMailbox``, ``MailboxUnusable``, ``MaildropBusy`` or ``StoreDown``.
        """
        try:
            with self._opened() as place:
                check_open(place)
        except OSError as error:
            raise store_error(error, self.maildir) from error
        self.is_there = True

    @contextmanager
    def _opened(self) -> Iterator[Place]:
        """The open Maildir, created if it is missing.

        If it is gone, or a part of it, ``prepare`` checks it before the next message.
        """
        create, trusted = self._reading.create, self._trusted
        try:
            with opened(self.maildir, create=create, folders=ALL, trusted=trusted) as place:
                self._trusted = place.trusted
                yield place
        except (FileNotFoundError, NoSuchMailbox, MailboxUnusable):
            self.is_there = False
            raise

    def known_usage(self) -> Usage | None:
        """Usage, if this process has read all of ``maildirsize``; else None.  Does not block.

        None also while the Maildir may be gone.
        """
        totals = self._totals
        if (
            totals is None
            or not self.is_there
            or not maildirsize.is_current(totals, f"{self.maildir}/{maildirsize.NAME}")
            or totals.is_doubtful(self._now)
        ):
            return None
        return totals.usage

    def usage(self, otherwise: Limits) -> Usage:
        """Usage of the mailbox; ``otherwise``: limits to write into maildirsize if it has none.

        Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``StoreDown``.
        """
        try:
            if self._reading.create and not is_there(self.maildir):
                # The first delivery makes it; no count of all mailboxes makes a deleted one anew.
                return Usage()
            with self._opened() as place:
                self._totals = totals = maildirsize.read(place, self._totals)
                if totals is not None and not totals.is_doubtful(self._now):
                    return totals.usage
                definition = totals.definition if totals else maildirsize.definition_of(otherwise)
                with flocked(place, timeout=self._reading.lock_timeout):
                    return maildirsize.current(
                        place, definition, now=self._now, hidden=self._reading.count_hidden
                    ).usage
        except OSError as error:
            raise store_error(error, self.maildir) from error

    def deliver(self, puts: Sequence[Put]) -> None:
        """Deliver all of them independently; ``error`` says why one failed."""
        try:
            self._deliver(puts)
        except GatewayError as error:
            self._failed(puts, error)
        except OSError as error:
            self._failed(puts, store_error(error, self.maildir))

    def _failed(self, puts: Sequence[Put], error: GatewayError) -> None:
        for put in puts:
            put.error = put.error or error

    def _deliver(self, puts: Sequence[Put]) -> None:
        with self._opened() as place:
            try:
                for put in puts:
                    if put.error is None:
                        self._complete(put, place)
                if complete := [put for put in puts if put.error is None]:
                    self._put_in(place, complete)
                self._sweep(place)
            finally:
                for put in puts:
                    put.draft.keep_name(place)

    def spill(self, draft: Draft) -> None:
        """Write what a draft has in memory to its file; if it has none yet, in this Maildir.

        Raises as ``Draft.spill`` and ``prepare``.
        """
        draft.spill(self._opened)

    def complete(self, put: Put) -> None:
        """Sync its draft to disk; ``error`` says why that failed."""
        try:
            with self._opened() as place:
                self._complete(put, place)
                put.draft.keep_name(place)
        except GatewayError as error:
            self._failed([put], error)
        except OSError as error:
            self._failed([put], store_error(error, self.maildir))

    def _complete(self, put: Put, place: Place) -> None:
        try:
            put.draft.complete(place)
        except GatewayError as error:
            self._failed([put], error)
        except OSError as error:
            self._failed([put], store_error(place.worded(error), f"{self.maildir}/tmp"))

    def _put_in(self, place: Place, puts: Sequence[Put]) -> None:
        with flocked(place, timeout=self._reading.lock_timeout):
            check_open(place)
            admitted = self._admitted(place, puts)
            if not admitted:
                return
            with lock_file(place, NAME, timeout=self._reading.lock_timeout):
                self._number(place, admitted)
                # Before they are there.  A crash leaves one counted too many, and all are counted
                # again before one is refused; nothing would find one that is not counted.
                self._account(place, admitted)
                self._place(place, admitted)
            self._account(place, [put for put in admitted if put.error is not None], -1)
        try:
            place.folder("new").sync()
        except BaseException:
            self._take_back(place, admitted)
            raise

    # -- the quota ------------------------------------------------------

    def _admitted(self, place: Place, puts: Sequence[Put]) -> list[Put]:
        """The drafts that the mailbox has room for, each counted for the next."""
        limits = puts[-1].limits
        usage, may_be_wrong = self._usage(place, limits)
        admitted: list[Put] = []
        added = Usage()
        for put in puts:
            size = put.draft.size
            try:
                try:
                    self._admit(_sum(usage, added), size, put.limits)
                except OverQuota as error:
                    if isinstance(error, LargerThanQuota) or not may_be_wrong:
                        raise
                    # The sum may be wrong: count again before a message is rejected.
                    usage, may_be_wrong = self._counted(place, limits), False
                    self._admit(_sum(usage, added), size, put.limits)
            except GatewayError as error:
                put.error = error
                continue
            added = Usage(added.octets + size, added.messages + 1)
            admitted.append(put)
        return admitted

    def _usage(self, place: Place, limits: Limits) -> tuple[Usage, bool]:
        """Usage of the mailbox, and whether a new count could differ."""
        if limits.is_none and not maildirsize.exists(place):
            # No limit applies, and counting a large mailbox takes long.
            return Usage(), False
        now = self._now
        definition = maildirsize.definition_of(limits)
        self._totals = totals = maildirsize.current(
            place,
            definition,
            now=now,
            before=self._totals,
            hidden=self._reading.count_hidden,
        )
        return totals.usage, totals.may_be_wrong(now)

    def _counted(self, place: Place, limits: Limits) -> Usage:
        definition = maildirsize.definition_of(limits)
        return maildirsize.count(
            place, definition, now=self._now, hidden=self._reading.count_hidden
        ).usage

    def _account(self, place: Place, placed: Sequence[Put], sign: int = 1) -> None:
        octets = sum(put.draft.size for put in placed)
        if placed:
            self._totals = maildirsize.append(
                place, sign * octets, sign * len(placed), self._totals
            )

    # -- delivery ----------------------------------------------------------

    def _number(self, place: Place, puts: Sequence[Put]) -> None:
        for put in puts:
            size = put.draft.size
            put.name = f"{unique_name(self._now_ns())},S={size},W={size}"
        self._numbers.reach(place)
        self._numbers.number(
            [put.name for put in puts],
            now=self._now,
            keep=lambda listed: may_be_there(place, listed),
        )

    def _place(self, place: Place, puts: Sequence[Put]) -> None:
        for put in puts:
            try:
                put.draft.place(place, put.name)
            except GatewayError as error:
                put.error = error
            except OSError as error:
                put.error = store_error(place.worded(error), f"{self.maildir}/new")
                self.is_there = False

    def _take_back(self, place: Place, puts: Sequence[Put]) -> None:
        """Remove messages that were not reported as delivered, and may not be on disk."""
        placed = [(put, f"new/{put.name}") for put in puts if put.error is None]
        try:
            follow(place, placed, lambda _, file: os.unlink(place.at(file)))
        except OSError as error:
            log.warn("{maildir}: {error}; mail may come twice", maildir=place, error=error)
        self._account(place, [put for put, _ in placed], -1)

    # -- cleanup of tmp ----------------------------------------------------

    def _sweep(self, place: Place) -> None:
        """Periodically remove old files of ``tmp``."""
        now = self._now
        # A clock that was set back must not put it off.
        if abs(now - self._swept) < SWEEP_EVERY:
            return
        self._swept = now
        removed = 0
        try:
            with os.scandir(place.folder("tmp").path) as entries:
                for entry in entries:
                    # Another delivery may just have moved it.
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        # A copied file has the mtime of its original, which may be in the future.
                        age = now - status.st_ctime
                        if age > STALE and not stat.S_ISDIR(status.st_mode):
                            os.unlink(entry.path)
                            removed += 1
        except OSError as error:
            log.warn("{maildir}/tmp: cannot clear it: {error}", maildir=self.maildir, error=error)
        if removed:
            log.info("{maildir}/tmp: cleared {count}", maildir=self.maildir, count=removed)


def _sum(usage: Usage, added: Usage) -> Usage:
    return Usage(usage.octets + added.octets, usage.messages + added.messages)
