"""Build the server from its settings.  Only this file knows all parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from attrs import asdict, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock

from gateway.admission.limits import ConnectionLimits
from gateway.admission.local import LocalAdmission
from gateway.admission.throttle import ThrottleLimits
from gateway.app import demo
from gateway.app.acceptors import acceptor_of
from gateway.app.certificates import Certificates
from gateway.app.delivery import MailServices, delivery_of
from gateway.app.faults import faults_of
from gateway.app.first_start import User, foreseen, prepare, reserve
from gateway.app.logins import Logins, directory_behind, try_directory
from gateway.app.needed_files import missing_files
from gateway.app.observers import OBSERVERS, OBSERVERS_OF_PARENT, Make
from gateway.app.parent import Handed, Parent, PassOn
from gateway.app.retention import RetentionService, policies_of
from gateway.app.rows import make_directory, make_store
from gateway.app.service import FindEndpoint, Listener, Server, endpoint_of
from gateway.config.load import load_document
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.interfaces import IDirectory, IState, IStore
from gateway.jobs.certificate_expiry import CertificateExpiry
from gateway.jobs.thread_pool import ThreadPool
from gateway.model import Account, Terms
from gateway.net.fair_turns import FairTurns
from gateway.net.pop3_factory import POP3Factory, POP3Options
from gateway.net.timeouts import Timeouts
from gateway.net.tls_line import tls_factory
from gateway.observe.bus import EventBus
from gateway.operations.configuration import Checked
from gateway.operations.configuration import check as check_configuration
from gateway.state.leader import FlockLeader
from gateway.state.ledger import LedgerState

T = TypeVar("T")


def assemble(
    reactor: Any,
    path: str | None,
    environ: Mapping[str, str],
    passwords: Sequence[ICredentialsChecker] = (),
    user: User | None = None,
    *,
    auth: Sequence[str] = (),
    pass_on: PassOn = sys.stdout.buffer.write,
) -> Server | Parent:
    """The server of a configuration.  Raises ``ConfigError``.

    ``passwords``: a checker in place of ``[directory]``, which ``auth`` describes to workers;
    ``user``: the user that the process changes to after binding its ports; ``pass_on`` takes
    lines of the log of workers.
    """
    settings, document = load_document(path, environ)
    prepare(settings, user)
    directory = not passwords
    problems = missing_files(settings, directory=directory)
    if problems := problems or foreseen(settings, user, directory=directory):
        raise ConfigError(problems)
    reserve(settings, user)
    if settings.processes.count == 1:
        return Assembly(reactor, settings, passwords).server()
    parts = Assembly(Clock(), settings, passwords, Role(observers=()))
    if problems := faults_of(parts, settings, directory=directory, accounts=False):
        raise ConfigError(problems)
    return parent(reactor, settings, Handed(document, auth), environ, pass_on)


def parent(
    reactor: Any,
    settings: Settings,
    handed: Handed,
    environ: Mapping[str, str],
    pass_on: PassOn,
) -> Parent:
    """The service of a process that starts workers."""
    events = EventBus()
    observers = [make(settings, reactor) for make in OBSERVERS_OF_PARENT]
    for observer in observers:
        events.subscribe(observer.subscription)
    return Parent(
        reactor,
        settings,
        handed,
        environ=environ,
        observers=observers,
        emit=events.emit,
        pass_on=pass_on,
        words=hints(settings),
    )


def check(
    path: str | None,
    environ: Mapping[str, str],
    passwords: Sequence[ICredentialsChecker] = (),
    user: User | None = None,
) -> Checked:
    """Check a configuration for ``assemble``.

    Builds the same parts without creating files, binding ports or asking servers.
    """

    def faults(settings: Settings) -> list[str]:
        directory = not passwords
        problems = missing_files(settings, directory=directory)
        problems = problems or foreseen(settings, user, directory=directory)
        try:
            parts = Assembly(Clock(), settings, passwords)
        except ConfigError as error:
            return problems + error.problems
        found = faults_of(parts, settings, directory=directory)
        return problems + [one for one in found if one not in problems]

    return check_configuration(path, environ, faults)


@frozen
class Tools:
    """The parts that a command uses."""

    directory: IDirectory
    store: IStore
    state: IState


@contextmanager
def tools(reactor: Any, settings: Settings) -> Iterator[Tools]:
    """The directory, the store and the state of a server; nothing else is started.

    Raises as the making of a directory does.
    """
    parts = Assembly(reactor, settings, ())
    try:
        yield Tools(parts.directory(), parts.store, parts.state)
    finally:
        parts.stop_threads()


@frozen
class Role:
    """What a process does differently where there are several; this is the role of a single one."""

    observers: Sequence[Make] = OBSERVERS
    find_endpoint: FindEndpoint = endpoint_of
    is_first: bool = True
    """Whether it does what only one of them does, without an election."""


class Assembly:
    """Shared parts."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        passwords: Sequence[ICredentialsChecker],
        role: Role = Role(),
    ) -> None:
        self._role = role
        self._reactor = reactor
        self._settings = settings
        self._checkers = passwords
        self._events = EventBus()
        self._observers = [make(settings, reactor) for make in role.observers]
        for observer in self._observers:
            self._events.subscribe(observer.subscription)
        directory, store = settings.directory, settings.store
        self._policies = policies_of(settings.retention)
        self._turns = FairTurns(lambda: reactor)
        self._disk = self._pool("disk", store.threads, store.queue)
        self._deliveries = self._pool("deliveries", settings.lmtp.threads, store.queue)
        # Hashes of a passwd-file are computed without the interpreter lock.
        hashes = directory.threads if settings.directory_kind.hashes else 1
        self._passwords = self._pool("passwords", directory.threads, directory.queue, hashes)
        # A separate thread: a hanging list must not delay logins.
        self._listing = self._pool("listing", 1, directory.queue)
        limits = settings.limits
        self._timeouts = Timeouts(
            stall=limits.stall_timeout,
            work=limits.work_timeout,
            handshake=settings.profile.preauth_idle_timeout,
        )
        throttle = asdict(settings.throttle) | {"refuse_after": settings.refuse_after}
        self._admission = LocalAdmission(
            lambda: reactor,
            limits=ConnectionLimits(
                connections=limits.connections,
                per_address=limits.connections_per_address,
                per_user=limits.sessions_per_user,
            ),
            throttle=ThrottleLimits(**throttle),
            profile=settings.profile,
            emit=self._events.emit,
        )
        self.certificates = Certificates(settings, self._events.emit)
        self.state = LedgerState(settings.state_dir, self._disk.run)
        self._leader = FlockLeader(settings.state_dir, self._disk.run)
        run, deliver = self._disk.run, self._deliveries.run
        self.store = make_store(settings, run, deliver, self.state.high_water)

    def _pool(self, purpose: str, threads: int, queue: int, least: int = 1) -> ThreadPool:
        return ThreadPool(
            self._reactor, purpose, threads=threads, queue=queue, least=least, turns=self._turns
        )

    @property
    def _pools(self) -> list[ThreadPool]:
        return [self._disk, self._deliveries, self._passwords, self._listing]

    def stop_threads(self) -> None:
        """What was begun is done first."""
        for pool in self._pools:
            pool.stop()
        self.state.close_now()

    def directory(self) -> IDirectory:
        """The portal and the mechanisms."""
        if self._checkers:
            return directory_behind(self._checkers)
        return make_directory(
            self._settings,
            self._passwords.run,
            self._listing.run,
            self._reactor.seconds,
            self._events.emit,
        )

    def logins(self, directory: IDirectory) -> Logins:
        """The parts between credentials and maildrop."""
        return Logins(
            self._reactor,
            self._settings,
            directory,
            self.store,
            self._passwords.run,
            self._checkers,
            admission=self._admission,
            terms=self._terms,
            is_held=self._policies.is_held,
            emit=self._events.emit,
        )

    def _terms(self, account: Account) -> Terms:
        """EXPIRE and LOGIN-DELAY in CAPA after login."""
        if not self._settings.retention.enabled:
            return Terms()
        return Terms(expire=self._policies.expire(account))

    def mail_services(self, directory: IDirectory) -> MailServices | None:
        """Delivery and quota services; None: the store accepts no deliveries.

        Raises ``ConfigError`` if the configuration needs them.
        """
        store = delivery_of(self._settings, self.store)
        if store is None:
            return None
        return MailServices(
            self._reactor,
            self._settings,
            directory,
            store,
            self.state,
            self._leader,
            timeouts=self._timeouts,
            find_endpoint=self._role.find_endpoint,
            turns=self._turns,
            emit=self._events.emit,
        )

    def check_mail(
        self, directory: IDirectory, attempt: Callable[[Callable[[], object]], None]
    ) -> None:
        """Build every listener for mail in an ``attempt`` of its own; raises ``ConfigError``."""
        mail_services = self.mail_services(directory)
        if mail_services is None:
            return
        for part in mail_services.wanted:
            attempt(partial(mail_services.listener, part, self.certificates.find_for_mail))

    def retention_service(self, directory: IDirectory) -> RetentionService:
        """The job that removes mail by retention policies."""
        return RetentionService(
            self._reactor,
            self._settings,
            directory,
            self.store,
            self.state,
            self._leader,
            queued=lambda: self._disk.outstanding + self._deliveries.outstanding,
            policies=self._policies,
            emit=self._events.emit,
        )

    def endpoint(self, name: str) -> IStreamServerEndpoint:
        """The endpoint of a listener."""
        text = self._settings.listeners[name].endpoint
        return self._role.find_endpoint(self._reactor, f"listeners.{name}.endpoint", text)

    def _listener(self, name: str, logins: Logins, retention_service: RetentionService) -> Listener:
        settings = self._settings
        listener = settings.listeners[name]
        tls = None if listener.tls == "none" else self.certificates.of(name)
        sessions = POP3Factory(
            logins.portal,
            POP3Options(
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
            ),
            admission=self._admission,
            emit=self._events.emit,
            clock=self._reactor,
            turns=self._turns,
        )
        wire: Any = sessions
        is_secure = listener.tls == "implicit" and tls is not None
        if is_secure:
            wire = tls_factory(tls, sessions, self._reactor)
        section, endpoint, emit = f"listeners.{name}", self.endpoint(name), self._events.emit
        wire = acceptor_of(self._reactor, settings, section, wire, secure=is_secure, emit=emit)
        return Listener(name, endpoint, wire, sessions, tls=listener.tls, section=section)

    def server(self) -> Server:
        """The whole service."""
        settings = self._settings
        directory = self.directory()
        logins = self.logins(directory)
        retention_service = self.retention_service(directory)
        listeners = [self._listener(name, logins, retention_service) for name in settings.listeners]
        self._events.subscribe(retention_service.subscription)
        mail_services = self.mail_services(directory)
        if mail_services is not None:
            self._events.subscribe(mail_services.subscription)
            listeners += mail_services.listeners(self.certificates.for_mail)

        emit, certificates = self._events.emit, self.certificates
        expiry = CertificateExpiry(
            self._reactor, certificates.shown, days=settings.tls.expiry_warning, emit=emit
        )

        def start() -> Deferred[None]:
            certificates.start(self._reactor)
            if self._role.is_first:
                expiry.start()
            if mail_services is not None:
                mail_services.start()
            return retention_service.start()

        def reload() -> None:
            certificates.reload()
            expiry.check()

        def stop() -> Deferred[Any]:
            certificates.stop()
            expiry.stop()
            logins.stop()
            # Stop both at once: the second must not wait for the first.
            stopped = succeed(None) if mail_services is None else mail_services.stop()
            ended = gatherResults([retention_service.stop(), stopped], consumeErrors=True)
            # If one hangs, this process stays the leader until it ends.
            return ended.addCallback(
                lambda _: gatherResults([self._leader.resign(), self.state.close()])
            )

        return Server(
            self._reactor,
            listeners,
            self._pools,
            emit=emit,
            observers=self._observers,
            at_start=start,
            try_directory=partial(try_directory, directory),
            at_reload=reload,
            at_end=stop,
            drain_timeout=settings.limits.drain_timeout,
            words=hints(settings) if self._role.is_first else [],
        )


def hints(settings: Settings) -> list[str]:
    """How to try the demo account, if there is one."""
    if not settings.demo:
        return []
    ports = [
        listener.endpoint.split(":")[1]
        for listener in settings.listeners.values()
        if listener.tls != "implicit" and listener.endpoint.startswith("tcp:")
    ]
    place = f"127.0.0.1:{ports[0]}" if ports else "..."
    return [f"try it: curl -u {demo.ACCOUNT}:{demo.PASSWORD} pop3://{place}/1"]
