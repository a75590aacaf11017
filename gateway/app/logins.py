"""Settings to a portal and mechanisms: who may log in, and how."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred

from gateway.auth.chain import Chain
from gateway.auth.delegates import Delegates
from gateway.auth.kerberos import PrincipalChecker
from gateway.auth.ntlm import HashAuthority, NtlmChecker
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.auth.winbind import Winbind
from gateway.config.settings import Settings
from gateway.directory.ldap import LdapDirectory
from gateway.directory.ldap_accounts import Search
from gateway.directory.ldap_servers import Reach
from gateway.directory.memory import LoginIsMailbox
from gateway.directory.passwd import PasswdFile
from gateway.errors import ConfigError
from gateway.interfaces import IDirectory, IMechanism, INtlmAuthority, IStore, Run
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account, Peer, Terms
from gateway.networks import within
from gateway.sasl.gssapi import Acceptor, Gssapi, check
from gateway.sasl.mechanisms import MECHANISMS, Maker
from gateway.sasl.ntlm import Ntlm, NtlmOptions


def make_directory(
    settings: Settings, run: Run, now: Callable[[], float], list_all: Run | None = None
) -> Any:
    """The directory that the settings name; its work is done by ``run``.

    ``list_all`` does what takes long and is to keep no login waiting, if not ``run``.
    Raises ``ConfigError``, or ``DirectoryMisconfigured`` of a passwd-file.
    """
    if settings.directory.kind == "passwd-file":
        return PasswdFile(settings.path_of(settings.directory.file), run)
    ldap = settings.ldap
    if ldap.ca_file:
        _check_authorities(settings.path_of(ldap.ca_file))
    return LdapDirectory(
        Reach(
            uris=ldap.uris,
            start_tls=ldap.start_tls,
            ca_file=settings.path_of(ldap.ca_file) if ldap.ca_file else "",
            timeout=ldap.timeout,
            retry_after=ldap.retry_after,
        ),
        Search(
            base=ldap.base,
            scope=ldap.scope,
            filter=ldap.filter,
            recipients=ldap.recipient_filter,
            bind_dn=ldap.bind_dn,
            bind_password=ldap.bind_password,
            bind_as=ldap.bind_as,
            domains=ldap.domains,
        ),
        ldap.entries,
        run,
        cache_ttl=settings.directory.cache_ttl,
        stale_ttl=settings.directory.stale_ttl,
        cache_size=settings.directory.cache_size,
        now=now,
        list_all=list_all,
    )


def all_mailboxes_of(settings: Settings, directory: IDirectory, store: Any) -> AllMailboxes:
    """All mailboxes, for what goes through all of them."""
    hosts = settings.directory.here
    return AllMailboxes(directory, store, in_homes=settings.store.in_homes, hosts=hosts)


def _check_authorities(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # which ssl.SSLError is, too
        raise ConfigError([f"ldap.ca_file: {path}: {error.strerror or error}"]) from None


def directory_behind(checkers: Sequence[ICredentialsChecker]) -> Any:
    """Where ``--auth`` names the checkers: who knows more of their accounts than the name."""
    behind = {id(known): known for one in checkers if (known := getattr(one, "directory", None))}
    return next(iter(behind.values())) if len(checkers) == len(behind) == 1 else LoginIsMailbox()


def acceptor(settings: Settings) -> Acceptor:
    """Which Kerberos tickets are taken."""
    return Acceptor(
        keytab=settings.path_of(settings.gssapi.keytab),
        services=settings.gssapi.services,
        replays=settings.path_of("krb5.rcache2"),
    )


def _computer(provider: str) -> str:
    """What the server calls itself to whoever begins AUTH NTLM, before any login.

    A domain controller wants the name that the machine joined the domain with
    (CVE-2015-0005); nobody else has to know it.
    """
    return socket.gethostname().partition(".")[0].upper()[:15] if provider == "winbind" else "MAIL"


class Logins:
    """Everything between a client's proof and its open maildrop."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        directory: IDirectory,
        store: IStore,
        run: Run,
        passwords: Sequence[ICredentialsChecker] = (),
        *,
        admit: Callable[[str, Terms], None],
        terms: Callable[[Account], Terms],
        is_held: Callable[[Account], bool],
    ) -> None:
        """``passwords``: who checks them in place of ``directory``.

        ``admit``, ``terms`` and ``is_held`` as in the realm.
        """
        self._settings = settings
        self._run = run
        self._directory = directory
        self._delegates = Delegates(directory, allowed=settings.directory.delegates)
        self._winbind: Winbind | None = None
        verified = PasswordCache(
            reactor.seconds,
            ttl=settings.directory.cache_ttl,
            stale=settings.directory.stale_ttl,
            size=settings.directory.cache_size,
        )
        self.mechanisms: dict[str, Maker] = dict(MECHANISMS)
        self.counted = [verified.counts, getattr(directory, "counts", {})]
        own = PasswordChecker(directory, verified, self._delegates)
        checkers: list[ICredentialsChecker] = [Chain(*passwords) if passwords else own]
        profiles = [settings.profile, *map(settings.profile_of, settings.listeners)]
        wanted = {name for profile in profiles for name in profile.mechanisms}
        if "NTLM" in wanted:
            checkers.append(self._ntlm(reactor))
        if "GSSAPI" in wanted:
            checkers.append(self._gssapi())
        hosts = settings.directory.here
        realm = MaildropRealm(directory, store, hosts, admit=admit, terms=terms, is_held=is_held)
        self.portal = Portal(realm, checkers)

    def _ntlm(self, reactor: Any) -> NtlmChecker:
        ntlm = self._settings.ntlm
        options = NtlmOptions(
            computer=ntlm.computer or _computer(ntlm.provider),
            domain=ntlm.domain,
            dns_computer=ntlm.dns_computer,
            dns_domain=ntlm.dns_domain,
            joined=ntlm.provider == "winbind",
            require_mic=ntlm.mic == "require",
            bindings=ntlm.channel_binding,
            targets=frozenset(name.lower() for name in ntlm.targets),
            max_skew=ntlm.max_skew,
        )
        is_legacy = within(ntlm.legacy_networks)

        def make(peer: Peer) -> IMechanism:
            legacy = is_legacy(peer.host)
            return Ntlm(options, peer, now=time.time, random=os.urandom, legacy=legacy)

        self.mechanisms["NTLM"] = make
        domains = (ntlm.domain, ntlm.dns_domain)
        authority: INtlmAuthority = HashAuthority(self._directory, domains)
        if ntlm.provider == "winbind":
            if not (ntlm.helper and shutil.which(ntlm.helper[0])):
                program = " ".join(ntlm.helper[:1])
                raise ConfigError([f"ntlm.helper: no program {program}: install winbind"])
            authority = self._winbind = Winbind(
                reactor, ntlm.helper, helpers=ntlm.helpers, timeout=ntlm.timeout, domains=domains
            )
        return NtlmChecker(authority)

    def _gssapi(self) -> PrincipalChecker:
        gssapi, accepts = self._settings.gssapi, acceptor(self._settings)
        if problems := check(accepts):
            raise ConfigError([f"gssapi: {problem}" for problem in problems])
        self.mechanisms["GSSAPI"] = lambda _: Gssapi(accepts, self._run)
        with_realm = gssapi.login == "principal"
        return PrincipalChecker(self._delegates, gssapi.realms, with_realm=with_realm)

    def identify(self, login: str) -> Deferred[str]:
        """The name of the account that has this login name; empty where that cannot be said."""

        def name(account: Account | None) -> str:
            return "" if account is None else account.name

        return self._directory.find(login).addCallbacks(name, lambda _: "")

    def stop(self) -> None:
        """End what runs beside this process."""
        if self._winbind is not None:
            self._winbind.stop()
