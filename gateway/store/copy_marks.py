"""Mailboxes that are copied, as all stores look at them."""

from __future__ import annotations

from gateway.errors import MaildropBusy


def check_mark(mailbox: str, found: str, mark: str) -> None:
    """Raise ``MaildropBusy`` unless the mailbox has the mark of this copy."""
    if found == mark:
        return
    if not found:
        raise MaildropBusy(f"{mailbox}: is served here: nothing is copied to it")
    raise MaildropBusy(f"{mailbox}: another copy has begun, and goes on with it")


def held(mailbox: str) -> MaildropBusy:
    """The error for an operator, while a copy holds the mailbox."""
    return MaildropBusy(f"{mailbox}: is being copied to another place: wait until that has ended")


def away(mailbox: str) -> MaildropBusy:
    """The error for an operator who would open its name for a mailbox that has a mark."""
    return MaildropBusy(
        f"{mailbox}: another place serves it, or a copy to here has not ended: rename it there, and"
        " delete it here, or copy it back first"
    )
