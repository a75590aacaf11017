"""Restore hidden messages, and move unique-ids after a restore from backup.  Blocks.

Both change the uidlist under its lock, which Dovecot shares.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from gateway.durable import sync_directory
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.folders.closing import check_open
from gateway.store.maildir.folders.dotlock import dotlock
from gateway.store.maildir.folders.files import complain
from gateway.store.maildir.folders.follow import follow, may_be_there
from gateway.store.maildir.folders.moves import move
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.folders.scan import scan
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.hidden import Hidden, folder_of, hidden_files, hidden_of
from gateway.store.maildir.removal.message_info import only, raise_for
from gateway.store.maildir.uids.high_water import Mark
from gateway.store.maildir.uids.uidlist import NAME, UidList, base_of


class ComingBack:
    """An open Maildir to restore into."""

    def __init__(self, maildir: Place, reading: MaildirOptions, mark: Mark, now: float) -> None:
        """``now`` in Unix seconds."""
        self._maildir = maildir
        self._reading = reading
        self._mark = mark
        self._now = now
        self.back = 0
        """How many messages were restored."""

    def restore(self, uids: Collection[str], audit: Callable[[Sequence[Hidden]], None]) -> int:
        """Restore hidden messages with their old unique-ids, after ``audit``; returns how many."""
        with dotlock(self._maildir, NAME, timeout=self._reading.lock_timeout):
            check_open(self._maildir)
            there = scan(self._maildir)
            back: list[Hidden] = []
            twice = []
            for _, hidden in only(hidden_files(self._maildir), uids):
                base = base_of(hidden.name)
                if base in there:
                    twice.append(hidden.file)
                    continue
                there[base] = hidden.file
                back.append(hidden)
            complain(self._maildir, "hidden messages are in the mailbox already", twice)
            if not back:
                return 0
            audit(back)
            self._list(back, len(there))
            return self._bring_back(back)

    def _list(self, back: Sequence[Hidden], there: int) -> None:
        """Add a line to the uidlist for each, with its old unique-id as a carried-over id.

        Even if the old line still exists: for IMAP a restored message is new, and the new line
        makes Dovecot notice it.
        """
        uidlist = self._uidlist()
        fields = {}
        for hidden in back:
            base = base_of(hidden.name)
            others = [word for word in uidlist.fields.get(base, "").split(" ") if word[:1] != "P"]
            fields[base] = " ".join([f"P{hidden.uid}", *filter(None, others)])
        uidlist.add(
            list(fields),
            fields,
            now=self._now,
            there=there,
            keep=lambda listed: may_be_there(self._maildir, listed),
        )

    def _bring_back(self, back: Sequence[Hidden]) -> int:
        folder, sizes = folder_of(self._maildir), []
        # Before they are there, as a delivery does: a crash leaves none uncounted.
        octets, messages = sum(_size_of(folder.at(one.file)) for one in back), len(back)
        self._account(octets, messages)

        def bring(hidden: Hidden, file: str) -> None:
            path = folder.at(file)
            size = maildirsize.size_on_disk(path)
            # Its age restarts, or the next retention run would hide it again.
            os.utime(path, follow_symlinks=False)
            # The mailbox has another file of that name: the message stays hidden.
            with suppress(FileExistsError):
                # Keep its current flags.
                name = (hidden_of(file) or hidden).name
                move(path, self._maildir.at(f"cur/{name}"))
                sizes.append(size)
                self.back += 1

        try:
            restless = follow(folder, [(hidden, hidden.file) for hidden in back], bring).restless
        finally:
            self._account(sum(sizes) - octets, len(sizes) - messages)
        sync_directory(self._maildir.folder("cur").path)
        raise_for(folder, [hidden.uid for hidden in restless])
        return self.back

    def _account(self, octets: int, messages: int) -> None:
        """Count these octets and messages more; what is hidden may be counted already."""
        if (octets or messages) and not self._reading.count_hidden:
            maildirsize.append(self._maildir, octets, messages)

    def move_ids(self, by: int) -> int:
        """Raise the next unique-id by ``by``; returns it, or 0 without a uidlist."""
        with dotlock(self._maildir, NAME, timeout=self._reading.lock_timeout):
            uidlist = self._uidlist()
            if not uidlist.uidvalidity:
                return 0
            uidlist.move_ahead(by, lambda listed: may_be_there(self._maildir, listed))
            return uidlist.next_uid

    def _uidlist(self) -> UidList:
        uidlist = UidList(self._maildir.at(NAME), self._mark)
        uidlist.refresh()
        return uidlist


def _size_of(path: str) -> int:
    """Its octets; 0 if it has another name by now."""
    try:
        return maildirsize.size_on_disk(path)
    except FileNotFoundError:
        return 0
