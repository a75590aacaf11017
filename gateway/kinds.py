"""What a SASL mechanism, a directory and a store are to the server: one row of a table each.

A row has the class of its settings and what makes it from them.  The tables are
in ``gateway.config.table``; a dotted name in the configuration stands for a row
in another package.  ``docs/embedding.md`` shows one of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from attrs import frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.interfaces import IReactorTime

from gateway.events import Emit
from gateway.interfaces import (
    Admit,
    Audit,
    HighWater,
    IDirectory,
    ILeader,
    IMechanism,
    ISharedLimits,
    IState,
    IStore,
    Run,
    WatchFor,
)
from gateway.model import Account, Peer

__all__ = [
    "DirectoryKind",
    "DirectoryParts",
    "Fault",
    "MechanismKind",
    "MechanismParts",
    "NoSettings",
    "Offer",
    "SharedAdmission",
    "SharedState",
    "StoreKind",
    "StoreParts",
    "Whole",
]

S = TypeVar("S")

Fault = tuple[str, str]
"""The key of a setting, and what is wrong with it."""


class Whole(Protocol):
    """The whole configuration, as far as a row may ask about it."""

    @property
    def state_dir(self) -> str:
        """The state directory; an absolute path."""

    def path_of(self, path: str) -> str:
        """An absolute path as it is, any other below the state directory."""

    def value(self, key: str) -> object:
        """The value of a setting, such as ``ntlm.provider``; None if there is none."""


@frozen
class NoSettings:
    """Of what has nothing to set."""


def _nothing(*_: object) -> tuple[()]:
    return ()


def _as_it_is(name: str) -> str:
    return name


def _no_files(*_: object) -> Mapping[str, str]:
    return {}


def _drop(_: object) -> None:
    """Nobody wants to know."""


def _never(_: object) -> bool:
    return False


def _always(_: object) -> bool:
    return True


@frozen
class StoreParts:
    """What a store is made with."""

    state_dir: str
    """An absolute path, below which relative paths of settings are."""

    run: Run
    """Does what may block."""

    deliver: Run
    """Does what may block while mail comes in."""

    admit: Admit
    audit: Audit
    high_water: HighWater
    exclusive: bool = False
    """One session per maildrop at a time; others fail with ``MaildropBusy``."""

    exact_sizes: bool = True
    """Sizes are what RETR sends; else what a message takes on disk."""

    counts_reading: bool = False
    """Retention may count from the reading of mail: each reader needs marks of its own."""

    count_hidden: bool = False
    """Hidden messages count in ``IDelivery.usage``."""

    reactor: Any = None
    """For stores that are reached over a network; None: none runs."""

    emit: Emit = _drop
    """Takes what happens, such as a missing body."""

    watch: WatchFor = _drop
    """Watches a server that the store asks, for the log; call ``close`` of what it returns when
    the store is closed."""

    def path_of(self, path: str) -> str:
        """An absolute path as it is, any other below the state directory."""
        return os.path.join(self.state_dir, path)


class SharedState(NamedTuple):
    """What the processes of a server share beside the mail."""

    state: IState
    leader: ILeader
    close_now: Callable[[], object]
    """Closes the state where no reactor runs any more; blocks."""


class SharedAdmission(NamedTuple):
    """How the servers that share a store count together."""

    limits: ISharedLimits
    count_sessions: bool
    """``limits.sessions_per_user`` holds in all of them together; else in each."""

    key_of: Callable[[Any], bytes]
    """Of settings of the store: a secret of all servers that ``limits`` does not have, for digests
    of passwords."""


@frozen
class StoreKind(Generic[S]):
    """A row of the table of stores: ``store.kind``."""

    settings: type[S]
    """An attrs class that inherits ``gateway.config.settings.StoreSettings``: section [store]."""

    make: Callable[[S, StoreParts], IStore]
    """Makes the store.  Raises ``ConfigError``; touches no file."""

    faults: Callable[[S, Whole], Iterable[Fault]] = _nothing
    """What is wrong with settings that are each right by themselves."""

    places: Callable[[S, str], Mapping[str, str]] = _no_files
    """The directories that mail lies below, absolute, and the key of the setting that names each.

    The second argument is the state directory.
    """

    make_state: Callable[[S, Run, WatchFor], SharedState] | None = None
    """The state and the leader of all servers that share the store; None: those of this machine.

    The second argument does what may block, the third watches a server, as in ``StoreParts``.
    Raises ``ConfigError``.  Only the start makes them: a reload changes nothing in them.
    """

    make_admission: Callable[[S, WatchFor], SharedAdmission] | None = None
    """How all servers that share the store count together; None: each by itself.

    Raises ``ConfigError``.  Only the start makes it: a reload asks ``key_of`` again, no more.
    """

    keeps_audit: bool = False
    """The store is an ``IAuditStore``, and ``StoreParts.audit`` writes nothing."""

    check_name: Callable[[str], object] = _nothing
    """Raises ``BadMailboxName`` for a name that no mailbox can have, whatever the settings are."""

    check_account: Callable[[S, str, Account], object] = _nothing
    """Raises ``BadMailboxName`` for an account that can have no mailbox; touches no file.

    The second argument is the state directory.
    """


@frozen
class DirectoryParts:
    """What a directory is made with."""

    whole: Whole
    run: Run
    """Does what may block."""

    list_all: Run
    """Does what takes long, so that no login waits for it."""

    seconds: Callable[[], float]
    """A clock."""

    cache_ttl: float
    """Seconds for which a directory that is asked over a network may answer from memory."""

    stale_ttl: float
    """Seconds after that for which it may do so in an outage."""

    cache_size: int
    """Accounts to remember."""

    emit: Emit
    """Takes what happens, such as an outage."""

    before: IDirectory | None = None
    """At a reload: the directory that this one may replace, perhaps of another kind.

    What both need, such as open connections, may be shared; it must go on working.  The method
    ``close`` of the one that is not used any more is called, if it has one.
    """


@frozen
class DirectoryKind(Generic[S]):
    """A row of the table of directories: ``directory.kind``."""

    settings: type[S]
    """An attrs class: the section named ``section``.

    In the section [directory] it inherits ``gateway.config.settings.DirectorySettings``.
    """

    make: Callable[[S, DirectoryParts], IDirectory]
    """Makes the directory.  Raises ``ConfigError`` or ``DirectoryMisconfigured``."""

    section: str = "directory"
    faults: Callable[[S, Whole], Iterable[Fault]] = _nothing
    """What is wrong with settings that are each right by themselves."""

    files: Callable[[S, Whole], Mapping[str, str]] = _no_files
    """The files that logins need, absolute, and what each is for: a setting's key, then a cure."""

    remarks: Callable[[S, Whole], Iterable[str]] = _nothing
    """What has another meaning than it once had, a line each."""

    account_faults: Callable[[S, Whole, Callable[[Account], object]], Iterable[str]] = _nothing
    """What is wrong with single accounts, a line each; the last argument is what
    ``StoreKind.check_account`` does for one account."""

    add_account: Callable[[S, Whole, str, str], None] | None = None
    """Adds an account with this name and password if it is missing; None: cannot."""

    hashes: bool = False
    """It hashes passwords itself: several threads work at once."""

    locks: Callable[[S], bool] = _never
    """Whether it locks accounts after wrong passwords."""


@frozen
class MechanismParts:
    """What a SASL mechanism is made with."""

    whole: Whole
    reactor: IReactorTime
    run: Run
    """Does what may block."""

    directory: IDirectory
    delegates: bool
    """Users may open mailboxes of others who let them."""

    emit: Emit
    """Takes what happens, such as an outage."""


@frozen
class Offer:
    """A SASL mechanism that is ready for clients."""

    make: Callable[[Peer], IMechanism]
    """Makes it for one exchange."""

    checker: ICredentialsChecker | None = None
    """Checks the credentials that it proves; None: names with passwords, for which there is one."""

    stop: Callable[[], None] = _nothing  # type: ignore[assignment]
    """Ends what runs beside this process."""

    bare: Callable[[str], str] = _as_it_is
    """The user of a login name, without a domain that its checker knows; or the name itself."""


@frozen
class MechanismKind(Generic[S]):
    """A row of the table of SASL mechanisms: one that ``pop3.mechanisms`` may list."""

    name: str
    """As clients say it and CAPA lists it, in capitals (RFC 4422 section 3.1)."""

    make: Callable[[S, MechanismParts], Offer]
    """Makes it ready.  Raises ``ConfigError``."""

    settings: type[S] = NoSettings  # type: ignore[assignment]
    """An attrs class: the section of the name in small letters."""

    faults: Callable[[S, Whole], Iterable[Fault]] = _nothing
    """What is wrong with settings that are each right by themselves."""

    files: Callable[[S, Whole], Mapping[str, str]] = _no_files
    """As in ``DirectoryKind``, but ``make`` says when one is missing."""

    is_set_up: Callable[[S], bool] = _always
    """Whether it can be offered with these settings."""

    cleartext: bool = False
    """It sends the password in plain text (RFC 2595 section 2.1)."""

    binds_to_tls: Callable[[S], bool] = _never
    """Whether it verifies channel bindings (RFC 5929), so that TLS must end at this server."""

    locks: Callable[[S], bool] = _never
    """Whether the directory behind it locks accounts after wrong passwords."""

    @property
    def section(self) -> str:
        """The section of its settings."""
        return self.name.lower()
