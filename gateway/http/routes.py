"""The routes of the operator's API: one row for each operation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from attrs import frozen

from gateway.operations import audit, control, logins


class Scope(Enum):
    """What a token lets its owner do; each includes those before it."""

    QUOTA = "quota"
    METRICS = "metrics"
    READ = "read"
    OPERATE = "operate"


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
    Route("GET", "/v1/logins", Scope.READ, logins.list_logins),
    Route("GET", "/v1/audit", Scope.READ, audit.search_audit),
    Route("POST", "/v1/reload", Scope.OPERATE, control.reload_configuration),
)
"""All of them."""
