"""From a Maildir and its uidlist to a snapshot.  Blocks: for a worker."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from twisted.logger import Logger

from gateway.errors import MailboxUnusable, NoSuchMailbox
from gateway.model import Listing
from gateway.store.dotlock import dotlock
from gateway.store.files import NotRegular, measure, store_error
from gateway.store.scan import Stamp, delivery_order, scan, stamp_of, stored_size, wire_size
from gateway.store.snapshot import CLAIMED, Reading, Size, Snapshot
from gateway.store.uidlist import NAME, UidList

log = Logger()

BIG = 1000
"""Messages from which on replies are rendered on the worker, not in the reactor's thread."""

OPENING = 16 * 1024
"""What opening a file costs, as octets read."""

_SECONDS = re.compile(r"[0-9]{10}\.")


class Sizes(NamedTuple):
    """How large messages are, by base name."""

    octets: dict[str, int]
    """All whose size is known, by whatever way."""
    measured: dict[str, Size]
    """Those among them whose file was looked at."""


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
            stamp, files = self._scanned()
        except FileNotFoundError:
            self._make_maildir()
            # Only a part of it may have been missing, and ``cur`` full of mail.
            stamp, files = self._scanned()
        self._uidlist.refresh()
        sizes = Sizes(*before.known()) if before else Sizes({}, {})
        listed = self._uidlist.uids
        new = _in_order([base for base in files if base not in listed])
        known = sizes.octets
        unknown = [base for base in listed if base in files and base not in known]
        self._find_sizes(unknown + [base for base in new if base not in known], files, sizes)
        if new := [base for base in new if base in files]:
            self._list_new(new, files, sizes)
            stamp = (*stamp[:2], self.stamp()[2])
        return self._snapshot(files, sizes, stamp)

    def _scanned(self) -> tuple[Stamp, dict[str, str]]:
        return self.stamp(), scan(self._maildir)

    def _make_maildir(self) -> None:
        if not self._reading.create:
            raise NoSuchMailbox(f"{self._maildir} is not a Maildir")
        if os.path.lexists(self._maildir) and not os.path.isdir(self._maildir):
            raise MailboxUnusable(f"{self._maildir} is not a directory")
        make_maildir(self._maildir)

    # -- sizes ---------------------------------------------------------------

    def _find_sizes(self, unknown: list[str], files: dict[str, str], sizes: Sizes) -> None:
        """Fill in ``sizes``; messages that are not there any more leave ``files``.

        What a name or the uidlist claims is held against the file until the
        budget is spent, the newest first, since they are what a client will
        ask for.  Dovecot's own claims miss the line end that RETR adds to an
        incomplete last line.
        """
        left = self._reading.verify_octets if self._reading.exact else 0
        claim = self._claims()
        for base in reversed(unknown):
            claimed = claim(base)
            if claimed is not None:
                left -= claimed + OPENING
                if left < 0:
                    sizes.octets[base] = claimed
                    continue
            size = self._looked_at(base, files)
            if size is None:
                del files[base]
                continue
            sizes.octets[base] = size.octets
            sizes.measured[base] = size
            if claimed not in (None, size.octets):
                self._warn(base, claimed, size.octets)

    def _looked_at(self, base: str, files: dict[str, str]) -> Size | None:
        """The size of a message, wherever another program may have moved it; None if gone."""
        for _ in range(4):
            try:
                return self.measured(files[base])
            except NotRegular as error:
                log.warn("left out {error}", error=error)
                return None
            except FileNotFoundError:
                now = scan(self._maildir)
                if base not in now:
                    return None
                files.update((known, now[known]) for known in files if known in now)
        return None

    def _claims(self) -> Callable[[str], int | None]:
        """What the uidlist or the name says of a size; the list has corrections."""
        if not self._reading.exact:
            return lambda base: stored_size(base) or wire_size(base)
        uidlist = self._uidlist
        if not uidlist.fields:
            return wire_size

        def claim(base: str) -> int | None:
            listed = uidlist.field(base, "W")
            return int(listed) if listed and listed.isdecimal() else wire_size(base)

        return claim

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
            ours = uidlist.next_uid
            uidlist.refresh()
            listed = uidlist.uids
            new = [base for base in new if base not in listed]
            if not new:
                return
            fields = {
                base: field
                for base, size in sizes.measured.items()
                if base not in listed and (field := self._field(base, size))
            }
            try:
                uidlist.add(
                    new,
                    fields,
                    now=self._now(),
                    there=len(files),
                    keep=lambda: self._worth_keeping(ours),
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
        return {*scan(self._maildir), *(base for base, uid in uids.items() if uid >= since)}

    def _field(self, base: str, size: Size) -> str:
        """The uidlist's ``W`` for a message whose name has none, or a wrong one.

        Where the name has none Dovecot goes by it too, and does not count the
        line end that RETR adds to an incomplete last line.
        """
        if not self._reading.exact:
            return ""
        named = wire_size(base)
        wanted = size.whole if named is None else named != size.octets
        return f"W{size.octets}" if wanted else ""

    # -- the snapshot --------------------------------------------------------

    def _snapshot(self, files: dict[str, str], sizes: Sizes, stamp: Stamp) -> Snapshot:
        bases = self._ordered(files)
        # Loops of Python and not ``map``, which would keep the interpreter
        # from the reactor's thread for as long as it takes.
        octets = [sizes.octets[base] for base in bases]
        listing = Listing(octets, self._ids(bases))
        if len(listing) >= BIG:
            listing.prepare()
        measured = sizes.measured
        forms = bytearray([measured[base].form if base in measured else CLAIMED for base in bases])
        return Snapshot(listing, bases, [files[base] for base in bases], forms, stamp)

    def _ordered(self, files: dict[str, str]) -> list[str]:
        """By unique-id, but first of all by Dovecot's order number where there is one."""
        uidlist = self._uidlist
        bases = [base for base in uidlist.uids if base in files]
        if not uidlist.in_order:
            bases.sort(key=uidlist.uids.__getitem__)
        if not uidlist.fields:
            return bases
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
        if not uidlist.fields:
            return ids
        carried = {base: uidlist.field(base, "P") for base in uidlist.fields}
        if not any(carried.values()):
            return ids
        for index, base in enumerate(bases):
            wanted = carried.get(base)
            if wanted is not None and _may_be_id(wanted):
                ids[index] = wanted
            elif wanted is not None:
                log.warn("{path}: {id!r} is no unique-id", path=self._list_path, id=wanted)
        self._make_unique(ids, bases)
        return ids

    def _make_unique(self, ids: list[str], bases: list[str]) -> None:
        """Of ids that are there twice the later ones get a suffix."""
        shown: set[str] = set()
        twice = []
        for index, base in enumerate(bases):
            if ids[index] in shown:
                twice.append(ids[index])
                ids[index] = f"{ids[index][:58]}.{self._uidlist.uids[base]}"
            shown.add(ids[index])
        if twice:
            log.warn(
                "{path}: {count} unique-ids are there twice, the first is {id!r}",
                path=self._list_path,
                count=len(twice),
                id=twice[0],
            )


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


def _may_be_id(text: str) -> bool:
    return 1 <= len(text) <= 70 and all("!" <= char <= "~" for char in text)
