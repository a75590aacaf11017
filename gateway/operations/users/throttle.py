"""Who has to wait or is near a limit, and how to forgive wrong passwords."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Annotated, Any, Literal

from attrs import frozen

from gateway.errors import BadValue
from gateway.operations.tools import Tools
from gateway.operations.users.sessions import named_network
from gateway.operations.users.users import find_user
from gateway.operations.values import Bounds, Page, page_of
from gateway.saslprep import login_name
from gateway.units import counted

NEAR = 0.8
"""The part of a limit from which on connections and sessions are listed."""

Kind = Literal["passwords", "answers", "login-delay", "connections", "sessions"]


@frozen
class Throttled:
    """A user or a network that waits, or is near a limit."""

    kind: Kind
    """``passwords``: wrong passwords.  ``answers``: wrong answers to challenges (NTLM).
    ``login-delay``: LOGIN-DELAY.  ``connections``, ``sessions``: near the limit."""

    user: str
    """The account, as the client has named it where the directory does not know it, or the
    mailbox; empty: any."""

    network: str
    """The client's address or network; empty: any."""

    count: int
    """Wrong passwords, connections or sessions."""

    limit: int | None
    """Connections or sessions at most, or wrong passwords without a delay."""

    waiting: int
    """Logins that are being tried or wait now."""

    delay: float
    """Seconds that a login with another password waits; 0: none."""

    refused: bool
    """Further ones are refused."""

    until: float | None
    """Unix seconds after which nothing of it is left, unless more comes; None: while they stay."""

    reason: str


@frozen
class Forgiven:
    """What was forgotten."""

    names: tuple[str, ...]
    """The names of the user that were meant."""

    address: str
    places: int
    """Pairs of an account and a network with wrong passwords, and networks."""

    delays: int
    """Mailboxes with a LOGIN-DELAY."""


async def list_throttled(
    tools: Tools,
    *,
    kind: Literal["", "passwords", "answers", "login-delay", "connections", "sessions"] = "",
    search: str = "",
    page: Annotated[int, Bounds(0, 1_000_000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[Throttled]:
    """List who waits after wrong passwords or for LOGIN-DELAY, and who is near a limit.

    Those that wait longest come first, at most 1,000 of each kind; ``search``: a part of a user
    or an address.  Addresses and users are listed from 80 % of their limit on.
    """
    asked = await tools.processes.ask_parent("waiting", {"search": search.lower()})
    rows = [_of_place(tools, row) for row in asked["throttled"]]
    rows.sort(key=lambda row: (row.refused, row.delay, row.count), reverse=True)
    rows += [_of_delay(tools, *row) for row in asked["delayed"]]
    limits = tools.settings.limits
    for name, most in (
        ("address", limits.connections_per_address),
        ("user", limits.sessions_per_user),
    ):
        counts = _summed(await tools.processes.ask_each("counted", name), ceil(NEAR * most))
        near = [row for row in counts if search.lower() in row[0].lower()]
        rows += [_of_count(name, *row, most) for row in near]

    def found() -> Page[Throttled]:
        return page_of([row for row in rows if kind in ("", row.kind)], page, per_page)

    return await tools.run(found)


async def forgive(tools: Tools, *, user: str = "", address: str = "") -> Forgiven:
    """Forget the wrong passwords of a user, from an address or network, or both together.

    ``user``: a login name, a mail address or the name that a client used; also ends the user's
    LOGIN-DELAY.  A network where many accounts were guessed at is forgiven by its address only.
    """
    if not (user or address):
        raise BadValue(["user: expected a user, an address, or both"])
    network = named_network(address)
    names, mailboxes = await _names_of(tools, user) if user else ([], [])
    question = {
        "names": names,
        "address": network if "/" in address else address,
        "mailboxes": mailboxes,
    }
    done = await tools.processes.ask_parent("forgive", question)
    return Forgiven(tuple(names), address, done["places"], done["delays"])


async def _names_of(tools: Tools, user: str) -> tuple[list[str], list[str]]:
    try:
        login = login_name(user.encode("utf-8"))
    except ValueError:
        raise BadValue(["user: no login name can be like this"]) from None
    found = await find_user(tools, user)
    if found is None:
        # A name that is in no directory may have been guessed at, too.
        return [login], [login]
    account, _ = found
    names = dict.fromkeys((login, account.name, *account.addresses[:50]))
    return list(names), [account.mailbox]


def _summed(answers: list[list[list[Any]]], least: int) -> list[tuple[str, int]]:
    """The sums over all processes that are at least ``least``, the highest first."""
    sums: Counter[str] = Counter()
    for answer in answers:
        sums.update(dict(answer))
    return [(key, count) for key, count in sums.most_common() if count >= least]


def _of_place(tools: Tools, row: list[Any]) -> Throttled:
    account, network, is_answer, wrong, logins, delay, refuses, left = row
    throttle = tools.settings.throttle
    each = "wrong answer", "wrong answers"
    what = (
        counted(wrong, *each) + " to challenges" if is_answer else counted(wrong, "wrong password")
    )
    origin = f"for {account} from {network}" if account else f"from {network}, for any account"
    effect = "others are refused" if refuses else f"others wait {delay:.0f} s"
    return Throttled(
        kind="answers" if is_answer else "passwords",
        user=account,
        network=network,
        count=wrong,
        limit=throttle.free if account else throttle.network_free,
        waiting=logins,
        delay=delay,
        refused=refuses,
        until=tools.now() + left,
        reason=f"{what} {origin}" + (f": {effect}" if refuses or delay else ""),
    )


def _of_delay(tools: Tools, mailbox: str, left: float) -> Throttled:
    reason = f"LOGIN-DELAY: the next login may come in {left:.0f} s"
    return Throttled("login-delay", mailbox, "", 1, None, 0, left, True, tools.now() + left, reason)


def _of_count(what: str, key: str, count: int, most: int) -> Throttled:
    is_full = count >= most
    user, network = ("", key) if what == "address" else (key, "")
    kind: Kind = "connections" if what == "address" else "sessions"
    reason = f"{count} of {most} {kind}" + (": further ones are refused" if is_full else "")
    return Throttled(kind, user, network, count, most, 0, 0.0, is_full, None, reason)
