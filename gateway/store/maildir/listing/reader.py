"""Read a Maildir and its uidlist into a snapshot.  Blocks: call it in a thread."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from twisted.logger import Logger

from gateway.durable import FULL
from gateway.errors import StoreDown
from gateway.model import Listing
from gateway.store.maildir.folders.dotlock import dotlock, flocked
from gateway.store.maildir.folders.duplicates import is_plain, part
from gateway.store.maildir.folders.files import store_error
from gateway.store.maildir.folders.follow import may_be_there
from gateway.store.maildir.folders.place import FOLDERS, Place, opened
from gateway.store.maildir.folders.scan import (
    NEVER,
    Entry,
    Stamp,
    entry_of,
    in_order,
    look,
    scan,
    settled,
    stamp_of,
)
from gateway.store.maildir.folders.way import NOTHING
from gateway.store.maildir.listing.additions import find_additions
from gateway.store.maildir.listing.sizes import Sizer, Sizes, is_as_seen
from gateway.store.maildir.listing.snapshot import (
    CLAIMED,
    UNKNOWN,
    UNREADABLE,
    Addition,
    Correction,
    MaildirOptions,
    Snapshot,
)
from gateway.store.maildir.listing.write_back import WRITE_BACK, WriteBack
from gateway.store.maildir.uids.gone import any_may_come_again, drop_lines, may_come_again
from gateway.store.maildir.uids.ids import ordered, shown_ids
from gateway.store.maildir.uids.uidlist import NAME, UidList

log = Logger()

BIG = 1000
"""Messages above which replies are rendered in the thread, not in the reactor's."""


class Reader:
    """Reads a mailbox repeatedly, each time only what is new."""

    def __init__(
        self,
        maildir: str,
        reading: MaildirOptions,
        *,
        now: Callable[[], float] = time.time,
        write_back: WriteBack = WRITE_BACK,
    ) -> None:
        self._path = maildir
        self._maildir: Place
        """Its open directories during a reading."""
        self.place: Place | None = None
        """Its directories, if only permitted users can replace their paths."""
        self.trusted = NOTHING
        """The trusted part of its path, as ``Place.trusted``."""
        self._reading = reading
        self._now = now
        self._write_back = write_back
        self._mark = reading.mark_of(maildir)
        self._uidlist = UidList(f"{maildir}/{NAME}", self._mark)
        self._removed: dict[str, int] = {}
        """Removed by sessions: base names that another message may get, and their unique-ids."""
        self._lately: list[str] = []
        """Base names of those that no snapshot is without yet; other threads append to it."""
        self._corrections: list[Correction] = []
        """Those of its snapshots (``Snapshot.corrections``)."""
        self._quiet_cur: object = None
        """The stamp of ``cur`` when it was listed, if a change since then shows in it."""
        self.sizer = Sizer(maildir, reading)
        """Finds the sizes of its messages."""

    def stamp(self) -> Stamp:
        """The current stamp at the path of the mailbox."""
        path = self._path
        return stamp_of(f"{path}/new", f"{path}/cur", f"{path}/{NAME}")

    @property
    def _list_path(self) -> str:
        return self._maildir.at(NAME)

    def _list(self) -> UidList:
        """The uidlist of the open mailbox, of which nothing was read yet."""
        uidlist = UidList(self._list_path, self._mark)
        uidlist.reach(self._maildir)
        return uidlist

    def _stamp(self) -> Stamp:
        """The stamp of the open mailbox."""
        new, cur = (entry_of(self._maildir.folder(name).stat()) for name in FOLDERS)
        return new, cur, self._list_entry()

    def _list_entry(self) -> Entry | None:
        """The part of the stamp for the uidlist."""
        try:
            return entry_of(self._maildir.lstat(NAME))
        except FileNotFoundError:
            return None

    def read(self, before: Snapshot | None) -> Snapshot:
        """The current snapshot of the mailbox.

        Raises ``NoSuchMailbox``, ``MailboxUnusable`` or ``StoreDown``.
        """
        try:
            create, trusted = self._reading.create, self.trusted
            with opened(self._path, create=create, trusted=trusted) as self._maildir:
                self._uidlist.reach(self._maildir)
                found = self._read(before)
                self.place = self._maildir if self._maildir.stays else None
                self.trusted = self._maildir.trusted
            return found
        except OSError as error:
            raise store_error(error) from error
        finally:
            if self._uidlist.torn:
                self._uidlist = UidList(self._uidlist.path, self._mark)

    def _read(self, before: Snapshot | None) -> Snapshot:
        begun = int(self._now() * 1e9)
        removed, corrections = self._lately.copy(), self._corrections.copy()
        snapshot = None
        if before and before.stamp and not corrections:
            snapshot = self._updated(before, removed)
        if snapshot is None:
            snapshot = self._whole(before, corrections, begun)
        # Not before: a reading that fails leaves them to the next one.
        del self._lately[: len(removed)]
        del self._corrections[: len(corrections)]
        cur = snapshot.stamp[1:2]
        self._quiet_cur = cur if settled(cur, begun) else None
        return snapshot

    def _updated(self, before: Snapshot, removed: Collection[str]) -> Snapshot | None:
        """The snapshot with the messages that came since, without those that sessions ``removed``.

        None: something else changed, or may have, and the mailbox must be scanned.
        """
        if any_may_come_again(removed):
            return None
        if removed:
            before = before.without(set(removed))
        if UNREADABLE in before.forms:
            return None
        stamp, listed = self._stamp(), self._uidlist.uids
        lines = len(listed)
        if not self._is_read_until(stamp[2], before.stamp[2]):
            self._uidlist.refresh()
        if not (self._goes_on(listed) and is_as_seen(self._path, before)):
            return None
        is_cur_unchanged = self._quiet_cur == stamp[1:2]
        files = find_additions(self._maildir, before, is_cur_unchanged=is_cur_unchanged)
        if is_cur_unchanged and (entry_of(self._maildir.folder("cur").stat()),) != stamp[1:2]:
            # A message may have left new before it was listed there: cur has it now.
            return None
        last = listed[before.bases[-1]] if before.bases else 0
        if files is None or any(
            base in self._removed or listed.get(base, last + 1) <= last for base in files
        ):
            return None
        tail = list(islice(reversed(listed), len(listed) - lines))
        if any_may_come_again(base for base in tail if base not in files):
            return None
        sizes = Sizes(None)
        if self._reading.exact:
            sizes.read_names(files, self._uidlist.fields)
        known = sorted((base for base in files if base in listed), key=listed.__getitem__)
        stamp = self._numbered(known, files, sizes, stamp, others=len(before.bases))
        if not self._goes_on(listed):
            return None
        bases = sorted((base for base in files if base in listed), key=listed.__getitem__)
        if not bases:
            before.stamp = stamp
            return before
        longer = before.longer([self._addition(base, files, sizes) for base in bases], stamp)
        if len(longer.bases) >= BIG:
            longer.listing.prepare()
        return longer

    def _is_read_until(self, entry: Entry | None, before: Entry | None) -> bool:
        """Whether the uidlist with this ``entry`` has been read: then it needs no other look.

        ``before``: its entry when the mailbox was read last.
        """
        return (
            entry is not None
            and entry == before
            and self._uidlist.is_whole(inode=entry[0], octets=entry[2])
        )

    def _goes_on(self, listed: dict[str, int]) -> bool:
        """Whether lines were only appended to the uidlist since it was ``listed``."""
        uidlist = self._uidlist
        if uidlist.uids is not listed or uidlist.torn:
            return False
        return uidlist.only_adds and not uidlist.faults

    def _addition(self, base: str, files: dict[str, str], sizes: Sizes) -> Addition:
        version = sizes.versions.get(base, UNKNOWN)
        octets, form, is_young = (
            sizes.octets[base],
            sizes.forms.get(base, CLAIMED),
            base in sizes.young,
        )
        uid = str(self._uidlist.uids[base])
        return Addition(base, files[base], uid, octets, form, version, is_young)

    def _whole(
        self, before: Snapshot | None, corrections: Sequence[Correction], begun: int
    ) -> Snapshot:
        """A snapshot from a scan of the mailbox; ``begun``: the time, in ns since 1970."""
        known, sizes = before.files if before else (), Sizes(before, corrections)
        stamp, files = self._scanned(known, sizes)
        if self._dropped(files):
            stamp = self._restamped(stamp)
        for base in self._reborn(files):
            sizes.forget(base)
        sizes.forget_written(self._maildir, files)
        listed = self._uidlist.uids
        for base in before.bases if before else ():
            if base not in listed and may_come_again(base):
                sizes.forget(base)
        stamp = self._numbered([base for base in listed if base in files], files, sizes, stamp)
        return self._snapshot(files, sizes, stamp, begun)

    def _numbered(
        self,
        known: Iterable[str],
        files: dict[str, str],
        sizes: Sizes,
        stamp: Stamp,
        *,
        others: int = 0,
    ) -> Stamp:
        """Find sizes, and give ids to the messages in ``files`` that have none.

        ``known`` are those with ids; ``others``: messages of the mailbox that are not in
        ``files``.  Returns the stamp of the mailbox after that.
        """
        listed = self._uidlist.uids
        new = in_order([base for base in files if base not in listed])
        self.sizer.find(self._maildir, [*known, *new], files, self._uidlist, sizes)
        new = [base for base in new if base in files]
        if new or self._uidlist.faults:
            complete = self._listed(new, files, sizes, others)
            stamp = self._restamped(stamp) if complete else NEVER
        if not self._made_sure():
            stamp = NEVER
        # Other programs, such as Dovecot, give ids too.
        self._mark.show(self._uidlist.next_uid, self._uidlist.beyond())
        return stamp

    def _restamped(self, stamp: Stamp) -> Stamp:
        """The stamp with that of the uidlist after we wrote it; NEVER if others wrote as well."""
        entry = self._list_entry()
        if entry is None or not self._uidlist.is_whole(inode=entry[0], octets=entry[2]):
            return NEVER
        return (*stamp[:2], entry) if stamp else NEVER

    def _made_sure(self) -> bool:
        """Sync ids that other programs gave, perhaps without a sync.

        False: no room on the disk, which must not prevent a login.
        """
        uidlist = self._uidlist
        if not uidlist.unsure:
            return True
        try:
            if not self._write_back.is_done(self._maildir.lstat(NAME).st_mtime):
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

    def _scanned(self, known: Collection[str], sizes: Sizes) -> tuple[Stamp, dict[str, str]]:
        """Scan the files, rename duplicates, and read the uidlist.

        ``known``: the files that clients have seen.
        """
        stamp, (files, twins) = self._stamp(), look(self._maildir)
        self._uidlist.refresh()
        if self._reading.exact:
            sizes.read_names(files, self._uidlist.fields)
        odd = self._odd(files, sizes.usual)
        if not (twins or odd):
            return stamp, files
        with flocked(self._maildir, timeout=self._reading.lock_timeout):
            is_done = part(self._maildir, odd, set(known), int(self._now() * 1e9))
        stamp, files = self._stamp(), scan(self._maildir)
        for base in self._odd(files, ()):
            del files[base]
        return stamp if is_done else NEVER, files

    def _dropped(self, files: dict[str, str]) -> bool:
        """Drop the lines of missing messages under names that another message may get.

        Returns whether the uidlist was rewritten.
        """
        listed = self._uidlist.uids
        if not any_may_come_again(base for base in listed if base not in files):
            return False
        is_done = False
        # Do not wait for a lock: the next reading tries again.
        with suppress(StoreDown), flocked(self._maildir, timeout=0):
            is_done = drop_lines(
                self._maildir,
                self._uidlist,
                lambda listed: may_be_there(self._maildir, listed),
                timeout=0,
            )
        if not is_done:
            self._uidlist = self._list()
            self._uidlist.refresh()
        return is_done

    def forget(self, bases: Iterable[str]) -> None:
        """Record removed messages: a new file of a name that may come again is another message.

        One of a name that is given once comes from a backup, and all processes show its old id.
        """
        removed, uids = list(bases), self._uidlist.uids
        again = [base for base in removed if base in uids and may_come_again(base)]
        self._removed.update({base: uids[base] for base in again})
        self._lately.extend(removed)

    def _reborn(self, files: dict[str, str]) -> list[str]:
        """Base names of removed messages that another message has now; they leave the uidlist.

        Delivery programs reuse no name, but cp does.
        """
        uids, fields, reborn = self._uidlist.uids, self._uidlist.fields, []
        for base, uid in self._removed.copy().items():
            if uids.get(base) != uid:
                # Its line is gone or replaced.
                del self._removed[base]
            elif base in files:
                del uids[base]
                fields.pop(base, None)
                reborn.append(base)
        return reborn

    def _odd(self, files: dict[str, str], usual: Container[str]) -> set[str]:
        """New base names that another message may get, or that a uidlist cannot contain."""
        listed = self._uidlist.uids
        new = [base for base in files if base not in usual and base not in listed]
        return {base for base in new if not is_plain(files[base])}

    # -- new messages --------------------------------------------------------

    def _listed(self, new: list[str], files: dict[str, str], sizes: Sizes, others: int) -> bool:
        """Give ids to new messages; False: no room on the disk.

        Then messages with ids are served, since a user who cannot log in cannot delete mail to
        make room.  If none has an id, the login fails: an empty maildrop would make
        clients forget the ids they know.  A lock that is held too long is a failure too: it
        is temporary, and its holder may be giving ids to these messages.
        """
        try:
            self._list_new(new, sizes, there=len(files) + others)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._uidlist.refresh()
            left_out = [base for base in files if base not in self._uidlist.uids]
            if left_out and len(left_out) == len(files) + others:
                raise store_error(error, self._list_path) from error
            log.warn(
                "{maildir}: {count} messages are left out until they can get ids: {reason}",
                maildir=self._maildir,
                count=len(left_out),
                reason=error.strerror,
            )
            return False
        return True

    def _list_new(self, new: list[str], sizes: Sizes, *, there: int) -> None:
        with dotlock(self._maildir, NAME, timeout=self._reading.lock_timeout):
            uidlist = self._uidlist
            ours = uidlist.next_uid
            uidlist.refresh()
            listed = uidlist.uids
            new = [base for base in new if base not in listed]
            if not (new or uidlist.faults):
                return
            fields = {
                base: field
                for base, size in sizes.measured.items()
                if base not in listed
                # A right size in the name needs none: so it is of most messages.
                and sizes.usual.get(base) != size.octets
                and (field := self.sizer.field(base, size))
            }
            try:
                uidlist.add(
                    new,
                    fields,
                    now=self._now(),
                    there=there,
                    keep=lambda _: self._worth_keeping(ours),
                )
            except BaseException:
                # The list in memory is not on disk.
                self._uidlist = self._list()
                raise

    def _worth_keeping(self, since: int) -> set[str]:
        """The messages that a rewritten uidlist must keep; ``since``: the next id before the lock.

        The scan of the mailbox is too old for this: while messages were measured, and
        while the lock was awaited, another program may have delivered and listed more.
        """
        uids = self._uidlist.uids
        there = may_be_there(self._maildir, uids)
        return {*there, *(base for base, uid in uids.items() if uid >= since)}

    # -- the snapshot --------------------------------------------------------

    def _snapshot(self, files: dict[str, str], sizes: Sizes, stamp: Stamp, begun: int) -> Snapshot:
        bases = ordered(self._uidlist, files)
        # Python loops and not ``map``, which would hold the interpreter lock all
        # the time and block the reactor.
        octets, examined = sizes.octets, sizes.forms
        listing = Listing([octets[base] for base in bases], shown_ids(self._uidlist, bases))
        if len(listing) >= BIG:
            listing.prepare()
        forms, versions = bytearray([CLAIMED]) * len(bases), array("q", [UNKNOWN]) * len(bases)
        young: set[int] = set()
        for index, base in enumerate(bases):
            if base in examined:
                forms[index] = examined[base]
                versions[index] = sizes.versions.get(base, UNKNOWN)
                if base in sizes.young:
                    young.add(index)
        there = [files[base] for base in bases]
        corrections = self._corrections
        return Snapshot(listing, bases, there, forms, versions, young, stamp, begun, corrections)
