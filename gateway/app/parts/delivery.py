"""Build LMTP, the quota services and quota warnings from the settings."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed

from gateway.app.parts.acceptors import acceptor_of
from gateway.app.parts.listeners import Listeners
from gateway.app.parts.logins import all_mailboxes_of
from gateway.app.parts.parts import Life
from gateway.app.server.service import FindEndpoint, Listener, endpoint_of
from gateway.config.quota import DomainQuota
from gateway.config.quota import Quota as QuotaSettings
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import Emit, Subscription
from gateway.interfaces import IAdmission, IDelivery, IDirectory, ILeader, IState, IStore, Run
from gateway.jobs.digest import ComposeDigest, Digest
from gateway.jobs.full_mailboxes import FullMailboxes
from gateway.jobs.quota_warnings import Compose, QuotaWarner
from gateway.lmtp.profile import Profile
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Level, Limits, Quota, Usage
from gateway.net.fair_turns import FairTurns
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.postfix_policy import PolicyFactory, PolicyOptions
from gateway.net.timeouts import Timeouts
from gateway.networks import within
from gateway.observe.log import emit_to_log
from gateway.quota.limits import resolve
from gateway.quota.notice import Origin, Row, Stamp, digest, warning
from gateway.quota.postfix_policy import Answers
from gateway.quota.texts import language_for, template_for
from gateway.units import limit_of, parse_size

PARTS = ("lmtp", "policy")
"""The sections of services that may have an endpoint."""

_OVER = {"defer": 452, "bounce": 552}


def delivery_of(settings: Settings, store: IStore) -> IDelivery | None:
    """The store for deliveries; None: it accepts none, and the configuration needs none.

    Raises ``ConfigError`` if the configuration needs them.
    """
    delivery: IDelivery | None = IDelivery(store, None)
    wanting = [f"{part}.endpoint" for part in PARTS if getattr(settings, part).endpoint]
    if settings.quota.warn_from:
        wanting.append("quota.warn_from")
    if delivery is None and wanting:
        fault = f"expected none: store.kind {settings.store.kind!r} takes no mail in"
        raise ConfigError([f"{key}: {fault}" for key in wanting])
    return delivery


class MailServices:
    """LMTP, the policy service and quota warnings."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        directory: IDirectory,
        store: IDelivery,
        state: IState,
        leader: ILeader,
        *,
        run: Run,
        timeouts: Timeouts,
        admissions: Mapping[str, IAdmission] | None = None,
        listeners: Listeners | None = None,
        find_endpoint: FindEndpoint = endpoint_of,
        turns: FairTurns | None = None,
        emit: Emit = emit_to_log,
    ) -> None:
        """``admissions`` of LMTP and of the policy service have their limits on connections.

        ``listeners`` keeps what listens already; ``emit`` takes events; connections share
        ``turns``.  ``run`` does what takes time by the number of mailboxes.
        """
        self._run = run
        self._admissions = admissions or {}
        self._listeners = listeners or Listeners()
        self._find_endpoint = find_endpoint
        self._reactor = reactor
        self._settings = settings
        self._store = store
        self._timeouts = timeouts
        self._turns = turns
        self._emit = emit
        self._state = state
        self._leader = leader
        self._directory = directory
        self.recipients = Recipients(
            directory,
            store,
            limits_of(settings.quota),
            hosts=settings.directory.here,
            delimiter=settings.lmtp.recipient_delimiter,
            emit=emit,
        )
        self.quota_warner = self._make_warner() if settings.quota.warn_from else None
        self._full_mailboxes = FullMailboxes(reactor, state, leader, emit)

    @cached_property
    def _all_mailboxes(self) -> AllMailboxes:
        return all_mailboxes_of(self._settings, self._directory, self._store, self._run)

    def _make_warner(self) -> QuotaWarner:
        return QuotaWarner(
            self.recipients,
            self._all_mailboxes,
            self._store,
            self._state,
            self._leader,
            composer(self._settings.quota),
            interval=self._settings.quota.warn_again,
            now=time.time,
            after_round=self._make_digest().send if self._settings.quota.digest_to else _nothing,
            emit=self._emit,
        )

    def _make_digest(self) -> Digest:
        quota = self._settings.quota
        return Digest(
            self.recipients,
            self._all_mailboxes,
            self._store,
            self._state,
            digest_composer(quota),
            to=quota.digest_to,
            interval=quota.digest_every,
            clock=self._reactor,
            now=time.time,
            emit=self._emit,
        )

    @property
    def subscription(self) -> Subscription:
        """Subscriptions of quota warnings."""
        return {} if self.quota_warner is None else self.quota_warner.subscription

    def start(self) -> None:
        """Start the periodic quota checks."""
        if self.quota_warner is not None:
            every = self._settings.quota.warn_check
            self.quota_warner.start(self._reactor, every, self._to_look_at)
            self._full_mailboxes.start()

    def _to_look_at(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._known_names())

    async def _known_names(self) -> list[str]:
        """The names of all mailboxes, and of unlisted ones that were found full."""
        names = await self._all_mailboxes.names()
        states = await self._state.warning_states(Level.NORMAL)
        return await self._run(lambda: sorted({*names, *states}))

    def stop(self) -> Deferred[None]:
        """Stop; fires when pending warnings are delivered."""
        if self.quota_warner is None:
            return succeed(None)
        stopped = self._full_mailboxes.stop(), self.quota_warner.stop()
        return gatherResults(stopped).addCallback(lambda _: None)

    def listeners(self, tls: Callable[[], object | None]) -> list[Listener]:
        """All listeners; ``tls``: finds the certificate for STARTTLS."""
        return [self.listener(part, tls) for part in self.wanted]

    @property
    def wanted(self) -> list[str]:
        """The sections with endpoints."""
        return [part for part in PARTS if getattr(self._settings, part).endpoint]

    def listener(self, part: str, tls: Callable[[], object | None]) -> Listener:
        """The listener of a section; raises ``ConfigError``."""
        section = getattr(self._settings, part)
        mode = getattr(section, "tls", "none")
        make: Mapping[str, Callable[[], Any]] = {
            "lmtp": lambda: self._lmtp(tls() if mode == "stls" else None),
            "policy": self._policy,
        }
        wire = make[part]()
        return self._listeners.listener(
            part,
            lambda: self._find_endpoint(self._reactor, f"{part}.endpoint", section.endpoint),
            acceptor_of(self._reactor, self._settings, part, wire, emit=self._emit),
            sessions=wire,
            tls=mode,
            section=part,
        )

    def _lmtp(self, tls: object | None) -> LMTPFactory:
        lmtp = self._settings.lmtp
        options = LMTPOptions(
            profile=Profile(
                name=lmtp.name or socket.getfqdn(),
                max_size=parse_size(lmtp.max_size),
                max_recipients=lmtp.max_recipients,
                idle_timeout=lmtp.idle_timeout,
                over_quota=lmtp.over_quota,
                elsewhere=lmtp.elsewhere,
            ),
            # Permissions of the UNIX socket protect it.
            allows=_local_or(within(lmtp.allowed_networks)),
            tls=tls,
            timeouts=self._timeouts,
        )
        return self._listeners.factory(
            "lmtp",
            lambda: LMTPFactory(
                self.recipients,
                self._store,
                options,
                admission=self._admissions.get("lmtp"),
                emit=self._emit,
                clock=self._reactor,
                turns=self._turns,
            ),
            lambda factory: factory.configure(self.recipients, self._store, options),
        )

    def _policy(self) -> PolicyFactory:
        policy = self._settings.policy
        options = PolicyOptions(
            allows=_local_or(within(policy.allowed_networks)),
            answers=Answers(over=_OVER[policy.over_quota], unknown=policy.unknown),  # type: ignore[arg-type]
        )
        return self._listeners.factory(
            "policy",
            lambda: PolicyFactory(
                self.recipients,
                options,
                admission=self._admissions.get("policy"),
                emit=self._emit,
                clock=self._reactor,
                turns=self._turns,
            ),
            lambda factory: factory.configure(self.recipients, options),
        )


def life_of_warnings(services: MailServices) -> Life:
    """How quota warnings begin and end."""
    return Life(services.start, services.stop, services.subscription)


def _nothing() -> Deferred[None]:
    return succeed(None)


def _local_or(allows: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda host: not host or allows(host)


def composer(settings: QuotaSettings) -> Compose:
    """The sender of quota warnings."""
    origin = Origin(settings.warn_from)
    own = settings.templates

    def compose(account: Account, usage: Usage, limits: Limits, found: Level) -> bytes:
        languages = (*account.languages, settings.warn_language)
        template, language = template_for(languages, found, own)
        return warning(
            account.name,
            usage,
            limits,
            template=template,
            language=language,
            origin=origin,
            stamp=_stamp(),
        )

    return compose


def digest_composer(settings: QuotaSettings) -> ComposeDigest:
    """The sender of the digest."""
    origin = Origin(settings.warn_from)
    language = language_for(settings.warn_language)

    def compose(rows: Sequence[Row]) -> bytes:
        return digest(settings.digest_to, rows, language=language, origin=origin, stamp=_stamp())

    return compose


def _stamp() -> Stamp:
    return Stamp(time.time(), secrets.token_hex(8))


def limits_of(settings: QuotaSettings) -> Callable[[Account], Limits]:
    """The limits of an account: its own, its domain's, or the defaults."""
    default = _quota(settings)
    domains = {name.lower(): _quota(domain) for name, domain in settings.domains.items()}
    grace, none = parse_size(settings.grace), Quota()

    @lru_cache(maxsize=1000)
    def limits(account: Quota, domain: Quota) -> Limits:
        return resolve(account, domain, default, grace, warn_percent=settings.warn_percent)

    return lambda account: limits(
        account.quota, domains.get(account.mailbox.rpartition("@")[2], none)
    )


def _quota(said: QuotaSettings | DomainQuota) -> Quota:
    return Quota(
        octets=limit_of(parse_size(said.octets)) if said.octets else None,
        warn_octets=limit_of(parse_size(said.warn_octets)) if said.warn_octets else None,
        messages=limit_of(said.messages),
    )
