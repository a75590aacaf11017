"""How entries of different schemas tell the same things."""

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
"""Whether a value bars the account; the second argument is the time, in Unix seconds."""


def _words(*words: str) -> Bars:
    return lambda value, _: value.lower() in words


def _letters(letters: str) -> Bars:
    return lambda value, _: not set(letters).isdisjoint(value)


def _bit(bit: int) -> Bars:
    return lambda value, _: bool(int(value or "0") & bit)


def _past(value: str, now: float) -> bool:
    return now >= int(value)


def _as_it_is(name: str) -> str:
    return name


@frozen
class EntryMap:
    """Which attributes of an entry say what; an empty name says nothing."""

    filter: str = "(|(uid={login})(mail={login}))"
    """``{login}`` is the login name, ``{user}`` the same without a domain of this directory."""

    recipients: str = "(mail={login})"
    """The same for mail: here ``{login}`` is an address."""

    mailbox: tuple[str, ...] = ("mail",)
    """The first of them that the entry has names the mailbox; it must have one value."""

    home: str = ""
    addresses: tuple[str, ...] = ("mail",)
    """All values are addresses, with or without ``smtp:`` before them."""

    host: str = ""
    nt_hash: str = ""
    """32 hexadecimal digits."""

    groups: str = ""
    """DNs of the groups that the entry is in."""

    delegates: str = ""
    quota: str = ""
    quota_warn: str = ""
    quota_messages: str = ""
    quota_unit: int = 1
    """Octets in what ``quota`` and ``quota_warn`` count."""

    zero_allows_nothing: bool = False
    """Whether a quota of 0 allows nothing, as in Exchange; else it is no limit."""

    quota_inherited: str = ""
    """Unless FALSE, the entry's own quotas do not count; if FALSE, no default counts."""

    retention: str = ""
    language: str = "preferredLanguage"
    """Languages as in HTTP's Accept-Language (RFC 2798 section 2.7)."""

    enabled: str = ""
    """FALSE: no login and no mail."""

    login: str = ""
    """FALSE: no login; mail comes, and delegates open the mailbox."""

    receives: str = ""
    """FALSE: no mail; logins go on."""

    no_login: Mapping[str, Bars] = {}
    """What else keeps users from logging in, by attribute."""

    no_mail: Mapping[str, Bars] = {}
    """What else refuses mail, by attribute."""

    logins: tuple[str, ...] = ()
    """All values are login names; what asks the directory takes them from its filter."""

    bare: Callable[[str], str] = _as_it_is
    """A login name without a domain of this directory before it; likewise."""

    @property
    def attributes(self) -> list[str]:
        """All that is asked for."""
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
        # Disabled, locked, without a password, or no user but a machine or a domain.
        no_login={"sambaAcctFlags": _letters("DLNWSI"), "sambaKickoffTime": _past},
        no_mail={"sambaAcctFlags": _letters("WSI")},
    ),
}
"""Ready-made maps, by the schemas they fit."""


class Found(NamedTuple):
    """An entry as it was read."""

    dn: str
    account: Account
    problems: list[str]
    """What was wrong with it and did not matter for a login."""


def folded(name: str) -> str:
    """The form in which DNs and names are compared."""
    return _LOOSE_COMMA.sub(",", name.casefold())


def named(value: str) -> str:
    """The form in which those are compared who may be delegates: DNs, login names, addresses."""
    try:
        return folded(value if "=" in value else login_name(value.encode("utf-8")))
    except ValueError:
        return folded(value)


def languages_of(text: str) -> tuple[str, ...]:
    """Those of ``fr, en-gb;q=0.8``, the preferred one first; what makes no sense is left out."""
    return tuple(tag for _, tag in sorted(_weighed(text), key=lambda found: -found[0]))


def _weighed(text: str) -> Iterator[tuple[float, str]]:
    for match in map(_LANGUAGE.fullmatch, text.split(",")):
        if match is not None and (weight := float(match["weight"] or 1)) > 0:
            yield weight, match["tag"].lower()


def read_entry(
    dn: str, values: Mapping[str, Sequence[bytes]], entries: EntryMap, now: float
) -> Found:
    """The account that an entry describes; ``now`` in Unix seconds.

    ``values`` by the names of attributes in lower case.

    Raises ``DirectoryMisconfigured`` that names entry and attribute where
    nobody could say whose mailbox it is, or whether the account may log in.
    """
    return _Reader(dn, values, entries).read(now)


class _Reader:
    """One entry, by what its attributes mean."""

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
        return next(iter(self._all(name)), "")

    def read(self, now: float) -> Found:
        """All of it."""
        entries, name = self._map, self._mailbox()
        addresses = [value.lower().removeprefix("smtp:") for value in self._all(*entries.addresses)]
        account = Account(
            name=name,
            mailbox=name,
            home=self._first(entries.home) or None,
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
            # Values of an attribute have no order: the first of today may be
            # another tomorrow, and a client would fetch all its mail again.
            raise DirectoryMisconfigured(
                f"{self._dn}: {attribute} has {len(values)} values and a mailbox one name;"
                f" set ldap.mailbox to an attribute that has one value"
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
        """Whether one of them says no, or what says so of everything."""
        if "FALSE" in (self._first(name).upper() for name in (self._map.enabled, flag)):
            return True
        for attribute, bars in others.items():
            for value in self._all(attribute):
                try:
                    if bars(value, now):
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
            # What does not inherit, and says nothing, has no limit.
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
        number = int(text) * unit
        return number if self._map.zero_allows_nothing else limit_of(number)
