"""The mark of a mailbox that is copied to, as all stores look at it."""

from __future__ import annotations

from gateway.errors import MaildropBusy


def check_mark(mailbox: str, found: str, mark: str) -> None:
    """Raise ``MaildropBusy`` unless the mailbox has the mark of this copy."""
    if found == mark:
        return
    if not found:
        raise MaildropBusy(f"{mailbox}: is served here: nothing is copied to it")
    raise MaildropBusy(f"{mailbox}: another copy has begun, and goes on with it")
