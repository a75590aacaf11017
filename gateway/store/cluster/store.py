"""The cluster store: mail in PostgreSQL and S3, for any number of gateways."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from gateway.errors import MaildropBusy, MessageGone, NoSuchMailbox, NotSupported
from gateway.events import Emit
from gateway.interfaces import (
    Admit,
    IAuditStore,
    IBody,
    ICache,
    ICollectingStore,
    IDelivery,
    IIncoming,
    IMailboxAdmin,
    IMailboxClosing,
    IMailboxes,
    IMailboxTransfer,
    IMaildrop,
    IRetentionStore,
    Run,
)
from gateway.model import (
    Account,
    AuditLines,
    AuditQuery,
    Contents,
    CopiedMessage,
    MailboxImage,
    Reason,
    StoredMessage,
    Usage,
    UsageChange,
    cause_of,
)
from gateway.postgresql.database import Cursor, Database
from gateway.postgresql.names import check_name, is_text
from gateway.store.audited import no_limits
from gateway.store.cluster.batch import Batch
from gateway.store.cluster.bodies.ahead import Memory
from gateway.store.cluster.bodies.blobs import LONGEST_HEAD, Blobs
from gateway.store.cluster.bodies.body import Bodies, body_missing
from gateway.store.cluster.bodies.body_cache import BodyCache
from gateway.store.cluster.bodies.keys import Where
from gateway.store.cluster.boxes import Boxes
from gateway.store.cluster.collection import BodyCollection
from gateway.store.cluster.delivery import Delivery, Incoming
from gateway.store.cluster.leases import HOLDS, Leases
from gateway.store.cluster.maildrop import ClusterMaildrop, Means
from gateway.store.cluster.removal import Removal
from gateway.store.cluster.snapshots import Snapshots
from gateway.store.cluster.sql import audit, changes, copied, rows
from gateway.store.cluster.sql.copied import CopiedTo, lock_away
from gateway.store.cluster.transfer import take_in

T = TypeVar("T")


@frozen
class ClusterOptions:
    """How the store behaves."""

    create: bool = True
    """Create missing mailboxes."""

    exclusive: bool = False
    """A mailbox has one session at a time; others fail with ``MaildropBusy``."""

    mark_read: bool = True
    count_hidden: bool = False
    """Hidden messages count in ``usage``."""

    convert_cr: bool = False
    """Store a lone CR as a line end."""

    cached_messages: int = 2_000_000
    """Most messages in the listings of all mailboxes in memory."""

    audit_days: int = 90
    """Days for which audit entries stay; 0: none are written, and none removed."""

    timeout: float = 10.0
    """Seconds to wait for the next octets of a body."""

    longest_session: float = 86_400.0
    """Seconds after which nobody reads a body without a row any more."""


@implementer(ICollectingStore, IDelivery, IMailboxes, IRetentionStore, IMailboxAdmin, ICache)
@implementer(IMailboxTransfer, IMailboxClosing, IAuditStore)
class ClusterStore:
    """All mailboxes of the cluster."""

    lists_mailboxes = True

    def __init__(
        self,
        reactor: Any,
        database: Database,
        blobs: Blobs,
        run: Run,
        *,
        options: ClusterOptions = ClusterOptions(),
        cache: BodyCache | None = None,
        admit: Admit = no_limits,
        deliver: Run | None = None,
        patient: Run | None = None,
        emit: Emit = lambda _: None,
    ) -> None:
        """``run`` and ``deliver`` do what waits for the database; ``emit`` takes events.

        ``patient`` does what has to be done however late: leases are renewed and given back.
        """
        self._database = database
        self._blobs = blobs
        self._run = run
        self._options = options
        self._boxes = Boxes(database, run, reactor.seconds, create=options.create)
        self._snapshots = Snapshots(database, run, options.cached_messages)
        self._removal = Removal(database, audited=options.audit_days > 0)
        self._bodies = Bodies(reactor, blobs, options.timeout, cache)
        self._means = Means(
            reactor.seconds,
            run,
            self._bodies,
            Memory(blobs.has_room),
            self._removal,
            Batch(run, partial(rows.find_layouts, database)),
            Batch(run, partial(rows.find_shown, database)),
            # Each header may have 64 KiB.
            Batch(run, partial(rows.find_headers, database), most=100),
            mark_read=options.mark_read,
            emit=emit,
        )
        self._delivery = Delivery(
            database,
            blobs,
            deliver or run,
            admit,
            self._boxes.find_prepared,
            count_hidden=options.count_hidden,
            convert_cr=options.convert_cr,
        )

        self._leases = Leases(reactor, database, run, patient or run)
        self._holds = Leases(reactor, database, run, patient or run, HOLDS)
        self._collection = BodyCollection(
            database, blobs, run, options.longest_session, reactor.seconds
        )

    def close(self) -> None:
        """Close the connections to the database, and ask S3 no more."""
        self._leases.close()
        self._holds.close()
        self._database.close()
        self._blobs.close()
        self._bodies.close()

    def forget(self, account: Account | None) -> int:
        """Read the listing of the mailbox, or of all, from the database when it is next opened."""
        # Listings are known by id, and names may change: all of one is as good as one of all.
        del account
        return self._snapshots.drop_all()

    # -- sessions ----------------------------------------------------------------

    def open(
        self, account: Account, mind: object
    ) -> Deferred[tuple[IMaildrop, Callable[[], None]]]:
        """The account's maildrop, as it is now."""
        return Deferred.fromCoroutine(self._open(account.mailbox, cause_of(mind)))

    async def _open(self, name: str, cause: Reason) -> tuple[IMaildrop, Callable[[], None]]:
        state, release = await self._boxes.state(name), _nothing
        if self._options.exclusive:
            release = await self._leases.take(state.mailbox)
        try:
            if self._options.exclusive:
                # The session before may have removed messages since.
                leased, state = state.mailbox, await self._boxes.state(name)
                if state.mailbox != leased:
                    raise MaildropBusy(f"{name}: was renamed or deleted at this moment")
            snapshot = await self._snapshots.current(state)
        except BaseException:
            release()
            raise
        maildrop = ClusterMaildrop(name, snapshot, self._means, cause)

        def leave() -> None:
            maildrop.leave()
            release()

        return maildrop, leave

    # -- delivery ----------------------------------------------------------------

    def prepare(self, account: Account) -> Deferred[None]:
        """Check that the mailbox exists, or create it."""
        return Deferred.fromCoroutine(self._boxes.prepare(account.mailbox))

    def receive(self, account: Account) -> Deferred[IIncoming]:
        """Begin a message."""
        if self._boxes.find_prepared(account.mailbox) is not None:
            return succeed(Incoming(self._delivery))
        return self.prepare(account).addCallback(lambda _: Incoming(self._delivery))

    def usage(self, account: Account) -> Deferred[Usage]:
        """Usage of the account's mailbox, as its counters have it; a missing one has none."""

        async def usage() -> Usage:
            box = await self._boxes.box(account.mailbox)
            return Usage() if box is None else self._counted(box.contents)

        return Deferred.fromCoroutine(usage())

    def _counted(self, contents: Contents) -> Usage:
        return contents.total if self._options.count_hidden else contents.shown

    def collect(self, most: int) -> Deferred[int]:
        """Remove audit entries that are too old, and bodies that no message has."""

        async def collect() -> int:
            # First what needs no S3.
            days = self._options.audit_days
            expired = await self._run(partial(audit.expire, self._database, days, most))
            return expired + await self._collection.collect(most)

        return Deferred.fromCoroutine(collect())

    # -- audit -------------------------------------------------------------------

    def search_audit(self, query: AuditQuery, cursor: str, most: int) -> Deferred[AuditLines]:
        """Up to ``most`` entries of all gateways, the newest first."""
        if not self._options.audit_days:
            return fail(NotSupported("there is no audit: set store.audit_days"))
        return self._run(partial(audit.search, self._database, query, cursor, most))

    # -- mailboxes ---------------------------------------------------------------

    def names(self) -> Deferred[list[str]]:
        """The names of all mailboxes, sorted."""
        return self._run(partial(rows.names, self._database))

    def present(self, accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """The accounts with a mailbox."""

        def present() -> list[Account]:
            asked = [one.mailbox for one in accounts if is_text(one.mailbox)]
            found = rows.find_states(self._database, asked)
            return [one for one in accounts if one.mailbox in found]

        return self._run(present)

    # -- retention ---------------------------------------------------------------

    def scan(self, account: Account) -> Deferred[list[StoredMessage]]:
        """All messages that POP3 shows."""
        return self._of(account, lambda name: rows.messages(self._database, name, hidden=False))

    scan_readonly = scan

    def list_hidden(self, account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages."""
        return self._of(account, lambda name: rows.messages(self._database, name, hidden=True))

    def remove(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these messages."""
        return self._of(account, lambda name: self._removal.remove(name, uids, cause))

    def hide(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Hide these messages."""
        return self._of(account, lambda name: self._removal.hide(name, uids, cause))

    def restore(
        self, account: Account, uids: Collection[str], cause: Reason | None = None
    ) -> Deferred[int]:
        """Restore these hidden messages."""
        return self._of(account, lambda name: self._removal.restore(name, uids, cause))

    def purge(self, account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these hidden messages."""
        return self._of(account, lambda name: self._removal.purge(name, uids, cause))

    def move_ids(self, account: Account, by: int) -> Deferred[int]:
        """Raise the next uid."""
        return self._change(account, lambda cursor, box, _: changes.move_ids(cursor, box, by))

    # -- operators ---------------------------------------------------------------

    def contents(self, account: Account) -> Deferred[Contents]:
        """All mail of the mailbox."""
        return self._of(account, partial(rows.contents, self._database))

    def header(self, account: Account, uid: str) -> Deferred[bytes]:
        """The header of a message."""

        def header(name: str) -> bytes:
            head = rows.find_head(self._database, name, uid)
            if head is None:
                raise MessageGone(f"no message has the unique-id {uid[:70]!r}")
            return head[:LONGEST_HEAD]

        return self._of(account, header)

    def recalculate(self, account: Account) -> Deferred[UsageChange]:
        """Count all messages again, and set the counters."""

        def recalculate(cursor: Cursor, box: changes.Locked, _: str) -> UsageChange:
            counted = changes.recount(cursor, box)
            return UsageChange(self._counted(box.contents), self._counted(counted))

        return self._change(account, recalculate)

    def rename(self, account: Account, target: Account) -> Deferred[None]:
        """Give the mailbox another name."""

        tried: set[int] = set()

        def rename(cursor: Cursor, _: bool) -> None:
            # An attempt that was not answered may have happened.
            if any(changes.has_name(cursor, one, target.mailbox) for one in tried):
                return
            box = changes.lock(cursor, account.mailbox, closed_too=True)
            check_name(target.mailbox)
            changes.rename(cursor, box, account.mailbox, target.mailbox)
            tried.add(box.id)

        return self._of(account, lambda _: self._database.transact(rename))

    def delete(self, account: Account, cause: Reason) -> Deferred[Contents]:
        """Delete the mailbox."""
        return self._of(account, lambda name: self._removal.delete(name, cause))

    # -- copies ------------------------------------------------------------------

    def inspect(self, account: Account) -> Deferred[MailboxImage]:
        """All messages of the mailbox."""
        return self._of(account, partial(copied.image, self._database))

    def open_message(self, account: Account, message: CopiedMessage) -> Deferred[IBody]:
        """Open one of them."""
        where = message.handle
        assert isinstance(where, Where)
        named = f"{account.mailbox}: message {message.uid}"
        return self._bodies.open(where, lambda: fail(body_missing(named, where.body)))

    def take(
        self, account: Account, mark: str, message: CopiedMessage, body: IBody
    ) -> Deferred[None]:
        """Add a message with its unique-id."""
        incoming = Incoming(self._delivery, is_copy=True)
        place = CopiedTo(account.mailbox, mark)
        return Deferred.fromCoroutine(
            take_in(incoming, place, message, body, self._database, self._run)
        )

    def adjust(self, account: Account, mark: str, image: MailboxImage) -> Deferred[None]:
        """Make the mailbox like another one."""

        def adjust(name: str) -> None:
            place = CopiedTo(name, mark)
            self._database.transact(
                lambda cursor, _: copied.adjust(cursor, lock_away(cursor, place), image)
            )

        return self._of(account, adjust)

    def hold(self, account: Account) -> Deferred[Callable[[], None]]:
        """Close the mailbox while this process lives."""

        async def hold() -> Callable[[], None]:
            mailbox = await self._of(account, partial(rows.find_id, self._database))
            return await self._holds.take(mailbox)

        return Deferred.fromCoroutine(hold())

    def mark_away(
        self, account: Account, mark: str, instead_of: str | None = None
    ) -> Deferred[None]:
        """Close the mailbox with a mark, or open it."""

        def mark_away(name: str) -> None:
            self._database.transact(
                lambda cursor, _: copied.mark_away(cursor, name, mark, instead_of)
            )

        return self._of(account, mark_away)

    # -- threads -----------------------------------------------------------------

    def _of(self, account: Account, work: Callable[[str], T]) -> Deferred[T]:
        """Do something with the name of a mailbox, in a thread."""

        def checked() -> T:
            if not is_text(account.mailbox):
                raise NoSuchMailbox(account.mailbox)
            return work(account.mailbox)

        return self._run(checked)

    def _change(
        self, account: Account, work: Callable[[Cursor, changes.Locked, str], T]
    ) -> Deferred[T]:
        """Do something with a locked mailbox, in a transaction."""

        def change(name: str) -> T:
            def locked(cursor: Cursor, _: bool) -> T:
                return work(cursor, changes.lock(cursor, name, closed_too=True), name)

            return self._database.transact(locked)

        return self._of(account, change)


def _nothing() -> None:
    """Nothing to release."""
