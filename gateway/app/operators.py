"""Build the operator's API from the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from gateway.config.settings import Settings
from gateway.events import Emit
from gateway.http.access import Access, PeerAccess, Token
from gateway.http.api import Api, ApiResource
from gateway.http.routes import ROUTES, Scope
from gateway.http.site import BoundedRequest, BoundedSite
from gateway.operations.tools import Tools


def control_site(reactor: Any, tools: Callable[[], Tools], emit: Emit) -> BoundedSite:
    """The API at the control socket: for root and the server's user."""
    access = PeerAccess(frozenset({0, os.geteuid()}))
    api = Api(ROUTES, tools, lambda request: access.caller(request.uid), emit)
    return BoundedSite(ApiResource(api), reactor, emit)


def http_site(
    reactor: Any, settings: Settings, tools: Callable[[], Tools], emit: Emit
) -> BoundedSite:
    """The API at ``[http] endpoint``: for whoever has a token."""
    access = Access(tokens_of(settings), reactor.seconds)

    def find_caller(request: BoundedRequest) -> Any:
        return access.caller(request.connection.host, request.getHeader(b"authorization"))

    api = Api(ROUTES, tools, find_caller, emit)
    return BoundedSite(ApiResource(api), reactor, emit)


def tokens_of(settings: Settings) -> list[Token]:
    """The tokens of the configuration."""
    http = settings.http
    found = []
    if http.token:
        found.append(Token("http", http.token, frozenset({Scope.QUOTA, Scope.METRICS})))
    return found
