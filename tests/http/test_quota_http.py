"""Quotas as JSON, through Twisted's own HTTP channel on a fake line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.app.parts.operators import http_site
from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.quota import Quota
from gateway.config.services import Http
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadMailboxName, DirectoryDown, DirectoryMisconfigured
from gateway.events import Event
from gateway.mailboxes.remembered import KEPT
from gateway.model import Account, Connection, Usage
from gateway.state.memory import MemoryState
from gateway.store.memory import MemoryStore

ALICE, TOKEN = "alice@example.org", "t0ken-ü"
ODD = ("a%41@example.org", "a+b@example.org", "a/b@example.org", "ü@example.org", "?#@example.org")
PEOPLE = (ALICE, *ODD)

TROUBLE = {"type": "about:blank", "status": 503, "title": "It does not work at the moment"}

CLIENT = Connection("7f", "192.0.2.1", listener="http")


def emit_to_nobody(_: Event) -> None:
    """Forget it."""


def filled(store: MemoryStore) -> MemoryStore:
    """With all mailboxes, and mail of Alice."""
    for name in PEOPLE:
        store.add(name)
    store.add(ALICE).deliver(b"x" * 100)
    return store


class Web:
    """The site, and any number of requests."""

    def __init__(self, token: str = TOKEN, store: Any = None) -> None:
        """``store``: with the mailboxes; None: one in memory."""
        self.store = store or filled(MemoryStore())
        self.directory = MemoryDirectory(dict.fromkeys(PEOPLE, "x"))
        self.clock = Clock()
        settings = Settings(quota=Quota(octets="1 kB"), http=Http(token=token))
        tools = tools_of(
            settings,
            self.directory,
            self.store,
            MemoryState(),
            policies=policies_of(settings.retention),
            processes=SingleProcess(Questions()),
            run=execute,
            now=self.clock.seconds,
        )
        self.site = http_site(
            self.clock, settings, lambda: tools, emit_to_nobody, lambda *_: fail(BadMailboxName())
        )

    def connect(self) -> tuple[Any, StringTransport]:
        """A connection."""
        line = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
        line.abortConnection = line.loseConnection  # type: ignore[method-assign]
        channel = self.site.buildProtocol(CLIENT)
        channel.makeConnection(line)
        return channel, line

    def ask(
        self, path: str, token: bytes = TOKEN.encode(), method: str = "GET", body: bytes = b""
    ) -> tuple[int, Any]:
        """Status and JSON."""
        channel, line = self.connect()
        channel.dataReceived(request(path, token, method, len(body)) + body)
        return said(line.value())


def request(path: str, token: bytes, method: str = "GET", length: int = 0) -> bytes:
    """A whole request's header."""
    head = f"{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\nAuthorization: Bearer "
    return head.encode() + token + b"\r\n\r\n"


def said(answer: bytes) -> tuple[int, Any]:
    """Status and JSON."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


class MailboxTests(SynchronousTestCase):
    def make_store(self) -> Any:
        return filled(MemoryStore())

    def test_a_mailbox_is_told_of_and_whether_a_message_may_come(self) -> None:
        web = Web(store=self.make_store())
        status, found = web.ask(f"/v1/quota/{ALICE}?size=900")
        self.assertEqual(status, 200)
        self.assertEqual((found["octets"], found["messages"], found["accepts"]), (100, 1, True))
        self.assertFalse(web.ask(f"/v1/quota/{ALICE}?size=950")[1]["accepts"])

    def test_every_address_is_decoded_once(self) -> None:
        web = Web(store=self.make_store())
        for quoted, name in (
            ("a%2541%40example.org", "a%41@example.org"),
            ("a%2Bb@example.org", "a+b@example.org"),
            ("a+b@example.org", "a+b@example.org"),
            ("a%2Fb@example.org", "a/b@example.org"),
            ("%C3%BC@example.org", "ü@example.org"),
            ("%3F%23@example.org", "?#@example.org"),
        ):
            status, found = web.ask(f"/v1/quota/{quoted}")
            self.assertEqual((status, found.get("mailbox")), (200, name), quoted)

    def test_what_is_no_address_or_no_size_is_refused(self) -> None:
        web = Web(store=self.make_store())
        for path in ("nobody@example.org", "a%0d%0aX-Y:z@example.org", "%00"):
            self.assertEqual(web.ask(f"/v1/quota/{path}")[0], 404)
        for path in ("%FF%FE", "%ED%A0%80"):
            self.assertEqual(web.ask(f"/v1/quota/{path}")[0], 400, path)
        for size in ("-1", "x", "", "9" * 20, "%C2%B2"):
            self.assertIn(web.ask(f"/v1/quota/{ALICE}?size={size}")[0], (200, 400), size)

    def test_an_outage_is_503_and_tells_nothing(self) -> None:
        web = Web(store=self.make_store())
        web.directory.recipient = lambda _: fail(DirectoryDown("secret"))  # type: ignore[method-assign]
        with capturedLogs() as events:
            answer = web.ask(f"/v1/quota/{ALICE}")
        self.assertEqual(answer, (503, TROUBLE))
        (line,) = [formatEvent(event) for event in events]
        self.assertEqual(line, f"session {CLIENT.id}: /v1/quota/{ALICE}: secret")

    def test_a_client_that_has_gone_is_answered_nothing(self) -> None:
        web = Web(store=self.make_store())
        answer: Deferred[Account | None] = Deferred()
        web.directory.recipient = lambda _: answer  # type: ignore[method-assign]
        channel, line = web.connect()
        channel.dataReceived(request(f"/v1/quota/{ALICE}", TOKEN.encode()))
        channel.connectionLost(Failure(ConnectionLost()))
        answer.callback(Account(name=ALICE, mailbox=ALICE))
        self.assertEqual(line.value(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])


@pytest.mark.usefixtures("engines")
@pytest.mark.xdist_group("cluster")
class ClusterMailboxTests(Waits, MailboxTests):
    def make_store(self) -> Any:
        bench = ClusterBench(self)
        for name in PEOPLE:
            bench.add(name)
        bench.deliver(b"x" * 98 + b"\r\n", bench.add(ALICE))
        return bench.store


class DoorTests(SynchronousTestCase):
    def test_only_the_token_opens_whatever_octets_it_is_compared_with(self) -> None:
        for token in (b"", b"t0ken", b"\xff\xfe", "t0ken-ü".encode("latin-1"), TOKEN.encode()[:-1]):
            web = Web()
            for path in ("/v1/quota", f"/v1/quota/{ALICE}", "/v1/quota/nobody@example.org"):
                self.assertEqual(web.ask(path, token)[0], 401, token)
        self.assertEqual(Web("").ask("/v1/quota", b"")[0], 200)

    def test_nothing_but_get_and_head_is_answered(self) -> None:
        web = Web()
        for path in ("/v1/quota", f"/v1/quota/{ALICE}"):
            self.assertEqual(web.ask(path, method="HEAD"), (200, None))
            for method in ("POST", "PUT", "DELETE", "XYZZY"):
                status, found = web.ask(path, method=method)
                self.assertEqual((status, found["detail"]), (405, "expected GET, HEAD"))

    def test_a_body_is_kept_nowhere(self) -> None:
        web = Web()
        channel, line = web.connect()
        channel.dataReceived(request("/v1/quota", b"", "POST", 10**9))
        for _ in range(10):
            channel.dataReceived(b"x" * 100_000)
        self.assertEqual(channel.requests[0].sent_body, b"")
        self.assertEqual(line.value(), b"")

    def test_a_query_of_any_length_is_refused_or_answered(self) -> None:
        web = Web()
        channel, line = web.connect()
        channel.dataReceived(b"GET /v1/quota?" + b"a=b&" * 100_000)
        self.assertTrue(line.disconnecting)
        self.assertEqual(web.ask("/v1/quota?" + "a=b&" * 2000)[0], 400)


class BadNames(MemoryStore):
    """Many mailboxes, none of which can be counted, told at once."""

    def usage(self, account: Account) -> Deferred[Usage]:
        return fail(BadMailboxName(account.name))


class CountedStore(MemoryStore):
    """One that knows of which mailboxes it was asked, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.answers: list[Deferred[None]] | None = None

    def usage(self, account: Account) -> Deferred[Usage]:
        self.asked.append(account.name)
        if self.answers is None:
            return super().usage(account)
        self.answers.append(Deferred())
        return self.answers[-1].addCallback(lambda _: super(CountedStore, self).usage(account))


class CountTests(SynchronousTestCase):
    def test_by_name_only_the_mailboxes_of_the_page_are_counted(self) -> None:
        store = CountedStore()
        web = Web(store=filled(store))
        found = web.ask("/v1/quota?sort=mailbox&per_page=2&page=1")[1]["mailboxes"]
        self.assertEqual([one["mailbox"] for one in found], sorted((ALICE, *ODD))[2:4])
        self.assertEqual(store.asked, sorted((ALICE, *ODD))[2:4])

    def test_by_what_they_hold_all_are_counted_once_for_a_while(self) -> None:
        store = CountedStore()
        web = Web(store=filled(store))
        for query in ("page=0", "page=1", "sort=messages"):
            self.assertEqual(len(web.ask(f"/v1/quota?per_page=3&{query}")[1]["mailboxes"]), 3)
        self.assertEqual(len(store.asked), 6)
        store.add(ALICE).deliver(b"x" * 100)
        web.clock.advance(KEPT)
        self.assertEqual(web.ask("/v1/quota")[1]["mailboxes"][0]["octets"], 200)
        self.assertEqual(len(store.asked), 12)

    def test_all_who_ask_during_a_count_wait_for_it(self) -> None:
        store = CountedStore()
        web = Web(store=filled(store))
        store.answers = []
        lines = []
        for _ in range(3):
            channel, line = web.connect()
            channel.dataReceived(request("/v1/quota", TOKEN.encode()))
            lines.append(line)
        while store.answers:
            store.answers.pop(0).callback(None)
        self.assertEqual([said(line.value())[0] for line in lines], [200] * 3)
        self.assertEqual(len(store.asked), 6)


class ListTests(SynchronousTestCase):
    def test_ten_thousand_mailboxes_need_no_stack(self) -> None:
        for kind, count in ((MemoryStore, 10), (BadNames, 0)):
            web = Web(store=filled(kind()))
            names = [f"{number:05}@example.org" for number in range(10_000)]
            web.store.names = lambda names=names: succeed(names)  # type: ignore[method-assign,misc]
            for name in names:
                web.store.add(name)
            status, found = web.ask("/v1/quota?per_page=10&page=999&sort=mailbox")
            self.assertEqual((status, len(found["mailboxes"])), (200, count))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_directory_that_is_down_is_one_503_and_no_traceback(self) -> None:
        web = Web()
        web.directory.owner = lambda _: fail(DirectoryDown("away"))  # type: ignore[method-assign]
        self.assertEqual(web.ask("/v1/quota"), (503, TROUBLE))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_one_whose_owner_nobody_can_tell_is_left_out(self) -> None:
        web = Web()
        owner = web.directory.owner

        def ambiguous(mailbox: str) -> Any:
            if mailbox == ODD[0]:
                return fail(DirectoryMisconfigured("more than one"))
            return owner(mailbox)

        web.directory.owner = ambiguous  # type: ignore[method-assign]
        names = [row["mailbox"] for row in web.ask("/v1/quota")[1]["mailboxes"]]
        self.assertEqual(sorted(names), sorted({ALICE, *ODD[1:]}))

    def test_the_fullest_come_first(self) -> None:
        found = Web().ask("/v1/quota?per_page=2")[1]["mailboxes"]
        self.assertEqual([one["octets"] for one in found], [100, 0])
        for query in ("sort=colour", "page=-1", "per_page=0", "per_page=1001", "page=x"):
            self.assertEqual(Web().ask(f"/v1/quota?{query}")[0], 400, query)
