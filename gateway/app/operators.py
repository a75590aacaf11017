"""Build the operator's API from the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.config.settings import Settings
from gateway.events import Emit
from gateway.http.access import Access, PeerAccess, Token
from gateway.http.routes import ROUTES, Scope
from gateway.http.site import BoundedRequest, BoundedSite
from gateway.operations.tools import Tools

if TYPE_CHECKING:
    from gateway.http.api import FindCaller


def control_site(reactor: Any, tools: Callable[[], Tools], emit: Emit) -> BoundedSite:
    """The API at the control socket: for root and the server's user."""
    access = PeerAccess(frozenset({0, os.geteuid()}))
    return _site(reactor, tools, lambda request: access.caller(request.uid), emit)


def http_site(
    reactor: Any, settings: Settings, tools: Callable[[], Tools], emit: Emit
) -> BoundedSite:
    """The API at ``[http] endpoint``: for whoever has a token."""
    access = Access(tokens_of(settings), reactor.seconds)

    def find_caller(request: BoundedRequest) -> Any:
        return access.caller(request.connection.host, request.getHeader(b"authorization"))

    return _site(reactor, tools, find_caller, emit)


def _site(
    reactor: Any,
    tools: Callable[[], Tools],
    find_caller: FindCaller,
    emit: Emit,
) -> BoundedSite:
    # klein installs a reactor when it is imported: the fork server must have none.
    from gateway.http.api import Api, ApiResource

    return BoundedSite(ApiResource(Api(ROUTES, tools, find_caller, emit)), reactor, emit)


def tokens_of(settings: Settings) -> list[Token]:
    """The tokens of the configuration."""
    http = settings.http
    found = [
        Token(name, one.token, frozenset(map(Scope, one.scopes)))
        for name, one in http.tokens.items()
    ]
    if http.token:
        found.append(Token("http", http.token, frozenset({Scope.QUOTA, Scope.METRICS})))
    return found
