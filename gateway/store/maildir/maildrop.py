"""A session's maildrop."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import MailboxUnusable, MaildropBusy, MessageGone, SizeChanged, StoreDown
from gateway.interfaces import IBody, IHidingMaildrop, IQuickMaildrop
from gateway.model import AS_BEFORE_LOGIN, Form, Listing, Reason
from gateway.store.maildir.folders.closing import check_open
from gateway.store.maildir.folders.files import (
    CHUNK,
    FileBody,
    complain,
    open_message,
    read_at_once,
    store_error,
    version_of,
)
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.listing.compressed import HEAD, UnpackedBody, begins_packed, kind_of
from gateway.store.maildir.listing.measuring import size_of
from gateway.store.maildir.listing.snapshot import (
    CLAIMED,
    FORMS,
    PACKED,
    UNREADABLE,
    Size,
    Snapshot,
)
from gateway.store.maildir.mailbox import Mailbox
from gateway.store.maildir.removal.expiry import MaildirRetention
from gateway.store.maildir.removal.message_info import raise_for
from gateway.wire.body import Measure, canonical

T = TypeVar("T")

LARGE = 256 * 1024
"""Octets above which a message is measured before it is first sent."""


@implementer(IHidingMaildrop, IQuickMaildrop)
class Maildrop:
    """The maildrop of a session: the snapshot of its login."""

    __slots__ = ("_cause", "_held", "_mailbox", "_snapshot", "name", "terms")

    def __init__(
        self,
        name: str,
        mailbox: Mailbox,
        snapshot: Snapshot,
        cause: Reason,
    ) -> None:
        """``cause``: the reason in the audit log for removals of the session."""
        self.name = name
        self.terms = AS_BEFORE_LOGIN
        self._cause = cause
        self._held: Place | None = None
        self._mailbox = mailbox
        self._snapshot = snapshot

    def listing(self) -> Deferred[Listing]:
        """The snapshot's listing."""
        return succeed(self._snapshot.listing)

    def small_message(self, index: int) -> tuple[bytes, Form] | None:
        """A message of at most ``CHUNK`` octets that is at hand: read, converted, measured."""
        reading, snapshot = self._mailbox.reading, self._snapshot
        # Read once: another session's thread may measure the message meanwhile.
        known = snapshot.forms[index]
        if snapshot.listing.sizes[index] > CHUNK or PACKED <= known < CLAIMED:
            return None
        try:
            place = self._held or self._place()
            file, status = open_message(*place.reach(snapshot.files[index]))
        except (OSError, MailboxUnusable):
            return None
        try:
            size = status.st_size
            if size > CHUNK or not snapshot.is_as_listed(index, status):
                return None
            stored = read_at_once(file, size)
        finally:
            os.close(file)
        if not stored or (known == CLAIMED and kind_of(stored[:HEAD]) is not None):
            return None
        if known in (Form.CANONICAL, Form.CLEAN):
            text, form = stored, FORMS[known]
        else:
            text, found = canonical(stored, convert_cr=reading.convert_cr)
            if known == CLAIMED and reading.exact:
                whole = stored.endswith((b"\n", b"\r") if reading.convert_cr else b"\n")
                snapshot.measured(index, size_of(len(text), status, found)._replace(whole=whole))
            form = found or Form.CANONICAL
        return text.replace(b"\0", b"\x80") if reading.no_nuls else text, form

    def retrieve(self, index: int) -> Deferred[IBody]:
        """Open a message, even if another program renamed it."""
        snapshot = self._snapshot
        form, size = snapshot.forms[index], snapshot.listing.sizes[index]
        if form != UNREADABLE and not (form == CLAIMED and size > LARGE):
            try:
                body = self._open(self._place(), index, snapshot.files[index])
            except FileNotFoundError:
                # A thread finds its new name.
                self.close()
                body = None
            except OSError as error:
                return fail(store_error(error))
            except (MailboxUnusable, SizeChanged) as error:
                return fail(error)
            if body is not None:
                return succeed(body)
        return self._mailbox.run(lambda: self._caught(index, self._look_at))

    def _place(self) -> Place:
        """The mailbox's directories, held until ``close`` where their paths are not enough."""
        if place := self._held or self._mailbox.place:
            return place
        self._held = self._mailbox.open_place()
        return self._held

    def close(self) -> None:
        """Close the directories: the session is over, or they must be checked again."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _look_at(self, place: Place, index: int, name: str) -> IBody:
        """Open a message, but measure it first unless it is as it was measured.  Blocks.

        Its line ends have to be looked at anyway, and not in the reactor's
        thread; the next time it goes out as it is.  One that cannot be read
        fails here, before any of it is sent.
        """
        snapshot = self._snapshot
        is_measured = snapshot.forms[index] not in (CLAIMED, UNREADABLE)
        status = os.lstat(place.at(name))
        is_as_listed = snapshot.is_as_listed(index, status)
        if not (is_measured and is_as_listed):
            size = self._mailbox.measured(place, name)
            if not (is_as_listed and size.version == version_of(status)):
                self._check(index, size)
            snapshot.measured(index, size)
        body = self._open(place, index, name, is_measured=True)
        assert body is not None
        return body

    def _caught(self, index: int, act: Callable[[Place, int, str], T]) -> T:
        """What ``act`` gives for a message's number and file, wherever it is now.  Blocks.

        Raises ``MessageGone``, or ``StoreDown`` where another program moves it
        all the while.
        """
        snapshot = self._snapshot
        results: list[T] = []

        def at(index: int, file: str) -> None:
            results.append(act(place, index, file))
            snapshot.rename(index, file)

        try:
            with self._mailbox.opened() as place:
                lost = follow(place, [(index, snapshot.files[index])], at)
        except OSError as error:
            raise store_error(error) from error
        if lost.gone:
            raise MessageGone(snapshot.bases[index])
        raise_for(self._mailbox.maildir, [snapshot.files[index] for index in lost.restless])
        return results[0]

    def _open(
        self, place: Place, index: int, name: str, *, is_measured: bool = False
    ) -> IBody | None:
        """The message in a file; None: a thread must measure it first."""
        mailbox, snapshot = self._mailbox, self._snapshot
        reading, path = mailbox.reading, f"{mailbox.maildir}/{name}"
        is_claimed = snapshot.forms[index] == CLAIMED
        try:
            file, status = open_message(*place.reach(name))
        except OSError as error:
            error.filename = path
            raise
        is_as_listed = snapshot.is_as_listed(index, status)
        if not (is_as_listed and (is_measured or not is_claimed or begins_packed(file) is False)):
            os.close(file)
            if is_measured:
                raise self._changed(index)
            return None
        form, no_nuls = snapshot.form(index), reading.no_nuls
        if snapshot.is_packed(index):
            return UnpackedBody(file, form, path=path, no_nuls=no_nuls, run=mailbox.run)
        size = status.st_size
        body = FileBody(file, size, form, path=path, no_nuls=no_nuls, run=mailbox.run)
        if is_claimed and reading.exact:
            counted = Measure(convert_cr=reading.convert_cr)
            body.count(counted, partial(self._counted, index, status))
        return body

    def _check(self, index: int, size: Size) -> None:
        """Raise ``SizeChanged`` if somebody wrote to the file and it has another size now.

        The client would get another message than LIST announced, half of it
        perhaps while somebody still writes it, and then delete it.
        """
        if size.octets != self._snapshot.listing.sizes[index]:
            raise self._changed(index)

    def _changed(self, index: int) -> SizeChanged:
        """The error for a file that somebody wrote to; the next login measures it again."""
        self._snapshot.refute(index)
        name = f"{self._mailbox.maildir}: {self._snapshot.bases[index]}"
        return SizeChanged(f"{name}: was written to after it was listed")

    def _counted(self, index: int, status: os.stat_result, counted: Measure) -> None:
        """Record the measured size of a sent message that only had a claimed one."""
        size = size_of(counted.octets, status, counted.form)
        self._snapshot.measured(index, size._replace(whole=counted.whole))

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove marked messages, with audit lines; then mark retrieved ones as read."""
        return self._end(removed, retrieved, self._remove)

    def hide(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Move what is marked to the folder ``.Expired``, audited; then mark what was fetched."""
        return self._end(removed, retrieved, self._hide)

    def _end(
        self,
        removed: Collection[int],
        retrieved: Collection[int],
        take: Callable[[Place | None, list[int]], None],
    ) -> Deferred[None]:
        read = self._unmarked(set(retrieved) - set(removed))
        if not (removed or read):
            return succeed(None)
        # What RETR has opened need not be opened and checked again.
        held, self._held = self._held, None

        def both() -> None:
            try:
                if removed:
                    take(held, sorted(removed))
            finally:
                self._mark(held, read)

        def give_back(result: T) -> T:
            if held is not None:
                held.close()
            return result

        return self._mailbox.run(both).addBoth(give_back)

    def _unmarked(self, retrieved: Collection[int]) -> list[int]:
        """The retrieved messages that are not marked as read; none if that is switched off."""
        if not self._mailbox.reading.mark_read:
            return []
        files = self._snapshot.files
        return [index for index in retrieved if seen_name(files[index]) != files[index]]

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """Mark retrieved messages as read."""
        return self.finish((), retrieved)

    def _remove(self, held: Place | None, indexes: list[int]) -> None:
        mailbox, snapshot = self._mailbox, self._snapshot
        wanted, changed = self._marked(indexes), mailbox.has_changed(snapshot)
        versions = snapshot.versions(indexes)
        with self._taking(held) as (place, retention):
            written = retention.remove_marked(
                place, wanted, self._cause, versions=versions, changed=changed
            )
        for index, (uid, _) in zip(indexes, wanted, strict=True):
            if uid in written:
                snapshot.refute(index)
        if written:
            raise StoreDown(f"{mailbox.maildir}: somebody wrote to {len(written)} messages")

    def _hide(self, held: Place | None, indexes: list[int]) -> None:
        changed, wanted = self._mailbox.has_changed(self._snapshot), self._marked(indexes)
        with self._taking(held) as (place, retention):
            retention.hide_marked(place, wanted, self._cause, changed=changed)

    @contextmanager
    def _taking(self, held: Place | None) -> Iterator[tuple[Place, MaildirRetention]]:
        """The open Maildir, and what takes messages out; raises ``StoreDown`` for an ``OSError``.

        The mailbox forgets those that are gone, and no other: one that stays keeps its unique-id.
        """
        mailbox = self._mailbox
        retention = MaildirRetention(mailbox.maildir, self.name, mailbox.reading, mailbox.audit)
        try:
            with mailbox.opened(held) as place:
                yield place, retention
        except OSError as error:
            raise StoreDown(str(store_error(error, mailbox.maildir))) from error
        finally:
            mailbox.forget(retention.gone)

    def _marked(self, indexes: list[int]) -> list[tuple[str, str]]:
        """Unique-ids and files of these messages."""
        uids, files = self._snapshot.listing.uids, self._snapshot.files
        return [(uids[index], files[index]) for index in indexes]

    def _mark(self, held: Place | None, indexes: Collection[int]) -> None:
        """Add ``S`` to the flags; a mail that is read but not marked is no reason to fail."""
        if not indexes:
            return
        maildir, snapshot = self._mailbox.maildir, self._snapshot
        files, failed = snapshot.files, list[str]()

        def mark(index: int, file: str) -> None:
            read = seen_name(file)
            try:
                if read != file:
                    place.move(file, read)
                snapshot.rename(index, read)
            except FileNotFoundError:
                raise
            except OSError as error:
                # For example, the name is too long for a flag.
                failed.append(f"{file} ({error.strerror})")

        try:
            with self._mailbox.opened(held) as place:
                check_open(place)
                lost = follow(place, [(index, files[index]) for index in sorted(indexes)], mark)
            failed += [files[index] for index in lost.restless]
        except (OSError, MailboxUnusable, MaildropBusy) as error:
            failed.append(str(error))
        complain(maildir, "messages cannot be marked as read", failed)


def seen_name(file: str) -> str:
    """The name of a message file once it has been read: in ``cur``, with flag ``S``."""
    if file.endswith(":2,S"):
        # As most names are; all retrieved messages of a session are asked for at QUIT.
        return file
    name = file.partition("/")[2]
    base, _, info = name.partition(":")
    flags = info[2:] if info.startswith("2,") else ""
    if "S" in flags:
        return file
    return f"cur/{base}:2,{''.join(sorted(flags + 'S'))}"
