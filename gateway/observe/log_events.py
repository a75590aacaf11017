"""The table of events that the log has: name, level, fields, words.

To add one, add a row.  ``docs/events.md`` is made from this table and from the docstrings of the
events (``scripts/make-events``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.logger import LogLevel

from gateway import events
from gateway.errors import (
    BadCredentials,
    LoginTooSoon,
    MessageGone,
    OverQuota,
    RecipientBarred,
    RefusedByPolicy,
    UnknownRecipient,
)
from gateway.events import HEALTH_CHECK, Event, Problem
from gateway.model import Connection, Proxy
from gateway.observe.labels import reason_of
from gateway.observe.log_form import LEVELS, Fields, pairs, quoted

DEBUG, INFO, WARN, ERROR = LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error

_EXPECTED = (
    *(BadCredentials, LoginTooSoon, MessageGone),
    *(OverQuota, RecipientBarred, RefusedByPolicy, UnknownRecipient),
)
"""Problems of a client, or of an address, that need nobody's attention."""


VARIES = 9
"""In place of the number of a level that each event decides."""


class Row:
    """How an event becomes a line."""

    __slots__ = ("fields", "is_left_out", "level", "name", "number", "words")

    def __init__(
        self,
        name: str,
        level: Any,
        fields: Callable[[Any], Fields] | None = None,
        words: str | Callable[[Any], str] | None = None,
        is_left_out: Callable[[Any], bool] | None = None,
        text: Callable[[Any], str] | None = None,
    ) -> None:
        """``level``: a ``LogLevel``, or a function from the event to one.

        ``fields``: a function from the event to them; None: they are the event's own.  ``words``:
        what the line says, as a format for the event's own fields or a function; None: all fields
        as ``key=value``.  ``is_left_out``: whether this one has no line.  ``text``: a faster way
        to the same ``key=value``.
        """
        self.name = name
        self.level = level
        fields = fields or _own
        say = words if callable(words) else _formatted(words) if words else None
        self.words = say or text or (lambda event: pairs(fields(event)))
        self.fields = (lambda event: {**fields(event), "text": say(event)}) if say else fields
        self.is_left_out = is_left_out
        self.number = VARIES if callable(level) else LEVELS[level.name]


def _formatted(words: str) -> Callable[[Any], str]:
    return lambda event: words.format_map(event._asdict())


def _own(event: Any) -> Fields:
    own: Fields = event._asdict()
    return own


_known = lru_cache(maxsize=256)(quoted)
"""``quoted``, for values that no client chooses: it costs nothing to look for long ones."""


# -- clients -------------------------------------------------------------------


def _via(proxy: Proxy | None) -> Fields:
    return {} if proxy is None else {"via": proxy.host or "-", "proxy_session": proxy.session}


def _client(client: Connection, **more: Any) -> Fields:
    id_, host, _, listener, via = client
    return {"from": host or "-", **_via(via), **more, "listener": listener, "session": id_}


def _why(problem: Problem) -> Fields:
    """The reason, a word of ``observe/labels.py``, and what the log alone says of it."""
    detail = "" if problem.logged else problem.reason
    return {"reason": reason_of(problem.error).replace("_", " "), "detail": detail}


def _level(event: Any) -> Any:
    """Of an event that has a problem."""
    return INFO if issubclass(event.problem.error, _EXPECTED) else WARN


def _login(event: events.LoginSucceeded) -> Fields:
    client, user, mailbox, method, tls = event
    more = {"tls": tls, "method": method, "mailbox": "" if mailbox == user else mailbox}
    return {"user": user, **_client(client, **more)}


def _login_text(event: events.LoginSucceeded) -> str:
    (id_, host, _, listener, via), user, mailbox, method, tls = event
    return (
        f"{f'user={quoted(user)} ' if user else ''}from={host or '-'}"
        f"{f' {pairs(_via(via))}' if via else ''}{f' tls={_known(tls)}' if tls else ''}"
        f"{f' method={_known(method)}' if method else ''}"
        f"{f' mailbox={quoted(mailbox)}' if mailbox and mailbox != user else ''}"
        f"{f' listener={_known(listener)}' if listener else ''} session={id_}"
    )


def _login_failed(event: events.LoginFailed) -> Fields:
    client, user, method, problem, tls = event
    return {"user": user, **_client(client, tls=tls, method=method), **_why(problem)}


def _level_of_request(event: events.RequestServed) -> Any:
    """Programs read figures and pages all day: these lines are for whoever asks for them."""
    return DEBUG if event.method in ("GET", "HEAD") and event.status < 400 else INFO


def _request(event: events.RequestServed) -> Fields:
    client, method, path, status, octets, operator = event
    more = {"status": status, "octets": octets, "operator": operator}
    return {"method": method, "path": path, **_client(client, **more)}


_DELAYED = "session", "user", "from", "seconds", "listener"


def _action_failed(event: events.ActionFailed) -> Fields:
    client, user, action, problem = event
    return {"action": action, "user": user, **_client(client), **_why(problem)}


def _pop3_ended(event: events.POP3SessionEnded) -> Fields:
    # Unpacked at once: each session has this line.
    (id_, host, _, listener, via), end, user, tls, method, retr, octets, *rest = event
    top, top_octets, removed, messages, _, reason = rest
    return {
        "end": end,
        "user": user,
        "from": host or "-",
        **(_via(via) if via else {}),
        "tls": tls,
        "method": method,
        "retr": (retr, octets),
        "top": (top, top_octets),
        "del": (removed, messages),
        "seconds": round(event.seconds, 3),
        "listener": listener,
        "session": id_,
        "reason": reason,
    }


def _pop3_text(event: events.POP3SessionEnded) -> str:
    (id_, host, _, listener, via), end, user, tls, method, retr, octets, *rest = event
    top, top_octets, removed, messages, seconds, reason = rest
    return (
        f"end={_known(end)}{f' user={quoted(user)}' if user else ''} from={host or '-'}"
        f"{f' {pairs(_via(via))}' if via else ''} tls={tls}"
        f"{f' method={_known(method)}' if method else ''} retr={retr}/{octets}"
        f" top={top}/{top_octets} del={removed}/{messages} seconds={seconds:.1f}"
        f"{f' listener={_known(listener)}' if listener else ''} session={id_}"
        f"{f' reason={quoted(str(reason))}' if reason else ''}"
    )


def _is_check(event: events.POP3SessionEnded | events.LMTPSessionEnded) -> bool:
    """Whether a health check, or a proxy that looked if this server is there, has ended."""
    if event.end == HEALTH_CHECK:
        return True
    proxy = event.connection.proxy
    if proxy is None or not proxy.local:
        return False
    return not (getattr(event, "user", "") or event.messages or event.reason)


def _lmtp_ended(event: events.LMTPSessionEnded) -> Fields:
    client, end, tls, lhlo, messages, delivered, refused, octets, reason = event
    counts = {"messages": messages, "delivered": delivered, "refused": refused, "octets": octets}
    more = {"tls": tls, "lhlo": lhlo, **counts}
    return {"end": end, **_client(client, **more), "reason": reason}


# -- mail ----------------------------------------------------------------------


def _delivered(event: events.MessageDelivered) -> Fields:
    client, message, account, octets, seconds, envelope = event
    found = {"mailbox": account.mailbox, "user": account.name, **_of_mail(envelope)}
    more = {"octets": octets, "seconds": round(seconds, 3)}
    return {**found, "message": message, **more, **_client(client)}


def _of_mail(envelope: events.Envelope) -> Fields:
    return {"sender": envelope.sender, "message_id": envelope.message_id}


def _recipient_refused(event: events.RecipientRefused) -> Fields:
    client, recipient, problem, envelope = event
    return {"recipient": recipient, **_of_mail(envelope), **_client(client), **_why(problem)}


def _delivery_failed(event: events.DeliveryFailed) -> Fields:
    client, problem, envelope = event
    return {**_of_mail(envelope), **_client(client), **_why(problem)}


def _policy_refused(event: events.PolicyRefused) -> Fields:
    client, sender, recipient, message, answer = event
    found = {"recipient": recipient, "sender": sender, "queue_id": message}
    return {**found, **_client(client), "answer": answer}


def _policy_level(event: events.PolicyRefused) -> Any:
    """Without an answer Postfix defers the mail."""
    return INFO if event.answer else WARN


def _with_problem(event: Any) -> Fields:
    """The event's own fields, with the words of the problem."""
    own = {key: value for key, value in event._asdict().items() if key != "problem"}
    return {**own, **_why(event.problem)}


def _is_logged(event: Any) -> bool:
    """Whether the log has it already: an outage, or a traceback."""
    return bool(event.problem.logged)


def _then_problem(words: str) -> Callable[[Any], str]:
    """Words, a format for the event's own fields, and the problem behind a colon."""

    def say(event: Any) -> str:
        reason, detail = _why(event.problem).values()
        said = f": {detail}" if detail else ""
        return f"{_formatted(words)(event)}: {reason}{said}"

    return say


def _warned(event: events.QuotaWarningSent) -> Fields:
    return {"user": event.user, "quota_level": event.level.name}


def _expired(event: events.MessagesExpired) -> str:
    done = "hid" if event.hidden else "removed"
    return f"{event.mailbox}: retention {done} {event.messages} messages, {event.left} left"


def _postponed(event: events.RetentionPostponed) -> str:
    of = "{mailbox}: retention postponed" if event.mailbox else "retention run postponed"
    return _then_problem(of)(event)


# -- the server ----------------------------------------------------------------


def _ready(event: events.ServerReady) -> str:
    return f"directory down: {event.problem}" if event.problem else "all listeners accept clients"


def _worker_ended(event: events.WorkerEnded) -> str:
    worker, pid, reason, restart_in = event
    again = "" if restart_in is None else f" restart_in={restart_in:g} s"
    return f"worker {worker} ended: pid={pid or '-'} reason={reason}{again}"


def _ended_level(event: events.WorkerEnded) -> Any:
    """Only the end of the server, or a signal of an administrator, ends a worker in order."""
    return INFO if event.reason == "exit status 0" else ERROR


def _reloaded(event: events.ReloadEnded) -> str:
    if event.problems:
        # One event, one line; each problem names its place.
        return f"reload failed, the configuration stays as it was: {'; '.join(event.problems)}"
    line = f"reloaded the configuration: changed={','.join(event.changed) or 'none'}"
    return line + (f" needs_restart={','.join(event.restart)}" if event.restart else "")


def _reload_level(event: events.ReloadEnded) -> Any:
    if event.problems:
        return ERROR
    return WARN if event.restart or event.kept else INFO


def _unusable(event: events.WorkerUnusable) -> str:
    return f"worker {event.worker} cannot serve: {'; '.join(event.problems)}"


ROWS: dict[type[Event], Row] = {
    events.ConnectionOpened: Row(
        "connect", DEBUG, lambda event: _client(event[0], protocol=event[1])
    ),
    events.ConnectionRefused: Row(
        "connection_refused",
        WARN,
        lambda event: {**_client(event[0], protocol=event[1]), "reason": event[2]},
    ),
    events.ConnectionClosed: Row(
        "disconnect", DEBUG, lambda event: _client(event[0], protocol=event[1])
    ),
    events.TLSEstablished: Row("tls", DEBUG, lambda event: _client(event[0], tls=event[1])),
    events.LoginDelayed: Row(
        "login_delayed",
        INFO,
        lambda event: dict(zip(_DELAYED, event, strict=True)),
    ),
    events.LoginSucceeded: Row("login", INFO, _login, text=_login_text),
    events.LoginFailed: Row("login_failed", _level, _login_failed),
    events.ActionFailed: Row("action_failed", _level, _action_failed),
    events.POP3SessionEnded: Row(
        "session_end",
        INFO,
        _pop3_ended,
        None,
        _is_check,
        _pop3_text,
    ),
    events.LMTPSessionEnded: Row("lmtp_end", INFO, _lmtp_ended, None, _is_check),
    events.BodyMissing: Row("body_missing", ERROR),
    events.MessageDelivered: Row("delivery", INFO, _delivered),
    events.RecipientRefused: Row("recipient_refused", _level, _recipient_refused),
    events.OperationDone: Row("operation", INFO),
    events.RequestServed: Row("request", _level_of_request, _request),
    events.DeliveryFailed: Row("delivery_failed", _level, _delivery_failed),
    events.PolicyRefused: Row("policy_refused", _policy_level, _policy_refused),
    events.QuotaWarningSent: Row("quota_warning", INFO, _warned),
    events.QuotaDigestSent: Row("quota_digest", INFO),
    events.QuotaCheckFailed: Row("quota_check_failed", WARN, _with_problem, None, _is_logged),
    events.QuotaDigestFailed: Row("quota_digest_failed", WARN, _with_problem, None, _is_logged),
    events.CachedPasswordAccepted: Row(
        "cached_password",
        WARN,
        _with_problem,
        _then_problem("directory down: accepted cached password of {user}"),
        _is_logged,
    ),
    events.NTLMv1Accepted: Row(
        "ntlmv1", WARN, None, "{user} logged in by NTLMv1; its client should be replaced"
    ),
    events.DirectoryProblem: Row("directory_problem", WARN, None, "{reason}"),
    events.AccountsKept: Row("accounts_kept", ERROR, None, "kept the old accounts: {reason}"),
    events.MessagesExpired: Row("retention", INFO, None, _expired),
    events.RetentionStopped: Row("retention_stopped", ERROR, None, "{mailbox}: {reason}"),
    events.RetentionPostponed: Row(
        "retention_postponed", WARN, _with_problem, _postponed, _is_logged
    ),
    events.BackEndDown: Row("backend_down", ERROR, None, "{name} down: {reason}"),
    events.BackEndReplaced: Row(
        "backend_replaced", INFO, None, "{name} was changed or removed while it was down"
    ),
    events.BackEndBack: Row("backend_up", INFO, None, "{name} back: after={seconds} s"),
    events.ListenerStarted: Row(
        "listener_started", INFO, None, "listener {name} at {address} tls={tls}"
    ),
    events.ListenerStopped: Row("listener_stopped", INFO, None, "listener {name}"),
    events.ServerReady: Row("ready", INFO, None, _ready),
    events.ReloadEnded: Row("reload", _reload_level, None, _reloaded),
    events.ServerStopping: Row("stopping", INFO, None, "at most {seconds:g} s for open work"),
    events.ServerStopped: Row("stopped", INFO, None, "all work is done or out of time"),
    events.WorkerStarted: Row("worker_started", INFO, None, "worker {worker} started: pid={pid}"),
    events.WorkerReady: Row("worker_ready", INFO, None, "worker {worker} ready: pid={pid}"),
    events.WorkerEnded: Row("worker_ended", _ended_level, None, _worker_ended),
    events.WorkerKilled: Row(
        "worker_killed", ERROR, None, "worker {worker} killed: pid={pid}: {reason}"
    ),
    events.WorkerUnusable: Row("worker_unusable", ERROR, None, _unusable),
    events.QueueTaken: Row(
        "queue_taken", WARN, None, "worker {worker} does not serve: worker {by} accepts its clients"
    ),
    events.ParentAway: Row(
        "parent_away",
        WARN,
        None,
        "the parent process does not answer: this worker keeps to its share of each limit:"
        " 1/{workers}",
    ),
    events.ParentBack: Row(
        "parent_back", INFO, None, "the parent process answers again after {seconds} s"
    ),
    events.CertificateReloaded: Row("certificate_reloaded", INFO, None, "reloaded {path}"),
    events.CertificateRejected: Row(
        "certificate_rejected", ERROR, None, "kept the old certificate: {reason}"
    ),
    events.CertificateProblem: Row(
        "certificate_problem", WARN, None, "certificate {path}: {reason} (set by {section})"
    ),
}
