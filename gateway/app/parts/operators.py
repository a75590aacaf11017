"""Build the operator's API and page from the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource, Resource

from gateway.app.parts.logins import Logins
from gateway.auth.login import PortalLogin
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.events import Emit
from gateway.http.access import Access, PeerAccess, Token
from gateway.http.page.access import CheckPassword, Door, rights_of
from gateway.http.routes import ROUTES
from gateway.http.site import BoundedRequest, BoundedSite
from gateway.interfaces import IAdmission
from gateway.model import Connection, Peer, Scope
from gateway.operations.tools import Tools
from gateway.saslprep import login_name

if TYPE_CHECKING:
    from gateway.http.api import FindCaller


def control_site(reactor: Any, tools: Callable[[], Tools], emit: Emit) -> BoundedSite:
    """The API at the control socket: for root and the server's user."""
    access = PeerAccess(frozenset({0, os.geteuid()}))
    return _site(reactor, tools, lambda request: access.caller(request.uid), emit)


def http_site(
    reactor: Any,
    settings: Settings,
    tools: Callable[[], Tools],
    emit: Emit,
    check_password: CheckPassword,
) -> BoundedSite:
    """The API at ``[http] endpoint``, for whoever has a token, and the page for operators.

    Raises ``ConfigError`` where the page is wanted and its libraries are not there.
    """
    access = Access(tokens_of(settings), reactor.seconds)

    def find_caller(request: BoundedRequest) -> Any:
        return access.caller(request.connection.host, request.getHeader(b"authorization"))

    page = None
    if settings.http.page:
        page = _page(settings, tools, access, emit, check_password)
    return _site(reactor, tools, find_caller, emit, page)


def _page(
    settings: Settings,
    tools: Callable[[], Tools],
    access: Access,
    emit: Emit,
    check_password: CheckPassword,
) -> IResource:
    try:
        # Templates and languages, which only the page needs.
        from gateway.http.page.site import Desk, OperatorPage
    except ImportError as error:
        cure = "install it with pip install 'pop3gw[page]', or set page to false"
        raise ConfigError([f"http.page: needs the package {error.name}: {cure}"]) from None
    rights = rights_of(tokens_of(settings), map(_operator, settings.http.operators))

    def desk() -> Desk:
        found = tools()
        door = Door(found.processes, found.directory, rights, access, check_password)
        return Desk(door, found, emit)

    return OperatorPage(desk)


def _operator(name: str) -> str:
    """The canonical form of a name in ``operators``."""
    try:
        return login_name(name.encode("utf-8"))
    except ValueError as error:
        raise ConfigError([f"http.operators: {name!r} is no login name: {error}"]) from None


def check_password_of(logins: Logins, admission: IAdmission, *, identify: bool) -> CheckPassword:
    """Checks passwords of operators by the chain of logins, and by its throttle.

    ``identify``: whether wrong ones count for the account, however its name is spelt.
    """
    login = PortalLogin(logins.portal, admission, logins.identify if identify else None)

    def check(name: str, password: bytes, client: Connection) -> Deferred[str]:
        return login.verify(
            name.encode("utf-8"), password, Peer(client.host, client.secure, client.id)
        )

    return check


def _site(
    reactor: Any,
    tools: Callable[[], Tools],
    find_caller: FindCaller,
    emit: Emit,
    page: IResource | None = None,
) -> BoundedSite:
    # klein installs a reactor when it is imported: the fork server must have none.
    from gateway.http.api import Api, ApiResource

    api = Api(ROUTES, tools, find_caller, emit)
    root: Any = ApiResource(api)
    if page is not None:
        root = Front(root, page, api.first_words)
    return BoundedSite(root, reactor, emit)


class Front(Resource):
    """The API at the first words of its paths, and the page everywhere else."""

    def __init__(self, api: IResource, page: IResource, words: Collection[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._api = api
        self._page = page
        self._words = {word.encode("ascii") for word in words}

    def getChild(self, path: bytes, request: Any) -> Any:
        """The one of the two that has the path, which it reads from its beginning."""
        request.postpath.insert(0, request.prepath.pop())
        return self._api if path in self._words else self._page


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
