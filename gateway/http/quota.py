"""The quota API: JSON over HTTP."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from gateway.errors import (
    HomedElsewhere,
    RecipientBarred,
    UnknownRecipient,
)
from gateway.events import HEALTH_CHECK
from gateway.mailboxes.recipients import Recipients
from gateway.mailboxes.usage import described
from gateway.model import Account, Connection, Usage
from gateway.networks import is_here
from gateway.observe.failures import complain
from gateway.quota.verdict import verdict

log = Logger()

_STATUS = {UnknownRecipient: 404, RecipientBarred: 403, HomedElsewhere: 421}


class _Guarded(Resource):
    """A resource for clients with the token, or with access to the UNIX socket."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._token = token

    def render(self, request: Request) -> Any:
        """Check the token; every reply is JSON, errors too."""
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        given = request.getHeader(b"authorization") or b""
        wanted = b"Bearer " + self._token.encode("utf-8")
        if self._token and not hmac.compare_digest(given, wanted):
            request.setHeader(b"www-authenticate", b'Bearer realm="pop3gw"')
            return answer(request, 401, {"error": "a token is required"})
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return answer(request, 405, {"error": "expected GET"})
        return super().render(request)  # type: ignore[no-untyped-call]


def answer(request: Request, status: int, content: Any) -> bytes:
    """Send a status and its JSON."""
    request.setResponseCode(status)
    return json.dumps(content).encode("utf-8") + b"\n"


class _Request(Request):
    """A request that knows its connection and drops its body."""

    def __init__(self, *arguments: Any, connection: Connection) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]
        self.connection = connection

    def getClientAddress(self) -> IPv4Address:
        """The client's address, and not that of a proxy before it: for the log."""
        return IPv4Address("TCP", self.connection.host, 0)

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002
        """Allocate no file and no memory for the body."""
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drop the octets: the token is not checked yet."""


class _QuotaSite(Site):
    """Hands the ``Connection`` of a client to its requests."""

    noisy = False

    def log(self, request: http.Request) -> None:
        """Log the request, unless ``pop3gw health`` has made it on this machine."""
        host, own = request.getClientAddress(), request.getHost()
        here = is_here(str(getattr(host, "host", "")), str(getattr(own, "host", "")))
        if not here or request.getHeader("user-agent") != HEALTH_CHECK:
            super().log(request)

    def buildProtocol(self, addr: object) -> Any:
        """One connection's protocol; ``addr`` is a ``Connection`` or an address."""
        channel = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        connection = addr if isinstance(addr, Connection) else Connection("-", "")
        channel.requestFactory = partial(_Request, connection=connection)
        return channel


class _Mailbox(_Guarded):
    """``/v1/quota/ADDRESS``; with ``?size=OCTETS``: whether such a message fits."""

    isLeaf = True

    def __init__(self, token: str, recipients: Recipients, address: str) -> None:
        super().__init__(token)
        self._recipients = recipients
        self._address = address

    def render_GET(self, request: _Request) -> Any:
        """The usage of the mailbox."""
        size = request.args.get(b"size", [b"1"])[0]
        if not (size.isdigit() and len(size) < 20):
            return answer(request, 400, {"error": "size: expected octets"})
        asked = self._recipients.account(self._address).addCallback(self._described, int(size))
        asked.addErrback(_refused, request)
        _finish(request, asked)
        return NOT_DONE_YET

    def _described(self, account: Account, size: int) -> Deferred[tuple[int, Any]]:
        limits = self._recipients.limits(account)

        def told(usage: Usage) -> tuple[int, Any]:
            decision = verdict(usage, size, limits)
            self._recipients.decided("http", decision)
            said = described(account.name, usage, limits)
            return 200, said | {"accepts": decision.name == "FINE"}

        return self._recipients.usage(account).addCallback(told)


def _refused(failure: Failure, request: _Request) -> tuple[int, Any]:
    for kind, status in _STATUS.items():
        if failure.check(kind):
            return status, {"error": kind.__name__}
    complain(log, "session {id}: {uri}", failure, id=request.connection.id, uri=request.uri)
    return 503, {"error": "temporary trouble"}


def _finish(request: _Request, asked: Deferred[tuple[int, Any]]) -> None:
    gone: list[Any] = []
    request.notifyFinish().addErrback(gone.append)

    def told(said: tuple[int, Any]) -> None:
        if not gone:
            request.write(answer(request, *said))  # type: ignore[no-untyped-call]
            request.finish()  # type: ignore[no-untyped-call]

    def failed(failure: Failure) -> None:
        log.failure("session {id}: internal error", failure, id=request.connection.id)

    asked.addCallback(told).addErrback(failed)


class _Mailboxes(_Guarded):
    """``/v1/quota``: usage of all mailboxes, in pages."""

    def __init__(self, token: str, recipients: Recipients, known: Known) -> None:
        super().__init__(token)
        self._recipients = recipients
        self._known = known

    def getChild(self, path: bytes, request: Request) -> Resource:
        """The resource of one address."""
        if not path and not request.postpath:
            return self
        # Already decoded: decoding again would change addresses with a percent sign.
        return _Mailbox(self._token, self._recipients, path.decode("utf-8", "replace"))

    def render_GET(self, request: _Request) -> Any:
        """``?sort=octets|messages|mailbox&page=0&per_page=100``."""
        sort = request.args.get(b"sort", [b"octets"])[0].decode("ascii", "replace")
        page, count = (
            request.args.get(name, [default])[0]
            for name, default in ((b"page", b"0"), (b"per_page", b"100"))
        )
        well = all(part.isdigit() and len(part) < 9 for part in (page, count))
        if sort not in ("octets", "messages", "mailbox") or not well or not 0 < int(count) <= 1000:
            return answer(request, 400, {"error": "expected sort, page and per_page up to 1000"})

        def told(rows: list[dict[str, Any]]) -> tuple[int, Any]:
            return 200, {"mailboxes": rows, "page": int(page)}

        asked = self._known(sort, int(page), int(count)).addCallback(told)
        _finish(request, asked.addErrback(_refused, request))
        return NOT_DONE_YET


Known = Callable[[str, int, int], "Deferred[list[dict[str, Any]]]"]
"""Finds a page of usage: order, page number, mailboxes per page."""


def quota_site(recipients: Recipients, known: Known, *, token: str) -> Site:
    """A site with ``/v1/quota`` only; an empty ``token``: no authentication."""
    root, version = Resource(), Resource()
    root.putChild(b"v1", version)
    version.putChild(b"quota", _Mailboxes(token, recipients, known))
    return _QuotaSite(root)  # type: ignore[no-untyped-call]
