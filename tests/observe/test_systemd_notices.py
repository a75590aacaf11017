"""What systemd gets to know, on a real socket and a clock that is advanced."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import (
    BackEndBack,
    BackEndDown,
    BackEndReplaced,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    ReloadEnded,
    ReloadStarted,
    ServerReady,
    ServerStopping,
)
from gateway.model import Connection
from gateway.observe.bus import EventBus
from gateway.observe.systemd import AGAIN, REFRESH, SystemdNotices, watchdog_interval

CLIENT = Connection("1f", "192.0.2.1")


class SystemdCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.setblocking(False)

    def path(self) -> str:
        """Of a socket; sockets have short ones."""
        directory = tempfile.mkdtemp(prefix="pop3gw-")
        self.addCleanup(shutil.rmtree, directory)
        return f"{directory}/notify"

    def listen(self, path: str, **environ: str) -> EventBus:
        """Begin, with systemd at this socket; what was sent by then is read."""
        self.systemd.bind(path.replace("@", "\0", 1))
        self.environ = {"NOTIFY_SOCKET": path, **environ}
        self.notices = SystemdNotices(self.clock, self.environ)
        bus = EventBus()
        bus.subscribe(self.notices.subscription)
        self.notices.start()
        return bus

    def read(self) -> list[str]:
        """The messages that systemd has not read yet."""
        found = []
        while True:
            try:
                found.append(self.systemd.recv(4096).decode())
            except BlockingIOError:
                return found


class StateTests(SystemdCase):
    def setUp(self) -> None:
        super().setUp()
        self.bus = self.listen(self.path())

    def after(self, *happened: Event) -> list[str]:
        """The messages after these events."""
        self.read()
        for event in happened:
            self.bus.emit(event)
        return self.read()

    def test_it_starts_is_ready_and_stops_within_the_time_of_its_drain(self) -> None:
        self.assertEqual(self.read(), ["STATUS=starting; connections: none\n"])
        self.assertEqual(
            self.after(ServerReady("")), ["READY=1\nSTATUS=ready; connections: none\n"]
        )
        self.assertEqual(
            self.after(ServerStopping(30.5)),
            ["STOPPING=1\nEXTEND_TIMEOUT_USEC=40500000\nSTATUS=stopping; connections: none\n"],
        )

    def test_a_directory_that_is_down_at_the_start_is_in_the_status_of_a_ready_server(self) -> None:
        (said,) = self.after(ServerReady("no answer within 5 s"))
        self.assertTrue(said.startswith("READY=1\nSTATUS=ready; directory at start: no answer"))

    def test_a_reload_says_when_it_began_and_when_it_is_over(self) -> None:
        before = time.monotonic_ns() // 1000
        began, over = self.after(ServerReady(""), ReloadStarted(), ReloadEnded())[1:]
        flag, when, _ = began.splitlines()
        self.assertEqual(flag, "RELOADING=1")
        name, _, microseconds = when.partition("=")
        self.assertEqual(name, "MONOTONIC_USEC")
        self.assertLessEqual(before, int(microseconds))
        self.assertLessEqual(int(microseconds), time.monotonic_ns() // 1000)
        self.assertEqual(over, "READY=1\nSTATUS=ready; connections: none\n")

    def test_a_reload_makes_no_server_ready_that_was_not_or_is_stopping(self) -> None:
        self.assertEqual(self.after(ReloadStarted(), ReloadEnded()), [])
        self.after(ServerReady(""), ServerStopping(1))
        self.assertEqual(self.after(ReloadStarted(), ReloadEnded()), [])

    def test_the_status_counts_connections_seldom(self) -> None:
        opened, closed = ConnectionOpened(CLIENT, "pop3"), ConnectionClosed(CLIENT, "pop3")
        lmtp = ConnectionOpened(CLIENT, "lmtp")
        self.assertEqual(self.after(opened, opened, lmtp, closed), [])
        self.clock.advance(REFRESH)
        self.assertEqual(self.read(), ["STATUS=starting; connections: lmtp=1 pop3=1\n"])
        self.clock.advance(REFRESH)
        self.assertEqual(self.read(), [])
        self.bus.emit(ConnectionClosed(CLIENT, "lmtp"))
        self.clock.advance(REFRESH)
        self.assertEqual(self.read(), ["STATUS=starting; connections: pop3=1\n"])

    def test_the_status_names_a_back_end_that_is_down_and_has_one_line(self) -> None:
        self.after(ServerReady(""), BackEndDown("ldap://one", "refused\nREADY=1"))
        self.clock.advance(REFRESH)
        status = "STATUS=ready; connections: none; ldap://one down: refused READY=1\n"
        self.assertEqual(self.read(), [status])
        self.after(BackEndBack("ldap://one", 60))
        self.clock.advance(REFRESH)
        self.assertEqual(self.read(), ["STATUS=ready; connections: none\n"])
        self.after(BackEndDown("ldap://two", "refused"), BackEndReplaced("ldap://two"))
        self.clock.advance(REFRESH)
        self.assertEqual(self.read(), [])

    def test_a_reload_that_keeps_the_old_configuration_is_in_the_status(self) -> None:
        self.after(ServerReady(""))
        (_, over) = self.after(ReloadStarted(), ReloadEnded(problems=("pop3gw.toml:3: no",)))
        status = "STATUS=ready; reload: pop3gw.toml:3: no; connections: none"
        self.assertEqual(over, f"READY=1\n{status}\n")

    def test_after_its_end_nothing_is_sent(self) -> None:
        self.notices.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SocketTests(SystemdCase):
    def test_an_abstract_socket_is_one_too(self) -> None:
        self.listen(f"@pop3gw-test-{os.getpid()}-{id(self)}")
        self.assertEqual(len(self.read()), 1)

    def test_no_child_of_the_server_may_speak_for_it(self) -> None:
        self.listen(self.path())
        self.assertNotIn("NOTIFY_SOCKET", self.environ)

    def test_without_systemd_nothing_is_counted_and_no_timer_runs(self) -> None:
        notices = SystemdNotices(self.clock, {})
        self.assertEqual(notices.subscription, {})
        notices.start()
        notices.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_full_queue_delays_messages_and_loses_none(self) -> None:
        bus = self.listen(self.path())
        self.read()
        for _ in range(5000):
            bus.emit(ServerReady(""))
        bus.emit(ServerStopping(1))
        found: list[str] = []
        while more := self.read():
            found += more
            self.clock.advance(AGAIN)
        self.assertEqual(
            [text.partition("=")[0] for text in found], ["READY"] * 5000 + ["STOPPING"]
        )

    def test_a_systemd_that_is_gone_is_logged_once_and_harms_nobody(self) -> None:
        path = self.path()
        bus = self.listen(path)
        Path(path).unlink()
        with capturedLogs() as lines:
            for _ in range(3):
                bus.emit(ServerReady(""))
        self.assertEqual(
            [str(formatEvent(line)) for line in lines],
            ["systemd was not notified: No such file or directory"],
        )


class WatchdogTests(SystemdCase):
    def test_it_is_told_twice_in_its_time_from_the_reactor_alone(self) -> None:
        self.listen(self.path(), WATCHDOG_USEC="3000000")
        self.assertEqual(self.read(), ["WATCHDOG=1\nSTATUS=starting; connections: none\n"])
        for _ in range(4):
            self.clock.advance(1.5)
            self.assertEqual(self.read(), ["WATCHDOG=1\n"])

    def test_it_is_not_told_where_nobody_watches_this_process(self) -> None:
        other = str(os.getpid() + 1)
        for environ in (
            {},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "many"},
            {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": other},
        ):
            self.assertIsNone(watchdog_interval(environ))
        own = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        self.assertEqual(watchdog_interval(own), 1.5)
