"""Counts what happens in one process: plain numbers in dictionaries, and no library.

A count costs about as much as calling a function.  ``families.py`` names the figures,
``totals.py`` adds up those of several processes, ``exposition.py`` shows them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from typing import Any

from gateway import events
from gateway.events import Subscription
from gateway.observe.families import COMMAND_BUCKETS, FAMILIES, SESSION_BUCKETS
from gateway.observe.labels import END_OF, VERSIONS, mechanism_of, reason_of

Key = tuple[str, ...]
"""The name of a family, and the values of its labels."""

Value = float | list[float]
"""Of a counter or a gauge; or of a histogram: a count for each bucket, the last of them for what
is above all bounds, and then the sum."""

Snapshot = list[list[Any]]
"""All figures as JSON: ``[[family, *labels], value]``."""

Readings = Callable[[], Iterable[tuple[Key, float]]]
"""Reads what has a value now, such as the length of a queue.  Must not block."""

_STATES = "transaction", "authorization"
"""Of a command after a login, and of one before it."""


class Figures:
    """The figures of this process: a subscriber of events, and readings."""

    def __init__(self) -> None:
        self._counts: defaultdict[Key, float] = defaultdict(int)
        self._times: dict[Key, list[float]] = {}
        self._commands: tuple[dict[str, list[float]], ...] = {}, {}
        """The times of commands after a login and before it; ``_times`` has them, too."""
        self._logged_in: set[str] = set()
        """The connections with a login."""
        self._session_times: list[float] = [0] * (len(SESSION_BUCKETS) + 2)
        self._times["pop3gw_session_seconds",] = self._session_times
        self._over: defaultdict[str, int] = defaultdict(int)
        """Connections that are closed, by protocol."""
        self._lock = Lock()
        """Guards the figures of directories, which emit on any thread."""
        self._readings: dict[str, Readings] = {}

    def read(self, of: str, readings: Readings) -> None:
        """Have these read at each snapshot, in place of those ``of`` the same."""
        self._readings[of] = readings

    def snapshot(self) -> Snapshot:
        """What was counted since the start of the process, and the readings of now."""
        with self._lock:
            counts = dict(self._counts)
            found: dict[Key, Value] = {**counts, **self._times}
        for (family, *labels), opened in counts.items():
            if family == "pop3gw_connections_opened_total":
                found["pop3gw_connections", *labels] = opened - self._over[labels[0]]
        found["pop3gw_sessions_logged_in",] = len(self._logged_in)
        for readings in self._readings.values():
            found.update(readings())
        return [[list(key), value] for key, value in found.items()]

    # -- counting ----------------------------------------------------------------

    def add(self, family: str, *labels: str, by: float = 1) -> None:
        """Add to a counter; from the reactor's thread only."""
        self._counts[(family, *labels)] += by

    def time(self, family: str, seconds: float, *labels: str) -> None:
        """Add to a histogram; from the reactor's thread only."""
        key = (family, *labels)
        found = self._times.get(key)
        bounds = FAMILIES[family].buckets
        if found is None:
            found = self._times[key] = [0] * (len(bounds) + 2)
        found[bisect_left(bounds, seconds)] += 1
        found[-1] += seconds

    @property
    def subscription(self) -> Subscription:
        """What is counted, beside the readings."""
        return {
            **{kind: partial(_count, self, rows) for kind, rows in _ROWS.items()},
            events.ConnectionOpened: self._opened,
            events.ConnectionClosed: self._closed,
            events.CommandsDone: self._commands_done,
            events.LoginSucceeded: self._logged_in_by,
            events.CacheLookup: self._looked_up,
            events.POP3SessionEnded: self._pop3_ended,
            events.LMTPSessionEnded: self._lmtp_ended,
            events.MessageDelivered: self._delivered,
            events.BackEndAsked: partial(self._asked, "backend"),
            events.DirectoryAsked: partial(self._asked, "directory"),
            events.DirectoryProblem: self._directory_problem,
            events.BackEndDown: self._down,
            events.BackEndBack: self._up,
            events.BackEndReplaced: self._replaced,
            events.QuotaLevelsCounted: self._levels,
            events.ReloadEnded: self._reloaded,
        }

    def _opened(self, event: events.ConnectionOpened) -> None:
        self._counts["pop3gw_connections_opened_total", event.protocol] += 1

    def _closed(self, event: events.ConnectionClosed) -> None:
        self._over[event.protocol] += 1
        self._logged_in.discard(event.connection.id)

    def _commands_done(self, event: events.CommandsDone) -> None:
        of_state, bounds = self._commands, COMMAND_BUCKETS
        for command, before, seconds, refused in event.commands:
            try:
                times = of_state[before][command]
            except KeyError:
                times = [0] * (len(bounds) + 2)
                of_state[before][command] = times
                self._times["pop3gw_command_seconds", command, _STATES[before]] = times
            times[bisect_left(bounds, seconds)] += 1
            times[-1] += seconds
            if refused:
                self._counts["pop3gw_commands_refused_total", command, _STATES[before]] += 1

    def _logged_in_by(self, event: events.LoginSucceeded) -> None:
        self._logged_in.add(event.connection.id)
        self._counts["pop3gw_logins_total", mechanism_of(event.method), "ok"] += 1

    def _looked_up(self, event: events.CacheLookup) -> None:
        self._counts[("pop3gw_cache_lookups_total", *event)] += 1

    def _pop3_ended(self, event: events.POP3SessionEnded) -> None:
        _, end, _, _, _, retr, retr_octets, top, top_octets, removed, _, seconds, _ = event
        counts = self._counts
        if end == "quit":
            counts["pop3gw_sessions_ended_total", "pop3", "quit"] += 1
        else:
            self._ended("pop3", end)
        self._session_times[bisect_left(SESSION_BUCKETS, seconds)] += 1
        self._session_times[-1] += seconds
        if retr:
            counts["pop3gw_retrieved_messages_total", "RETR"] += retr
            counts["pop3gw_retrieved_bytes_total", "RETR"] += retr_octets
        if top:
            counts["pop3gw_retrieved_messages_total", "TOP"] += top
            counts["pop3gw_retrieved_bytes_total", "TOP"] += top_octets
        if removed:
            counts["pop3gw_deleted_messages_total",] += removed

    def _lmtp_ended(self, event: events.LMTPSessionEnded) -> None:
        self._ended("lmtp", event.end)

    def _ended(self, protocol: str, end: str) -> None:
        word = END_OF.get(end, "other")
        self._counts["pop3gw_sessions_ended_total", protocol, word] += 1
        if word.startswith("tls_"):
            self._counts["pop3gw_tls_handshakes_failed_total",] += 1

    def _delivered(self, event: events.MessageDelivered) -> None:
        self._counts["pop3gw_deliveries_total",] += 1
        self._counts["pop3gw_delivered_bytes_total",] += event.octets
        self.time("pop3gw_delivery_seconds", event.seconds)

    def _asked(self, kind: str, event: events.DirectoryAsked | events.BackEndAsked) -> None:
        name, seconds, answered = event
        with self._lock:
            if answered:
                self.time(f"pop3gw_{kind}_seconds", seconds, name)
                self._counts.setdefault(("pop3gw_backend_up", name), 1)
            else:
                self._counts[f"pop3gw_{kind}_failures_total", name] += 1

    def _directory_problem(self, _: events.DirectoryProblem) -> None:
        with self._lock:
            self._counts["pop3gw_directory_problems_total",] += 1

    def _down(self, event: events.BackEndDown) -> None:
        with self._lock:
            self._counts["pop3gw_backend_up", event.name] = 0

    def _up(self, event: events.BackEndBack) -> None:
        with self._lock:
            self._counts["pop3gw_backend_up", event.name] = 1

    def _replaced(self, event: events.BackEndReplaced) -> None:
        with self._lock:
            self._counts.pop(("pop3gw_backend_up", event.name), None)

    def _levels(self, event: events.QuotaLevelsCounted) -> None:
        for level, count in (("warn", event.warn), ("over", event.over)):
            if count is None:
                self._counts.pop(("pop3gw_quota_mailboxes", level), None)
            else:
                self._counts["pop3gw_quota_mailboxes", level] = count

    def _reloaded(self, event: events.ReloadEnded) -> None:
        result = "rejected" if event.problems else "taken"
        self._counts["pop3gw_reloads_total", result] += 1
        self._counts["pop3gw_config_last_reload_successful",] = result == "taken"


Row = tuple[Callable[[Any], Key], Callable[[Any], float]]


def _one(_: Any) -> float:
    return 1


def _count(figures: Figures, rows: tuple[Row, ...], event: Any) -> None:
    for key, by in rows:
        figures._counts[key(event)] += by(event)


def _by(key: Callable[[Any], Key], by: Callable[[Any], float] = _one) -> Row:
    return key, by


_ROWS: Mapping[type, tuple[Row, ...]] = {
    events.ConnectionRefused: (_by(lambda e: ("pop3gw_connections_refused_total", e.protocol)),),
    events.LoginFailed: (
        _by(lambda e: ("pop3gw_logins_total", mechanism_of(e.method), reason_of(e.problem.error))),
    ),
    events.LoginDelayed: (
        _by(lambda _: ("pop3gw_logins_delayed_total",)),
        _by(lambda _: ("pop3gw_login_delay_seconds_total",), lambda e: e.seconds),
    ),
    events.CachedPasswordAccepted: (_by(lambda _: ("pop3gw_cached_logins_total",)),),
    events.NTLMv1Accepted: (_by(lambda _: ("pop3gw_ntlmv1_logins_total",)),),
    events.ActionFailed: (
        _by(
            lambda e: (
                "pop3gw_actions_failed_total",
                e.action.lower().replace(" ", "_"),
                reason_of(e.problem.error),
            )
        ),
    ),
    events.RecipientRefused: (
        _by(lambda e: ("pop3gw_recipients_refused_total", reason_of(e.problem.error))),
    ),
    events.DeliveryFailed: (
        _by(lambda e: ("pop3gw_deliveries_failed_total", reason_of(e.problem.error))),
    ),
    events.QuotaDecided: (
        _by(lambda e: ("pop3gw_quota_decisions_total", e.service, e.decision.lower())),
    ),
    events.QuotaWarningSent: (
        _by(lambda e: ("pop3gw_quota_warnings_total", e.level.name.lower())),
    ),
    events.QuotaCheckFailed: (
        _by(lambda e: ("pop3gw_quota_checks_failed_total", reason_of(e.problem.error))),
    ),
    events.MessagesExpired: (
        _by(
            lambda e: ("pop3gw_retention_messages_total", "hidden" if e.hidden else "removed"),
            lambda e: e.messages,
        ),
    ),
    events.RetentionStopped: (_by(lambda _: ("pop3gw_retention_stops_total",)),),
    events.RetentionPostponed: (
        _by(lambda e: ("pop3gw_retention_postponed_total", reason_of(e.problem.error))),
    ),
    events.TLSEstablished: (
        _by(lambda e: ("pop3gw_tls_handshakes_total", VERSIONS.get(e.version, "other"))),
    ),
    events.RequestServed: (
        _by(lambda e: ("pop3gw_http_requests_total", f"{min(e.status // 100, 9)}xx")),
    ),
    events.WorkerEnded: (
        _by(
            lambda e: (
                "pop3gw_worker_ends_total",
                "orderly" if e.reason == "exit status 0" else "failed",
            )
        ),
    ),
}
