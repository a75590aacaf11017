"""docs/events.md: every event of the log, from the table, the docstrings and real lines."""

from __future__ import annotations

from typing import Any

from gateway import errors, events
from gateway.events import EVENTS, Envelope, Problem
from gateway.model import Account, Connection, Level
from gateway.observe.log_events import ROWS
from gateway.observe.log_form import FORM, Line, line_of

CLIENT = Connection("k5tq2w7axm1f", "192.0.2.7", True, "pop3s")
LMTP = Connection("k5tq2w7axm20", "192.0.2.25", False, "lmtp")
ALICE = Account("alice@example.org", "alice@example.org")
MAIL = Envelope("sender@example.net", (ALICE.name,), ALICE.mailbox, message_id="<1@example.net>")
WRONG = Problem(errors.WrongPassword, "wrong password for bob@example.org")
DOWN = Problem(errors.DirectoryDown, "LDAP server ldap://ldap.example.org: refused")
FULL = Problem(errors.OverQuota, "alice@example.org has 1000 of 1000 octets")

SAMPLES: tuple[Any, ...] = (
    events.ConnectionOpened(CLIENT, "pop3"),
    events.ConnectionRefused(CLIENT, "pop3", "10000 connections are open (limits.connections)"),
    events.ConnectionClosed(CLIENT, "pop3"),
    events.TLSEstablished(CLIENT, "TLSv1.3"),
    events.LoginDelayed(CLIENT.id, "bob@example.org", CLIENT.host, 4.0, CLIENT.listener),
    events.LoginSucceeded(CLIENT, "bob@example.org", "office@example.org", "PLAIN", "TLSv1.3"),
    events.LoginFailed(CLIENT, "bob@example.org", "PLAIN", WRONG, "TLSv1.3"),
    events.ActionFailed(
        CLIENT, "bob@example.org", "fetch", Problem(errors.StoreDown, "cur/17: Input/output error")
    ),
    events.POP3SessionEnded(
        *(CLIENT, "quit", "bob@example.org", "TLSv1.3", "PLAIN", 3, 41822, 0, 0, 3, 17, 0.4, "")
    ),
    events.LMTPSessionEnded(LMTP, "over", "no", "mx.example.org", 1, 1, 0, 5120, ""),
    events.BodyMissing(ALICE.mailbox, "17", "0198c2d4a1b53f0e9a7c55d1e2b40c7f"),
    events.MessageDelivered(LMTP, "k5tq2w7axm20.1", ALICE, 5120, 0.012, MAIL),
    events.RecipientRefused(LMTP, ALICE.name, FULL, MAIL),
    events.DeliveryFailed(LMTP, Problem(errors.NoRoom, "No space left on device"), MAIL),
    events.PolicyRefused(
        *(LMTP._replace(listener="policy"), MAIL.sender, ALICE.name, "4XYZ", "552 5.2.2 full")
    ),
    events.RequestServed(
        *(LMTP._replace(listener="http"), "POST", "/v1/sessions/kick", 200, 312, "token ops")
    ),
    events.OperationDone("uid 0", "kick_sessions", "user=bob@example.org", "done"),
    events.QuotaWarningSent(ALICE.name, Level.WARN),
    events.QuotaDigestSent("postmaster@example.org", 12),
    events.QuotaCheckFailed(ALICE.mailbox, DOWN),
    events.QuotaDigestFailed("postmaster@example.org", DOWN),
    events.CachedPasswordAccepted("bob@example.org", DOWN),
    events.NTLMv1Accepted("bob@example.org"),
    events.DirectoryProblem("uid=bob,ou=people: mailQuota: 'x' is no number"),
    events.AccountsKept("accounts:3: expected name:hash"),
    events.MessagesExpired(ALICE.mailbox, 12, 40, hidden=False),
    events.RetentionStopped(ALICE.mailbox, "200 of 200 messages would go: release it"),
    events.RetentionPostponed(ALICE.mailbox, DOWN),
    events.BackEndDown("LDAP server ldap://ldap.example.org", "refused"),
    events.BackEndReplaced("LDAP server ldap://ldap.example.org"),
    events.BackEndBack("LDAP server ldap://ldap.example.org", 618),
    events.ListenerStarted("pop3s", "192.0.2.5:995", "implicit"),
    events.ListenerStopped("pop3s"),
    events.ServerReady(""),
    events.ReloadEnded(("quota.warn_percent",), ("lmtp.endpoint",)),
    events.ServerStopping(30.0),
    events.ServerStopped(),
    events.WorkerStarted(1, 4711),
    events.WorkerReady(1, 4711),
    events.WorkerEnded(1, 4711, "signal SIGKILL", 1.0),
    events.WorkerKilled(1, 4711, "it did not respond for 3 s"),
    events.WorkerUnusable(1, ("tls.key: permission denied",)),
    events.QueueTaken(1, 2),
    events.ParentAway(4),
    events.ParentBack(7),
    events.CertificateReloaded("/etc/pop3gw/cert.pem"),
    events.CertificateRejected("cert.pem and key.pem do not belong together"),
    events.CertificateProblem("/etc/pop3gw/cert.pem", "expires in 7 days", "tls"),
)

FIELDS = {
    "action": "what the session did: `fetch`, `QUIT`, `marking as read`",
    "address": "where the listener listens",
    "answer": "what Postfix was told",
    "body": "key of a body: the object `XX/KEY` in the bucket, XX its last two digits",
    "by": "the worker that accepts the clients meanwhile",
    "changed": "settings that have changed, by key",
    "del": "messages removed; in text also, behind `/`, `messages`",
    "delivered": "deliveries, one for each mailbox",
    "detail": "what the server knows beside `reason`, for the administrator alone",
    "end": "how the session ended, see [operations.md](operations.md#the-log)",
    "from": "address of the client; `-`: a UNIX socket",
    "hidden": "whether the messages were hidden and not removed",
    "kept": "certificates that stay as they were, and why",
    "left": "messages that stay",
    "lhlo": "the name that the client gave itself",
    "listener": "its name in the configuration",
    "mailbox": "name of the mailbox; at a login only where it is not the login name",
    "mailboxes": "how many are full, or nearly so",
    "message": "id in the `Received` header",
    "message_id": "`Message-ID` of the message",
    "messages": "in the mailbox at login; by LMTP and retention: how many",
    "method": "`PASS` or the SASL mechanism; of a request: of HTTP",
    "name": "of the listener, or of the server that is down",
    "octets": "of the message or messages, as RETR counts them; of the answer to a request",
    "operation": "what was asked for",
    "operator": "`uid N`, `token NAME` or `account NAME`",
    "outcome": "`done`, or why not",
    "path": "of the certificate, or of the request",
    "pid": "process id",
    "problem": "why the directory did not answer",
    "problems": "each with its place",
    "protocol": "`pop3`, `lmtp`, `policy` or `http`",
    "proxy_session": "the session's id at the proxy",
    "queue_id": "Postfix's",
    "quota_level": "`WARN`, `FULL` or `OVER`",
    "reason": "why; of a login: `no such user`, `wrong password`, `disabled`,"
    " `elsewhere`, `throttled`, `too many sessions`, `in use`, `directory down` and so on",
    "recipient": "the address of RCPT",
    "refused": "recipients that were refused",
    "restart": "settings that need a restart, by key",
    "restart_in": "seconds until the worker starts again",
    "retr": "messages sent by RETR; in text also, behind `/`, `retr_octets`",
    "retr_octets": "their octets (JSON)",
    "seconds": "how long it took, takes or may take",
    "section": "of the configuration",
    "sender": "the address of MAIL FROM",
    "session": "id of the connection, the same in every line about it",
    "status": "of HTTP",
    "target": "what the operation was about",
    "text": "the text of the line (JSON); the text has it in place of fields",
    "tls": "version of TLS; `yes`: TLS ends at a proxy; `no`. Of a listener: `none`, `stls` or"
    " `implicit`",
    "to": "the administrator's address",
    "top": "messages sent by TOP; in text also, behind `/`, `top_octets`",
    "top_octets": "their octets (JSON)",
    "uid": "unique-id of the message",
    "user": "login name, or name of the account",
    "via": "address of the proxy",
    "worker": "its number, from 1",
    "workers": "how many share each limit",
}
"""Every field and its meaning; one name means one thing."""

HEAD = """\
# Events of the log

`scripts/make-events` makes this page from the table `gateway/observe/log_events.py`; a test holds
it against the code. [operations.md](operations.md#the-log) says how to read the log,
[logging.md](logging.md) what else reads it.

Names and fields are stable. A field without a value is left out. In JSON each object has also
`time`, `level` and `event`. Two more events have no row: `notice` is a line of text, with `part`
(the package) and `text`, and `internal_error` a fault of the server, with `text`, `error` and
`traceback`; in text a notice begins with its part.

Where the level varies, it is info if only a client, an address or a full mailbox is the cause,
and more if the server or what it depends on is.
"""


def sampled() -> dict[str, Any]:
    """A sample of each event, by its name in the log."""
    return {ROWS[type(sample)].name: sample for sample in SAMPLES}


def lines(sample: Any) -> tuple[str, str]:
    """The line of an event in text and in JSON."""
    row, made = ROWS[type(sample)], []
    level = row.level(sample) if callable(row.level) else row.level
    told = {"line": Line(row, sample), "log_level": level, "log_time": 1_795_882_800.0}
    for form in ("text", "json"):
        FORM.configure(form, "debug")  # type: ignore[arg-type]
        made.append(line_of(told).decode().rstrip("\n"))
    FORM.configure("text", "info")
    # The text has local time.
    return f"2026-11-28T16:20:00+0000 {made[0].split(' ', 1)[1]}", made[1]


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, sample in sampled().items():
        row, kind = ROWS[type(sample)], type(sample)
        level = "varies" if callable(row.level) else row.level.name
        when = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        when = when.replace("``", "`")
        fields = ", ".join(f"`{key}`" for key in row.fields(sample))
        example = "\n".join(lines(sample))
        about = f"{when} Level: {level}. Fields: {fields or 'none'}."
        parts.append(f"## {name}\n\n{about}\n\n```\n{example}\n```\n")
    rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in sorted(FIELDS.items()))
    parts.append(f"## Fields\n\n| field | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


def of_log() -> set[str]:
    """Names of the kinds of events that the log has."""
    return {kind.__name__ for kind in EVENTS if kind in ROWS}


if __name__ == "__main__":
    print(page(), end="")
