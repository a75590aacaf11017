"""The figures that a server counts, one row each: its name, its kind and what it means.

``docs/monitoring.md`` has a table made of these rows.  Labels never name a user, a mailbox or an
address: their values come from closed sets, from the configuration or from tables in the code.
Units are in the names: seconds, and bytes (octets).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import frozen

COMMAND_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds in seconds: a NOOP takes a tenth of a millisecond, a slow login seconds."""

WORK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""For requests to a disk or to another server."""

LAG_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SESSION_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)

Kind = Literal["counter", "gauge", "histogram"]

Merge = Literal["sum", "max", "min"]


@frozen
class Family:
    """A figure, with a value for each combination of its labels."""

    name: str
    kind: Kind
    help: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()
    """Upper bounds of a histogram."""

    merge: Merge = "sum"
    """How values of several processes become one."""

    known: Sequence[str] = ()
    """Values of its one label that a counter has from the start: ``increase`` in Prometheus does
    not see the first one of what was not there before."""

    @property
    def first(self) -> Sequence[Sequence[str]]:
        """The labels for which there is a value from the start."""
        if self.kind == "gauge":
            return ()
        return [(one,) for one in self.known] if self.labels else [()]


def _counter(name: str, meaning: str, *labels: str, known: Sequence[str] = ()) -> Family:
    return Family(f"pop3gw_{name}_total", "counter", meaning, labels, known=known)


def _gauge(name: str, meaning: str, *labels: str, merge: Merge = "sum") -> Family:
    return Family(f"pop3gw_{name}", "gauge", meaning, labels, merge=merge)


def _histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Family:
    return Family(f"pop3gw_{name}_seconds", "histogram", meaning, labels, buckets)


_ROWS = (
    # Connections and sessions
    _counter("connections_opened", "Connections that were let in.", "protocol"),
    _counter(
        "connections_refused",
        "Connections over a limit or not allowed.",
        "protocol",
        known=("pop3", "lmtp", "policy"),
    ),
    _gauge("connections", "Open connections.", "protocol"),
    _gauge("sessions_logged_in", "Open POP3 sessions with a login."),
    _counter("sessions_ended", "Sessions that ended, by how they ended.", "protocol", "end"),
    _histogram("session", "Duration of POP3 sessions.", SESSION_BUCKETS),
    # Commands
    _histogram(
        "command",
        "Time from a POP3 command until its reply is written.",
        COMMAND_BUCKETS,
        *("command", "state"),
    ),
    _counter("commands_refused", "POP3 commands with the reply -ERR.", "command", "state"),
    # Logins
    _counter("logins", "Logins that succeeded or failed, by their result.", "mechanism", "result"),
    _counter("logins_delayed", "Logins that waited, after wrong passwords."),
    _counter("login_delay_seconds", "Time that logins waited, after wrong passwords."),
    _counter("cached_logins", "Logins by a cached password, since the directory was down."),
    _counter("ntlmv1_logins", "Logins by NTLMv1, which is easy to break."),
    # Mail that goes out
    _counter(
        "retrieved_messages", "Messages sent by RETR and TOP.", "command", known=("RETR", "TOP")
    ),
    _counter("retrieved_bytes", "Octets sent by RETR and TOP.", "command", known=("RETR", "TOP")),
    _counter("deleted_messages", "Messages that sessions removed at QUIT."),
    _counter("actions_failed", "Fetches and commits of sessions that failed.", "action", "reason"),
    # Mail that comes in
    _counter("deliveries", "Messages stored in a mailbox, one for each mailbox."),
    _counter("delivered_bytes", "Octets of messages stored, one for each mailbox."),
    _histogram(
        "delivery", "Time from the end of a message until it is in the mailbox.", WORK_BUCKETS
    ),
    _counter("recipients_refused", "Recipients refused by LMTP.", "reason"),
    _counter("deliveries_failed", "Messages that LMTP did not take in.", "reason"),
    # Quota
    _counter(
        "quota_decisions",
        "Decisions whether a mailbox has room for a message.",
        *("service", "decision"),
    ),
    _counter(
        "quota_warnings", "Quota warnings sent to users.", "level", known=("normal", "warn", "over")
    ),
    _counter("quota_checks_failed", "Quota checks that failed.", "reason"),
    _gauge(
        "quota_mailboxes",
        "Mailboxes above the warning limit and full ones; needs quota.warn_from.",
        "level",
        merge="max",
    ),
    # Retention
    _counter(
        "retention_messages",
        "Messages that retention removed or hid.",
        "action",
        known=("removed", "hidden"),
    ),
    _counter("retention_stops", "Retention runs stopped by the removal guard or a bad policy."),
    _counter("retention_postponed", "Retention visits or runs that failed.", "reason"),
    _gauge("retention_mailboxes", "Mailboxes that retention has scheduled."),
    _gauge("retention_mailboxes_due", "Mailboxes with a visit due now, counted up to 1000."),
    _gauge("retention_mailboxes_stopped", "Mailboxes that wait for an operator's release."),
    _gauge("retention_overdue_seconds", "Time since the oldest visit is due.", merge="max"),
    # Directory and caches
    _histogram("directory", "Time of an answer of an LDAP server.", WORK_BUCKETS, "server"),
    _counter("directory_failures", "Requests that an LDAP server did not answer.", "server"),
    _gauge(
        "backend_up", "Whether a back-end answers: 1, or 0 in an outage.", "backend", merge="min"
    ),
    _counter("directory_problems", "Answers of the directory that could not be used."),
    _counter("cache_lookups", "Look-ups in a cache, by what it knew.", "cache", "outcome"),
    # The engines of a cluster
    _histogram("backend", "Time of an answer of PostgreSQL or S3.", WORK_BUCKETS, "backend"),
    _counter("backend_failures", "Requests that PostgreSQL or S3 did not answer.", "backend"),
    # Threads and the process
    _gauge("pool_outstanding", "Work that waits for a pool of threads or is in it.", "pool"),
    _gauge("pool_limit", "Work at which a pool of threads takes no more.", "pool"),
    _counter("pool_rejected", "Work that a full pool of threads did not take.", "pool"),
    _histogram("event_loop_lag", "How late the event loop is for a timer.", LAG_BUCKETS),
    # TLS
    _counter("tls_handshakes", "TLS handshakes that completed.", "version"),
    _counter("tls_handshakes_failed", "TLS handshakes that failed."),
    _gauge(
        "certificate_expiry_timestamp_seconds",
        "When a certificate expires, in Unix seconds.",
        "certificate",
        merge="min",
    ),
    # The server
    _gauge(
        "build_info",
        "Versions; the value is 1.",
        "version",
        "python",
        "twisted",
        "openssl",
        merge="max",
    ),
    _gauge("workers", "Processes that should serve clients, and those that do.", "state"),
    _counter(
        "worker_ends",
        "Ends of worker processes, by how they ended.",
        "how",
        known=("orderly", "failed"),
    ),
    _counter("http_requests", "Requests by HTTP that were answered, by their status.", "code"),
    _counter("reloads", "Reloads of the configuration.", "result", known=("taken", "rejected")),
    _gauge(
        "config_last_reload_successful", "Whether the last reload was taken: 1 or 0.", merge="min"
    ),
    Family("process_cpu_seconds_total", "counter", "CPU time of all processes."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory of all processes."),
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory of all processes."),
    Family("process_open_fds", "gauge", "Open file descriptors of all processes."),
    Family("process_max_fds", "gauge", "Most file descriptors of all processes."),
    Family(
        "process_start_time_seconds",
        "gauge",
        "When the first process started, in Unix seconds.",
        merge="min",
    ),
)

FAMILIES: Mapping[str, Family] = {row.name: row for row in _ROWS}
"""All of them, by name, in the order in which they are shown."""
