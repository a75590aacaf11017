"""Who an operator is, and what they may do; asked again at each request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hmac import compare_digest
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from gateway.errors import BadCredentials, GatewayError, NotInScope, NotLetIn
from gateway.http.access import Access, Token
from gateway.http.page.cookies import LONGEST, Cookies, Visit
from gateway.http.routes import INCLUDED
from gateway.interfaces import IDirectory, IProcesses
from gateway.model import Account, Connection, Scope

MOST = 10_000
"""Most sessions that the parent remembers as ended: more than operators begin in a day."""

VISIT, END = "page visit", "page end"
"""The questions that the parent answers."""

CheckPassword = Callable[[str, bytes, Connection], "Deferred[str]"]
"""Checks a login name and a password as a login does, throttle included; fires with the account."""


@frozen
class Operator:
    """Who has logged in."""

    name: str
    """For the log and the audit: ``token NAME`` or ``account NAME``."""

    shown: str
    may_operate: bool


@frozen
class Rights:
    """Who may log in, by the configuration in force."""

    tokens: Mapping[str, Token]
    """Those with the scope read or operate, by name."""

    accounts: frozenset[str]
    """The accounts that may operate, in their canonical form."""

    def of_visit(self, visit: Visit, cookies: Cookies) -> Operator | None:
        """What the operator of a visit may do now; None: nothing any more."""
        if visit.kind == "account" and visit.name in self.accounts:
            return Operator(f"account {visit.name}", visit.name, True)
        token = self.tokens.get(visit.name) if visit.kind == "token" else None
        if token is None or not compare_digest(cookies.digest(token.secret), visit.proof):
            return None
        return Operator(f"token {token.name}", token.name, Scope.OPERATE in token.scopes)


def rights_of(tokens: Sequence[Token], accounts: Iterable[str]) -> Rights:
    """The rights of the tokens and accounts of a configuration."""
    able = [one for one in tokens if any(Scope.READ in INCLUDED[scope] for scope in one.scopes)]
    return Rights({one.name: one for one in able}, frozenset(accounts))


class Sessions:
    """What the parent knows of all sessions: the key, and which have ended by logging out."""

    def __init__(self, key: bytes, now: Callable[[], float]) -> None:
        self._key = key
        self._now = now
        self._ended: dict[str, float] = {}

    def answers(self) -> Mapping[str, Callable[[Any], object]]:
        """What it answers to workers."""
        return {VISIT: self._visit, END: self._end}

    def _visit(self, session: str) -> list[object]:
        return [self._key.hex(), session in self._ended]

    def _end(self, session: str) -> None:
        now = self._now()
        for name, when in list(self._ended.items()):
            # In the order in which they ended.
            if len(self._ended) < MOST and now - when < LONGEST:
                break
            del self._ended[name]
        self._ended[session] = now


@frozen
class Door:
    """Begins, finds and ends the sessions of operators."""

    processes: IProcesses
    directory: IDirectory
    rights: Rights
    access: Access
    """The tokens, and how often each address gave a wrong one."""

    check_password: CheckPassword

    async def cookies(self) -> Cookies:
        """The cookies of the whole server."""
        key, _ = await self.processes.ask_parent(VISIT, "")
        return Cookies(bytes.fromhex(key))

    async def find(self, visit: Visit, cookies: Cookies) -> Operator | None:
        """The operator of a visit; None: it has ended, or its rights have."""
        operator = self.rights.of_visit(visit, cookies)
        if operator is None:
            return None
        _, has_ended = await self.processes.ask_parent(VISIT, visit.id)
        if has_ended or (visit.kind == "account" and not await self._may_stay(visit.name)):
            return None
        return operator

    async def _may_stay(self, login: str) -> bool:
        """Whether an account that has logged in still could; without an answer it stays."""
        try:
            account = await self._account(login)
        except GatewayError:
            return True
        return account is not None and account.may_log_in

    async def _account(self, login: str) -> Account | None:
        account: Account | None = await self.directory.find(login)
        return account

    async def end(self, visit: Visit) -> None:
        """Log out, in all processes."""
        await self.processes.ask_parent(END, visit.id)

    async def by_password(
        self, login: str, password: str, connection: Connection, now: float
    ) -> Visit:
        """A visit of an account.

        Fails with ``BadCredentials`` also for an account that is no operator: nobody learns
        here that a password was right.
        """
        known = await self.check_password(login, password.encode("utf-8"), connection)
        account = await self._account(known)
        # Somebody may log in by another name than that of the account.
        names = {known, known if account is None else account.name} & self.rights.accounts
        if not names or account is None or not account.may_log_in:
            raise BadCredentials("the account is no operator", account=known)
        return Visit.begin("account", min(names), "", now)

    def by_token(self, given: str, cookies: Cookies, connection: Connection, now: float) -> Visit:
        """A visit of a token; raises ``BadCredentials``, and ``TooManyGuesses`` as the API does."""
        try:
            caller = self.access.caller(connection.host, b"Bearer " + given.encode("utf-8"))
            caller.check(Scope.READ)
        except (NotLetIn, NotInScope) as error:
            raise BadCredentials(str(error)) from None
        return Visit.begin("token", caller.name.removeprefix("token "), cookies.digest(given), now)
