"""The server as an operator sees it: status, certificates, configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, evolve
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from answers import result
from certificates import Pair
from gateway.app.parts.certificates import Certificates, described
from gateway.config.listeners import CertificateFiles, Listener, Tls
from gateway.config.load import load_settings
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.errors import NotFound
from gateway.interfaces import IProcesses
from gateway.observe.log import emit_to_log
from gateway.operations.server.certificates import list_certificates
from gateway.operations.server.configuration import (
    Configuration,
    settings_in_force,
    show_configuration,
)
from gateway.operations.server.status import OpenSessions, ProcessRow, show_status
from operator_tools import Desk

NOW = 2_000_000_000.0


@implementer(IProcesses)
class Told:
    """Processes that answer so."""

    def __init__(self, each: list[Any] | None = None, parent: Any = None) -> None:
        self._each = each or []
        self._parent = parent

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:  # noqa: ARG002
        """As ``IProcesses.ask_each``."""
        return succeed(json.loads(json.dumps(self._each)))

    def ask_parent(self, question: str, argument: object = None) -> Deferred[Any]:  # noqa: ARG002
        """As ``IProcesses.ask_parent``."""
        return succeed(json.loads(json.dumps(self._parent)))


class Case(SynchronousTestCase):
    def done(self, operation: Callable[..., Any], processes: Told, **parameters: Any) -> Any:
        """What an operation returns."""
        tools = evolve(Desk(Retention(), now=NOW).tools, processes=processes)
        return result(Deferred.fromCoroutine(operation(tools, **parameters)))


class StatusTests(Case):
    def process(self, pid: int, since: float, pop3: int) -> dict[str, Any]:
        """A process that serves clients."""
        listener = {"name": "pop3", "address": "127.0.0.1:110", "tls": "stls"}
        sessions = {"pop3": pop3, "lmtp": 1}
        return {"pid": pid, "since": since, "sessions": sessions, "listeners": [listener]}

    def test_workers_are_added_up_and_the_parent_is_listed_first(self) -> None:
        processes = Told(
            [self.process(12, NOW - 5, 3), self.process(11, NOW - 9, 4)],
            {"version": "1", "pid": 10, "since": NOW - 10, "workers": 2},
        )
        shown = self.done(show_status, processes)
        self.assertEqual(
            shown.processes,
            (
                ProcessRow(10, "parent", NOW - 10, 0),
                ProcessRow(11, "worker", NOW - 9, 5),
                ProcessRow(12, "worker", NOW - 5, 4),
            ),
        )
        self.assertEqual(shown.sessions, (OpenSessions("lmtp", 2), OpenSessions("pop3", 7)))
        self.assertEqual([one.name for one in shown.listeners], ["pop3"])
        self.assertLess(abs(shown.uptime - 10), 1)

    def test_a_single_process_is_the_server(self) -> None:
        told = {"version": "1", "pid": 10, "since": NOW - 10, "workers": 0}
        shown = self.done(show_status, Told([self.process(10, NOW - 10, 3)], told))
        self.assertEqual(shown.processes, (ProcessRow(10, "server", NOW - 10, 4),))


class CertificateTests(Case):
    def test_each_is_told_once_with_its_listeners_and_problems(self) -> None:
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        org, net = Pair(str(place), "org", "pop.example.org"), Pair(str(place), "net", "other")
        settings = Settings(
            state_dir=str(place),
            tls=Tls(*org.paths, names=("pop.example.org",)),
            listeners={
                "pop3s": Listener("tcp:1", certificates=(CertificateFiles(*net.paths),)),
                "pop3": Listener("tcp:2"),
            },
        )
        made = Certificates(settings, emit_to_log)
        for name in settings.listeners:
            made.of(name)
        rows = [asdict(one) for one in described(made, settings)]
        shown = self.done(list_certificates, Told([rows, rows])).certificates
        by_path = {one.path: one for one in shown}
        one, other = by_path[org.paths[0]], by_path[net.paths[0]]
        self.assertEqual((one.listeners, one.names), (("listeners.pop3",), ("pop.example.org",)))
        self.assertEqual((one.problems, other.listeners), ((), ("listeners.pop3s",)))
        self.assertRegex(other.problems[0], "its names fit no listener: names=other")
        assert one.not_after is not None
        self.assertEqual(one.days_left, round((one.not_after - NOW) / 86_400, 2))

    def test_without_a_process_that_answers_none_are_told(self) -> None:
        self.assertEqual(self.done(list_certificates, Told()).certificates, ())


TEXT = """
state_dir = "{place}"
[listeners.a]
endpoint = "tcp:0"
tls = "none"
[limits]
connections = {connections}
[http]
endpoint = "unix:/run/x"
token = "do-not-show"
"""


class ConfigurationTests(Case):
    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.file = self.place / "pop3gw.toml"
        self.write(7)
        self.environ = {"POP3GW_LIMITS__DRAIN_TIMEOUT": "9"}
        self.running = load_settings(str(self.file), self.environ)

    def write(self, connections: object) -> None:
        """The file from now on."""
        self.file.write_text(TEXT.format(place=self.place, connections=connections))

    def shown(self, **asked: str) -> Configuration:
        """What is in force."""
        found = asdict(settings_in_force(self.running, str(self.file), self.environ))
        shown = self.done(show_configuration, Told(parent=found), **asked)
        assert isinstance(shown, Configuration)
        return shown

    def find(self, name: str) -> Any:
        """One setting."""
        (row,) = self.shown(name=name).settings
        return row

    def test_each_setting_has_its_value_and_its_origin(self) -> None:
        for name, value, origin in (
            ("limits.connections", 7, f"{self.file}:7"),
            ("limits.drain_timeout", 9.0, "POP3GW_LIMITS__DRAIN_TIMEOUT"),
            ("listeners.a.tls", "none", f"{self.file}:5"),
            ("pop3.secure_networks", ["127.0.0.0/8", "::1/128"], "default"),
        ):
            row = self.find(name)
            self.assertEqual((row.value, row.origin), (value, origin), name)
        self.assertEqual((self.shown().changed, self.shown().faults), ((), ()))

    def test_no_secret_is_shown(self) -> None:
        row = self.find("http.token")
        self.assertEqual((row.value, row.hidden), (None, True))
        self.assertNotIn("do-not-show", repr(self.shown()))

    def test_what_the_file_has_changed_since_is_named_and_keeps_its_value(self) -> None:
        self.write(8)
        self.assertEqual(self.shown().changed, ("limits.connections",))
        row = self.find("limits.connections")
        self.assertEqual((row.value, row.origin), (7, ""))

    def test_a_file_with_faults_leaves_the_values_and_says_why_no_origin_is_known(self) -> None:
        self.write('"many"')
        shown = self.shown()
        self.assertRegex(shown.faults[0], "limits.connections: expected a whole number")
        self.assertEqual(self.find("limits.connections").value, 7)

    def test_a_section_or_a_setting_can_be_asked_for(self) -> None:
        names = [one.name for one in self.shown(name="http").settings]
        self.assertIn("http.token", names)
        self.assertEqual([one for one in names if not one.startswith("http.")], [])
        for missing in ("http.tok", "x", "limits.connections.x"):
            with self.assertRaises(NotFound):
                self.shown(name=missing)
