"""Build the store and the directory from their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import Emit
from gateway.interfaces import Audit as AuditOf
from gateway.interfaces import HighWater, IDirectory, IStore, Run, WatchFor
from gateway.kinds import DirectoryParts, SharedAdmission, SharedState, StoreParts
from gateway.mailboxes.recipients import admit
from gateway.state.audit import Audit
from gateway.state.leader import FlockLeader
from gateway.state.ledger import LedgerState
from gateway.store.audited import no_audit

T = TypeVar("T")


def store_parts(
    settings: Settings,
    reactor: Any,
    run: Run,
    deliver: Run,
    high_water: HighWater,
    emit: Emit,
    watch: WatchFor,
) -> StoreParts:
    """What a store is made with.

    ``run`` does blocking work, ``deliver`` blocking work of deliveries.  ``watch``: outages.
    """
    profile = settings.profile
    return StoreParts(
        state_dir=settings.state_dir,
        run=run,
        deliver=deliver,
        admit=admit,
        audit=make_audit(settings),
        high_water=high_water,
        exclusive=profile.exclusive,
        exact_sizes=profile.exact_sizes,
        counts_reading=settings.retention.enabled,
        count_hidden=settings.retention.hidden_counts,
        reactor=reactor,
        emit=emit,
        watch=watch,
    )


def make_store(settings: Settings, parts: StoreParts) -> IStore:
    """The store that the settings name; raises ``ConfigError``."""
    return made("store", lambda: settings.store_kind.make(settings.store, parts))


def make_state(settings: Settings, run: Run, watch: WatchFor = lambda _: None) -> SharedState:
    """The state and the leader: those of the store, or in the state directory."""
    make = settings.store_kind.make_state
    if make is not None:
        return made("store", lambda: make(settings.store, run, watch))
    state = LedgerState(settings.state_dir, run)
    leader = FlockLeader(settings.state_dir, run)
    return SharedState(state, leader, state.close_now)


def make_shared_admission(settings: Settings, watch: WatchFor) -> SharedAdmission | None:
    """How all servers that share the store count together; None: each by itself."""
    make = settings.store_kind.make_admission
    return None if make is None else made("store", lambda: make(settings.store, watch))


def make_directory(
    settings: Settings,
    run: Run,
    list_all: Run,
    seconds: Callable[[], float],
    emit: Emit,
    before: IDirectory | None = None,
) -> IDirectory:
    """The directory that the settings name; raises ``ConfigError`` or ``DirectoryMisconfigured``.

    ``run`` does blocking work, ``list_all`` long lists; ``seconds``: a clock.
    ``before``: the directory that this one replaces.
    """
    kind, common = settings.directory_kind, settings.directory
    parts = DirectoryParts(
        whole=settings,
        run=run,
        list_all=list_all,
        seconds=seconds,
        cache_ttl=common.cache_ttl,
        stale_ttl=common.stale_ttl,
        cache_size=common.cache_size,
        emit=emit,
        before=before,
    )
    return made(kind.section, lambda: kind.make(settings.of(kind), parts))


def made(section: str, make: Callable[[], T]) -> T:
    """Make what a row makes; an error in its settings names their section."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{section}: {error}"]) from error


def make_audit(settings: Settings) -> AuditOf:
    """The audit log, which gets every message before its removal."""
    path, said = settings.audit_path, settings.audit
    if not path:
        return no_audit
    return Audit(path, max_octets=said.max_octets, keep=said.keep)
