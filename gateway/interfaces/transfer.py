"""Copies of whole mailboxes from one store to another."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Interface

from gateway.interfaces.mail import IBody
from gateway.model import Account, CopiedMessage, MailboxImage


class IMailboxTransfer(Interface):
    """A store that mailboxes can be copied from, and copied to.

    The copy calls one method at a time for a mailbox; while it copies from it, sessions and
    deliveries may change it.  A mailbox that is copied to is marked away: ``take`` and ``adjust``
    fail with ``MaildropBusy`` unless it has their ``mark``, which is not empty, so that of two
    copies the later one goes on.  Fails as ``IDelivery.receive``.
    """

    def inspect(account: Account) -> Deferred[MailboxImage]:
        """The mailbox as it is now; creates none.

        Messages without a unique-id get one, as at a login.
        """

    def open_message(account: Account, message: CopiedMessage) -> Deferred[IBody]:
        """Open a message of ``inspect``, shown or hidden, for one reading.

        Fails with ``MessageGone``, ``MessageUnreadable`` or ``SizeChanged``.
        """

    def take(account: Account, mark: str, message: CopiedMessage, body: IBody) -> Deferred[None]:
        """Add a message with its unique-id and its times, in place of one with the same unique-id.

        Only ``adjust`` gives it its place in the listing.  ``body`` has CRLF line ends; the
        caller closes it.  No quota applies, and nothing is written to the audit log.  After a
        crash the message is there as a whole or not at all.
        """

    def adjust(account: Account, mark: str, image: MailboxImage) -> Deferred[None]:
        """Make the mailbox like ``image``, except for the messages that it lacks.

        Removes what is not in ``image``, without audit lines: it was removed at the other place.
        Changes marks and times, and the order of the listing; what cannot be changed is
        removed, to be copied again.  Raises the next unique-id to that of ``image``.  Counts
        again what counts for quotas, and syncs all to disk.
        """


class IMailboxClosing(Interface):
    """A store that can keep everybody out of a mailbox.  Fails as ``IDelivery.receive``.

    Logins and deliveries to a closed mailbox fail with ``MaildropBusy``, and so does whatever
    else removes, hides or restores mail; sessions that are open go on reading.
    """

    def hold(account: Account) -> Deferred[Callable[[], None]]:
        """Close the mailbox for as long as this process lives; fires with what opens it again.

        Changes that have begun are complete when it fires.  Fails with ``MaildropBusy`` while an
        exclusive session has the mailbox open, or somebody else holds it.
        """

    def mark_away(account: Account, mark: str, instead_of: str | None = None) -> Deferred[None]:
        """Close the mailbox until it is marked otherwise, since another place serves it.

        ``mark`` says which copy did it; empty: open the mailbox again.  Creates a missing mailbox.
        Fails with ``MaildropBusy`` if ``instead_of`` is not None, and not the mark that it has.
        """
