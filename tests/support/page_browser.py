"""A browser of the operator's page, without a window: it keeps cookies and reads forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any
from urllib.parse import urlencode, urlsplit

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadCredentials
from gateway.http.access import Access, Token
from gateway.http.page.access import Door, Sessions, rights_of
from gateway.http.page.site import Desk, OperatorPage
from gateway.http.site import BoundedSite
from gateway.model import Account, Connection, Scope
from gateway.operations.tools import Tools
from gateway.state.memory import MemoryState
from gateway.store.memory import MemoryStore

READ = Token("watch", "read-token-0123456789", frozenset({Scope.READ}))
OPERATE = Token("ops", "operate-token-0123456789", frozenset({Scope.OPERATE}))
QUOTA = Token("quota", "quota-token-0123456789", frozenset({Scope.QUOTA}))

ALICE, PASSWORD = "alice@example.org", "correct horse"

POLICY = "unread 60d, read 7d, hide 14d"

NOON = 1_767_268_800.0
"""2026-01-01 12:00 UTC."""

HOST = "mail.example.org:8443"


class PageServer:
    """The page over parts in memory; ``worker`` makes another process of the same server."""

    def __init__(
        self,
        *,
        secure: bool = True,
        operators: tuple[str, ...] = (ALICE,),
        key: bytes = b"k" * 32,
    ) -> None:
        self.settings = Settings(retention=Retention(enabled=True, policy=POLICY))
        self.now = NOON
        self.accounts = {ALICE: Account(name=ALICE, mailbox=ALICE)}
        self.store = MemoryStore(now=lambda: self.now)
        self.state = MemoryState()
        self.tokens = [READ, OPERATE, QUOTA]
        self.operators = operators
        self.secure = secure
        self.events: list[Any] = []
        self.clock = Clock()
        self.questions = Questions()
        for name, answer in Sessions(key, lambda: self.now).answers().items():
            self.questions.answer(name, answer)
        self.access = Access(self.tokens, self.clock.seconds)

    def check_password(self, login: str, password: bytes, _: Connection) -> Deferred[str]:
        """The checker of accounts."""
        if password == PASSWORD.encode() and login in self.accounts:
            return succeed(login)
        return fail(BadCredentials("wrong password"))

    def tools(self) -> Tools:
        """What operations work with, by the settings of now."""
        return tools_of(
            self.settings,
            MemoryDirectory({}, self.accounts),
            self.store,
            self.state,
            policies=policies_of(self.settings.retention),
            processes=SingleProcess(self.questions),
            run=maybeDeferred,
            now=lambda: self.now,
        )

    def site(self) -> BoundedSite:
        """The site of one process, with the settings of now."""
        tools = self.tools()
        rights = rights_of(self.tokens, self.operators)
        door = Door(tools.processes, tools.directory, rights, self.access, self.check_password)
        page = OperatorPage(lambda: Desk(door, tools, self.events.append))
        return BoundedSite(page, self.clock, self.events.append)


@frozen
class Page:
    """An answer."""

    status: int
    headers: Mapping[str, list[str]]
    text: str

    @property
    def form_token(self) -> str:
        """The token of its first form."""
        found = re.search(r'name="form" value="([^"]+)"', self.text)
        assert found, self.text
        return unescape(found[1])

    @property
    def location(self) -> str:
        """Where it redirects to."""
        return self.headers.get("location", [""])[0]


class PageBrowser:
    """Keeps the cookies of one operator."""

    def __init__(self, server: PageServer, host: str = "192.0.2.1") -> None:
        self.server = server
        self.site = server.site()
        self.cookies: dict[str, str] = {}
        self.language = "en"
        self._host = host

    def get(self, path: str, **headers: str) -> Page:
        """Ask for a page."""
        return self.ask("GET", path, b"", headers)

    def post(self, path: str, fields: Mapping[str, Any], **headers: str) -> Page:
        """Send a form."""
        body = urlencode(fields, doseq=True).encode()
        given = {"content_type": "application/x-www-form-urlencoded", **headers}
        return self.ask("POST", path, body, given)

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Page:
        """Any request."""
        line = StringTransport(peerAddress=IPv4Address("TCP", self._host, 1))
        line.abortConnection = line.loseConnection  # type: ignore[method-assign]
        client = Connection("7f", self._host, secure=self.server.secure, listener="http")
        channel = self.site.buildProtocol(client)
        channel.callLater = Clock().callLater
        channel.makeConnection(line)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {
            "host": HOST,
            "accept_language": self.language,
            "content_length": str(len(body)),
            **({"cookie": cookies} if cookies else {}),
            **headers,
        }
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
        head = "\r\n".join([f"{method} {path} HTTP/1.0", *lines, "", ""])
        channel.dataReceived(head.encode("utf-8", "surrogatepass") + body)
        return self._read(line.value())

    def _read(self, answer: bytes) -> Page:
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers: dict[str, list[str]] = {}
        for one in lines:
            name, _, value = one.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        for value in headers.get("set-cookie", []):
            name, _, content = value.partition(";")[0].partition("=")
            if "Max-Age=0" in value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = content
        return Page(int(first.split()[1]), headers, body.decode())

    def log_in(self, token: Token = OPERATE) -> Page:
        """Log in with a token."""
        form = self.get("/login").form_token
        return self.post("/login", {"form": form, "token": token.secret, "to": "/"})

    def log_in_as(self, login: str, password: str = PASSWORD) -> Page:
        """Log in with an account."""
        form = self.get("/login").form_token
        return self.post("/login", {"form": form, "login": login, "password": password, "to": "/"})

    def act(self, path: str, **fields: Any) -> Page:
        """Send a form with the token of this session."""
        token = self.get("/retention").form_token
        return self.post(path, {"form": token, **fields})

    def follow(self, answer: Page) -> Page:
        """The page that an answer redirects to."""
        where = urlsplit(answer.location)
        return self.get(f"{where.path}?{where.query}" if where.query else where.path)
