"""Users as the server sees them: entry, mailbox, delegates, and what keeps mail or logins out."""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from gateway.directory.schemes import scheme_of
from gateway.errors import BadMailboxName, DirectoryMisconfigured, GatewayError, NoSuchUser
from gateway.model import Account
from gateway.operations.mail.mailbox_list import MailboxRow, row_of
from gateway.operations.tools import Tools
from gateway.saslprep import login_name
from gateway.units import counted

FoundBy = Literal["login", "address", "mailbox"]


@frozen
class UserEntry:
    """An account of the directory, without its secrets."""

    asked: str
    found_by: FoundBy
    """What ``asked`` is of the account: its login name, a mail address, or its mailbox."""

    name: str
    """The login name in its canonical form."""

    mailbox: str
    home: str | None
    host: str
    """The server of the mailbox; empty: unknown."""

    is_here: bool
    """Whether this server has the mailbox."""

    addresses: tuple[str, ...]
    other_names: tuple[str, ...]
    """Names of the account as a delegate: login names, DNs, DNs of groups."""

    delegates: tuple[str, ...]
    """Who may open the mailbox, as the entry says it."""

    languages: tuple[str, ...]
    may_log_in: bool
    gets_mail: bool
    hashes: tuple[str, ...]
    """The schemes of its password hashes, ``NT`` for NTLM; empty: the directory gives none."""

    box: MailboxRow
    """Usage, quota and retention policy, and where each comes from."""

    login_refused: tuple[str, ...]
    """Why a login with the right password would be refused now; empty: it would not."""

    delivery_refused: tuple[str, ...]
    """Why mail would be refused now; empty: it would not."""


@frozen
class UserDelegates:
    """Delegates of a user, and the mailboxes that the user may open."""

    name: str
    are_allowed: bool
    """The setting ``directory.delegates``: without it nobody opens the mailbox of another."""

    of: tuple[str, ...]
    """The accounts that may open this user's mailbox."""

    unknown: tuple[str, ...]
    """Entries of the list of delegates that no account has."""

    opens: tuple[str, ...]
    """The mailboxes that this user may open as a delegate."""


async def find_user(tools: Tools, user: str) -> tuple[Account, FoundBy] | None:
    """The account of a login name, a mail address or a mailbox; None: there is none."""
    try:
        login = login_name(user.encode("utf-8"))
    except ValueError:
        return None
    ways: tuple[tuple[FoundBy, Any, str], ...] = (
        ("login", tools.directory.find, login),
        ("address", tools.directory.recipient, login.lower()),
        ("mailbox", tools.directory.owner, user),
    )
    for found_by, find, name in ways:
        account: Account | None = await find(name)
        if account is not None:
            return account, found_by
    return None


async def names_of(tools: Tools, user: str) -> list[str]:
    """All names of a user: login names, mailbox and addresses; of one that is unknown this one."""
    if not user:
        return []
    found = await find_user(tools, user)
    if found is None:
        return [user]
    account = found[0]
    return list(dict.fromkeys((user, account.name, account.mailbox, *account.addresses[:100])))


async def the_user(tools: Tools, user: str) -> tuple[Account, FoundBy]:
    """As ``find_user``; raises ``NoSuchUser``."""
    found = await find_user(tools, user)
    if found is None:
        raise NoSuchUser(
            f"{user[:200]!r} is no login name, mail address or mailbox of the directory:"
            " check how it is written, and with or without its domain"
        )
    return found


async def show_user(tools: Tools, *, user: str) -> UserEntry:
    """Look up a user as the server does, by login name, mail address or mailbox.

    Says where quota and retention policy come from, and why a login or mail would be refused.
    No answer has a password hash.
    """
    account, found_by = await the_user(tools, user)
    is_here = not account.is_elsewhere(tools.settings.directory.here)
    box = await row_of(tools, account)
    return UserEntry(
        asked=user,
        found_by=found_by,
        name=account.name,
        mailbox=account.mailbox,
        home=account.home,
        host=account.host,
        is_here=is_here,
        addresses=account.addresses,
        other_names=tuple(sorted(account.names)),
        delegates=tuple(sorted(account.delegates)),
        languages=account.languages,
        may_log_in=account.may_log_in,
        gets_mail=account.gets_mail,
        hashes=_hashes(account),
        box=box,
        login_refused=tuple(_of_both(tools, account) + await _of_login(tools, account)),
        delivery_refused=tuple(_of_both(tools, account) + _of_delivery(account, box)),
    )


def _hashes(account: Account) -> tuple[str, ...]:
    schemes = []
    if account.secret:
        try:
            schemes.append(scheme_of(account.secret)[0])
        except DirectoryMisconfigured:
            schemes.append("unknown")
    return (*schemes, "NT") if account.nt_hash else tuple(schemes)


def _of_both(tools: Tools, account: Account) -> list[str]:
    settings = tools.settings
    found = []
    if account.is_elsewhere(settings.directory.here):
        found.append(f"the mailbox is on {account.host}, another server")
    try:
        settings.store_kind.check_account(settings.store, settings.state_dir, account)
    except BadMailboxName as error:
        found.append(f"the store can have no such mailbox: {error}")
    return found


async def _of_login(tools: Tools, account: Account) -> list[str]:
    found = []
    if not account.may_log_in:
        found.append("the account may not log in; delegates may still open the mailbox")
    if tools.settings.directory_kind.hashes and not account.secret:
        found.append("the account has no password hash; NTLM or Kerberos may still work")
    return found + await waits_of(tools, account)


async def waits_of(tools: Tools, account: Account) -> list[str]:
    """What the throttle and LOGIN-DELAY say of an account, a line each."""
    names = [account.name, account.mailbox]
    try:
        asked = await tools.processes.ask_parent("waiting", {"names": names})
    except GatewayError as error:
        return [f"nobody can tell whether the login throttle delays it: {error}"]
    lines = []
    for place, network, _, wrong, _, delay, refuses, _ in asked["throttled"]:
        if place == account.name and (delay or refuses):
            effect = "others are refused" if refuses else f"others wait {delay:.0f} s"
            lines.append(f"{counted(wrong, 'wrong password')} came from {network}: {effect}")
    lines += [
        f"LOGIN-DELAY: the next login may come in {left:.0f} s"
        for mailbox, left in asked["delayed"]
        if mailbox == account.mailbox
    ]
    return lines


def _of_delivery(account: Account, box: MailboxRow) -> list[str]:
    found = []
    if not account.gets_mail:
        found.append("the account takes no mail")
    if box.level == "over":
        size = f"{box.octets} of {box.limit_octets} octets, {box.messages} messages"
        found.append(
            f"the mailbox is full: {size} (limit of the {box.limit_octets_from or 'store'})"
        )
    if box.problem:
        found.append(box.problem)
    return found


async def list_delegates(tools: Tools, *, user: str) -> UserDelegates:
    """List who may open a user's mailbox, and which mailboxes the user may open as a delegate.

    Reads all accounts of the directory.
    """
    account, _ = await the_user(tools, user)
    everybody: list[Account] = await tools.directory.accounts()

    def found() -> UserDelegates:
        others = [one for one in everybody if one.name != account.name]
        of = [one for one in others if account.admits(one)]
        known: set[str] = set()
        for one in of:
            known |= {name.casefold() for name in (one.name, *one.addresses)} | one.names
        return UserDelegates(
            name=account.name,
            are_allowed=tools.settings.directory.delegates,
            of=tuple(sorted(one.name for one in of)),
            unknown=tuple(sorted(account.delegates - known)),
            opens=tuple(sorted(one.mailbox for one in others if one.admits(account))),
        )

    return await tools.run(found)
