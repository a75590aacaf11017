"""Reload: a running server takes other settings, all that can change live or none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.app.first_start import file_faults
from gateway.config.contradictions import contradictions
from gateway.config.live import Difference, merge
from gateway.config.load import Document, load_document, load_settings_of
from gateway.config.settings import Settings
from gateway.errors import ConfigError, GatewayError
from gateway.events import Emit, ReloadEnded, ReloadStarted
from gateway.interfaces import Run

if TYPE_CHECKING:
    from gateway.app.assembly import Assembly
    from gateway.app.server.service import Server

log = Logger()

STOPPING = ReloadEnded(problems=("the server is stopping",))


def told(ended: ReloadEnded) -> dict[str, Any]:
    """What became of a reload, for another process or an operator."""
    return ended._asdict()


@frozen
class Source:
    """Where the settings of this server come from, at the start and at each reload."""

    path: str | None
    environ: Mapping[str, str]
    directory: bool = True
    """Whether ``[directory]`` is used at all."""


def read(source: Source, running: Settings) -> tuple[Difference, Document]:
    """What a server that runs with ``running`` takes of its configuration as it is now.

    Blocks: for a thread.  Raises ``ConfigError``.
    """
    new, document = load_document(source.path, source.environ)
    return difference(new, running, source.directory), document


def difference(new: Settings, running: Settings, directory: bool = True) -> Difference:
    """As ``read``, of settings that were loaded already."""
    found = merge(running, new)
    settings = found.settings
    if found.restart:
        # Each was right by itself, but old and new values may contradict each other.
        said = {name: {"tls": one.tls} for name, one in settings.listeners.items()}
        faults = contradictions(settings, {"listeners": said})
        waits = f"until a restart the old values stay of {', '.join(found.restart)}"
        if faults:
            raise ConfigError([f"{key}: {fault} ({waits})" for key, fault in faults])
    if problems := file_faults(settings, None, directory=directory, certificates=False):
        raise ConfigError(problems)
    return found


def problems_of(failure: Failure) -> tuple[str, ...]:
    """Why nothing was taken, one line each; the log gets what is unforeseen."""
    error = failure.value
    if isinstance(error, GatewayError):
        return tuple(getattr(error, "problems", [str(error)]))
    log.failure("internal error: reload", failure)
    return (f"internal error: {type(error).__name__}",)


class Reloading:
    """The present assembly of a running server, and the steps to the next one."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.server: Server | None = None

    @property
    def settings(self) -> Settings:
        """What the server runs with."""
        return self.assembly.settings

    def reload(self, source: Source | None, run: Run) -> Deferred[ReloadEnded]:
        """Read the configuration in a thread by ``run``, and take it; never fails."""
        if source is None:
            return succeed(ReloadEnded())
        running = self.settings
        asked = run(lambda: read(source, running)).addCallback(lambda found: self.take(found[0]))
        return asked.addErrback(lambda failure: ReloadEnded(problems=problems_of(failure)))

    def prepare(self, found: Difference) -> Prepared:
        """Build what is new, and change nothing; raises as a start does."""
        following = self.assembly.following(found.settings)
        try:
            following.build()
        except BaseException:
            following.drop()
            raise
        return Prepared(self, following, found)

    def take(self, found: Difference) -> ReloadEnded:
        """Take the settings in this process; raises as ``prepare``, and then changes nothing."""
        if self.server is not None and not self.server.running:
            return STOPPING
        return self.prepare(found).commit()


@frozen
class Prepared:
    """Other settings, ready to be taken: ``commit`` or ``drop`` them at once."""

    _reloading: Reloading
    _assembly: Assembly
    _difference: Difference

    def commit(self) -> ReloadEnded:
        """Take them.  Cannot fail; only a certificate that is bad now stays as it was."""
        found, reloading = self._difference, self._reloading
        rejected = self._assembly.commit()
        reloading.assembly = self._assembly
        if reloading.server is not None:
            reloading.server.drain_timeout = found.settings.limits.drain_timeout
        return ReloadEnded(found.changed, found.restart, kept=tuple(rejected))

    def drop(self) -> None:
        """Take nothing."""
        self._assembly.drop()


class Handover:
    """The steps of a reload in a worker: its parent reads the settings, and all workers take them
    or none."""

    def __init__(self, reloading: Reloading, *, directory: bool) -> None:
        """``directory``: whether ``[directory]`` is used at all."""
        self._reloading = reloading
        self._directory = directory
        self._prepared: Prepared | None = None

    def prepare(self, document: Document) -> Sequence[str]:
        """Build what is new; what is wrong, a line each."""
        self.drop()
        reloading = self._reloading
        try:
            new = load_settings_of(document)
            found = difference(new, reloading.settings, self._directory)
            self._prepared = reloading.prepare(found)
        except Exception:
            return problems_of(Failure())
        return ()

    def commit(self, document: Document) -> Sequence[str]:
        """Take it; what stays as it was, a line each.

        A worker that was starting meanwhile was not asked to prepare.
        """
        if self._prepared is None and (problems := self.prepare(document)):
            log.error("worker keeps the settings of its start: {problems}", problems=problems)
            return problems
        assert self._prepared is not None
        prepared, self._prepared = self._prepared, None
        return prepared.commit().kept

    def drop(self, _: object = None) -> None:
        """Take nothing."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.drop()


class Reloads:
    """One reload after the other; those who ask during one get the answer of the next."""

    def __init__(self, perform: Callable[[], Deferred[ReloadEnded]], emit: Emit) -> None:
        """``perform`` does not fail."""
        self._perform = perform
        self._emit = emit
        self._asked: list[Deferred[ReloadEnded]] = []
        self._may_begin = False
        self._stopped = False

    def start(self) -> None:
        """The server runs: whoever has asked already gets a reload."""
        self._may_begin = True
        self._next()

    def stop(self) -> None:
        """The server stops: all who ask from now on are told so."""
        self._stopped = True
        self._next()

    def request(self) -> Deferred[ReloadEnded]:
        """Fires with what became of it; never fails."""
        asked = Deferred[ReloadEnded]()
        self._asked.append(asked)
        self._next()
        return asked

    def _next(self) -> None:
        if not self._asked or not (self._may_begin or self._stopped):
            return
        asked, self._asked = self._asked, []
        if self._stopped:
            self._tell(asked, STOPPING)
            return
        self._may_begin = False
        self._emit(ReloadStarted())

        def ended(outcome: ReloadEnded) -> None:
            self._emit(outcome)
            self._may_begin = True
            self._tell(asked, outcome)
            self._next()

        self._perform().addCallback(ended)

    def _tell(self, asked: list[Deferred[ReloadEnded]], outcome: ReloadEnded) -> None:
        for one in asked:
            one.callback(outcome)
