"""The Maildir store: mail on disk in a format that other mail servers use."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadMailboxName, MaildropBusy, NotSupported
from gateway.flock import locked
from gateway.interfaces import (
    Admit,
    Audit,
    IBody,
    ICache,
    IDelivery,
    IIncoming,
    IMailboxAdmin,
    IMailboxClosing,
    IMailboxes,
    IMailboxTransfer,
    IMaildrop,
    IRetentionStore,
    IStore,
    Run,
)
from gateway.model import (
    Account,
    Contents,
    CopiedMessage,
    Limits,
    MailboxImage,
    Reason,
    StoredMessage,
    Usage,
    UsageChange,
    cause_of,
)
from gateway.store.audited import no_audit, no_limits
from gateway.store.maildir.admin import MaildirAdmin
from gateway.store.maildir.cache import MailboxCache
from gateway.store.maildir.delivery.queue import Delivery
from gateway.store.maildir.folders.closing import check_open, may_be_closed
from gateway.store.maildir.folders.files import store_error
from gateway.store.maildir.folders.paths import (
    lies_in_homes,
    mailbox_path,
    mailboxes,
    maildirs,
)
from gateway.store.maildir.folders.place import opened
from gateway.store.maildir.folders.there import is_directory
from gateway.store.maildir.listing.snapshot import MaildirOptions, Snapshot
from gateway.store.maildir.mailbox import Mailbox
from gateway.store.maildir.maildrop import Maildrop
from gateway.store.maildir.removal.expiry import MaildirRetention
from gateway.store.maildir.transfer import MaildirTransfer, take_in

__all__ = ["MaildirStore"]

T = TypeVar("T")

Opened = tuple[IMaildrop, Callable[[], None]]
"""A maildrop, and the function that releases it."""

COPIED = 64
"""Mailboxes that are copied to at once, without reading their uidlists again and again."""

LOCK = "pop3gw.lock"
"""The file in a Maildir with the ``flock`` of an exclusive session."""


@implementer(IStore, IDelivery, IMailboxes, IRetentionStore, IMailboxAdmin, ICache)
@implementer(IMailboxTransfer, IMailboxClosing)
class MaildirStore:
    """Maildirs below one directory."""

    def __init__(
        self,
        root: str,
        template: str,
        run: Run,
        *,
        reading: MaildirOptions | None = None,
        exclusive: bool = False,
        admit: Admit = no_limits,
        audit: Audit = no_audit,
        share: bool = True,
        cached_messages: int = 2_000_000,
        deliver: Run | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``cached_messages``: most messages in the snapshots of all mailboxes.

        Delivery waits for the disk, other work mostly for the processor: ``deliver`` may have
        more threads than ``run``.  ``admit`` checks whether there is room for a message;
        ``audit`` is called before each removal.  Without ``share`` every recipient of a
        message gets a separate file, which rules that count from reading require.
        """
        self.lists_mailboxes = not lies_in_homes(template)
        self._root = root
        self._template = template
        self._run = run
        self._reading = reading or MaildirOptions()
        self._exclusive = exclusive
        self._audit = audit
        self._mailboxes = MailboxCache(cached_messages)
        self._now_ns = now_ns
        self._held: set[str] = set()
        self._transfers: OrderedDict[str, MaildirTransfer] = OrderedDict()
        self._delivery = Delivery(
            self._path, deliver or run, self._reading, admit, now_ns, share=share
        )

    def _path(self, account: Account) -> str:
        return mailbox_path(self._template, self._root, account)

    def forget(self, account: Account | None) -> int:
        """Read the listing of the mailbox, or of all, from the disk when it is next opened."""
        try:
            paths = [*self._mailboxes] if account is None else [self._path(account)]
        except BadMailboxName:
            paths = []
        return sum(self._mailboxes.drop(path) for path in paths)

    def prepare(self, account: Account) -> Deferred[None]:
        """Check that the account's Maildir exists, or create it."""
        return self._delivery.prepare(account)

    def receive(self, account: Account) -> Deferred[IIncoming]:
        """Begin a message."""
        return self._delivery.receive(account)

    def usage(self, account: Account) -> Deferred[Usage]:
        """Usage of the account's mailbox."""
        return self._delivery.usage(account)

    def names(self) -> Deferred[list[str]]:
        """The names of all mailboxes below the root, sorted."""
        return self._run(self._names)

    def _names(self) -> list[str]:
        try:
            return sorted(name for name, _ in mailboxes(self._template, self._root))
        except OSError as error:
            raise store_error(error, self._root) from error

    def present(self, accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """The accounts with an existing Maildir."""
        return self._run(lambda: self._present(accounts))

    def _present(self, accounts: Sequence[Account]) -> list[Account]:
        paths = list[tuple[Account, str]]()
        for account in accounts:
            # With another name a login to it fails, too.
            with suppress(BadMailboxName):
                paths.append((account, self._path(account)))
        try:
            there = set(maildirs([path for _, path in paths]))
        except OSError as error:
            raise store_error(error, self._root) from error
        return [account for account, path in paths if path in there]

    def scan(self, account: Account) -> Deferred[list[StoredMessage]]:
        """All messages that POP3 shows."""
        return self._retain(account, MaildirRetention.scan)

    def scan_readonly(self, account: Account) -> Deferred[list[StoredMessage]]:
        """As ``scan``, without writing."""
        return self._retain(account, MaildirRetention.scan_readonly)

    def remove(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these messages."""
        return self._retain(account, lambda retention: retention.remove(uids, cause))

    def hide(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Hide these in the folder ``.Expired``."""
        return self._retain(account, lambda retention: retention.hide(uids, cause))

    def list_hidden(self, account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages."""
        return self._retain(account, MaildirRetention.list_hidden)

    def restore(
        self, account: Account, uids: Collection[str], cause: Reason | None = None
    ) -> Deferred[int]:
        """Restore these hidden messages."""
        return self._retain(account, lambda retention: retention.restore(uids, cause))

    def move_ids(self, account: Account, by: int) -> Deferred[int]:
        """Raise the next unique-id by ``by``."""
        return self._retain(account, lambda retention: retention.move_ids(by))

    def purge(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these hidden messages."""
        return self._retain(account, lambda retention: retention.purge(uids, cause))

    def _retain(self, account: Account, work: Callable[[MaildirRetention], T]) -> Deferred[T]:
        try:
            path = self._path(account)
        except BadMailboxName as error:
            return fail(error)
        retention = MaildirRetention(
            path, account.mailbox, self._reading, self._audit, self._now_ns
        )
        return self._run(lambda: work(retention))

    def contents(self, account: Account) -> Deferred[Contents]:
        """All mail of the mailbox."""
        return self._administer(account, MaildirAdmin.contents)

    def header(self, account: Account, uid: str) -> Deferred[bytes]:
        """The header of a message."""
        return self._administer(account, lambda admin: admin.header(uid))

    def recalculate(self, account: Account) -> Deferred[UsageChange]:
        """Count all messages again, and write maildirsize."""
        limits = Limits(octets=account.quota.octets, messages=account.quota.messages)
        return self._administer(account, lambda admin: admin.recalculate(limits))

    def rename(self, account: Account, target: Account) -> Deferred[None]:
        """Rename the Maildir."""
        if not self.lists_mailboxes:
            cure = "rename the user's home, and change it in the directory"
            return fail(NotSupported(f"mailboxes are in home directories: {cure}"))
        try:
            path = self._path(target)
        except BadMailboxName as error:
            return fail(error)
        return self._administer(account, lambda admin: admin.rename(path), alone=True)

    def delete(self, account: Account, cause: Reason) -> Deferred[Contents]:
        """Delete the Maildir."""
        return self._administer(account, lambda admin: admin.delete(cause), alone=True)

    def _administer(
        self, account: Account, work: Callable[[MaildirAdmin], T], *, alone: bool = False
    ) -> Deferred[T]:
        """``alone``: not while an exclusive session has the mailbox open."""
        try:
            path = self._path(account)
        except BadMailboxName as error:
            return fail(error)
        admin = MaildirAdmin(path, account.mailbox, self._reading, self._audit, self._now_ns)
        if not (alone and self._exclusive):
            return self._run(lambda: work(admin))
        if path in self._held:
            return fail(MaildropBusy(f"a session has {account.mailbox} open: end it first"))

        def work_alone() -> T:
            with ExitStack() as held:
                try:
                    is_there = is_directory(f"{path}/cur")
                except OSError as error:
                    raise store_error(error, path) from error
                if is_there:
                    held.callback(os.close, _lock(path))
                return work(admin)

        return self._run(work_alone)

    # -- copies ------------------------------------------------------------------

    def inspect(self, account: Account) -> Deferred[MailboxImage]:
        """All messages of the Maildir."""
        return self._transfer(account, MaildirTransfer.inspect)

    def open_message(self, account: Account, message: CopiedMessage) -> Deferred[IBody]:
        """Open one of them."""
        return self._transfer(account, lambda one: one.open_message(message, self._run))

    def take(
        self, account: Account, mark: str, message: CopiedMessage, body: IBody
    ) -> Deferred[None]:
        """Add a message with its unique-id."""
        try:
            transfer = self._transfer_of(account)
        except BadMailboxName as error:
            return fail(error)
        return Deferred.fromCoroutine(take_in(transfer, mark, message, body, self._run))

    def adjust(self, account: Account, mark: str, image: MailboxImage) -> Deferred[None]:
        """Make the Maildir like another mailbox."""
        return self._transfer(account, lambda one: one.adjust(mark, image))

    def hold(self, account: Account) -> Deferred[Callable[[], None]]:
        """Close the Maildir, also against exclusive sessions."""

        def hold(one: MaildirTransfer) -> Callable[[], None]:
            with ExitStack() as held:
                if self._exclusive:
                    held.callback(os.close, _lock(self._path(account)))
                held.callback(one.hold())
                return held.pop_all().close

        return self._transfer(account, hold)

    def mark_away(
        self, account: Account, mark: str, instead_of: str | None = None
    ) -> Deferred[None]:
        """Close the Maildir with a mark, or open it."""
        return self._transfer(account, lambda one: one.mark_away(mark, instead_of))

    def _transfer(self, account: Account, work: Callable[[MaildirTransfer], T]) -> Deferred[T]:
        try:
            transfer = self._transfer_of(account)
        except BadMailboxName as error:
            return fail(error)
        return self._run(lambda: work(transfer))

    def _transfer_of(self, account: Account) -> MaildirTransfer:
        path = self._path(account)
        found = self._transfers.get(path)
        if found is None:
            limits = Limits(octets=account.quota.octets, messages=account.quota.messages)
            found = MaildirTransfer(path, account.mailbox, self._reading, limits, self._now_ns)
            self._transfers[path] = found
            while len(self._transfers) > COPIED:
                self._transfers.popitem(last=False)
        return found

    # -- sessions ----------------------------------------------------------------

    def open(self, account: Account, mind: object) -> Deferred[Opened]:
        """The account's maildrop with its snapshot, and the function that releases it."""
        try:
            path = self._path(account)
        except BadMailboxName as error:
            return fail(error)
        mailbox, cause = self._mailbox(path), cause_of(mind)
        if not self._exclusive:
            return self._opened(mailbox, account, cause)
        if path in self._held:
            return fail(MaildropBusy(path))
        self._held.add(path)
        return self._open_exclusively(mailbox, account, cause)

    def _opened(self, mailbox: Mailbox, account: Account, cause: Reason) -> Deferred[Opened]:
        if may_be_closed(mailbox.maildir):
            checked = self._run(lambda: _check_open(mailbox.maildir))
            return checked.addCallback(lambda _: self._read(mailbox, account, cause))
        return self._read(mailbox, account, cause)

    def _read(self, mailbox: Mailbox, account: Account, cause: Reason) -> Deferred[Opened]:
        def opened(snapshot: Snapshot) -> Opened:
            drop = Maildrop(account.mailbox, mailbox, snapshot, cause)
            return drop, drop.close

        def read(snapshot: Snapshot) -> Opened:
            self._mailboxes.count(mailbox.maildir, mailbox)
            return opened(snapshot)

        snapshot = mailbox.unchanged()
        return mailbox.read().addCallback(read) if snapshot is None else succeed(opened(snapshot))

    def _mailbox(self, path: str) -> Mailbox:
        mailbox = self._mailboxes.find(path)
        if mailbox is None:
            mailbox = Mailbox(path, self._reading, self._run, self._audit, self._now_ns)
            self._mailboxes.add(path, mailbox)
        return mailbox

    def _open_exclusively(
        self, mailbox: Mailbox, account: Account, cause: Reason
    ) -> Deferred[Opened]:
        held = ExitStack()
        held.callback(self._held.discard, mailbox.maildir)

        def locked() -> None:
            held.callback(os.close, _lock(mailbox.maildir))

        def opened_so(found: Opened) -> Opened:
            maildrop, close = found
            held.callback(close)
            return maildrop, held.close

        def failed(failure: Failure) -> Failure:
            held.close()
            return failure

        # Opened once so that the Maildir exists and can be locked, and read again
        # under the lock.
        return (
            self._opened(mailbox, account, cause)
            .addCallback(lambda _: self._run(locked))
            .addCallback(lambda _: self._opened(mailbox, account, cause))
            .addCallbacks(opened_so, failed)
        )


def _check_open(maildir: str) -> None:
    try:
        with opened(maildir) as place:
            check_open(place)
    except OSError as error:
        raise store_error(error, maildir) from error


def _lock(maildir: str) -> int:
    """Lock a Maildir against other processes; the kernel unlocks it if we die."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with opened(maildir) as place:
            file = locked(os.open(place.at(LOCK), flags, 0o600))
    except OSError as error:
        raise store_error(error, f"{maildir}/{LOCK}") from error
    if file is None:
        raise MaildropBusy(f"{maildir}: a session has it open")
    return file
