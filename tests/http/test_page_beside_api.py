"""The page and the API on one endpoint: each path goes to the one that has it."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import succeed
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.parts.operators import http_site
from gateway.config.services import Http
from gateway.http.site import BoundedSite
from gateway.model import Connection
from page_browser import OPERATE, PageServer


class FrontTests(SynchronousTestCase):
    def setUp(self) -> None:
        server = PageServer()
        server.questions.answer("readiness", lambda _: [])
        settings = evolve(server.settings, http=Http(token=OPERATE.secret, page=True))
        self.site: BoundedSite = http_site(
            server.clock, settings, server.tools, server.events.append, lambda *_: succeed("")
        )
        self.site.doStart()

    def status(self, path: str, *, token: str = "") -> int:
        """The status of the answer to a GET."""
        channel, transport = self.site.buildProtocol(Connection("id", "")), StringTransport()
        channel.makeConnection(transport)
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        channel.dataReceived(f"{head}\r\n".encode())
        return int(transport.value().split()[1])

    def test_probes_need_no_token_and_no_login(self) -> None:
        self.assertEqual(self.status("/healthz/live"), 200)
        self.assertEqual(self.status("/healthz/ready"), 200)

    def test_the_api_wants_a_token_and_never_a_login(self) -> None:
        for path in ("/v1/mailboxes", "/v1/openapi.json", "/metrics", "/v1/no/such"):
            self.assertIn(self.status(path), (401, 404), path)
        self.assertEqual(self.status("/v1/quota", token=OPERATE.secret), 200)

    def test_everything_else_is_the_page_which_asks_to_log_in(self) -> None:
        for path in ("/", "/sessions", "/healthy", "/v2"):
            self.assertEqual(self.status(path), 303, path)
