"""The API of a running server, as its worst clients meet it: raw octets on the wire."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mail_places import MailOf
from servers import USER, Gateway, free_port

pytestmark = pytest.mark.interop

TOKEN = "s3cret-token"

HTTP = """
[http]
endpoint = "tcp:{port}:interface=127.0.0.1"
[http.tokens.all]
token = "{token}"
scopes = ["operate"]
[http.tokens.shows]
token = "shows"
scopes = ["read"]
"""


class Client:
    """Sends octets, and reads answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")

    def send(self, octets: bytes) -> None:
        """Send them; a server that has closed already is no fault."""
        with suppress(OSError):
            self._socket.sendall(octets)

    def end(self) -> None:
        """Send no more; a server that has closed already is no fault either."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def answer(self, *, is_head: bool = False) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of the next answer."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        octets = b"" if is_head else self._file.read(int(headers.get("content-length", "0")))
        return status, headers, json.loads(octets) if octets else None

    def rest(self) -> bytes:
        """What comes until the server closes."""
        try:
            return self._file.read()
        except OSError:
            return b""


class Site:
    """A server with an API."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.port = port

    def ask(self, line: str, *headers: str, body: bytes = b"", token: str | None = TOKEN) -> Any:
        """The answer to one request."""
        client = Client(self.port)
        client.send(request(line, *headers, body=body, token=token))
        return client.answer(is_head=line.startswith("HEAD"))

    @property
    def memory(self) -> int:
        """Octets of its memory."""
        process = self.gateway.process
        assert process is not None
        (found,) = re.findall(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        return int(found) * 1024


def request(line: str, *headers: str, body: bytes = b"", token: str | None = TOKEN) -> bytes:
    """The octets of a request."""
    lines = [line, "Host: localhost", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


@pytest.fixture(scope="module")
def site(mail_of: MailOf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that runs, of each store."""
    port, directory = free_port(), tmp_path_factory.mktemp("abuse")
    gateway = Gateway(directory, HTTP.format(port=port, token=TOKEN), mail_of(directory))
    gateway.mail.put(USER, [b"Subject: x\r\n\r\nx\r\n"])
    gateway.run()
    yield Site(gateway, port)
    gateway.stop()
    assert "Traceback" not in gateway.log
    assert "internal error" not in gateway.log
    assert TOKEN not in gateway.log


def test_a_body_of_100_mb_is_refused_and_kept_nowhere(site: Site) -> None:
    for coding in ("Content-Length: 104857600", "Transfer-Encoding: chunked"):
        before, client = site.memory, Client(site.port)
        client.send(request("POST /v1/kick HTTP/1.1", coding, "Content-Type: application/json"))
        piece = b"x" * 65_536
        for _ in range(1600):
            client.send(b"10000\r\n%b\r\n" % piece if "chunked" in coding else piece)
        if "chunked" in coding:
            client.send(b"0\r\n\r\n")
        status, headers, problem = client.answer()
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert problem["title"] == "The body is too large"
        assert site.memory - before < 20 * 2**20


def test_who_has_no_token_is_refused_whatever_the_body(site: Site) -> None:
    status, headers, problem = site.ask("POST /v1/kick HTTP/1.1", body=b"{", token=None)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="pop3gw"')
    assert problem["kind"] == "NotLetIn"


def test_a_client_that_expects_100_gets_it_and_its_answer(site: Site) -> None:
    client = Client(site.port)
    body = b'{"user": "nobody"}'
    head = request("POST /v1/kick HTTP/1.1", "Expect: 100-continue", body=body)
    client.send(head.removesuffix(body))
    assert client.answer()[0] == 100
    client.send(body)
    status, _, value = client.answer()
    assert (status, value) == (200, {"sessions": []})


def test_http_1_0_is_answered_and_closed(site: Site) -> None:
    client = Client(site.port)
    client.send(request("GET /v1/quota HTTP/1.0"))
    status, headers, value = client.answer()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert [one["mailbox"] for one in value["mailboxes"]] == [USER]
    assert client.rest() == b""


def test_pipelined_requests_are_answered_in_their_order(site: Site) -> None:
    client = Client(site.port)
    lines = ["GET /v1/sessions HTTP/1.1", "GET /v1/nothing HTTP/1.1", "GET /v1/quota HTTP/1.1"]
    client.send(b"".join(map(request, lines)) * 20)
    assert [client.answer()[0] for _ in range(60)] == [200, 404, 200] * 20


def test_other_methods_say_which_there_are(site: Site) -> None:
    for method, path, allowed in (
        ("POST", "/v1/sessions", "GET, HEAD"),
        ("OPTIONS", "/v1/sessions", "GET, HEAD"),
        ("PUT", "/v1/kick", "POST"),
        ("DELETE", "/v1/reload", "POST"),
        ("TRACE", f"/v1/mailboxes/{USER}", "DELETE, GET, HEAD"),
        ("BREW", "/v1/quota", "GET, HEAD"),
    ):
        status, headers, _ = site.ask(f"{method} {path} HTTP/1.1")
        assert (status, headers["allow"]) == (405, allowed), method
    status, headers, _ = site.ask("HEAD /v1/sessions HTTP/1.1")
    assert (status, int(headers["content-length"]) > 0) == (200, True)


def test_a_path_is_what_it_says_and_no_other(site: Site) -> None:
    for path, wanted in (
        ("/v1/../v1/sessions", 404),
        ("/v1/%2e%2e/v1/sessions", 404),
        ("/v1//sessions", 404),
        ("/v1/sessions//", 404),
        ("/V1/sessions", 404),
        ("/v1%2Fsessions", 404),
        ("/v1/sessions%00", 404),
        ("/v1/mailboxes/%00", 404),
        ("/v1/mailboxes/..%2F..%2F..%2Fetc%2Fpasswd", 404),
        ("/v1/mailboxes/%252e%252e%252fetc", 404),
        ("/v1/mailboxes/%2e%2e", 404),
        ("/v1/mailboxes/%ff%fe", 400),
        ("/v1/mailboxes/%ED%A0%80", 400),
        ("/v1/mailboxes/%3Cscript%3Ealert(1)%3C%2Fscript%3E", 404),
    ):
        status, headers, problem = site.ask(f"GET {path} HTTP/1.1")
        assert status == wanted, path
        assert headers["content-type"] == "application/problem+json", path
        assert "etc/passwd:" not in json.dumps(problem)


def test_odd_requests_are_the_fault_of_the_client(site: Site) -> None:
    as_json = "Content-Type: application/json"
    for line, headers, body, wanted in (
        ("GET /v1/sessions?per_page=1&per_page=2 HTTP/1.1", (), b"", 400),
        ("GET /v1/sessions?per_page=999999999999999999999 HTTP/1.1", (), b"", 400),
        ("GET /v1/sessions?per_page=%D9%A1 HTTP/1.1", (), b"", 400),
        ("GET /v1/sessions?page=-1 HTTP/1.1", (), b"", 400),
        ("GET /v1/sessions?user=%ff HTTP/1.1", (), b"", 400),
        ("GET /v1/sessions?user=%00 HTTP/1.1", (), b"", 400),
        ("POST /v1/kick HTTP/1.1", ("Content-Type: text/plain",), b'{"user": "a"}', 400),
        ("POST /v1/kick?user=a HTTP/1.1", (as_json,), b"", 400),
        ("POST /v1/kick HTTP/1.1", (as_json,), b'{"user": "a", "user": "b"}', 400),
        ("POST /v1/kick HTTP/1.1", (as_json,), b"[" * 60_000, 400),
        ("POST /v1/kick HTTP/1.1", (as_json,), b'{"user": "\xff"}', 400),
        ("POST /v1/kick HTTP/1.1", (as_json,), b'{"user": NaN}', 400),
        ("POST /v1/kick HTTP/1.1", (as_json,), b'{"address": "no address"}', 422),
    ):
        status, _, problem = site.ask(line, *headers, body=body)
        assert status == wanted, (line, body[:40])
        assert problem["problems"], line


def test_a_token_in_a_url_is_refused_and_is_not_in_the_log(site: Site) -> None:
    for query in (f"token={TOKEN}", f"Access_Token={TOKEN}", f"x=1&token={TOKEN}"):
        status, _, problem = site.ask(f"GET /v1/sessions?{query} HTTP/1.1")
        assert status == 400
        assert TOKEN not in json.dumps(problem)
    site.gateway.wait_for(b"method=GET path=/v1/sessions")
    assert TOKEN not in site.gateway.log


def test_a_token_does_what_its_scopes_say(site: Site) -> None:
    assert site.ask("GET /v1/sessions HTTP/1.1", token="shows")[0] == 200
    status, _, problem = site.ask("POST /v1/kick HTTP/1.1", body=b"{}", token="shows")
    assert (status, problem["kind"]) == (403, "NotInScope")


def test_what_is_no_http_is_no_fault_of_the_server(site: Site) -> None:
    for octets in (
        b"\r\n" * 1000,
        b"\x16\x03\x01" + b"x" * 500,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/sessions HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET * HTTP/1.1\r\n\r\n",
        b"GET http://localhost/v1/sessions HTTP/1.1\r\n\r\n",
        b"GET /v1/mailboxes/\xff\xfe HTTP/1.1\r\n\r\n",
        b"POST /v1/kick HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/kick HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        client = Client(site.port)
        client.send(octets)
        client.end()
        said = client.rest()
        assert said == b"" or re.match(rb"HTTP/1\.[01] 4\d\d ", said), octets[:40]
    assert site.ask("GET /v1/quota HTTP/1.1")[0] == 200
