"""Mailboxes: list them, look at one, count, rename and delete."""

from __future__ import annotations

from attrs import frozen

from gateway.errors import (
    GatewayError,
    MailboxExists,
    MaildropBusy,
    NoSuchMailbox,
    NotConfirmed,
    OnHold,
    StoreDown,
)
from gateway.model import Account, Contents, Reason, RetentionOrder
from gateway.operations.mail.stored_mail import account_of, admin_store, held, mailbox_store
from gateway.operations.tools import Tools

SESSIONS_IN = "sessions in"
"""The question how many sessions of a process have a mailbox open; its argument is the name."""


@frozen
class Recalculated:
    """Usage before and after a recalculation."""

    mailbox: str
    octets_before: int | None
    """None: the mailbox had no maildirsize."""

    messages_before: int | None
    octets: int
    messages: int


async def recalculate(tools: Tools, *, mailbox: str) -> Recalculated:
    """Count all messages of a mailbox again, and keep the result for quotas (maildirsize)."""
    account = await account_of(tools, mailbox)
    before, after = await admin_store(tools).recalculate(account)
    tools.survey.forget()
    return Recalculated(
        mailbox,
        None if before is None else before.octets,
        None if before is None else before.messages,
        after.octets,
        after.messages,
    )


@frozen
class RenamedMailbox:
    """A mailbox that has another name now."""

    mailbox: str
    """Its new name."""

    was: str
    owner: str | None
    """The account that has the old name as its mailbox in the directory: change it there, or the
    next login or delivery makes an empty mailbox of that name.  None: nobody has."""

    resumed: bool = False
    """An earlier run had renamed the mail, and this one has only ended it."""


async def rename(tools: Tools, *, mailbox: str, target: str) -> RenamedMailbox:
    """Rename a mailbox, with its unique-ids, flags, hidden mail, quota and retention state.

    Not while a session has it open, and never onto a mailbox that exists.  The directory is not
    changed: change the mailbox of the account there.
    """
    if target == mailbox:
        raise MailboxExists(f"the mailbox has the name {target!r} already")
    account = await account_of(tools, mailbox)
    new = await tools.mailboxes.find(target) or Account(name=target, mailbox=target)
    resumed = await _resumed(tools, account, new)
    if not resumed:
        await _check_hold_stays(tools, account, new)
        await refuse_if_open(tools, mailbox)
        await _rename(tools, account, new)
    await _end_rename(tools, mailbox, target)
    owner = await tools.mailboxes.owner(mailbox)
    return RenamedMailbox(target, mailbox, None if owner is None else owner.name, resumed)


async def _resumed(tools: Tools, account: Account, new: Account) -> bool:
    """Whether an earlier run was interrupted after the store had renamed the mail."""
    mailbox, target = account.mailbox, new.mailbox
    if await tools.state.find_rename(mailbox) != target:
        return False
    there = {one.mailbox for one in await mailbox_store(tools).present([account, new])}
    if there == {mailbox, target}:
        await tools.state.finish_rename(mailbox)
        raise MailboxExists(
            f"{target!r} exists, and a rename to it was interrupted. It has ended if {mailbox!r}"
            " has only mail that came since: look at both"
        )
    return there == {target}


async def _check_hold_stays(tools: Tools, account: Account, new: Account) -> None:
    if tools.policies.is_held(account) and not tools.policies.is_held(new):
        raise OnHold(
            f"{account.mailbox!r} is on hold, and {new.mailbox!r} would not be:"
            " give the new name a retention policy with hold first"
        )


async def _rename(tools: Tools, account: Account, new: Account) -> None:
    await tools.state.begin_rename(account.mailbox, new.mailbox)
    try:
        await admin_store(tools).rename(account, new)
    except GatewayError as error:
        try:
            there = [one.mailbox for one in await mailbox_store(tools).present([account, new])]
        except GatewayError as unknown:
            # The state keeps the rename: if the mail has the new name, the next run ends it.
            raise StoreDown(
                f"{error}; nobody can see which name the mail has now ({unknown}): run it again"
            ) from error
        if there == [new.mailbox]:
            error.after(mailboxes=1)
        else:
            await tools.state.drop_rename(account.mailbox)
        raise


async def _end_rename(tools: Tools, mailbox: str, target: str) -> None:
    """Move the state; retention looks at the new name at once."""
    tools.survey.forget()
    try:
        await tools.state.finish_rename(mailbox)
        await tools.state.add_order(target, RetentionOrder(tools.now()))
    except GatewayError as error:
        raise StoreDown(
            f"{mailbox!r} is renamed to {target!r}, but its warnings and retention schedule did"
            f" not follow: {error}; run it again"
        ).after(mailboxes=1) from error


@frozen
class DeletedMailbox:
    """What a deletion has removed, or would remove."""

    mailbox: str
    dry_run: bool
    """Nothing was removed."""

    messages: int
    """All messages: those that POP3 shows, hidden ones, and those of other folders."""

    octets: int
    hidden_messages: int
    folder_messages: int
    """Messages in other folders, which only IMAP shows."""

    on_hold: bool
    owner: str | None
    """The account that has this mailbox in the directory: its next login or delivery makes an
    empty mailbox of the name.  None: nobody has."""


async def delete(
    tools: Tools, *, mailbox: str, confirm: str = "", dry_run: bool = False
) -> DeletedMailbox:
    """Delete a mailbox with all its mail, after a line in the audit log for each message.

    ``confirm`` repeats the name of the mailbox.  With ``dry_run`` nothing is removed.  Not while
    a session has it open, nor on hold.  After an error a second run goes on.
    """
    account = await account_of(tools, mailbox)
    on_hold = tools.policies.is_held(account)
    owner = await tools.mailboxes.owner(mailbox)
    name = None if owner is None else owner.name
    if dry_run:
        return _deleted(
            mailbox, await admin_store(tools).contents(account), on_hold, name, dry=True
        )
    if confirm != mailbox:
        raise NotConfirmed(
            f"confirm: expected the name of the mailbox, {mailbox!r}, since all its mail is deleted"
        )
    if on_hold:
        raise held(mailbox)
    await refuse_if_open(tools, mailbox)
    cause = Reason(operator=tools.operator)
    try:
        removed = await admin_store(tools).delete(account, cause)
    except NoSuchMailbox:
        # A run before this one may have ended between the two.
        await tools.state.forget_mailbox(mailbox)
        raise
    finally:
        tools.survey.forget()
    try:
        await tools.state.forget_mailbox(mailbox)
    except GatewayError as error:
        gone = removed.total
        raise StoreDown(
            f"{mailbox!r} is deleted, but its warnings and retention schedule are not:"
            f" {error}; run it again"
        ).after(mailboxes=1, messages=gone.messages, octets=gone.octets) from error
    return _deleted(mailbox, removed, on_hold, name, dry=False)


def _deleted(
    mailbox: str, found: Contents, on_hold: bool, owner: str | None, *, dry: bool
) -> DeletedMailbox:
    return DeletedMailbox(
        mailbox=mailbox,
        dry_run=dry,
        messages=found.total.messages,
        octets=found.total.octets,
        hidden_messages=found.hidden.messages,
        folder_messages=found.folders.messages,
        on_hold=on_hold,
        owner=owner,
    )


async def refuse_if_open(tools: Tools, mailbox: str) -> None:
    """Raise ``MaildropBusy`` if sessions have it open, ``AskFailed`` while that is unknown."""
    answers = await tools.processes.ask_everyone(SESSIONS_IN, mailbox)
    if count := sum(answers):
        sessions = "a session has" if count == 1 else f"{count} sessions have"
        raise MaildropBusy(f"{sessions} {mailbox!r} open: end them first, or wait")
