"""``/metrics``, ``/healthz`` and ``/v1/history``, on the wire."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from attrs import evolve, fields
from prometheus_client.parser import text_string_to_metric_families
from test_api import TOKENS, Answer, ApiCase, read
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.app.server.questions import Questions, SingleProcess
from gateway.events import CommandsDone, LoginSucceeded
from gateway.http.access import Access
from gateway.http.api import Api, ApiResource
from gateway.http.routes import ROUTES
from gateway.http.site import BoundedSite
from gateway.model import Connection
from gateway.observe.bus import EventBus
from gateway.observe.families import FAMILIES
from gateway.observe.figures import Figures
from gateway.observe.history import History
from gateway.operations.tools import Tools

CLIENT = Connection("1f", "192.0.2.1")


class FiguresCase(ApiCase):
    """The server's own routes, with figures of a process."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.figures, self.bus, questions = Figures(), EventBus(), Questions()
        self.bus.subscribe(self.figures.subscription)
        history = History(0.0)
        self.checks: list[dict[str, str]] = []
        questions.answer("figures", lambda _: self.figures.snapshot())
        questions.answer("history", lambda _: history.rows(30.0, self.figures.snapshot()))
        questions.answer("readiness", lambda _: self.checks)

        def run(work: Any) -> Deferred[Any]:
            return maybeDeferred(work)

        tools = Tools(**{one.name: mock.sentinel.part for one in fields(Tools)})
        tools = evolve(tools, processes=SingleProcess(questions), run=run)
        access = Access(TOKENS, self.clock.seconds)
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


class MetricsTests(FiguresCase):
    def scrape(self) -> dict[str, Any]:
        """All samples, by name and labels."""
        answer = self.ask("/metrics", token="figures")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        samples = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            for one in family.samples:
                samples[one.name, *sorted(one.labels.items())] = one.value
        return samples

    def test_figures_have_their_names_labels_and_values(self) -> None:
        self.bus.emit(LoginSucceeded(CLIENT, "alice", "alice", "PASS"))
        self.bus.emit(CommandsDone(CLIENT, [("PASS", True, 0.02, False), ("x" * 3, True, 9, True)]))
        found = self.scrape()
        login = "pop3gw_logins_total", ("mechanism", "PASS"), ("result", "ok")
        self.assertEqual(found[login], 1)
        labels = ("command", "PASS"), ("state", "authorization")
        self.assertEqual(found["pop3gw_command_seconds_count", *labels], 1)
        self.assertEqual(found["pop3gw_command_seconds_sum", *labels], 0.02)
        bucket = {
            key[2][1]: found[key]
            for key in found
            if key[0].endswith("command_seconds_bucket") and ("command", "PASS") in key
        }
        self.assertEqual((bucket["0.01"], bucket["0.03"], bucket["+Inf"]), (0, 1, 1))

    def test_counters_without_labels_are_there_before_anything_happens(self) -> None:
        found = self.scrape()
        for name, family in FAMILIES.items():
            if family.kind == "counter" and not family.labels:
                self.assertEqual(found[name,], 0, name)
        self.assertEqual(found["pop3gw_worker_ends_total", ("how", "failed")], 0)

    def test_figures_need_their_scope_and_no_more(self) -> None:
        self.assertEqual(self.ask("/metrics", token=None).status, 401)
        self.assertEqual(self.ask("/metrics", token="wrong").status, 401)
        for token in ("figures", "s3cret"):
            self.assertEqual(self.ask("/metrics", token=token).status, 200)
        self.assertEqual(self.ask("/v1/history", token="figures").status, 403)


class HistoryTests(FiguresCase):
    def test_a_minute_has_its_counts(self) -> None:
        self.bus.emit(LoginSucceeded(CLIENT, "alice", "alice", "PASS"))
        (minute,) = self.ask("/v1/history").value
        self.assertEqual(
            minute,
            {
                "began": 0.0,
                "logins": 1,
                "failed": {},
                "deliveries": 0,
                "refusals": 0,
                "retrieved_octets": 0,
            },
        )


class ProbeTests(FiguresCase):
    def ready(self, **how: Any) -> Answer:
        """The answer to a probe without a token."""
        return self.ask("/healthz/ready", token=None, **how)

    def test_a_process_that_answers_is_alive(self) -> None:
        answer = self.ask("/healthz/live", token=None)
        self.assertEqual((answer.status, answer.value), (200, {"live": True}))

    def test_a_probe_of_http_1_0_names_no_host_and_a_unix_socket_has_none(self) -> None:
        transport = StringTransport(hostAddress=UNIXAddress("/run/pop3gw"))
        channel = self.site.buildProtocol(Connection("id", ""))
        channel.makeConnection(transport)
        channel.dataReceived(b"GET /healthz/ready HTTP/1.0\r\n\r\n")
        answer = read(transport.value())
        self.assertEqual((answer.status, answer.value), (200, {"ready": True, "checks": {}}))

    def test_it_is_ready_if_no_check_has_failed(self) -> None:
        self.checks = [{"name": "disk", "state": "warn", "reason": "4 % left"}]
        self.assertEqual((self.ready().status, self.ready().value), (200, {"ready": True}))
        self.checks += [{"name": "directory", "state": "fail", "reason": "ldap://10.1.1.1 refused"}]
        self.assertEqual((self.ready().status, self.ready().value), (503, {"ready": False}))

    def test_this_machine_and_who_has_a_token_learn_why(self) -> None:
        self.checks = [
            {"name": "directory", "state": "fail", "reason": "no answer"},
            {"name": "disk", "state": "ok", "reason": ""},
        ]
        told = {"directory": {"state": "fail", "reason": "no answer"}, "disk": {"state": "ok"}}
        for how in ({"host": "127.0.0.1", "token": None}, {"token": "figures"}):
            answer = self.ask("/healthz/ready", **how)
            self.assertEqual(answer.value, {"ready": False, "checks": told})
        wrong = self.ask("/healthz/ready", token="wrong")
        self.assertEqual((wrong.status, wrong.value), (503, {"ready": False}))

    def test_operators_see_the_checks_of_all_processes(self) -> None:
        self.checks = [{"name": "disk", "state": "warn", "reason": "4 % left"}]
        answer = self.ask("/v1/readiness")
        self.assertEqual(answer.status, 200)
        self.assertEqual(
            json.loads(answer.body),
            {"ready": True, "checks": [{"name": "disk", "state": "warn", "reason": "4 % left"}]},
        )
