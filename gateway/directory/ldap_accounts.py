"""Accounts in LDAP: search the entry, bind as it.

All functions block: call them in a thread.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import evolve, field, frozen
from ldap3.core.results import RESULT_CODES
from ldap3.utils.dn import escape_rdn

from gateway.directory.entry_map import EntryMap, Found, folded, read_entry
from gateway.directory.ldap_connection import ask, bind
from gateway.directory.ldap_filters import any_of, everybody, login_attributes
from gateway.directory.ldap_messages import (
    Entry,
    Request,
    Result,
    page,
    search_request,
)
from gateway.directory.ldap_servers import Reach, Servers, ServerUnavailable
from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    DirectoryMisconfigured,
    GatewayError,
    LoginDisabled,
    PasswordUnanswered,
    UnknownLogin,
    WrongPassword,
)
from gateway.events import DirectoryProblem, Emit
from gateway.observe.log import emit_to_log

__all__ = ["Search"]

# Result codes (RFC 4511 section 4.1.9) that reject a user's bind.
_REFUSED = frozenset({19, 32, 48, 49, 53})
_MISCONFIGURED = frozenset({1, 2, 8, 13, 34, 50})
# Of the server as a whole.  Any other code is of the request: the next server would answer the
# same, and count a wrong password a second time.  53 (unwillingToPerform) is one of these: by it
# Active Directory and OpenLDAP refuse an account or a kind of bind.
_UNAVAILABLE = frozenset({51, 52})
PAGE = 500
"""Entries per page of a search for all accounts."""

LISTING = 60
"""Timeout of a page, in seconds."""

NAMESAKES = 20
"""Most entries to read for the name of a mailbox."""

_PARTITIONS = re.compile(
    r"ldaps?://[^/]*/(?:CN=Configuration|DC=DomainDnsZones|DC=ForestDnsZones),", re.I
)
"""Referrals that Active Directory returns for a search from its root; no users are there."""

_REFERRAL = 10
_SIZE_LIMIT_EXCEEDED = 4
_NO_SUCH_OBJECT = 32

_AD_REASONS: Mapping[str, str] = {
    "525": "no such user",
    "52e": "wrong password",
    "52f": "account restriction",
    "530": "not at this time",
    "531": "not from this workstation",
    "532": "password expired",
    "533": "account disabled",
    "57": "the name fits no entry, or several",
    "701": "account expired",
    "773": "the password must be changed",
    "775": "account locked out",
}
"""Active Directory's sub-codes as text, for the log only: clients must not learn the reason."""


@frozen
class Search:
    """Parameters of a search for accounts."""

    base: str
    scope: str = "subtree"
    """``subtree``, or ``one`` for entries directly below the base."""

    filter: str = ""
    """Filter of logins in place of the map's."""

    recipients: str = ""
    """Filter of recipients in place of the map's."""

    bind_dn: str = ""
    """Bind DN of searches; empty: anonymous."""

    bind_password: str = field(default="", repr=False)
    bind_as: str = ""
    """A DN or other name with ``{login}``: users bind by it and search their own entry."""

    domains: tuple[str, ...] = ()
    """Domains to strip before a backslash or slash, and after an at sign."""


class LdapAccounts:
    """Finds accounts by search, and verifies passwords by a bind on another connection."""

    def __init__(
        self,
        reach: Reach,
        search: Search,
        entries: EntryMap,
        now: Callable[[], float],
        *,
        unix_time: Callable[[], float] = time.time,
        before: LdapAccounts | None = None,
        emit: Emit = emit_to_log,
    ) -> None:
        """``now``: a clock for the servers, in seconds; ``unix_time``: for accounts that expire.

        ``before``: those of before a reload, which may share their connections.
        """
        self._search = search
        self._unix_time = unix_time
        self._emit = emit
        self._filter = search.filter or entries.filter
        entries = evolve(entries, logins=login_attributes(self._filter), bare=self._user)
        self._entries = entries
        recipients = search.recipients or entries.recipients
        people = everybody(self._filter)
        owner = f"(&{people}{any_of(entries.mailbox, '{login}')})"
        named = any_of(entries.mailbox, "*")
        home = f"({entries.home}=*)" if entries.home else ""
        self._has_retention = bool(entries.retention)
        own = f"({entries.retention}=*)" if entries.retention else ""
        listing_timeout = max(reach.timeout, LISTING)
        self._by_login, self._by_address, self._by_mailbox, self._by_page, self._by_retention = (
            search_request(
                *(search.base, wanted, entries.attributes, ("login", "user")),
                seconds=seconds,
                scope=search.scope,
                most=most,
            )
            for wanted, most, seconds in (
                (self._filter, 2, reach.timeout),
                (recipients, 2, reach.timeout),
                (owner, NAMESAKES, reach.timeout),
                (f"(&{people}{home}{named})", 0, listing_timeout),
                (f"(&{people}{own}{named})", 0, listing_timeout),
            )
        )
        self._domains = frozenset(name.lower() for name in search.domains)
        self._base_domain = ".".join(re.findall(r"\bdc=([^,+]+)", search.base.lower()))
        known = (None, None, None) if before is None else before.servers
        # All three are kept or none: they share the state of outages.
        bound_as = search.bind_dn, search.bind_password, reach.timeout
        connect = partial(Servers, now=now, bound_as=bound_as, emit=emit)
        self.searching = connect(reach, self._bind_service, before=known[0])
        # Separate servers: slow lists of entries must not count as an outage for logins.
        patient = evolve(reach, timeout=listing_timeout)
        beside = self.searching
        self._listing = connect(patient, self._bind_service, beside=beside, before=known[1])
        self.binding = connect(reach, _nobody, beside=beside, before=known[2])

    @property
    def servers(self) -> tuple[Servers, Servers, Servers]:
        """The servers for searches, for long lists and for users' binds."""
        return self.searching, self._listing, self.binding

    def find(self, login: str) -> Found | None:
        """The one entry of that name, or None.  Raises a directory's errors."""
        return self.searching.use(lambda connection: self._find(connection, login))

    def recipient(self, address: str) -> Found | None:
        """The one entry that has this address, or None."""
        values = (address.encode("utf-8"), b"")
        return self.searching.use(
            lambda connection: self._search_for(connection, self._by_address, values, address)
        )

    def owner(self, mailbox: str) -> Found | None:
        """The one entry with this mailbox, or None."""
        return self.searching.use(lambda connection: self._owner(connection, mailbox))

    def _owner(self, connection: Any, mailbox: str) -> Found | None:
        # The value may be in another account's entry too, for example as an address.
        values = (mailbox.encode("utf-8"), b"")
        entries, result = ask(connection, self._by_mailbox, values)
        if result.code != _SIZE_LIMIT_EXCEEDED:
            self._check_search(result, entries)
        problems: list[DirectoryMisconfigured] = []
        found = self._read(entries, problems.append)
        owners = [one for one in found if one.account.mailbox == mailbox]
        if len(owners) > 1 or result.code == _SIZE_LIMIT_EXCEEDED:
            raise DirectoryMisconfigured(
                f"more than one entry for the mailbox {mailbox}: {self._by_mailbox.wanted}"
            )
        if problems and not owners:
            # One of them may be the owner: unknown is not absent.
            raise problems[0]
        return owners[0] if owners else None

    def everybody(self) -> list[Found]:
        """All accounts with a mailbox; logs those with a malformed one."""
        found = self._listing.use(lambda connection: self._all(connection, self._by_page))
        if not found:
            base, wanted = self._search.base, self._by_page.wanted
            self._problem(f"LDAP search under {base} found no mailboxes: filter={wanted}")
        return found

    def with_retention(self) -> list[Found]:
        """All accounts with a mailbox and a retention policy."""
        if not self._has_retention:
            return []
        return self._listing.use(lambda connection: self._all(connection, self._by_retention))

    def _all(self, connection: Any, request: Request) -> list[Found]:
        """Search in pages (RFC 2696): servers return some hundred or thousand entries at once."""
        found: list[Found] = []
        cookie, more = b"", True
        while more:
            entries, result = ask(connection, request, (b"", b""), page(PAGE, cookie))
            if result.code == _SIZE_LIMIT_EXCEEDED:
                raise DirectoryMisconfigured(
                    f"the directory returns only {len(found) + len(entries)} entries:"
                    " raise its size limit for ldap.bind_dn, for paged searches too"
                )
            self._check_search(result, entries or found)
            found += self._read(entries, self._problem)
            if cookie and not entries and result.cookie == cookie:
                raise DirectoryDown("the directory returns pages without end")
            cookie = result.cookie
            more = bool(cookie)
        return found

    def _read(
        self, entries: Sequence[Entry], unreadable: Callable[[DirectoryMisconfigured], None]
    ) -> Iterator[Found]:
        for entry in entries:
            try:
                yield read_entry(*entry, self._entries, self._unix_time())
            except DirectoryMisconfigured as error:
                unreadable(error)

    def verify(self, login: str, password: bytes, found: Found | None = None) -> Found:
        """The account, if its bind with the password succeeds; ``found``: skip the search."""
        if self._search.bind_as:
            return self._verify_directly(login, password)
        found = found or self.find(login)
        if found is None:
            # Takes as long as a wrong password, and cannot succeed.
            with suppress(BadCredentials):
                self._bind(f"cn={secrets.token_hex(8)},{self._search.base}", password, login)
            raise UnknownLogin(f"{login} is not in the directory")
        try:
            self._bind(found.dn, password, login)
        except BadCredentials as error:
            raise type(error)(str(error), account=found.account.name) from None
        return found

    def _verify_directly(self, login: str, password: bytes) -> Found:
        template = self._search.bind_as
        name = template.replace("{login}", escape_rdn(login) if "=" in template else login)

        def bind_and_search(connection: Any) -> Found:
            _bind_user(connection, name, password, login)
            found = self._find(connection, login)
            if found is None:
                raise BadCredentials(f"{login} may bind but {self._filter} does not find it")
            if folded(found.dn) != folded(name):
                # Active Directory accepts binds by display name too: a
                # successful bind does not prove that this is the entry.
                _bind_user(connection, found.dn, password, login)
            return found

        return self.binding.use(bind_and_search)

    def _find(self, connection: Any, login: str) -> Found | None:
        for name in self._spellings(login):
            values = (name.encode("utf-8"), self._user(name).encode("utf-8"))
            if found := self._search_for(connection, self._by_login, values, login):
                return found
        return None

    def _spellings(self, login: str) -> list[str]:
        """The names to search, one after the other.

        If the filter does not handle domains, ``domain/user`` means the address in that
        domain, the user's name, or the address in the domain of the base.  An address
        takes no domain before it.
        """
        domain, separator, user = _form(login)
        if not (separator and user) or "@" in user or "{user}" in self._filter:
            return [login] if login else []
        names = [login]
        if "." in domain:
            names.append(f"{user}@{domain}")
        if self._user(login) == user:
            names += [user, f"{user}@{self._base_domain}"]
        return names

    def _search_for(
        self, connection: Any, request: Request, values: tuple[bytes, bytes], name: str
    ) -> Found | None:
        entries, result = ask(connection, request, values)
        if len(entries) > 1 or result.code == _SIZE_LIMIT_EXCEEDED:
            raise DirectoryMisconfigured(f"more than one entry for {name}: {request.wanted}")
        self._check_search(result, entries)
        if not entries:
            return None
        found = read_entry(*entries[0], self._entries, self._unix_time())
        for problem in found.problems:
            self._problem(problem)
        return found

    def _problem(self, reason: object) -> None:
        self._emit(DirectoryProblem(str(reason)))

    def _check_search(self, result: Result, found: Sequence[Any]) -> None:
        elsewhere = [uri for uri in result.referrals if not _PARTITIONS.match(uri)]
        if result.code == _REFERRAL or (result.code == 0 and elsewhere and not found):
            # Not an unknown user: the entry may be on another server, which is not asked.
            raise DirectoryMisconfigured(
                f"ldap.base {self._search.base}: the directory returned only referrals to"
                f" {' '.join(elsewhere) or 'another'}; name that server in ldap.uris"
            )
        if result.code == _NO_SUCH_OBJECT:
            # Not an unknown user: the search base does not exist.
            raise DirectoryMisconfigured(f"ldap.base {self._search.base}: no such entry")
        if result.code != 0:
            _raise(result, "the search")

    def _user(self, login: str) -> str:
        """The name without a domain of this directory."""
        ours = {*self._domains, self._base_domain} - {""}
        domain, separator, user = _form(login)
        if separator:
            is_any = bool(domain) and "@" not in domain + user
            is_ours = domain in ours if self._domains else is_any
            return user if is_ours else login
        user, _, domain = login.rpartition("@")
        return user if user and domain in ours else login

    def _bind(self, dn: str, password: bytes, login: str) -> None:
        self.binding.use(lambda connection: _bind_user(connection, dn, password, login))

    def _bind_service(self, connection: Any) -> None:
        if not self._search.bind_dn:
            return
        password = self._search.bind_password.encode("utf-8")
        result = bind(connection, self._search.bind_dn, password)
        if result.code in _REFUSED:
            raise DirectoryMisconfigured(
                f"the directory refused ldap.bind_dn {self._search.bind_dn}: {_reason(result)}"
            )
        if result.code != 0:
            _raise(result, "the bind of ldap.bind_dn")


def _form(login: str) -> tuple[str, str, str]:
    """The domain before the first backslash or slash, that separator, and the user after it."""
    found = re.match(r"([^\\/]*)([\\/])", login)
    return (found[1], found[2], login[found.end() :]) if found else ("", "", login)


def _nobody(_: Any) -> None:
    """Connections for users' binds start unbound."""


def _bind_user(connection: Any, dn: str, password: bytes, login: str) -> None:
    try:
        result = bind(connection, dn, password)
    except TimeoutError:
        raise PasswordUnanswered(
            f"the directory did not answer the bind of {login} in time"
        ) from None
    if result.code in _REFUSED:
        raise _refusal(result)(f"the directory refused {login}: {_reason(result)}")
    if result.code != 0:
        _raise(result, f"the bind of {login}")


def _raise(result: Result, doing: str) -> None:
    kind: type[GatewayError] = DirectoryDown
    if result.code in _MISCONFIGURED:
        kind = DirectoryMisconfigured
    elif result.code in _UNAVAILABLE:
        kind = ServerUnavailable
    raise kind(f"{doing} failed: {_reason(result)}")


def _refusal(result: Result) -> type[BadCredentials]:
    """The class of errors for a bind that the directory has refused."""
    code = _sub_code(result)
    if code == "525":
        return UnknownLogin
    if code in _AD_REASONS and code not in {"52e", "57"}:
        return LoginDisabled
    return WrongPassword


def _sub_code(result: Result) -> str:
    code = re.search(r"\bdata ([0-9a-f]+)", result.words)
    return code[1] if code else ""


def _reason(result: Result) -> str:
    """A result code as text, with Active Directory's sub-code if there is one."""
    words = _AD_REASONS.get(_sub_code(result))
    known = RESULT_CODES.get(result.code, "unknown")
    return f"{result.code} {known}" + (f" ({words})" if words else "")
