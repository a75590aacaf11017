"""Accounts from an LDAP directory: search for the entry, then bind as it."""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import ldap3
from attrs import field, frozen
from ldap3.utils.conv import escape_filter_chars
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.directory.entry_map import EntryMap
from gateway.directory.ldap_servers import Reach, Servers
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured
from gateway.interfaces import IDirectory, Run
from gateway.model import Account
from gateway.saslprep import login_name

# RFC 4511 section 4.1.9; what they mean for a user's bind.
_REFUSED = frozenset({19, 32, 48, 49, 53})
_MISCONFIGURED = frozenset({1, 2, 8, 13, 34, 50})

_AD_REASONS: Mapping[str, str] = {
    "525": "no such user",
    "52e": "wrong password",
    "52f": "account restriction",
    "530": "not at this time",
    "531": "not from this workstation",
    "532": "password expired",
    "533": "account disabled",
    "701": "account expired",
    "773": "the password must be changed",
    "775": "account locked out",
}
"""Active Directory's sub-codes, for the log; a client that read them would learn too much."""


@frozen
class Search:
    """Where accounts are looked for."""

    base: str
    filter: str = "(|(uid={login})(mail={login}))"
    """``{login}`` is the canonical login name, escaped."""

    bind_dn: str = ""
    """Who searches; empty: nobody, anonymously."""

    bind_password: str = field(default="", repr=False)


@implementer(IDirectory)
class LdapDirectory:
    """Finds accounts by search, and verifies passwords by a bind on another connection."""

    def __init__(
        self,
        reach: Reach,
        search: Search,
        entries: EntryMap,
        run: Run[Any],
        *,
        cache_ttl: float = 0.0,
        stale_ttl: float = 0.0,
        cache_size: int = 10_000,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``cache_ttl``: seconds for which an account that was found is remembered.

        ``stale_ttl``: seconds after that for which it still serves in an outage.
        """
        self._search = search
        self._entries = entries
        self._run = run
        self._ttl = cache_ttl
        self._stale = stale_ttl
        self._size = cache_size
        self._now = now
        self._searching = Servers(reach, self._bind_service, now)
        self._binding = Servers(reach, _nobody, now)
        self._found: OrderedDict[str, tuple[float, Account]] = OrderedDict()

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name."""
        known = self._found.get(login)
        if known is not None and known[0] > self._now():
            return succeed(known[1])
        return self._run(lambda: self._find(login)).addCallbacks(
            self._taken, self._not_taken, callbackArgs=(login,), errbackArgs=(login,)
        )

    def _taken(self, entry: tuple[str, Account, bool] | None, login: str) -> Account | None:
        if entry is None:
            self._found.pop(login, None)
            return None
        self._remember(login, entry[1])
        return entry[1]

    def _not_taken(self, failure: Failure, login: str) -> Account | Failure:
        known = self._found.get(login)
        fresh_enough = known is not None and known[0] + self._stale > self._now()
        if known is not None and fresh_enough and failure.check(DirectoryDown):
            return known[1]
        return failure

    def _remember(self, login: str, account: Account) -> None:
        if self._ttl or self._stale:
            for name in {login, account.name}:
                self._found[name] = (self._now() + self._ttl, account)
                self._found.move_to_end(name)
            while len(self._found) > self._size:
                self._found.popitem(last=False)

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """The account, if the directory takes the password for it."""
        if not password:
            # Many servers answer success to a bind without a password
            # (RFC 4513 section 5.1.2): none ever gets there.
            return fail(BadCredentials(f"no password for {login}"))
        try:
            password.decode("utf-8")
        except UnicodeDecodeError:
            # RFC 4513 section 5.1.3, and ldap3 cannot send it.
            return fail(BadCredentials(f"the password for {login} is not UTF-8"))

        def verified(account: Account) -> Account:
            self._remember(login, account)
            return account

        return self._run(lambda: self._verify(login, password)).addCallback(verified)

    # -- on a worker ---------------------------------------------------------

    def _find(self, login: str) -> tuple[str, Account, bool] | None:
        if not login:
            return None
        wanted = self._search.filter.replace("{login}", _escaped(login))

        def search(connection: Any) -> Any:
            return connection.search(
                self._search.base,
                wanted,
                attributes=self._entries.attributes,
                size_limit=2,
            )

        _, result, response, _ = self._searching.use(search)
        found = [entry for entry in response or () if entry.get("type") == "searchResEntry"]
        if len(found) > 1:
            raise DirectoryMisconfigured(f"more than one entry for {login}: {wanted}")
        if not found and result["result"] not in (0, 32):
            _raise(result, "the search")
        return self._entry(found[0]) if found else None

    def _entry(self, entry: Mapping[str, Any]) -> tuple[str, Account, bool]:
        values = {name.lower(): value for name, value in entry["raw_attributes"].items()}

        def first(name: str) -> str:
            found = values.get(name.lower(), [])
            return bytes(found[0]).decode("utf-8", "surrogateescape") if found else ""

        entries, dn = self._entries, str(entry["dn"])
        mailbox = first(entries.mailbox)
        try:
            name = login_name(mailbox.encode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise DirectoryMisconfigured(f"{dn}: {entries.mailbox} {mailbox!r}: {error}") from None
        account = Account(name=name, mailbox=name, home=first(entries.home) or None)
        barred = first(entries.enabled).upper() == "FALSE" or any(
            first(attribute).lower() in words for attribute, words in entries.barred.items()
        )
        return dn, account, not barred

    def _verify(self, login: str, password: bytes) -> Account:
        entry = self._find(login)
        if entry is None:
            # Costs what a wrong password costs, and cannot succeed.
            self._bind(f"cn={secrets.token_hex(8)},{self._search.base}", password, login)
            raise BadCredentials(f"{login} is not in the directory")
        dn, account, may_log_in = entry
        self._bind(dn, password, login)
        if not may_log_in:
            raise BadCredentials(f"{login} may not log in ({dn})")
        return account

    def _bind(self, dn: str, password: bytes, login: str) -> None:
        result = self._binding.use(lambda connection: _bind(connection, dn, password))
        if result["result"] in _REFUSED:
            raise BadCredentials(f"the directory refused {login}: {_reason(result)}")
        if result["result"] != 0:
            _raise(result, f"the bind of {login}")

    def _bind_service(self, connection: Any) -> None:
        if not self._search.bind_dn:
            return
        password = self._search.bind_password.encode("utf-8")
        result = _bind(connection, self._search.bind_dn, password)
        if result["result"] in _REFUSED:
            raise DirectoryMisconfigured(
                f"the directory refused ldap.bind_dn {self._search.bind_dn}: {_reason(result)}"
            )
        if result["result"] != 0:
            _raise(result, "the bind of ldap.bind_dn")


def _nobody(_: Any) -> None:
    """A connection for users' binds begins with nobody bound."""


def _bind(connection: Any, dn: str, password: bytes) -> Mapping[str, Any]:
    connection.user, connection.password = dn, password
    connection.authentication = ldap3.SIMPLE
    try:
        _, result, _, _ = connection.bind(read_server_info=False)
    finally:
        connection.password = None
    assert isinstance(result, Mapping)
    return result


def _raise(result: Mapping[str, Any], doing: str) -> None:
    kind = DirectoryMisconfigured if result["result"] in _MISCONFIGURED else DirectoryDown
    raise kind(f"{doing} failed: {_reason(result)}")


def _reason(result: Mapping[str, Any]) -> str:
    """A result code in words, with Active Directory's own reason where there is one."""
    message = str(result.get("message", ""))
    code = re.search(r"\bdata ([0-9a-f]+)", message)
    words = _AD_REASONS.get(code[1]) if code else None
    return f"{result['result']} {result['description']}" + (f" ({words})" if words else "")


def _escaped(login: str) -> str:
    # ldap3 strips spaces at the ends of a value, so they are spelt out.
    return str(escape_filter_chars(login)).replace(" ", "\\20")
