"""Build the server from its settings.  Only this file knows all parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from attrs import evolve
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from gateway.app.demo import hints
from gateway.app.parts.acceptors import secured
from gateway.app.parts.certificates import certificates_of, described, expiry_of
from gateway.app.parts.delivery import MailServices, delivery_of, life_of_warnings
from gateway.app.parts.listeners import Listeners
from gateway.app.parts.logins import (
    Logins,
    directory_behind,
    flush_caches,
    keep_last_logins,
    try_directory,
)
from gateway.app.parts.operators import check_password_of, control_site, http_site
from gateway.app.parts.parts import Life, Parts
from gateway.app.parts.retention import RetentionService, policies_of
from gateway.app.parts.rows import make_directory, make_store, store_parts
from gateway.app.parts.tools import tools_of
from gateway.app.server.reload import Reloading, Source, told
from gateway.app.server.runtime import Role, Runtime
from gateway.app.server.service import Listener, Server
from gateway.app.server.status import answer_of_process, answer_of_server
from gateway.app.server.traces import Traces, answer_traces
from gateway.app.server.watch import watch
from gateway.config.settings import Settings
from gateway.http.site import BoundedSite
from gateway.interfaces import ICollectingStore, IDirectory, IStore
from gateway.jobs.certificate_expiry import CertificateExpiry
from gateway.jobs.collection import CollectionJob
from gateway.model import AS_BEFORE_LOGIN, Account, Terms
from gateway.net.pop3_factory import POP3Factory, POP3Options
from gateway.net.timeouts import Timeouts
from gateway.net.tls.context import TLSContext
from gateway.operations.mail.mailboxes import SESSIONS_IN
from gateway.operations.server.certificates import CertificateRow
from gateway.operations.tools import Tools, Verify
from gateway.store.audited import no_audit


class Assembly:
    """The parts of a server, made of its settings."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        passwords: Sequence[ICredentialsChecker],
        role: Role = Role(),
        *,
        before: Assembly | None = None,
    ) -> None:
        """``before``: the assembly of the running server, for a reload of other settings."""
        self._reactor = reactor
        self._settings = settings
        self._checkers = passwords
        runtime = Runtime(reactor, settings, role) if before is None else before._runtime
        self._runtime: Runtime = runtime
        self._emit = runtime.events.emit
        self._parts: Parts = Parts(runtime.events, None if before is None else before._parts)
        self._listeners: Listeners = Listeners(None if before is None else before._listeners)
        self._policies = policies_of(settings.retention)
        limits = settings.limits
        self._timeouts = Timeouts(
            stall=limits.stall_timeout,
            work=limits.work_timeout,
            handshake=settings.profile.preauth_idle_timeout,
        )
        self.certificates = certificates_of(
            settings, self._parts, reactor, self._emit, runtime.role.make_context
        )
        self._verify: Verify | None = None
        self.state = runtime.state
        self.store = self._store()

    def stop_threads(self) -> None:
        """What was begun is done first."""
        self._runtime.stop_threads()

    @property
    def settings(self) -> Settings:
        """The settings that it is made of."""
        return self._settings

    @property
    def runtime(self) -> Runtime:
        """What the process has once."""
        return self._runtime

    def described_certificates(self) -> list[CertificateRow]:
        """The certificates of all listeners, for an operator."""
        return described(self.certificates, self._settings)

    def _expiry(self) -> CertificateExpiry:
        return expiry_of(self._settings, self._parts, self._reactor, self._emit, self.certificates)

    def _store(self) -> IStore:
        settings, runtime = self._settings, self._runtime
        parts = store_parts(
            settings,
            self._reactor,
            runtime.disk.run,
            runtime.deliveries.run,
            runtime.state.high_water,
            self._emit,
            runtime.outages.watch,
        )
        # Each audit is another object, of the same settings.
        made_of = settings.store, settings.audit, evolve(parts, audit=no_audit)
        return self._parts.part("store", made_of, lambda: make_store(settings, parts), _closing)

    def directory(self) -> IDirectory:
        """The portal and the mechanisms."""
        settings, runtime = self._settings, self._runtime
        if self._checkers:
            return self._parts.part("directory", (), lambda: directory_behind(self._checkers))
        before = self._parts.find_before("directory")
        return self._parts.part(
            "directory",
            (settings.directory, *(settings.of(kind) for kind in settings.login_kinds)),
            lambda: make_directory(
                settings,
                runtime.passwords.run,
                runtime.listing.run,
                self._reactor.seconds,
                self._emit,
                before,
            ),
            _closing,
        )

    def logins(self, directory: IDirectory) -> Logins:
        """The parts between credentials and maildrop."""
        logins = Logins(
            self._reactor,
            self._settings,
            directory,
            self.store,
            self._runtime.passwords.run,
            self._checkers,
            parts=self._parts,
            admission=self._runtime.login_admission,
            terms=self._terms,
            is_held=self._runtime.is_held,
            emit=self._emit,
        )
        self._verify = logins.verify
        return logins

    def _terms(self, account: Account) -> Terms:
        """EXPIRE and LOGIN-DELAY in CAPA after login."""
        if not self._settings.retention.enabled:
            return AS_BEFORE_LOGIN
        return Terms(expire=self._policies.expire(account))

    def mail_services(self, directory: IDirectory) -> MailServices | None:
        """Delivery and quota services; None: the store accepts no deliveries.

        Raises ``ConfigError`` if the configuration needs them.
        """
        settings, runtime = self._settings, self._runtime
        store = delivery_of(settings, self.store)
        if store is None:
            return None
        services_of = settings.lmtp, settings.policy, self._timeouts
        made_of = directory, store, settings.quota, settings.directory, services_of
        services = MailServices(
            self._reactor,
            settings,
            directory,
            store,
            runtime.state,
            runtime.leader,
            run=runtime.disk.run,
            admissions=runtime.admissions,
            timeouts=self._timeouts,
            listeners=self._listeners,
            find_endpoint=runtime.role.find_endpoint,
            turns=runtime.turns,
            emit=self._emit,
        )
        self._parts.part("quota warnings", made_of, lambda: services, life_of_warnings)
        return services

    def check_services(
        self, directory: IDirectory, attempt: Callable[[Callable[[], object]], None]
    ) -> None:
        """Build every listener but those of POP3, each in an ``attempt`` of its own."""
        if self._settings.http.endpoint:
            has_tls = self._settings.http.tls == "implicit"
            logins = self.logins(directory)
            attempt(
                lambda: self.http_listener(
                    logins, self.certificates.find_for_http() if has_tls else None
                )
            )
        mail_services = self.mail_services(directory)
        if mail_services is None:
            return
        for part in mail_services.wanted:
            attempt(partial(mail_services.listener, part, self.certificates.find_for_mail))

    def retention_service(self, directory: IDirectory) -> RetentionService:
        """The job that removes mail by retention policies."""
        settings, runtime = self._settings, self._runtime

        def make() -> RetentionService:
            return RetentionService(
                self._reactor,
                settings,
                directory,
                self.store,
                runtime.state,
                runtime.leader,
                queued=runtime.queued,
                run=runtime.disk.run,
                policies=self._policies,
                emit=self._emit,
            )

        made_of = directory, self.store, settings.retention, settings.directory
        return self._parts.part(
            "retention", made_of, make, lambda it: Life(it.start, it.stop, it.subscription)
        )

    def endpoint(self, name: str) -> IStreamServerEndpoint:
        """The endpoint of a listener."""
        return self._endpoint(f"listeners.{name}", self._settings.listeners[name].endpoint)

    def _endpoint(self, section: str, text: str) -> IStreamServerEndpoint:
        return self._runtime.role.find_endpoint(self._reactor, f"{section}.endpoint", text)

    def _listener(self, name: str, logins: Logins, retention_service: RetentionService) -> Listener:
        settings, runtime = self._settings, self._runtime
        listener = settings.listeners[name]
        tls = None if listener.tls == "none" else self.certificates.of(name)
        options = POP3Options(
            profile=settings.profile_of(name),
            tls=tls,
            secure_networks=settings.pop3.secure_networks,
            xclient_networks=listener.xclient_networks,
            proxy_tls=listener.proxy_tls,
            mechanisms=logins.mechanisms,
            identify=logins.identify if settings.refuse_after else None,
            timeouts=self._timeouts,
            greeting=settings.pop3.greeting,
            convert_cr=settings.store.bare_cr == "convert",
            expire=retention_service.expire,
        )
        sessions = self._listeners.factory(
            name,
            lambda: POP3Factory(
                logins.portal,
                options,
                admission=runtime.login_admission,
                emit=self._emit,
                clock=self._reactor,
                turns=runtime.turns,
            ),
            lambda factory: factory.configure(logins.portal, options),
        )
        section = f"listeners.{name}"
        implicit = tls if listener.tls == "implicit" else None
        wire = secured(self._reactor, settings, section, sessions, implicit, self._emit)
        return self._listeners.listener(
            name,
            partial(self.endpoint, name),
            wire,
            sessions=sessions,
            tls=listener.tls,
            section=section,
        )

    def build(self) -> list[Listener]:
        """Make every part, and every listener.  Raises ``ConfigError`` or another of ours."""
        settings = self._settings
        directory = self.directory()
        logins = self.logins(directory)
        retention_service = self.retention_service(directory)
        keep_last_logins(self._parts, self._runtime.state, self._reactor)
        self._collect()
        listeners = [self._listener(name, logins, retention_service) for name in settings.listeners]
        mail_services = self.mail_services(directory)
        if mail_services is not None:
            listeners += mail_services.listeners(self.certificates.for_mail)
        if settings.http.endpoint:
            tls = self.certificates.for_http() if settings.http.tls == "implicit" else None
            listeners.append(self.http_listener(logins, tls))
        if self._runtime.role.is_first:
            self._expiry()
        return listeners

    def _collect(self) -> None:
        store = ICollectingStore(self.store, None)
        if store is not None:
            self._parts.part(
                "collection",
                (store,),
                lambda: CollectionJob(store, self._runtime.leader, self._reactor),
                lambda it: Life(it.start, it.stop),
            )

    def http_listener(self, logins: Logins, tls: TLSContext | None) -> Listener:
        """The listener of figures, health, and the operator's API and page."""
        settings, admission = self._settings, self._runtime.login_admission
        check = check_password_of(logins, admission, identify=bool(settings.refuse_after))
        site = http_site(self._reactor, settings, lambda: self.tools, self._emit, check)
        wire = self._listeners.factory("http", lambda: site, site.replaces)
        return self._listeners.listener(
            "http",
            lambda: self._endpoint("http", self._settings.http.endpoint),
            secured(self._reactor, self._settings, "http", wire, tls, self._emit),
            site=wire,
            tls=self._settings.http.tls,
            section="http",
        )

    def following(self, settings: Settings) -> Assembly:
        """The assembly of other settings for the running server.  Raises ``ConfigError``."""
        return Assembly(self._reactor, settings, self._checkers, before=self)

    def commit(self) -> list[str]:
        """Have the running server go on with this assembly.  Never fails.

        Returns the certificates that are bad now, a line each: the old ones stay in use.
        """
        settings = self._settings
        self._runtime.configure(settings)
        self._listeners.commit()
        rejected = self.certificates.reload()
        if self._parts.is_kept("certificate expiry"):
            self._expiry().check()
        self._parts.subscribe()
        self._parts.start()
        self._watch()
        return rejected

    def drop(self) -> None:
        """Build nothing on it: end the parts that were made for it."""
        self._parts.drop()

    def stop(self) -> Deferred[Any]:
        """End all that works by itself."""
        # If one hangs, this process stays the leader until it ends.
        return self._parts.stop().addCallback(lambda _: self._runtime.close())

    def server(self, source: Source | None = None) -> Server:
        """The whole service.

        ``source``: where a reload finds the settings; None: another process hands them over.
        """
        settings, runtime = self._settings, self._runtime
        listeners = self.build()
        self._parts.subscribe()
        reloading = Reloading(self)
        server = Server(
            self._reactor,
            listeners,
            runtime.pools,
            emit=self._emit,
            observers=runtime.observers,
            at_start=self._parts.start,
            # A reload may take the directory away.
            try_directory=lambda: try_directory(reloading.assembly.directory()),
            state_dir=settings.state_dir,
            reloading=reloading,
            at_reload=lambda: reloading.reload(source, runtime.reloading.run),
            at_end=lambda: reloading.assembly.stop(),
            drain_timeout=settings.limits.drain_timeout,
            words=hints(settings) if runtime.role.is_alone else [],
            control=self.control(reloading) if runtime.role.is_alone else None,
        )
        reloading.server = server
        runtime.questions.answer(SESSIONS_IN, server.count_sessions_in)
        runtime.questions.answer("sessions", server.open_sessions)
        runtime.questions.answer("kick", server.kick)
        answer_traces(runtime.questions, Traces(runtime.reactor, server.session_factories))
        answer_of_process(runtime.questions, server, reloading)
        if runtime.role.is_alone:
            runtime.questions.answer("reload", lambda _: server.reload().addCallback(told))
            if source is not None:
                in_force = partial(getattr, reloading, "settings")
                answer_of_server(runtime.questions, source, in_force, runtime.operations.run, 0)
        self._watch()
        return server

    def _watch(self) -> None:
        retention = self._parts.find("retention")
        directory, settings = self.directory(), self._settings
        watch(self._runtime, settings, directory, self.certificates, retention)
        flush = partial(flush_caches, self._parts.find("password cache"), (directory, self.store))
        self._runtime.questions.answer("flush", flush)
        last_logins = self._parts.find("last logins")
        self._runtime.questions.answer("store logins", lambda _: last_logins.store_now())

    def control(self, reloading: Reloading) -> BoundedSite:
        """What serves the control socket."""
        return control_site(self._reactor, lambda: reloading.assembly.tools, self._emit)

    @cached_property
    def tools(self) -> Tools:
        """What the operations of an operator work with."""
        runtime = self._runtime
        return tools_of(
            self._settings,
            self.directory(),
            self.store,
            runtime.state,
            policies=self._policies,
            processes=runtime.processes,
            run=runtime.operations.run,
            verify=self._verify,
        )


def _closing(part: object) -> Life:
    """The life of a part that may have connections to close."""
    close = getattr(part, "close", None)
    return Life() if close is None else Life(stop=close)
