"""The routes of the operator's API: one row for each operation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen

from gateway.model import Scope
from gateway.operations.mail import (
    audit,
    mailbox_list,
    mailboxes,
    messages,
    quota,
    retention,
    retention_forecast,
    stored_mail,
    unique_ids,
)
from gateway.operations.server import (
    certificates,
    configuration,
    control,
    figures,
    readiness,
    status,
    traces,
)
from gateway.operations.users import auth, logins, recent, sessions, throttle, users

INCLUDED: dict[Scope, frozenset[Scope]] = {
    Scope.QUOTA: frozenset({Scope.QUOTA}),
    Scope.METRICS: frozenset({Scope.METRICS}),
    Scope.READ: frozenset({Scope.QUOTA, Scope.METRICS, Scope.READ}),
    Scope.OPERATE: frozenset(Scope),
}
"""The scopes that a scope includes."""

Operation = Callable[..., Coroutine[Any, Any, Any]]
"""A function of ``gateway/operations``: tools, and parameters by keyword."""


@frozen
class Route:
    """A row: where an operation is, and who may ask for it."""

    method: str
    path: str
    """With the names of parameters in braces; other parameters are in the query of a GET, or in
    the JSON object of another method."""

    scope: Scope
    operation: Operation

    @property
    def is_change(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"


ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", Scope.READ, status.show_status),
    Route("GET", "/v1/certificates", Scope.READ, certificates.list_certificates),
    Route("GET", "/v1/configuration", Scope.READ, configuration.show_configuration),
    Route("GET", "/v1/quota", Scope.QUOTA, quota.list_usage),
    Route("GET", "/v1/quota/{address}", Scope.QUOTA, quota.show_usage),
    Route("GET", "/v1/logins", Scope.READ, logins.list_logins),
    Route("GET", "/v1/logins/failed", Scope.READ, recent.list_failed_logins),
    Route("GET", "/v1/deliveries", Scope.READ, recent.list_deliveries),
    Route("GET", "/v1/users/{user}", Scope.READ, users.show_user),
    Route("POST", "/v1/users/{user}/auth-test", Scope.OPERATE, auth.auth_test),
    Route("POST", "/v1/caches/flush", Scope.OPERATE, auth.flush_caches),
    Route("GET", "/v1/users/{user}/delegates", Scope.READ, users.list_delegates),
    Route("GET", "/v1/throttle", Scope.READ, throttle.list_throttled),
    Route("POST", "/v1/throttle/forgive", Scope.OPERATE, throttle.forgive),
    Route("GET", "/v1/audit", Scope.READ, audit.search_audit),
    Route("GET", "/v1/sessions", Scope.READ, sessions.list_sessions),
    Route("POST", "/v1/kick", Scope.OPERATE, sessions.kick_sessions),
    Route("DELETE", "/v1/sessions/{session}", Scope.OPERATE, sessions.kick_session),
    Route("POST", "/v1/traces", Scope.OPERATE, traces.start_trace),
    Route("GET", "/v1/traces/{trace}", Scope.OPERATE, traces.read_trace),
    Route("DELETE", "/v1/traces/{trace}", Scope.OPERATE, traces.stop_trace),
    Route("GET", "/metrics", Scope.METRICS, figures.metrics),
    Route("GET", "/v1/history", Scope.READ, figures.history),
    Route("GET", "/v1/readiness", Scope.READ, readiness.readiness),
    Route("POST", "/v1/reload", Scope.OPERATE, control.reload_configuration),
    Route("GET", "/v1/mailboxes", Scope.READ, mailbox_list.list_mailboxes),
    Route("GET", "/v1/mailboxes/{mailbox}", Scope.READ, mailbox_list.show_mailbox),
    Route("DELETE", "/v1/mailboxes/{mailbox}", Scope.OPERATE, mailboxes.delete),
    Route("POST", "/v1/mailboxes/{mailbox}/rename", Scope.OPERATE, mailboxes.rename),
    Route("POST", "/v1/mailboxes/{mailbox}/recalculate", Scope.OPERATE, mailboxes.recalculate),
    Route("POST", "/v1/mailboxes/{mailbox}/move-ids", Scope.OPERATE, unique_ids.move_mailbox_ids),
    Route("GET", "/v1/mailboxes/{mailbox}/messages", Scope.READ, messages.list_messages),
    Route("GET", "/v1/mailboxes/{mailbox}/messages/{uid}", Scope.READ, messages.show_header),
    Route("POST", "/v1/mailboxes/{mailbox}/hide", Scope.OPERATE, messages.hide_messages),
    Route("POST", "/v1/mailboxes/{mailbox}/remove", Scope.OPERATE, messages.remove_messages),
    Route("GET", "/v1/mailboxes/{mailbox}/hidden", Scope.READ, stored_mail.list_hidden),
    Route("POST", "/v1/mailboxes/{mailbox}/restore", Scope.OPERATE, stored_mail.restore),
    Route("POST", "/v1/move-ids", Scope.OPERATE, unique_ids.move_ids),
    Route("GET", "/v1/mailboxes/{mailbox}/retention", Scope.READ, retention.preview_mailbox),
    Route("GET", "/v1/retention", Scope.READ, retention.list_scans),
    Route("GET", "/v1/retention/preview", Scope.READ, retention.preview),
    Route("GET", "/v1/retention/forecast", Scope.READ, retention_forecast.forecast),
    Route("POST", "/v1/retention/run", Scope.OPERATE, retention.run),
    Route("POST", "/v1/retention/release", Scope.OPERATE, retention.release),
)
"""All of them."""
