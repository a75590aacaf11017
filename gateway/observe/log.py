"""Events to lines of the log: one row for each kind of event that has a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.logger import Logger, LogLevel, globalLogPublisher

from gateway import events
from gateway.errors import BadCredentials, LoginTooSoon, MessageGone
from gateway.events import HEALTH_CHECK, Event, Problem, Subscription
from gateway.model import Proxy
from gateway.observe.bus import EventBus

__all__ = ["emit_to_log", "log_lines", "logged_events"]

_EXPECTED = BadCredentials, LoginTooSoon, MessageGone
"""Problems of a client that need nobody's attention."""


def _level(event: Any) -> Any:
    """Of an event that has a problem."""
    return LogLevel.info if issubclass(event.problem.error, _EXPECTED) else LogLevel.warn


def _with(problem: Problem, line: str) -> str:
    """The line with its reason; empty where the log has it already."""
    return "" if problem.logged else f"{line}: {problem.error.__name__}: {problem.reason}"


def _login_failed(event: events.LoginFailed) -> str:
    (id_, host, *_), user, _, problem = event
    return _with(problem, f"session {id_}: login of {user} from {host} failed")


def _login_delayed(event: events.LoginDelayed) -> str:
    id_, user, host, seconds = event
    return f"session {id_}: login of {user} from {host} waits {seconds:.1f} s"


def _action_failed(event: events.ActionFailed) -> str:
    (id_, host, *_), user, action, problem = event
    return _with(problem, f"session {id_}: {action} of {user} from {host} failed")


def _refused(event: events.ConnectionRefused) -> str:
    client = event.connection
    return f"refused a connection from {client.host or '-'}{_via(client.proxy)}: {event.reason}"


def _via(proxy: Proxy | None) -> str:
    """The proxy of a client, as fields to append."""
    if proxy is None:
        return ""
    session = f" proxy_session={proxy.session}" if proxy.session else ""
    return f" via={proxy.host or '-'}{session}"


def _is_check(proxy: Proxy | None, user: str, reason: str) -> bool:
    """Whether only a proxy has checked that this server is there."""
    return proxy is not None and proxy.local and not (user or reason)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _because(reason: str) -> str:
    return f' reason="{reason}"' if reason else ""


def _pop3_ended(event: events.POP3SessionEnded) -> str:
    # Unpacked at once: each session has this line.
    (id_, host, _, _, via), end, user, tls, method, retr, octets, top, top_octets, *_ = event
    if end == HEALTH_CHECK or _is_check(via, user, event.reason):
        return ""
    return (
        f"session {id_}: {end}; user={user or '-'} from={host}{_via(via)} tls={_yes(tls)}"
        f" by={method or '-'} retr={retr}/{octets} top={top}/{top_octets}"
        f" dele={event.removed}/{event.messages} {event.seconds:.1f} s{_because(event.reason)}"
    )


def _lmtp_ended(event: events.LMTPSessionEnded) -> str:
    (id_, host, _, _, via), end, tls, name, messages, delivered, refused, octets, reason = event
    if end == HEALTH_CHECK or (_is_check(via, "", reason) and not messages):
        return ""
    # One word, or a client could write fields of its own.
    lhlo = repr(name)[1:-1].replace(" ", "\\x20")
    return (
        f"session {id_}: {end}; from={host or '-'}{_via(via)} tls={_yes(tls)} lhlo={lhlo or '-'}"
        f" messages={messages} delivered={delivered} refused={refused} octets={octets}"
        f"{_because(reason)}"
    )


def _delivered(event: events.MessageDelivered) -> str:
    return f"message {event.message} is in the mailbox of {event.account.name}"


def _recipient_refused(event: events.RecipientRefused) -> str:
    client, recipient, problem, _ = event
    return _with(problem, f"session {client.id}: refused {repr(recipient)[1:-1]}")


def _policy_refused(event: events.PolicyRefused) -> str:
    client, _, recipient, _, answer = event
    to = repr(recipient)[1:-1]
    return f"session {client.id}: policy answer for {to}: {answer or 'none'}"


def _delivery_failed(event: events.DeliveryFailed) -> str:
    return _with(event.problem, f"session {event.connection.id}: took no message")


def _warned(event: events.QuotaWarningSent) -> str:
    return f"sent quota warning: user={event.user} level={event.level.name}"


def _digested(event: events.QuotaDigestSent) -> str:
    return f"sent list of full mailboxes: to={event.to} mailboxes={event.mailboxes}"


def _quota_unchecked(event: events.QuotaCheckFailed) -> str:
    of = f" mailbox={event.mailbox!r}" if event.mailbox else ""
    return _with(event.problem, f"quota check failed{of}")


def _digest_failed(event: events.QuotaDigestFailed) -> str:
    return _with(event.problem, f"sent no list of full mailboxes: to={event.to}")


def _cached(event: events.CachedPasswordAccepted) -> str:
    return _with(event.problem, f"directory down: accepted cached password of {event.user}")


def _expired(event: events.MessagesExpired) -> str:
    done = "hid" if event.hidden else "removed"
    return f"{event.mailbox}: retention {done} {event.messages} messages, {event.left} left"


def _postponed(event: events.RetentionPostponed) -> str:
    if event.mailbox:
        return _with(event.problem, f"{event.mailbox}: retention postponed")
    return _with(event.problem, "retention run postponed")


def _listening(event: events.ListenerStarted) -> str:
    return f"listener {event.name} at {event.address} tls={event.tls}"


def _ready(event: events.ServerReady) -> str:
    return "ready" + (f": directory down: {event.problem}" if event.problem else "")


def _worker_ended(event: events.WorkerEnded) -> str:
    worker, pid, reason, restart_in = event
    again = "" if restart_in is None else f" restart_in={restart_in:g} s"
    return f"worker {worker} ended: pid={pid or '-'} reason={reason}{again}"


def _ended_level(event: events.WorkerEnded) -> Any:
    """Only the end of the server, or a signal of an administrator, ends a worker in order."""
    return LogLevel.info if event.reason == "exit status 0" else LogLevel.error


def _taken(event: events.QueueTaken) -> str:
    return f"worker {event.worker} does not serve: worker {event.by} accepts its clients"


def _reloaded(event: events.ReloadEnded) -> str:
    if event.problems:
        # One event, one line; each problem names its place.
        return f"reload failed, the configuration stays as it was: {'; '.join(event.problems)}"
    line = f"reloaded the configuration: changed={','.join(event.changed) or 'none'}"
    return line + (f" needs_restart={','.join(event.restart)}" if event.restart else "")


def _reload_level(event: events.ReloadEnded) -> Any:
    if event.problems:
        return LogLevel.error
    return LogLevel.warn if event.restart or event.kept else LogLevel.info


class Row(NamedTuple):
    """How a kind of event becomes a line."""

    namespace: str
    level: Any
    """A ``LogLevel``, or a function from the event to one."""

    line: Callable[[Any], str]
    """Empty: this event has no line."""


ROWS: dict[type[Event], Row] = {
    events.ConnectionRefused: Row("pop3gw.connections", LogLevel.warn, _refused),
    events.LoginDelayed: Row("pop3gw.pop3", LogLevel.info, _login_delayed),
    events.LoginFailed: Row("pop3gw.pop3", _level, _login_failed),
    events.ActionFailed: Row("pop3gw.pop3", _level, _action_failed),
    events.POP3SessionEnded: Row("pop3gw.pop3", LogLevel.info, _pop3_ended),
    events.LMTPSessionEnded: Row("pop3gw.lmtp", LogLevel.info, _lmtp_ended),
    events.MessageDelivered: Row("pop3gw.lmtp", LogLevel.info, _delivered),
    events.RecipientRefused: Row("pop3gw.lmtp", LogLevel.info, _recipient_refused),
    events.QuotaWarningSent: Row("pop3gw.quota", LogLevel.info, _warned),
    events.QuotaDigestSent: Row("pop3gw.quota", LogLevel.info, _digested),
    events.QuotaCheckFailed: Row("pop3gw.quota", LogLevel.warn, _quota_unchecked),
    events.QuotaDigestFailed: Row("pop3gw.quota", LogLevel.warn, _digest_failed),
    events.CachedPasswordAccepted: Row("pop3gw.directory", LogLevel.warn, _cached),
    events.NTLMv1Accepted: Row(
        "pop3gw.pop3",
        LogLevel.warn,
        lambda event: f"{event.user} logged in by NTLMv1; its client should be replaced",
    ),
    events.DirectoryProblem: Row("pop3gw.directory", LogLevel.warn, lambda event: event.reason),
    events.AccountsKept: Row(
        "pop3gw.directory", LogLevel.error, lambda event: f"kept the old accounts: {event.reason}"
    ),
    events.MessagesExpired: Row("pop3gw.retention", LogLevel.info, _expired),
    events.RetentionStopped: Row(
        "pop3gw.retention", LogLevel.error, lambda event: f"{event.mailbox}: {event.reason}"
    ),
    events.RetentionPostponed: Row("pop3gw.retention", LogLevel.warn, _postponed),
    events.BackEndDown: Row(
        "pop3gw.directory", LogLevel.error, lambda event: f"{event.name} down: {event.reason}"
    ),
    events.BackEndReplaced: Row(
        "pop3gw.directory",
        LogLevel.info,
        lambda event: f"{event.name} was changed or removed while it was down",
    ),
    events.BackEndBack: Row(
        "pop3gw.directory",
        LogLevel.info,
        lambda event: f"{event.name} back: after={event.seconds} s",
    ),
    events.ListenerStarted: Row("pop3gw.server", LogLevel.info, _listening),
    events.ListenerStopped: Row(
        "pop3gw.server", LogLevel.info, lambda event: f"listener {event.name} stopped"
    ),
    events.ServerReady: Row("pop3gw.server", LogLevel.info, _ready),
    events.ReloadEnded: Row("pop3gw.server", _reload_level, _reloaded),
    events.ServerStopping: Row(
        "pop3gw.server",
        LogLevel.info,
        lambda event: f"stopping: at most {event.seconds:g} s for open work",
    ),
    events.ServerStopped: Row("pop3gw.server", LogLevel.info, lambda _: "stopped"),
    events.WorkerStarted: Row(
        "pop3gw.processes",
        LogLevel.info,
        lambda event: f"worker {event.worker} started: pid={event.pid}",
    ),
    events.WorkerReady: Row(
        "pop3gw.processes",
        LogLevel.info,
        lambda event: f"worker {event.worker} ready: pid={event.pid}",
    ),
    events.WorkerEnded: Row("pop3gw.processes", _ended_level, _worker_ended),
    events.WorkerKilled: Row(
        "pop3gw.processes",
        LogLevel.error,
        lambda event: f"worker {event.worker} killed: pid={event.pid}: {event.reason}",
    ),
    events.WorkerUnusable: Row(
        "pop3gw.processes",
        LogLevel.error,
        lambda event: f"worker {event.worker} cannot serve: {'; '.join(event.problems)}",
    ),
    events.QueueTaken: Row("pop3gw.processes", LogLevel.warn, _taken),
    events.ParentAway: Row(
        "pop3gw.processes",
        LogLevel.warn,
        lambda event: (
            "the parent process does not answer: this worker keeps to its share of each limit:"
            f" 1/{event.workers}"
        ),
    ),
    events.ParentBack: Row(
        "pop3gw.processes",
        LogLevel.info,
        lambda event: f"the parent process answers again after {event.seconds} s",
    ),
    events.CertificateReloaded: Row(
        "pop3gw.tls", LogLevel.info, lambda event: f"reloaded {event.path}"
    ),
    events.CertificateRejected: Row(
        "pop3gw.tls", LogLevel.error, lambda event: f"kept the old certificate: {event.reason}"
    ),
    events.CertificateProblem: Row(
        "pop3gw.tls",
        LogLevel.warn,
        lambda event: f"certificate {event.path}: {event.reason} (set by {event.section})",
    ),
    events.PolicyRefused: Row("pop3gw.policy", LogLevel.info, _policy_refused),
    events.DeliveryFailed: Row("pop3gw.lmtp", LogLevel.info, _delivery_failed),
}


def log_lines(sessions: Callable[[], bool] = lambda: True) -> Subscription:
    """The subscription that writes the log.

    Without ``sessions``, which may change, a POP3 session has a line only where nobody
    logged in and the line says why.
    """
    rows, ended = dict(ROWS), ROWS[events.POP3SessionEnded]
    rows[events.POP3SessionEnded] = ended._replace(
        line=lambda event: ended.line(event) if event.reason or sessions() else ""
    )
    return {kind: partial(_write, row, Logger(row.namespace)) for kind, row in rows.items()}


def _write(row: Row, logger: Logger, event: Event) -> None:
    line = row.line(event)
    if not line:
        return
    level = row.level(event) if callable(row.level) else row.level
    # What ``Logger.emit`` would make, at a third of its time.
    globalLogPublisher(
        {
            "line": line,
            "log_format": "{line}",
            "log_level": level,
            "log_logger": logger,
            "log_namespace": row.namespace,
            "log_source": None,
            "log_time": time.time(),
        }
    )


def logged_events(*, sessions: bool = True) -> EventBus:
    """A bus to which the log has subscribed; ``sessions`` as for ``log_lines``."""
    bus = EventBus()
    bus.subscribe(log_lines(lambda: sessions))
    return bus


emit_to_log = logged_events().emit
"""For parts that are handed no bus, in applications and tests: the log alone subscribes."""
