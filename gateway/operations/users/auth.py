"""Test a login without a mail client, and flush what is cached of users."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from gateway.errors import (
    BadCredentials,
    BadMailboxName,
    BadValue,
    DirectoryDown,
    DirectoryMisconfigured,
    LoginDisabled,
    NotAdmitted,
    NotSupported,
    Overloaded,
    TooManyGuesses,
    UnknownLogin,
)
from gateway.interfaces import IMailboxes
from gateway.model import Account
from gateway.operations.tools import Tools, Verified
from gateway.operations.users.users import the_user, waits_of
from gateway.saslprep import login_name

Name = Literal["name", "directory", "password", "delegate", "account", "mailbox"]

Failed = Literal["", "name", "directory", "password", "delegate", "account", "mailbox"]


@frozen
class Step:
    """One step of a login."""

    step: Name
    passed: bool
    text: str


@frozen
class AuthTest:
    """How a login with this name and password goes."""

    user: str
    passed: bool
    failed: Failed
    """The step that fails; empty: none."""

    account: str
    """The account of the mailbox that opens; empty: none does."""

    mailbox: str
    steps: tuple[Step, ...]
    waits: tuple[str, ...]
    """Why a login would have to wait, or be refused, whatever the password is."""


@frozen
class Flushed:
    """How many entries were dropped, in all processes."""

    user: str
    """Empty: of all users."""

    processes: int
    passwords: int
    accounts: int
    """Entries of directories that are asked over a network."""

    listings: int
    """Lists of the messages of a mailbox."""


async def auth_test(tools: Tools, *, user: str, password: str, acts_as: str = "") -> AuthTest:
    """Test a password as USER and PASS do, and say in words which step fails.

    ``user`` as a client would send it, with the mailbox of another behind a slash where
    delegates are allowed; ``acts_as``: that mailbox as SASL PLAIN names it.  Opens no mailbox.  The
    login throttle neither delays nor counts it, but a directory that locks accounts counts a
    wrong password.  10 tests of a user in a minute, and 60 in all.
    """
    if tools.verify is None:
        raise NotSupported("no server runs here: start it, and test the password there")
    if not password:
        raise BadValue(["password: expected one; an empty password is never right"])
    wait = await tools.processes.ask_parent("permit test", user)
    if wait:
        raise TooManyGuesses(f"too many tests of passwords: try again in {wait:.0f} s")
    steps: list[Step] = []
    account = await _try(tools, user, password, acts_as, steps)
    failed: Failed = next((one.step for one in steps if not one.passed), "")
    return AuthTest(
        user=user,
        passed=not failed,
        failed=failed,
        account="" if account is None or failed else account.name,
        mailbox="" if account is None or failed else account.mailbox,
        steps=tuple(steps),
        waits=() if account is None else tuple(await waits_of(tools, account)),
    )


async def _try(
    tools: Tools, user: str, password: str, acts_as: str, steps: list[Step]
) -> Account | None:
    """Go on until a step fails; the account that would be opened."""
    try:
        login = login_name(user.encode("utf-8"))
    except ValueError:
        steps.append(Step("name", False, "no login name can be like this (RFC 4013)"))
        return None
    verified = await _verify(tools, login, password, acts_as, steps)
    if verified is None:
        found: Account | None = None
        if steps[-1].step != "directory":
            found = await tools.directory.find(login)
        if steps[-1].step == "password":
            steps[-1] = Step("password", False, steps[-1].text + _known_of(found))
        return found
    account: Account | None = await tools.directory.find(verified.login)
    if account is None:
        steps.append(Step("account", False, f"the directory has no account {verified.login}"))
        return None
    _check_account(tools, account, verified, steps)
    if steps[-1].passed:
        await _check_mailbox(tools, account, steps)
    return account


def _known_of(account: Account | None) -> str:
    """What the directory says of an account that no password opens."""
    if account is None:
        return "; no account has this login name"
    return "" if account.may_log_in else f"; {account.name} may not log in at all"


async def _verify(
    tools: Tools, login: str, password: str, acts_as: str, steps: list[Step]
) -> Verified | None:
    assert tools.verify is not None
    words = (login.encode("utf-8"), password.encode("utf-8"), acts_as.encode("utf-8"))
    try:
        verified = await tools.verify(*words)
    except NotAdmitted as error:
        steps += [Step("password", True, "it is right"), Step("delegate", False, str(error))]
    except (UnknownLogin, LoginDisabled) as error:
        steps.append(Step("account", False, str(error)))
    except BadCredentials as error:
        steps.append(Step("password", False, str(error) or "it is wrong"))
    except (DirectoryDown, DirectoryMisconfigured, Overloaded) as error:
        steps.append(Step("directory", False, f"nobody could check the password: {error}"))
    else:
        steps.append(Step("password", True, "it is right"))
        if verified.is_delegate:
            text = f"{login} may open the mailbox of {verified.login}"
            steps.append(Step("delegate", True, text))
        return verified
    return None


def _check_account(tools: Tools, account: Account, verified: Verified, steps: list[Step]) -> None:
    if not account.may_log_in and not verified.is_delegate:
        steps.append(Step("account", False, f"{account.name} may not log in"))
    elif account.is_elsewhere(tools.settings.directory.here):
        text = f"the mailbox of {account.name} is on {account.host}, another server"
        steps.append(Step("account", False, text))
    else:
        steps.append(Step("account", True, f"{account.name} may log in here"))


async def _check_mailbox(tools: Tools, account: Account, steps: list[Step]) -> None:
    settings = tools.settings
    try:
        settings.store_kind.check_account(settings.store, settings.state_dir, account)
    except BadMailboxName as error:
        steps.append(Step("mailbox", False, str(error)))
        return
    store: IMailboxes | None = IMailboxes(tools.store, None)
    text = account.mailbox
    if store is not None and not await store.present([account]):
        text += " does not exist yet"
    steps.append(Step("mailbox", True, text))


async def flush_caches(tools: Tools, *, user: str | None = None) -> Flushed:
    """Drop cached passwords, accounts and lists of messages of a user, or of all users.

    In all processes; nobody is logged out, and what is asked for next is read anew.
    """
    question: dict[str, object] = {"names": [], "name": "", "mailbox": "", "home": None}
    if user is not None:
        account, _ = await the_user(tools, user)
        names = dict.fromkeys((login_name(user.encode("utf-8")), account.name, *account.addresses))
        question = {
            "names": [*names],
            "name": account.name,
            "mailbox": account.mailbox,
            "home": account.home,
        }
    dropped = await tools.processes.ask_each("flush", question)
    sums = [sum(column) for column in zip(*dropped, strict=True)] or [0, 0, 0]
    return Flushed(user or "", len(dropped), *sums)
