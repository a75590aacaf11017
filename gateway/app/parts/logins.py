"""Build the portal and the SASL mechanisms from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure

from gateway.app.parts.parts import Life, Parts
from gateway.app.parts.rows import made
from gateway.auth.chain import Chain
from gateway.auth.delegates import AnothersMailbox, Delegates
from gateway.auth.login import account_of
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.config.settings import Settings
from gateway.directory.memory import LoginIsMailbox
from gateway.errors import ConfigError, DirectoryMisconfigured, NotSupported
from gateway.events import Emit, problem_of
from gateway.interfaces import IAdmission, ICache, IDirectory, ILoginState, IMailboxes, IStore, Run
from gateway.jobs.last_logins import LastLogins
from gateway.kinds import MechanismKind, MechanismParts, Offer
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Account, Terms
from gateway.operations.tools import Verified
from gateway.sasl.credentials import ActingPassword


def all_mailboxes_of(
    settings: Settings, directory: IDirectory, store: object, run: Run
) -> AllMailboxes:
    """All mailboxes, for jobs that go through them; ``run`` does it.

    Raises ``ConfigError`` if the store cannot list mailboxes.
    """
    mailboxes: IMailboxes | None = IMailboxes(store, None)
    if mailboxes is None:
        raise ConfigError([f"store.kind: {settings.store.kind} cannot list its mailboxes"])
    return AllMailboxes(directory, mailboxes, run, hosts=settings.directory.here)


def directory_behind(checkers: Sequence[ICredentialsChecker]) -> IDirectory:
    """Where ``--auth`` names the checkers: who knows more of their accounts than the name."""
    found = [getattr(one, "directory", None) for one in checkers]
    known: list[IDirectory] = [one for one in found if one is not None]
    return known[0] if len(checkers) == len(known) == 1 else LoginIsMailbox()


def try_directory(directory: IDirectory) -> Deferred[str]:
    """Ask for an account that no directory has (RFC 2606): why it is down; empty: it answers."""

    def problem(failure: Failure) -> str:
        # A directory that refuses the question answers; some let only users search.
        if failure.check(DirectoryMisconfigured):
            return ""
        assert failure.value is not None
        return problem_of(failure.value).reason

    return directory.find("nobody@pop3gw.invalid").addCallbacks(lambda _: "", problem)


def flush_caches(
    passwords: PasswordCache | None, parts: Sequence[object], question: Mapping[str, Any]
) -> list[int]:
    """Drop what this process keeps of a user, or of all: passwords, accounts, listings.

    ``parts``: directory and store.  ``names`` of the user, ``mailbox`` and ``home``; no names: all.
    """
    names = question["names"]
    account = None
    if names:
        account = Account(question["name"], question["mailbox"], question["home"])
    dropped = [0 if passwords is None else passwords.forget(names)]
    for part in parts:
        cache: ICache | None = ICache(part, None)
        dropped.append(0 if cache is None else cache.forget(account))
    return dropped


def keep_last_logins(parts: Parts, state: ILoginState, reactor: Any) -> None:
    """Have the last login to each mailbox kept in the state."""
    parts.part(
        "last logins",
        (),
        lambda: LastLogins(state, clock=reactor, now=time.time),
        lambda it: Life(stop=it.stop, subscription=it.subscription),
    )


class Logins:
    """The parts between credentials and the open maildrop."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        directory: IDirectory,
        store: IStore,
        run: Run,
        passwords: Sequence[ICredentialsChecker] = (),
        *,
        parts: Parts,
        admission: IAdmission,
        terms: Callable[[Account], Terms],
        is_held: Callable[[Account], bool],
        emit: Emit,
    ) -> None:
        """``passwords``: a checker in place of ``directory``; ``parts`` has what a reload keeps.

        ``admission``, ``terms`` and ``is_held`` as in the realm; ``emit`` takes events.
        """
        self._settings = settings
        self._directory = directory
        self._delegates = Delegates(directory, allowed=settings.directory.delegates)
        self._parts = parts
        verified = parts.part(
            "password cache",
            (directory, settings.directory),
            lambda: PasswordCache(
                reactor.seconds,
                ttl=settings.directory.cache_ttl,
                stale=settings.directory.stale_ttl,
                size=settings.directory.cache_size,
                emit=emit,
            ),
        )
        own = PasswordChecker(directory, verified, self._delegates, emit)
        self._passwords: ICredentialsChecker = Chain(*passwords) if passwords else own
        checkers: list[ICredentialsChecker] = [self._passwords]
        profiles = [settings.profile, *map(settings.profile_of, settings.listeners)]
        wanted = {name for profile in profiles for name in profile.mechanisms}
        allowed = settings.directory.delegates
        mechanism_parts = MechanismParts(settings, reactor, run, directory, allowed, emit)
        self._offers = {
            name: self._offer(kind, mechanism_parts)
            for name, kind in settings.mechanism_kinds.items()
            if name in wanted
        }
        self.mechanisms = {name: offer.make for name, offer in self._offers.items()}
        checkers += [one.checker for one in self._offers.values() if one.checker is not None]
        hosts = settings.directory.here
        realm = MaildropRealm(
            directory, store, hosts, admission=admission, terms=terms, is_held=is_held
        )
        self.portal = Portal(realm, checkers)

    def _offer(self, kind: MechanismKind[Any], parts: MechanismParts) -> Offer:
        own = self._settings.of(kind)
        made_of = kind, own, parts.directory, self._settings.directory
        return self._parts.part(
            f"mechanism {kind.name}",
            made_of,
            lambda: made(kind.section, lambda: kind.make(own, parts)),
            lambda offer: Life(stop=offer.stop),
        )

    def verify(self, username: bytes, password: bytes, acts_as: bytes) -> Deferred[Verified]:
        """Check a password as a login does, but neither wait nor count it at the throttle.

        Fails as checkers do, and with ``NotSupported`` where ``acts_as`` cannot be asked for.
        """
        credentials: Any = UsernamePassword(username, password)
        if acts_as:
            credentials = ActingPassword(username, password, acts_as)
        kinds = self._passwords.credentialInterfaces
        if not any(kind.providedBy(credentials) for kind in kinds):
            return fail(NotSupported("acts_as: --auth has no delegates"))

        def verified(avatar: Any) -> Verified:
            text = avatar if isinstance(avatar, str) else bytes(avatar).decode()
            return Verified(text, isinstance(avatar, AnothersMailbox))

        asked = maybeDeferred(self._passwords.requestAvatarId, credentials)
        return asked.addCallback(verified)

    def identify(self, login: str) -> Deferred[str]:
        """The account that guesses at a login name count for; empty: unknown."""
        return account_of(login, self._directory, self._bare)

    def _bare(self, login: str) -> str:
        for offer in self._offers.values():
            login = offer.bare(login)
        return login
