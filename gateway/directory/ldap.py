"""Accounts from LDAP, with a cache."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.directory.entry_map import EntryMap, Found
from gateway.directory.ldap_accounts import LdapAccounts, Search
from gateway.directory.ldap_servers import Reach
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured, LoginDisabled
from gateway.events import CacheLookup, Emit
from gateway.interfaces import ICache, IDirectory, IOwnRetention, Run
from gateway.model import Account
from gateway.observe.log import emit_to_log

__all__ = ["LdapDirectory"]

_LOGIN = 1.0
"""Seconds for which the account of a verified password is not searched again."""


@implementer(IDirectory, IOwnRetention, ICache)
class LdapDirectory:
    """An ``IDirectory`` that asks LDAP servers in threads."""

    def __init__(
        self,
        reach: Reach,
        search: Search,
        entries: EntryMap,
        run: Run,
        *,
        cache_ttl: float = 0.0,
        stale_ttl: float = 0.0,
        cache_size: int = 10_000,
        now: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        list_all: Run | None = None,
        before: IDirectory | None = None,
        emit: Emit = emit_to_log,
    ) -> None:
        """``list_all`` runs long searches, so that they delay no login; None: ``run`` does.

        ``cache_ttl``: seconds for which a found account is cached.
        ``stale_ttl``: seconds after that for which it is used in an outage.
        ``unix_time``: for accounts that expire.
        ``before``: the directory of before a reload, which may share its connections.
        """
        known = before.entries if isinstance(before, LdapDirectory) else None
        self.entries = LdapAccounts(
            reach, search, entries, now, unix_time=unix_time, before=known, emit=emit
        )
        self._emit = emit
        self._run = run
        self._list_all = list_all or run
        self._ttl = max(cache_ttl, _LOGIN)
        self._stale = stale_ttl
        self._size = cache_size
        self._now = now
        self._found: OrderedDict[str, tuple[float, Found]] = OrderedDict()

    def close(self) -> None:
        """Close connections that no other directory shares; it goes on working without."""
        for servers in self.entries.servers:
            servers.close()

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name."""
        return self._known(login, lambda: self.entries.find(login))

    def recipient(self, address: str) -> Deferred[Account | None]:
        """The account that has this address."""
        # A key of the cache that no login name equals.
        return self._known(f"\0{address}", lambda: self.entries.recipient(address))

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """The account that owns the mailbox.

        Searches by login name first, which is cached: most mailboxes have that name.
        """

        def found(account: Account | None) -> Account | Deferred[Account | None] | None:
            if account is not None and account.mailbox == mailbox:
                return account
            return self._run(lambda: self.entries.owner(mailbox)).addCallback(_account_of)

        # An ambiguous login name, or one without a mailbox, does not tell the owner of this one.
        return self.find(mailbox).addErrback(_trap_misconfigured).addCallback(found)

    def accounts(self) -> Deferred[list[Account]]:
        """All accounts with a mailbox."""
        return self._list_all(lambda: [one.account for one in self.entries.everybody()])

    def with_retention(self) -> Deferred[list[Account]]:
        """The accounts with a retention policy of their own."""
        return self._list_all(lambda: [one.account for one in self.entries.with_retention()])

    def _known(self, key: str, search: Callable[[], Found | None]) -> Deferred[Account | None]:
        known = self._found_within(key, self._ttl)
        if known is not None:
            self._emit(CacheLookup("accounts", "remembered"))
            return succeed(known.account)
        self._emit(CacheLookup("accounts", "searched"))
        return self._run(search).addCallbacks(
            self._taken, self._not_taken, callbackArgs=(key,), errbackArgs=(key,)
        )

    def _taken(self, found: Found | None, login: str) -> Account | None:
        if found is None:
            self._found.pop(login, None)
            return None
        return self._remember(login, found)

    def _not_taken(self, failure: Failure, login: str) -> Account | Failure:
        known = self._found_within(login, self._ttl + self._stale)
        if known is not None and failure.check(DirectoryDown):
            self._emit(CacheLookup("accounts", "stale"))
            return known.account
        return failure

    def _found_within(self, login: str, seconds: float) -> Found | None:
        when, found = self._found.get(login, (-math.inf, None))
        return found if when + seconds > self._now() else None

    def _remember(self, login: str, found: Found) -> Account:
        # Not under other names: the mailbox name may be another account's login name.
        self._found[login] = self._now(), found
        self._found.move_to_end(login)
        if len(self._found) > self._size:
            self._found.popitem(last=False)
        return found.account

    def forget(self, account: Account | None) -> int:
        """Search for the account again, or for all, when next asked for."""
        name = None if account is None else account.name
        keys = [
            key for key, (_, found) in self._found.items() if name in (None, found.account.name)
        ]
        for key in keys:
            del self._found[key]
        return len(keys)

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """The account, if its bind with the password succeeds."""
        if not password:
            # Many servers accept a bind without a password as unauthenticated
            # (RFC 4513 section 5.1.2): never send one.
            return fail(BadCredentials(f"no password for {login}"))
        try:
            password.decode("utf-8")
        except UnicodeDecodeError:
            # RFC 4513 section 5.1.3, and ldap3 cannot send it.
            return fail(BadCredentials(f"the password for {login} is not UTF-8"))

        # The throttle has just searched for the account of the name.
        known = self._found_within(login, _LOGIN)

        def verified(found: Found) -> Account:
            # An account that was not searched again keeps the time of its search.
            account = found.account if found is known else self._remember(login, found)
            if not account.may_log_in:
                raise LoginDisabled(f"{login} may not log in ({found.dn})")
            return account

        return self._run(lambda: self.entries.verify(login, password, known)).addCallback(verified)


def _account_of(found: Found | None) -> Account | None:
    return None if found is None else found.account


def _trap_misconfigured(failure: Failure) -> None:
    failure.trap(DirectoryMisconfigured)
