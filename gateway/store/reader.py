"""From a Maildir and its uidlist to a snapshot.  Blocks: for a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from twisted.logger import Logger

from gateway.errors import MailboxUnusable, NoSuchMailbox
from gateway.model import Listing
from gateway.store.dotlock import dotlock
from gateway.store.files import NotRegular, measure, store_error
from gateway.store.scan import Stamp, delivery_order, scan, size_in, stamp_of
from gateway.store.snapshot import CLAIMED, Reading, Size, Snapshot
from gateway.store.uidlist import NAME, UidList

log = Logger()

BIG = 1000
"""Messages from which on replies are rendered on the worker, not in the reactor's thread."""

OPENING = 16 * 1024
"""What opening a file costs, as octets read."""

Sizes = dict[str, Size]


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
        try:
            stamp = self.stamp()
            files = scan(self._maildir)
        except FileNotFoundError:
            self._make_maildir()
            stamp, files = self.stamp(), {}
        self._uidlist.refresh()
        sizes = dict(before.sizes()) if before else {}
        listed = self._uidlist.uids
        new = [base for base in files if base not in listed]
        new.sort(key=delivery_order)
        if len(sizes) < len(files) or new:
            unknown = [base for base in listed if base in files and base not in sizes]
            self._find_sizes(unknown + new, files, sizes)
        if new := [base for base in new if base in sizes]:
            self._list_new(new, files, sizes)
            stamp = (*stamp[:2], self.stamp()[2])
        return self._snapshot(files, sizes, stamp)

    def _make_maildir(self) -> None:
        if not self._reading.create:
            raise NoSuchMailbox(f"{self._maildir} is not a Maildir")
        if os.path.lexists(self._maildir) and not os.path.isdir(self._maildir):
            raise MailboxUnusable(f"{self._maildir} is not a directory")
        for folder in ("tmp", "new", "cur"):
            os.makedirs(f"{self._maildir}/{folder}", mode=0o700, exist_ok=True)

    # -- sizes ---------------------------------------------------------------

    def _find_sizes(self, unknown: list[str], files: dict[str, str], sizes: Sizes) -> None:
        """Fill in ``sizes``, but for messages that are not there any more.

        What a name or the uidlist claims is held against the file until the
        budget is spent, the newest first, since they are what a client will
        ask for.  Dovecot's own claims miss the line end that RETR adds to an
        incomplete last line.
        """
        left = self._reading.verify_octets if self._reading.exact else 0
        for base in reversed(unknown):
            claimed = self._claimed(base)
            if claimed is not None:
                left -= claimed + OPENING
                if left < 0:
                    sizes[base] = Size(claimed)
                    continue
            try:
                size = self.measured(files[base])
            except FileNotFoundError as error:
                if isinstance(error, NotRegular):
                    log.warn("left out {error}", error=error)
                continue
            sizes[base] = size
            if claimed not in (None, size.octets):
                self._warn(base, claimed, size.octets)

    def _claimed(self, base: str) -> int | None:
        """What the uidlist or the name says of the size; the list has corrections."""
        if not self._reading.exact:
            size = size_in(base, "S")
            return size if size is not None else size_in(base, "W")
        if base in self._uidlist.fields:
            listed = self._uidlist.field(base, "W")
            if listed and listed.isdecimal():
                return int(listed)
        return size_in(base, "W")

    def measured(self, file: str) -> Size:
        """The size as the file has it; raises ``OSError``."""
        path = f"{self._maildir}/{file}"
        if not self._reading.exact:
            return Size(os.stat(path).st_size)
        counted = measure(path, convert_cr=self._reading.convert_cr)
        return Size(counted.octets, counted.form, counted.whole)

    def _warn(self, base: str, claimed: int | None, octets: int) -> None:
        log.warn(
            "{maildir}: {base} claims {claimed} octets but RETR sends {octets}",
            maildir=self._maildir,
            base=base,
            claimed=claimed,
            octets=octets,
        )

    # -- new messages --------------------------------------------------------

    def _list_new(self, new: list[str], files: dict[str, str], sizes: Sizes) -> None:
        with dotlock(self._list_path, timeout=self._reading.lock_timeout):
            uidlist = self._uidlist
            uidlist.refresh()
            entries = {
                base: self._fields(base, sizes[base]) for base in new if base not in uidlist.uids
            }
            if not entries:
                return
            try:
                uidlist.add(entries, now=self._now(), keep=files)
            except BaseException:
                # What memory says was not made to last.
                self._uidlist = UidList(self._list_path)
                raise

    def _fields(self, base: str, size: Size) -> str:
        """The uidlist's ``W`` for a message whose name has none, or a wrong one.

        Where the name has none Dovecot goes by it too, and does not count the
        line end that RETR adds to an incomplete last line.
        """
        if size.form == CLAIMED or not self._reading.exact:
            return ""
        named = size_in(base, "W")
        wanted = size.whole if named is None else named != size.octets
        return f"W{size.octets}" if wanted else ""

    # -- the snapshot --------------------------------------------------------

    def _snapshot(self, files: dict[str, str], sizes: Sizes, stamp: Stamp) -> Snapshot:
        bases: list[str] = []
        octets: list[int] = []
        forms = bytearray()
        for base in self._ordered(sizes, files):
            size = sizes[base]
            bases.append(base)
            octets.append(size[0])
            forms.append(size[1])
        listing = Listing(octets, self._ids(bases))
        if len(listing) >= BIG:
            listing.prepare()
        return Snapshot(listing, bases, [files[base] for base in bases], forms, stamp)

    def _ordered(self, sizes: Sizes, files: dict[str, str]) -> list[str]:
        """By unique-id, but first of all by Dovecot's order number where there is one."""
        uidlist = self._uidlist
        bases = [base for base in uidlist.uids if base in files and base in sizes]
        bases.sort(key=uidlist.uids.__getitem__)
        orders = {
            base: int(order)
            for base in uidlist.fields
            if (order := uidlist.field(base, "O")) and order.isdecimal()
        }
        if orders:
            last = max(orders.values()) + 1
            bases.sort(key=lambda base: orders.get(base, last))
        return bases

    def _ids(self, bases: list[str]) -> list[str]:
        """Unique-ids as POP3 shows them: a carried-over one verbatim, else the number."""
        uidlist = self._uidlist
        ids = [str(uidlist.uids[base]) for base in bases]
        carried = {base: uidlist.field(base, "P") for base in uidlist.fields}
        if not any(carried.values()):
            return ids
        shown: set[str] = set()
        for index, base in enumerate(bases):
            wanted = carried.get(base)
            if wanted is not None and _may_be_id(wanted):
                ids[index] = wanted
            elif wanted is not None:
                log.warn("{path}: {id!r} is no unique-id", path=self._list_path, id=wanted)
            if ids[index] in shown:
                log.warn("{path}: {id!r} is there twice", path=self._list_path, id=ids[index])
                ids[index] = f"{ids[index][:58]}.{uidlist.uids[base]}"
            shown.add(ids[index])
        return ids


def _may_be_id(text: str) -> bool:
    return 1 <= len(text) <= 70 and all("!" <= char <= "~" for char in text)
