"""Mail: stores, the maildrops and messages that they open, what comes in, what goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from gateway.model import (
    Account,
    AuditLines,
    AuditQuery,
    Contents,
    Form,
    Limits,
    Listing,
    Reason,
    Removed,
    StoredMessage,
    Usage,
    UsageChange,
)

Admit = Callable[[Usage, int, Limits], None]
"""Whether a message of this size in octets may be added to a mailbox with this usage.

Pure, and called on any thread.  Raises ``OverQuota`` or ``LargerThanQuota``.
"""


Audit = Callable[[Iterable[Removed]], None]
"""Writes audit lines before removal, and returns once they are synced to disk.

Called in threads.  Iteration may read messages, so without an audit log nothing is read.
Raises ``StoreDown``, and then none of these is removed; after ``NoRoom`` it is called
again with fewer of them.
"""


HighWater = Callable[[str, int], int]
"""The high-water mark of a mailbox: a number above every unique-id that clients saw.

Called in threads with an absolute path as the name of the mailbox, or ``RAISED``, and a number:
raises the mark to the number if it is lower, syncs it to disk, and returns it.  0 only reads;
the result is 0 if there is none.  Raises ``StoreDown`` or ``LedgerUnusable``.
"""

RAISED = ""
"""The place of which the mark is the sum of all raises: none that is new has begun so far ahead."""


class IBody(Interface):
    """The content of one message, read once from front to back."""

    form = Attribute("gateway.model.Form: what is known of the octets' line ends and dots.")

    def read_now() -> bytes | None:
        """The next stored octets, if available without waiting; ``b""`` at the end.

        None: call ``read``.  Raises as ``read`` fails.
        """

    def read() -> Deferred[bytes]:
        """The next stored octets.

        The session calls it again only after the last answer.  Fails with ``SizeChanged``
        or ``StoreDown``; if part of the message was sent by then, the session hangs up.
        """

    def close() -> None:
        """Close the message.  Called exactly once, also after a failed read."""


class IWholeBody(IBody):
    """A body of which all octets are in memory: a small one is sent without ``read``."""

    content = Attribute("bytes: all of it.")


class IMaildrop(Interface):
    """The mail of a user during a session."""

    name = Attribute("str: the mailbox, for the log and the limit of sessions per user.")

    terms = Attribute(
        "gateway.model.Terms: EXPIRE and LOGIN-DELAY of this user; the realm sets it."
    )

    def listing() -> Deferred[Listing]:
        """The snapshot; called once, right after login.  Its order is the numbering.

        Fails with ``StoreDown`` or ``MailboxUnusable``.
        """

    def retrieve(index: int) -> Deferred[IBody]:
        """Open message ``index`` (0-based) of the snapshot, for RETR or TOP.

        Fails with ``MessageGone``, ``MessageUnreadable``, ``SizeChanged`` (its file
        changed since the listing) or ``StoreDown`` before any octet is sent.
        A session does not remove a message that it could not read.
        """

    def finish(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT: remove ``removed``, mark ``retrieved`` as read.

        Fails with ``StoreDown`` if a message of ``removed`` is still there; all without a
        line in the audit log are.  Other messages are never removed.
        """

    def abandon(retrieved: Collection[int]) -> Deferred[None]:
        """The session ended without QUIT: remove nothing, mark retrieved messages as read."""


class IQuickMaildrop(IMaildrop):
    """A maildrop that can read a small message without waiting."""

    def small_message(index: int) -> tuple[bytes, Form] | None:
        """All octets of message ``index``, with what is known of them.

        None: it is not small, or not at hand, or not as listed; the session calls
        ``retrieve``, which finds out.  The octets are as an ``IBody`` gives them.
        """


class IHeaderMaildrop(IMaildrop):
    """A maildrop that can read the header of a message without the rest."""

    def retrieve_header(index: int) -> Deferred[IBody]:
        """Open the header of message ``index`` with the empty line after it, for TOP 0.

        More of the message may follow.  Fails as ``retrieve``.
        """


class IHidingMaildrop(IMaildrop):
    """A maildrop that can hide messages, for mailboxes on hold."""

    def hide(removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """QUIT in a mailbox on hold: as ``finish``, but hide ``removed`` from POP3.

        The audit log has a line for each, as for ``IHiddenMail.hide``.
        """


class IStore(Interface):
    """All mailboxes."""

    def open(account: Account, mind: object) -> Deferred[tuple[IMaildrop, Callable[[], None]]]:
        """The account's ``IMaildrop`` and the function that releases it.

        The realm calls it at login, with its ``mind``: usually a ``gateway.model.Peer``,
        which the audit log names for removals of the session.  Fails with ``NoSuchMailbox``,
        ``BadMailboxName``, ``MailboxUnusable``, ``MaildropBusy``, ``StoreDown``.
        """


class IDelivery(Interface):
    """A store that accepts deliveries."""

    def prepare(account: Account) -> Deferred[None]:
        """Check at RCPT that the account's mailbox exists and takes mail.

        Fast for a known mailbox; fails as ``receive`` does.
        """

    def receive(account: Account) -> Deferred[IIncoming]:
        """Begin a message: an ``IIncoming``; ``account``: one of its recipients.

        Fails with ``NoSuchMailbox``, ``BadMailboxName``, ``MailboxUnusable``, ``StoreDown``.
        """

    def usage(account: Account) -> Deferred[Usage]:
        """Usage of the account's mailbox; fails as ``receive`` does.

        It creates none: a missing mailbox that ``receive`` would create has none.
        """


class IIncoming(Interface):
    """A message that is being delivered; invisible before a commit."""

    def write(data: bytes) -> Deferred[None]:
        """Add octets with CRLF line ends and without dot-stuffing.  One call at a time.

        Fails with ``NoRoom`` or as ``IDelivery.receive`` does; then only ``close`` may follow.
        """

    def commit(account: Account, limits: Limits) -> Deferred[None]:
        """Deliver it to a recipient's mailbox, after the last ``write``.

        Called once per recipient; calls may overlap.  Fires when the message is synced to
        disk and visible; fails with ``OverQuota``, ``LargerThanQuota`` or as
        ``IDelivery.receive`` does, and then it is not in the mailbox.
        """

    def close() -> Deferred[None]:
        """Close and remove temporary files.  Called exactly once, after all commits."""


class IMailboxes(Interface):
    """A store that can list mailboxes.  Fails as ``IDelivery.receive`` does."""

    lists_mailboxes = Attribute(
        "bool: ``names`` has every mailbox; False: only a directory knows them."
    )

    def names() -> Deferred[list[str]]:
        """The names of all mailboxes, sorted; none where the store does not list them."""

    def present(accounts: Sequence[Account]) -> Deferred[list[Account]]:
        """The accounts with an existing mailbox; creates none."""


class IHiddenMail(Interface):
    """A store that can hide messages from POP3.  Fails as ``IRetentionStore`` does.

    What changes several messages may fail half-way: ``done`` of the error has their number.
    """

    def hide(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Hide these messages; fires with how many are hidden now.

        With audit lines as for ``IRetentionStore.remove``.  They keep their unique-ids.
        """

    def list_hidden(account: Account) -> Deferred[list[StoredMessage]]:
        """The hidden messages; ``received``: when they were hidden."""

    def restore(
        account: Account, uids: Collection[str], cause: Reason | None = None
    ) -> Deferred[int]:
        """Restore these with their old unique-ids; fires with how many.  Their age restarts.

        With a ``cause``, after a line each in the audit log.
        """

    def purge(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these hidden messages, as ``IRetentionStore.remove``; fires with how many."""


class IRetentionStore(IHiddenMail):
    """A store with retention.

    Retention makes one call at a time for a mailbox; sessions, other programs and other
    processes may change the mailbox meanwhile.  All methods fail as
    ``IDelivery.receive`` does.
    """

    def scan(account: Account) -> Deferred[list[StoredMessage]]:
        """All messages that POP3 shows, in any order.

        Uncertain times are reported so that mail is kept longer.
        """

    def scan_readonly(account: Account) -> Deferred[list[StoredMessage]]:
        """As ``scan``, for a preview: writes nothing.

        A message without a unique-id has the name of its file instead.
        """

    def remove(account: Account, uids: Collection[str], cause: Reason) -> Deferred[int]:
        """Remove these, after a line each in the audit log; fires with how many are gone.

        A missing message does not count.  Fails with ``StoreDown`` if the audit log
        cannot be written: messages without a line stay.  On a full
        disk (``NoRoom``) some may be gone.
        """

    def move_ids(account: Account, by: int) -> Deferred[int]:
        """Raise the next unique-id by ``by``; fires with the new one.

        0: the mailbox has none yet, and begins above all that one of its name can have had.
        """


class IMailboxAdmin(Interface):
    """A store that lets an operator look after mailboxes.

    Sessions, deliveries, retention and other programs may use the mailbox meanwhile.
    Nothing creates a mailbox: a missing one is ``NoSuchMailbox``.  Fails as
    ``IDelivery.receive`` does.
    """

    def contents(account: Account) -> Deferred[Contents]:
        """All mail of the mailbox, counted now."""

    def header(account: Account, uid: str) -> Deferred[bytes]:
        """The header of a message, shown or hidden: its first 64 KiB at most.

        May contain octets of the body.  Fails with ``MessageGone``.
        """

    def recalculate(account: Account) -> Deferred[UsageChange]:
        """Count all messages again, and keep the result for quotas."""

    def rename(account: Account, target: Account) -> Deferred[None]:
        """Give the mailbox the name of ``target``, with all its mail, unique-ids and flags.

        Atomic: a crash leaves either name.  High-water marks go along.  Fails with
        ``MailboxExists``, also where clients of a mailbox that had the name may know its
        unique-ids, ``MaildropBusy`` if an exclusive session has it open or it is closed
        (``IMailboxClosing``), since a new mailbox of its name would be open, and ``NotSupported``.
        """

    def delete(account: Account, cause: Reason) -> Deferred[Contents]:
        """Delete the mailbox with all its mail; fires with what was removed.

        The audit log has a line for each message before it goes, as for
        ``IRetentionStore.remove``; messages of other folders have ``FOLDER/NAME`` as
        their unique-id.  Messages that arrive meanwhile are removed too, or fail to be
        delivered.  After a crash or an error a second call continues: with
        ``StoreDown`` some messages may be gone, each with a line: ``done`` of the error has
        their number and octets.  High-water marks stay.
        Fails with ``MaildropBusy`` if an exclusive session has the mailbox open, or a process
        holds it (``IMailboxClosing.hold``); one that is marked away can be deleted.
        """


class IAuditStore(IStore):
    """A store that keeps the audit itself, for all servers that share it.

    An entry is there exactly if the message was removed, hidden or restored.
    """

    def search_audit(query: AuditQuery, cursor: str, most: int) -> Deferred[AuditLines]:
        """Up to ``most`` entries from the cursor of an answer on; empty: from the newest.

        Reads a bounded number of entries: an answer may have none, and a cursor.  Fails with
        ``ValueError`` for a cursor that is none, with ``NotSupported`` if no audit is kept, and
        as ``IDelivery.receive`` does.
        """


class ICollectingStore(IStore):
    """A store in which removed mail, or an audit of its own, takes room until it is collected."""

    def collect(most: int) -> Deferred[int]:
        """Free the room of up to ``most`` messages that were removed before any open session,
        and of up to ``most`` audit entries that are too old.

        The leader calls it; fires with how many there were.  Fails as ``IDelivery.receive``
        does: then some are left, and a later call frees them.
        """
