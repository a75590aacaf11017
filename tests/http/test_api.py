"""The operator's API, on the wire: routes, access, parameters, problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from unittest import mock

from attrs import fields, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import DirectoryDown, NoSuchMailbox, Overloaded
from gateway.events import Event, OperationDone, RequestServed
from gateway.http.access import MOST_WRONG, WINDOW, Access, Token
from gateway.http.api import Api, ApiResource
from gateway.http.parameters import MOST_TEXT
from gateway.http.routes import Route
from gateway.http.site import (
    CLOSE_WITHIN,
    CONNECTIONS,
    IDLE,
    MOST_BODY,
    REQUEST_WITHIN,
    BoundedSite,
)
from gateway.model import Connection, Scope
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page, page_of


@frozen
class Pet:
    """A value."""

    name: str
    age: int | None


@frozen
class Kept:
    """What was done."""

    name: str
    by: str


waiting: list[Deferred[None]] = []


async def list_pets(
    tools: Tools,  # noqa: ARG001
    *,
    search: str = "",
    sort: Literal["name", "age"] = "name",
    page: Annotated[int, Bounds(0, 1000)] = 0,
    per_page: Annotated[int, Bounds(1, 100)] = 10,
    old: bool = False,
    names: tuple[str, ...] = (),
    least: float | None = None,
) -> Page[Pet]:
    """List them."""
    pets = [Pet(f"{search}{sort}{old}", page), Pet("<b>\u00e9", None)]
    pets += [Pet(name, int(least or 0)) for name in names]
    return page_of(pets, page, per_page)


async def show_pet(tools: Tools, *, name: str) -> Pet:  # noqa: ARG001
    """Show one."""
    errors = {"none": NoSuchMailbox("none: no such pet"), "down": DirectoryDown("no answer")}
    if name in errors:
        raise errors[name]
    if name == "broken":
        raise ZeroDivisionError("secret")
    if name == "untold":
        return Pet(name, 1j)  # type: ignore[arg-type]
    return Pet(name, 1)


async def keep_pet(tools: Tools, *, name: str, age: int, loud: bool = False) -> Kept:
    """Keep one."""
    if loud:
        waiting.append(Deferred())
        await waiting[-1]
    return Kept(f"{name} {age}", tools.operator)


ROUTES = (
    Route("GET", "/v1/pets", Scope.READ, list_pets),
    Route("GET", "/v1/pets/{name}", Scope.READ, show_pet),
    Route("PUT", "/v1/pets/{name}", Scope.OPERATE, keep_pet),
)

TOKENS = [
    Token("all", "s3cret", frozenset({Scope.OPERATE})),
    Token("reader", "re\u00e4der", frozenset({Scope.READ})),
    Token("figures", "figures", frozenset({Scope.METRICS})),
]


@frozen
class Answer:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)


class ApiCase(SynchronousTestCase):
    """A site in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        access = Access(TOKENS, self.clock.seconds)
        self.works: list[Callable[[], Any]] = []
        parts = {one.name: mock.sentinel.part for one in fields(Tools)}
        tools = Tools(**{**parts, "run": self.run_it})
        api = Api(
            ROUTES,
            lambda: tools,
            lambda request: access.caller(
                request.connection.host, request.getHeader(b"authorization")
            ),
            self.events.append,
        )
        self.site = BoundedSite(ApiResource(api), self.clock, self.events.append)
        self.site.doStart()
        waiting.clear()

    def run_it(self, work: Callable[[], Any]) -> Deferred[Any]:
        """As a thread does; in the end there is none."""
        self.works.append(work)
        return maybeDeferred(work) if len(self.works) < 3 else fail(Overloaded("full"))

    def connect(self, host: str = "192.0.2.1") -> tuple[Any, StringTransport]:
        """A new connection, and what it has sent."""
        channel, transport = self.site.buildProtocol(Connection("id", host)), StringTransport()
        channel.makeConnection(transport)
        return channel, transport

    def ask(
        self,
        target: str,
        method: str = "GET",
        body: bytes = b"",
        *,
        token: str | None = "s3cret",
        host: str = "192.0.2.1",
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """The answer to a request."""
        channel, transport = self.connect(host)
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        return read(transport.value())


def read(octets: bytes) -> Answer:
    """An answer from its octets."""
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b"".join(body.split(b"\r\n")[1::2])
    return Answer(int(first.split()[1]), headers, body)


SLOW = (
    b"PUT /v1/pets/rex HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n"
    b'Content-Length: 24\r\n\r\n{"age": 3, "loud": true}'
)
"""A request that is answered when the test says so."""


class AnswerTests(ApiCase):
    def test_a_server_that_stops_answers_what_it_was_asked_and_then_closes(self) -> None:
        idle, idle_line = self.connect()
        busy, busy_line = self.connect()
        busy.dataReceived(SLOW)
        drained = self.site.drain(10)
        self.assertTrue(idle_line.disconnecting)
        self.assertIsNone(self.site.buildProtocol(Connection("id", "192.0.2.1")))
        idle.connectionLost(Failure(ConnectionDone()))
        self.assertNoResult(drained)
        waiting[0].callback(None)
        self.assertEqual(read(busy_line.value()).value, {"name": "rex 3", "by": "token all"})
        self.assertTrue(busy_line.disconnecting)
        busy.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(drained)

    def test_a_client_that_does_not_close_its_side_holds_up_a_server_that_stops_only_shortly(
        self,
    ) -> None:
        # With TLS a connection is open until both sides have closed it, and a client that keeps one
        # for later does not read meanwhile.
        idle_line = self.connect()[1]
        busy, busy_line = self.connect()
        busy.dataReceived(SLOW)
        self.site.drain(10)
        self.clock.advance(CLOSE_WITHIN)
        self.assertTrue(idle_line.disconnected)
        self.assertFalse(busy_line.disconnected)
        waiting[0].callback(None)
        self.clock.advance(CLOSE_WITHIN)
        self.assertTrue(busy_line.disconnected)

    def test_a_request_that_takes_too_long_does_not_keep_the_server_from_its_end(self) -> None:
        self.connect()[0].dataReceived(SLOW)
        drained = self.site.drain(10)
        self.clock.advance(10)
        self.successResultOf(drained)

    def test_a_long_answer_is_encoded_in_a_thread_and_here_if_there_is_none(self) -> None:
        target = "/v1/pets?per_page=100" + "&names=rex" * 90
        answers = [self.ask(target) for _ in range(3)]
        self.assertEqual(len(self.works), 3)
        self.assertEqual([one.value for one in answers], [answers[0].value] * 3)
        self.ask("/v1/pets")
        self.assertEqual(len(self.works), 3)

    def test_a_page_is_json_with_its_values_and_their_number(self) -> None:
        answer = self.ask("/v1/pets?search=a&sort=age&old=true&names=x&names=y&least=2.5")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/json"))
        items = [("aageTrue", 0), ("<b>\u00e9", None), ("x", 2), ("y", 2)]
        wanted = [{"name": name, "age": age} for name, age in items]
        self.assertEqual(answer.value, {"items": wanted, "page": 0, "per_page": 10, "total": 4})
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")

    def test_what_the_client_has_already_is_not_sent_again(self) -> None:
        tag = self.ask("/v1/pets").headers["etag"]
        again = self.ask("/v1/pets", headers={"If-None-Match": tag})
        self.assertEqual((again.status, again.body, again.headers["etag"]), (304, b"", tag))
        other = self.ask("/v1/pets?page=1", headers={"If-None-Match": tag})
        self.assertEqual(other.status, 200)

    def test_tags_are_compared_weakly_and_come_as_a_list_in_any_spelling(self) -> None:
        tag = self.ask("/v1/pets").headers["etag"]
        for told in (f"W/{tag}", f'"a",{tag}', f'"a b" ,W/"",\tW/{tag},', f'"x,", {tag}', "*"):
            again = self.ask("/v1/pets", headers={"If-None-Match": told})
            self.assertEqual(again.status, 304, told)
        for told in (f'"{tag[1:-2]}"', tag[1:-1], f'"a, {tag[1:]}', '"*"', ""):
            again = self.ask("/v1/pets", headers={"If-None-Match": told})
            self.assertEqual(again.status, 200, told)

    def test_tags_may_come_in_several_lines(self) -> None:
        tag = self.ask("/v1/pets").headers["etag"]
        for told in ((tag, '"a"'), ('"a"', tag)):
            lines = "\r\nIf-None-Match: ".join(told)
            self.assertEqual(self.ask("/v1/pets", headers={"If-None-Match": lines}).status, 304)

    def test_a_target_in_absolute_form_is_its_path(self) -> None:
        for target in (
            "http://localhost/v1/pets?search=a",
            "HTTPS://[::1]:8/v1/pets?search=a",
        ):
            answer = self.ask(target)
            self.assertEqual((answer.status, answer.value["items"][0]["name"]), (200, "anameFalse"))
            self.assertEqual(self.events[-1].path, "/v1/pets")  # type: ignore[union-attr]
        for target in (
            "http://localhost",
            "http://localhost?search=a",
            "ftp://x/",
        ):
            self.assertEqual(self.ask(target).status, 404, target)

    def test_the_host_of_a_target_in_absolute_form_takes_the_place_of_the_header(self) -> None:
        hosts = []
        render = self.site.resource.render
        self.site.resource.render = lambda request: (
            hosts.append(request.getHeader("host")) or render(request)
        )
        for target in ("http://y.example:81/v1/pets", "/v1/pets"):
            self.ask(target)
        self.assertEqual(hosts, ["y.example:81", "x"])

    def test_head_has_the_headers_of_get_and_no_body(self) -> None:
        got, head = self.ask("/v1/pets"), self.ask("/v1/pets", "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["content-length"], str(len(got.body)))

    def test_a_parameter_at_the_end_of_the_path_may_have_any_letter(self) -> None:
        self.assertEqual(self.ask("/v1/pets/a%20%C3%A9%25%3Cb%3E").value["name"], "a \u00e9%<b>")
        for path, name in (
            ("a%2Fb", "a/b"),
            ("..%2Fa", "../a"),
            ("%2e%2e", ".."),
            ("%252F", "%2F"),
        ):
            self.assertEqual(self.ask(f"/v1/pets/{path}").value["name"], name)

    def test_a_body_names_no_parameter_of_the_path(self) -> None:
        answer = self.ask("/v1/pets/tom", "PUT", b'{"age": 3, "name": "other"}')
        self.assertEqual(answer.status, 400)
        self.assertEqual(answer.value["problems"], ["name: expected in the path only"])
        self.assertEqual(self.ask("/v1/pets/tom?name=other").status, 400)

    def test_a_slash_within_a_parameter_is_no_further_part_of_the_path(self) -> None:
        for path in ("/v1/pets/a/b", "/v1/pets/../a", "/v1/pets//a"):
            self.assertEqual(self.ask(path).status, 404, path)
            self.assertEqual(self.ask(path, "PUT", b'{"age": 3}').status, 404, path)

    def test_a_slash_at_the_end_changes_nothing(self) -> None:
        self.assertEqual(self.ask("/v1/pets/").value, self.ask("/v1/pets").value)

    def test_a_path_of_none_of_them_is_not_found(self) -> None:
        for path in ("/", "/v1", "/v1//pets", "/v1/%2e%2e/pets", "/v1/pets%00"):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_a_change_is_told_to_the_log_with_its_operator(self) -> None:
        answer = self.ask("/v1/pets/tom", "PUT", b'{"age": 3}')
        self.assertEqual(answer.value, {"name": "tom 3", "by": "token all"})
        self.assertEqual(self.events[0], OperationDone("token all", "keep_pet", "tom", "done"))
        self.assertIsInstance(self.events[1], RequestServed)

    def test_a_change_is_finished_when_its_client_leaves(self) -> None:
        channel, transport = self.connect()
        body = b'{"age": 3, "loud": true}'
        head = "PUT /v1/pets/tom HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n"
        channel.dataReceived(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        channel.connectionLost()
        waiting[0].callback(None)
        self.assertEqual(self.events, [OperationDone("token all", "keep_pet", "tom", "done")])
        self.assertEqual(transport.value(), b"")


class ProblemTests(ApiCase):
    def problem(self, target: str, status: int, *arguments: Any, **more: Any) -> Any:
        """The problem JSON of an answer."""
        answer = self.ask(target, *arguments, **more)
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        self.assertEqual(answer.value["status"], status)
        return answer.value

    def test_an_error_has_the_status_of_its_kind(self) -> None:
        self.assertEqual(self.problem("/v1/pets/none", 404)["detail"], "none: no such pet")
        self.assertEqual(self.problem("/v1/pets/down", 503)["detail"], "no answer")

    def test_an_unforeseen_error_is_in_the_log_only(self) -> None:
        self.assertNotIn("secret", str(self.problem("/v1/pets/broken", 500)))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_answer_that_json_cannot_tell_is_a_problem_too(self) -> None:
        self.problem("/v1/pets/untold", 500)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_each_fault_of_the_parameters_is_named(self) -> None:
        target = "/v1/pets?page=x&per_page=101&sort=size&old=maybe&colour=red&least=nan"
        self.assertEqual(
            self.problem(target, 400)["problems"],
            [
                "sort: expected one of name, age",
                "page: expected a whole number",
                "per_page: expected 1 to 100",
                "old: expected true or false",
                "least: expected a number",
                "colour: no such parameter",
            ],
        )

    def test_faults_of_a_body_are_named(self) -> None:
        cases = {
            b"[]": "body: expected a JSON object",
            b"{": "body: expected JSON",
            b"\xff": "body: expected UTF-8",
            b"{}": "age: missing",
            b'{"age": "1"}': "age: expected a whole number",
            b'{"age": true}': "age: expected a whole number",
            b'{"age": 1, "age": 2}': "body: expected JSON: a name stands twice",
            b'{"age": 1, "x": 1}': "x: no such parameter",
            b"[" * 60_000: "body: expected JSON",
        }
        for body, fault in cases.items():
            problems = self.problem("/v1/pets/tom", 400, "PUT", body)["problems"]
            self.assertTrue(problems[0].startswith(fault), problems)
        self.problem("/v1/pets/tom?age=1", 400, "PUT")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self.problem("/v1/pets/tom", 400, "PUT", b"age=1", headers=form)

    def test_odd_octets_are_the_clients_fault(self) -> None:
        for target in ("/v1/pets?search=%ff", "/v1/pets?search=%00", "/v1/pets?search=a&search=b"):
            self.problem(target, 400)
        self.problem(f"/v1/pets?search={'a' * (MOST_TEXT + 1)}", 400)
        self.assertEqual(self.ask("/v1/pets/%ff").status, 400)

    def test_odd_octets_in_a_header_are_the_clients_fault(self) -> None:
        for name, status in (("Host", 400), ("Content-Type", 400), ("User-Agent", 200)):
            channel, transport = self.connect("127.0.0.1")
            line = f"{name}: \xff".encode("latin-1")
            body = b'{"age": 1}'
            channel.dataReceived(
                b"PUT /v1/pets/tom HTTP/1.0\r\nAuthorization: Bearer s3cret\r\n"
                b"Content-Length: %d\r\n%s\r\n\r\n%s" % (len(body), line, body)
            )
            self.assertEqual(read(transport.value()).status, status, name)
            served = [one for one in self.events if isinstance(one, RequestServed)]
            self.assertEqual(served[-1].status, status)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_an_unknown_path_and_a_wrong_method_say_what_there_is(self) -> None:
        self.assertIn("openapi", self.problem("/v2/dogs", 404)["detail"])
        answer = self.ask("/v1/pets/tom", "DELETE")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD, PUT"))

    def test_a_body_that_is_too_large_is_not_kept(self) -> None:
        self.problem("/v1/pets/tom", 413, "PUT", b" " * (MOST_BODY + 1))


class AccessTests(ApiCase):
    def test_without_a_valid_token_nothing_is_told(self) -> None:
        for token in (None, "", "s3cre", "s3crets", "S3CRET"):
            answer = self.ask("/v1/pets/down", token=token)
            self.assertEqual(answer.status, 401)
            self.assertEqual(answer.headers["www-authenticate"], 'Bearer realm="pop3gw"')

    def test_a_token_is_good_for_its_scope(self) -> None:
        self.assertEqual(self.ask("/v1/pets", token="re\u00e4der").status, 200)
        self.assertEqual(self.ask("/v1/pets", token="figures").status, 403)
        refused = self.ask("/v1/pets/tom", "PUT", b'{"age": 1}', token="re\u00e4der")
        self.assertEqual(refused.status, 403)
        self.assertIn("operate", refused.value["detail"])

    def test_after_many_wrong_tokens_an_address_waits(self) -> None:
        for _ in range(MOST_WRONG):
            self.assertEqual(self.ask("/v1/pets", token="guess").status, 401)
        answer = self.ask("/v1/pets")
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "60"))
        self.assertEqual(self.ask("/v1/pets", host="192.0.2.2").status, 200)
        self.clock.advance(WINDOW + 1)
        self.assertEqual(self.ask("/v1/pets").status, 200)

    def test_a_secret_in_the_url_is_refused_and_not_logged(self) -> None:
        answer = self.ask("/v1/pets?token=s3cret")
        self.assertEqual(answer.status, 400)
        self.assertNotIn("s3cret", answer.body.decode())
        self.assertNotIn("s3cret", repr(self.events))


class ConnectionTests(ApiCase):
    def test_a_slow_request_is_cut_off(self) -> None:
        channel, transport = self.connect()
        channel.dataReceived(b"GET /v1/pets HTTP/1.1\r\n")
        for _ in range(int(REQUEST_WITHIN) + 1):
            self.clock.advance(1)
            channel.dataReceived(b"A: b\r\n")
        self.assertTrue(transport.disconnected or transport.disconnecting or transport.aborting)

    def test_an_idle_connection_is_closed(self) -> None:
        _, transport = self.connect()
        self.clock.advance(IDLE + REQUEST_WITHIN + 1)
        self.assertTrue(transport.disconnected or transport.disconnecting or transport.aborting)

    def test_there_are_so_many_connections_and_no_more(self) -> None:
        channels = [self.connect()[0] for _ in range(CONNECTIONS)]
        self.assertIsNone(self.site.buildProtocol(Connection("id", "192.0.2.1")))
        channels[0].connectionLost()
        self.assertIsNotNone(self.site.buildProtocol(Connection("id", "192.0.2.1")))

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        channel, transport = self.connect()
        one = "GET /v1/pets/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n\r\n"
        channel.dataReceived("".join(one.format(name) for name in "abc").encode())
        sent = transport.value()
        self.assertEqual(sent.count(b"HTTP/1.1 200 OK"), 3)
        self.assertLess(sent.index(b'"a"'), sent.index(b'"c"'))


class RobustnessTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=60), max_size=6))
    def test_no_octets_make_an_internal_error(self, pieces: list[bytes]) -> None:
        case = AnswerTests("run")
        case.setUp()
        channel, transport = case.connect()
        for piece in [b"GET /v1/pets?", *pieces, b" HTTP/1.1\r\nHost: x\r\n\r\n"]:
            if not transport.disconnecting:
                channel.dataReceived(piece)
        self.assertNotIn(b" 500 ", transport.value()[:20])
