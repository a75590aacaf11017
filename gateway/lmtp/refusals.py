"""The table of errors and their LMTP replies.

A 5xx reply makes mail bounce, so it is only for messages and addresses that can never
be accepted.  A fault of this server, of the directory or of the configuration is a
4xx reply: mail waits in the queue until the fault is repaired.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway import errors
from gateway.lmtp import replies
from gateway.lmtp.profile import Profile
from gateway.lmtp.replies import Reply

DEFER: Mapping[type[Exception], Reply] = {
    errors.UnknownRecipient: replies.UNKNOWN_RECIPIENT,
    errors.RecipientBarred: replies.BARRED,
    errors.RefusedByPolicy: replies.POLICY,
    errors.LargerThanQuota: replies.LARGER_THAN_QUOTA,
    # RFC 3463 calls X.2.2 a persistent transient condition: its owner may remove mail.
    errors.OverQuota: replies.FULL_FOR_NOW,
    # X.3.5, "not configured in a manner that will permit it to accept this message":
    # the server that routed the mail here is wrong, or not up to date yet.
    errors.HomedElsewhere: replies.NOT_YET_HERE,
    errors.NoRoom: replies.NO_ROOM,
    # The account exists, so these are faults of the directory's data or of the server:
    # the mailbox name too, since it comes from the directory and not from the client.
    errors.NoSuchMailbox: replies.MISCONFIGURED,
    errors.BadMailboxName: replies.MISCONFIGURED,
    errors.MailboxUnusable: replies.MISCONFIGURED,
    errors.DirectoryMisconfigured: replies.MISCONFIGURED,
}
"""Error class to reply; errors without an entry, or a parent with one, get ``TROUBLE``."""

BOUNCE: Mapping[Reply, Reply] = {
    replies.FULL_FOR_NOW: replies.FULL,
    # X.1.6, the mailbox has moved: the address is a good one, so not X.1.1.
    replies.NOT_YET_HERE: replies.MOVED,
}
"""The reply if the profile has ``bounce``."""


def refusal_of(error: BaseException, profile: Profile) -> Reply:
    """The reply for ``error``."""
    kind = next((kind for kind in type(error).__mro__ if kind in DEFER), None)
    if kind is None:
        return replies.TROUBLE
    reply = DEFER[kind]
    choice = {replies.FULL_FOR_NOW: profile.over_quota, replies.NOT_YET_HERE: profile.elsewhere}
    return BOUNCE[reply] if choice.get(reply) == "bounce" else reply
