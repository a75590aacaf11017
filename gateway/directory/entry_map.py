"""Maps of LDAP schemas: which attributes describe an account."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from attrs import frozen

from gateway.errors import DirectoryMisconfigured
from gateway.model import UNLIMITED, Account, Quota
from gateway.saslprep import login_name
from gateway.units import limit_of

__all__ = ["MAPS", "EntryMap"]

_LANGUAGE = re.compile(
    r"\s*(?P<tag>[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*(?P<weight>[01](?:\.\d{0,3})?)\s*)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[0-9]{1,30}")
_LOOSE_COMMA = re.compile(r"(?<!\\),\s+")

Bars = Callable[[str, float], bool]
"""Whether a value disables the account; the second argument: the time, in Unix seconds."""


def _words(*words: str) -> Bars:
    return lambda value, _: value.lower() in words


def _letters(letters: str) -> Bars:
    return lambda value, _: not set(letters).isdisjoint(value)


def _bit(bit: int) -> Bars:
    return lambda value, _: bool(int(value or "0") & bit)


def _past(value: str, now: float) -> bool:
    """Samba: 0 is no time, and the account does not expire."""
    return 0 < int(value or "0") <= now


def _as_it_is(name: str) -> str:
    return name


@frozen
class EntryMap:
    """The attributes of a schema; an empty name: there is none."""

    filter: str = "(|(uid={login})(mail={login}))"
    """Filter of logins: ``{login}`` is the login name, ``{user}`` without a domain of ours."""

    recipients: str = "(mail={login})"
    """Filter of recipients: ``{login}`` is the address."""

    mailbox: tuple[str, ...] = ("mail",)
    """The first of them in the entry names the mailbox; it must have one value."""

    home: str = ""
    addresses: tuple[str, ...] = ("mail",)
    """All values are addresses, with or without ``smtp:`` before them."""

    host: str = ""
    nt_hash: str = ""
    """32 hexadecimal digits."""

    groups: str = ""
    """DNs of the groups of the entry."""

    delegates: str = ""
    quota: str = ""
    quota_warn: str = ""
    quota_messages: str = ""
    quota_unit: int = 1
    """Octets per unit of ``quota`` and ``quota_warn``."""

    zero_allows_nothing: bool = False
    """A quota of 0 allows nothing, as in Exchange; else 0 is no limit."""

    quota_inherited: str = ""
    """If FALSE, the entry's quotas apply and no default; else only the defaults."""

    retention: str = ""
    language: str = "preferredLanguage"
    """Languages as in HTTP's Accept-Language (RFC 2798 section 2.7)."""

    enabled: str = ""
    """FALSE: no login and no mail."""

    login: str = ""
    """FALSE: no login; mail arrives, and delegates may open the mailbox."""

    receives: str = ""
    """FALSE: no mail; the user may log in."""

    no_login: Mapping[str, Bars] = {}
    """Further attributes that disable login, and their tests."""

    no_mail: Mapping[str, Bars] = {}
    """Further attributes that disable mail, and their tests."""

    logins: tuple[str, ...] = ()
    """Attributes with login names; the directory takes them from its filter."""

    bare: Callable[[str], str] = _as_it_is
    """Attributes with login names without a domain; from the filter as well."""

    @property
    def attributes(self) -> list[str]:
        """All attributes to request."""
        single = (self.home, self.host, self.nt_hash, self.groups, self.delegates)
        told = (self.retention, self.language, self.enabled, self.login, self.receives)
        quotas = (self.quota, self.quota_warn, self.quota_messages, self.quota_inherited)
        bars = (*self.no_login, *self.no_mail)
        names = (*self.mailbox, *self.addresses, *self.logins, *single, *told, *quotas, *bars)
        return list(dict.fromkeys(filter(None, names)))


_AD_RECIPIENTS = (
    "(&(objectCategory=person)(objectClass=user)(|(mail={login})(proxyAddresses=smtp:{login})))"
)
_AD_FILTER = (
    "(&(objectCategory=person)(objectClass=user)(|(sAMAccountName={user})"
    "(userPrincipalName={login})(mail={login})(proxyAddresses=smtp:{login})))"
)
_ACCOUNT_DISABLED = 0x2  # ADS_UF_ACCOUNTDISABLE

MAPS: Mapping[str, EntryMap] = {
    "openldap": EntryMap(
        mailbox=("pop3gwMailbox", "mail"),
        host="pop3gwHost",
        nt_hash="pop3gwNtHash",
        groups="memberOf",
        delegates="pop3gwDelegate",
        quota="pop3gwQuota",
        quota_warn="pop3gwQuotaWarn",
        quota_messages="pop3gwQuotaMessages",
        retention="pop3gwRetention",
        enabled="pop3gwEnabled",
        login="pop3gwLogin",
        receives="pop3gwReceives",
    ),
    "activedirectory": EntryMap(
        filter=_AD_FILTER,
        recipients=_AD_RECIPIENTS,
        addresses=("mail", "proxyAddresses"),
        host="msExchHomeServerName",
        groups="memberOf",
        delegates="msExchDelegateListLink",
        quota="mDBOverHardQuotaLimit",
        quota_warn="mDBStorageQuota",
        quota_unit=1024,
        quota_inherited="mDBUseDefaults",
        zero_allows_nothing=True,
        # Exchange disables the accounts of shared mailboxes, and delivers to disabled accounts.
        no_login={"userAccountControl": _bit(_ACCOUNT_DISABLED)},
    ),
    "qmail-ldap": EntryMap(
        filter="(|(uid={login})(mail={login})(mailAlternateAddress={login}))",
        recipients="(|(mail={login})(mailAlternateAddress={login}))",
        home="mailMessageStore",
        addresses=("mail", "mailAlternateAddress"),
        host="mailHost",
        quota="mailQuotaSize",
        quota_messages="mailQuotaCount",
        no_login={"accountStatus": _words("noaccess", "nopop", "disabled", "deleted")},
        no_mail={"accountStatus": _words("disabled", "deleted")},
    ),
    "samba": EntryMap(
        filter="(&(objectClass=sambaSamAccount)(|(uid={user})(mail={login})))",
        recipients="(&(objectClass=sambaSamAccount)(mail={login}))",
        nt_hash="sambaNTPassword",
        groups="memberOf",
        # D: disabled, L: locked, N: no password; W, S, I: accounts of machines and domains.
        no_login={"sambaAcctFlags": _letters("DLNWSI"), "sambaKickoffTime": _past},
        no_mail={"sambaAcctFlags": _letters("WSI")},
    ),
}
"""Ready-made maps, by name of the schema."""


class Found(NamedTuple):
    """An entry as it was read."""

    dn: str
    account: Account
    problems: list[str]
    """Errors in the entry that do not prevent a login."""


def folded(name: str) -> str:
    """The form of DNs and names for comparison."""
    return _LOOSE_COMMA.sub(",", name.casefold())


def named(value: str) -> str:
    """The form of delegates for comparison: DNs, login names, addresses."""
    try:
        return folded(value if "=" in value else login_name(value.encode("utf-8")))
    except ValueError:
        return folded(value)


def languages_of(text: str) -> tuple[str, ...]:
    """The languages of ``fr, en-gb;q=0.8``, preferred first, without malformed ones."""
    return tuple(tag for _, tag in sorted(_weighed(text), key=lambda found: -found[0]))


def _weighed(text: str) -> Iterator[tuple[float, str]]:
    for match in map(_LANGUAGE.fullmatch, text.split(",")):
        if match is not None and (weight := float(match["weight"] or 1)) > 0:
            yield weight, match["tag"].lower()


def read_entry(
    dn: str, values: Mapping[str, Sequence[bytes]], entries: EntryMap, now: float
) -> Found:
    """The account that an entry describes; ``now`` in Unix seconds.

    ``values``: by attribute name in lower case.

    Raises ``DirectoryMisconfigured``, with entry and attribute, if the mailbox is
    ambiguous or login permission cannot be determined.
    """
    return _Reader(dn, values, entries).read(now)


class _Reader:
    """An entry and the map of its schema."""

    def __init__(self, dn: str, values: Mapping[str, Sequence[bytes]], entries: EntryMap) -> None:
        self._dn = dn
        self._map = entries
        self._values = {
            name: [value.decode("utf-8", "surrogateescape") for value in found]
            for name, found in values.items()
        }
        self._problems: list[str] = []

    def _all(self, *names: str) -> list[str]:
        return [value for name in names for value in self._values.get(name.lower(), ())]

    def _first(self, name: str) -> str:
        """Without spaces around it, which directories ignore (RFC 4518 section 2.6.1)."""
        return next(iter(self._all(name)), "").strip(" ")

    def read(self, now: float) -> Found:
        """The account of the entry."""
        entries, name = self._map, self._mailbox()
        addresses = [value.lower().removeprefix("smtp:") for value in self._all(*entries.addresses)]
        account = Account(
            name=name,
            mailbox=name,
            home=next(iter(self._all(entries.home)), None) or None,
            nt_hash=self._nt_hash(),
            may_log_in=not self._barred(entries.login, entries.no_login, now),
            gets_mail=not self._barred(entries.receives, entries.no_mail, now),
            # Exchange names a server /o=.../cn=Servers/cn=NAME.
            host=self._first(entries.host).lower().rpartition("/cn=")[2],
            addresses=tuple(dict.fromkeys(value for value in addresses if "@" in value)),
            names=frozenset(self._names()),
            delegates=frozenset(self._delegates()),
            quota=self._quota(),
            retention=self._first(entries.retention),
            languages=languages_of(self._first(entries.language)),
        )
        return Found(self._dn, account, self._problems)

    def _mailbox(self) -> str:
        attribute = next((name for name in self._map.mailbox if self._all(name)), None)
        if attribute is None:
            wanted = " or ".join(self._map.mailbox)
            raise DirectoryMisconfigured(f"{self._dn}: has no {wanted} to name its mailbox")
        values = self._all(attribute)
        if len(values) > 1:
            # Values of an attribute have no order: with another first value the
            # client would get another mailbox and download all mail again.
            raise DirectoryMisconfigured(
                f"{self._dn}: {attribute} has {len(values)} values, but a mailbox has one name;"
                f" set ldap.mailbox (--auth ldap: mailbox=) to an attribute that has one value"
            )
        try:
            return login_name(values[0].encode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise DirectoryMisconfigured(
                f"{self._dn}: {attribute} {values[0]!r}: {error}"
            ) from None

    def _names(self) -> Iterator[str]:
        yield from map(folded, (self._dn, *self._all(self._map.groups)))
        yield from map(named, self._all(*self._map.logins))

    def _delegates(self) -> Iterator[str]:
        for name in map(named, self._all(self._map.delegates)):
            yield name
            if not {"\\", "/"}.isdisjoint(name) and "=" not in name:
                yield self._map.bare(name)

    def _barred(self, flag: str, others: Mapping[str, Bars], now: float) -> bool:
        """Whether one of these attributes, or ``enabled``, disables it."""
        if "FALSE" in (self._first(name).upper() for name in (self._map.enabled, flag)):
            return True
        for attribute, bars in others.items():
            for value in self._all(attribute):
                try:
                    if bars(value.strip(" "), now):
                        return True
                except ValueError:
                    raise DirectoryMisconfigured(
                        f"{self._dn}: {attribute} {value!r}: expected a number"
                    ) from None
        return False

    def _nt_hash(self) -> bytes:
        text = self._first(self._map.nt_hash)
        try:
            octets = bytes.fromhex(text)
        except ValueError:
            octets = b"?"
        if len(octets) in (0, 16):
            return octets
        self._problems.append(f"{self._dn}: {self._map.nt_hash}: expected 32 hexadecimal digits")
        return b""

    def _quota(self) -> Quota:
        entries = self._map
        if entries.quota_inherited and self._first(entries.quota_inherited).upper() != "FALSE":
            return Quota()
        return Quota(
            octets=self._limit(entries.quota, entries.quota_unit),
            warn_octets=self._limit(entries.quota_warn, entries.quota_unit),
            messages=self._limit(entries.quota_messages, 1),
        )

    def _limit(self, attribute: str, unit: int) -> int | None:
        if self._map.quota_inherited and attribute and not self._first(attribute):
            # An entry that takes no defaults and sets no limit has none.
            return UNLIMITED
        return self._count(attribute, unit)

    def _count(self, attribute: str, unit: int) -> int | None:
        text = self._first(attribute)
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            problem = f"{self._dn}: {attribute} {text[:40]!r}: expected a number; ignored"
            self._problems.append(problem)
            return None
        number = min(int(text) * unit, UNLIMITED)
        return number if self._map.zero_allows_nothing else limit_of(number)
