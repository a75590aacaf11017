"""How lines of the log look: as text and as JSON, whatever a client sends."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway import errors, events
from gateway.events import Event, problem_of
from gateway.model import Connection, Proxy
from gateway.observe.log_events import ROWS
from gateway.observe.log_file import BufferedLog
from gateway.observe.log_form import FORM, LEVELS, LONGEST_LINE, Line, line_of, pairs

CLIENT = Connection("1f", "192.0.2.1", True, "pop3s", Proxy("10.0.0.1", "a=b"))
TIME = 1_795_882_800.25

# Also what no UTF-8 has: names of files, and octets that a client sent.
anything = st.text(st.characters(exclude_categories=()), max_size=60)


def failed(user: str, method: str = "PLAIN", reason: str = "wrong") -> events.LoginFailed:
    """A login that failed."""
    problem = problem_of(errors.WrongPassword(reason))
    return events.LoginFailed(CLIENT, user, method, problem, "TLSv1.3")


def ended(user: str, reason: str = "") -> events.POP3SessionEnded:
    """A session's end."""
    counts = 3, 1500, 1, 90, 2, 7, 1.25
    return events.POP3SessionEnded(CLIENT, "quit", user, "TLSv1.3", "PLAIN", *counts, reason)


def logged(event: Event, *, is_json: bool) -> bytes:
    """The line for an event."""
    row = ROWS[type(event)]
    level = row.level(event) if callable(row.level) else row.level
    FORM.configure("json" if is_json else "text", "debug")
    try:
        return line_of({"line": Line(row, event), "log_level": level, "log_time": TIME})
    finally:
        FORM.configure("text", "info")


class TextTests(SynchronousTestCase):
    def test_an_event_comes_first_and_its_fields_follow(self) -> None:
        line = logged(failed("bob@example.org"), is_json=False).decode()
        self.assertRegex(
            line, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} info login_failed: user=bob@"
        )
        self.assertTrue(
            line.endswith(
                " user=bob@example.org from=192.0.2.1 via=10.0.0.1"
                ' proxy_session="a=b" tls=TLSv1.3 method=PLAIN listener=pop3s session=1f'
                ' reason="wrong password" detail=wrong\n'
            ),
            line,
        )

    def test_the_end_of_a_session_has_the_counters_that_dovecot_has(self) -> None:
        line = logged(ended("bob"), is_json=False).decode()
        self.assertIn(" retr=3/1500 top=1/90 del=2/7 seconds=1.2 ", line)

    @given(anything, anything)
    def test_no_client_breaks_out_of_a_line_or_of_a_value(self, user: str, reason: str) -> None:
        for event in (failed(user, reason, reason), ended(user, reason)):
            line = logged(event, is_json=False)
            self.assertEqual(line.count(b"\n"), 1)
            fields = line.decode().split(": ", 1)[1]
            names = re.sub(r'"(\\.|[^"\\])*"', '""', fields)
            keys = [word.partition("=")[0] for word in names.split()]
            self.assertEqual(len(keys), len(set(keys)))
            self.assertLessEqual(set(keys), set(ROWS[type(event)].fields(event)))
            self.assertIn(" from=192.0.2.1 ", f" {names}")

    @given(anything, anything)
    def test_the_faster_way_to_the_end_of_a_session_says_the_same(
        self, user: str, reason: str
    ) -> None:
        row = ROWS[events.POP3SessionEnded]
        for client in (CLIENT, CLIENT._replace(proxy=None, listener="", host="")):
            event = ended(user, reason)._replace(connection=client)
            self.assertEqual(row.words(event), pairs(row.fields(event)))

    @given(anything, anything)
    def test_the_faster_way_to_a_login_says_the_same(self, user: str, mailbox: str) -> None:
        row = ROWS[events.LoginSucceeded]
        for client in (CLIENT, CLIENT._replace(proxy=None, listener="", host="")):
            for name, tls in ((mailbox, "TLSv1.3"), (user, "no"), ("", "")):
                event = events.LoginSucceeded(client, user, name, "PLAIN", tls)
                self.assertEqual(row.words(event), pairs(row.fields(event)))

    def test_a_shell_reads_a_value_as_it_was(self) -> None:
        for user in ("x from=1.2.3.4", 'a"b', "a\\b", "plain", "J\xf6rg Pl\xf6tz"):
            line = logged(failed(user), is_json=False).decode()
            self.assertIn(f"user={user}", shlex.split(line))


class JsonTests(SynchronousTestCase):
    def found(self, line: bytes) -> dict[str, Any]:
        """What a collector reads; each name is there once."""

        def once(found: list[tuple[str, Any]]) -> dict[str, Any]:
            self.assertEqual(len(found), len(dict(found)))
            return dict(found)

        self.assertEqual(line.count(b"\n"), 1)
        read: dict[str, Any] = json.loads(line.decode("utf-8"), object_pairs_hook=once)
        return read

    def test_an_object_has_time_level_event_and_the_fields(self) -> None:
        self.assertEqual(
            self.found(logged(ended("bob"), is_json=True)),
            {
                "time": "2026-11-28T16:20:00.250Z",
                "level": "info",
                "event": "session_end",
                "end": "quit",
                "user": "bob",
                "from": "192.0.2.1",
                "via": "10.0.0.1",
                "proxy_session": "a=b",
                "tls": "TLSv1.3",
                "method": "PLAIN",
                "retr": 3,
                "retr_octets": 1500,
                "top": 1,
                "top_octets": 90,
                "del": 2,
                "messages": 7,
                "seconds": 1.25,
                "listener": "pop3s",
                "session": "1f",
            },
        )

    @given(anything, anything)
    def test_it_is_one_line_of_json_whatever_a_client_sends(self, user: str, reason: str) -> None:
        found = self.found(logged(failed(user, reason, reason), is_json=True))
        self.assertEqual((found["event"], found["from"]), ("login_failed", "192.0.2.1"))
        shown = user.encode("utf-8", "backslashreplace").decode()
        self.assertEqual(found.get("user", ""), shown)
        for value in found.values():
            str(value).encode("utf-8")

    def test_no_line_is_longer_than_a_pipe_keeps_whole(self) -> None:
        line = logged(failed("x", "\x00" * 100_000, "\U0001f600" * 100_000), is_json=True)
        self.assertLess(len(line), LONGEST_LINE)
        self.assertEqual(self.found(line)["event"], "login_failed")

    def direct(self, tell: Any) -> dict[str, Any]:
        """What is written for a line that is no event."""
        written: list[bytes] = []
        log = BufferedLog(written.append, Clock().callLater, lambda: False)
        FORM.configure("json", "info")
        self.addCleanup(FORM.configure, "text", "info")
        tell(Logger("gateway.store.maildir.x", observer=log))
        return self.found(b"".join(written))

    def test_a_line_that_is_no_event_is_a_notice_with_its_fields(self) -> None:
        found = self.direct(
            lambda log: log.warn("{path}: {error}", path="/a", error=OSError("no"), time="x")
        )
        self.assertEqual(found.pop("time")[:2], "20")
        self.assertEqual(
            found,
            {
                "level": "warn",
                "event": "notice",
                "part": "pop3gw.store",
                "text": "/a: no",
                "path": "/a",
                "error": "no",
            },
        )

    def test_a_traceback_is_one_line(self) -> None:
        def fail(log: Logger) -> None:
            try:
                raise ZeroDivisionError("x\ny")
            except ZeroDivisionError:
                log.failure("session {id}: internal error", Failure(), id="1f")

        found = self.direct(fail)
        self.assertEqual(
            (found["level"], found["event"], found["error"], found["id"]),
            ("error", "internal_error", "ZeroDivisionError", "1f"),
        )
        self.assertIn("Traceback", found["traceback"])


class LevelTests(SynchronousTestCase):
    def test_lines_below_the_level_are_left_out(self) -> None:
        written: list[bytes] = []
        log = Logger("x", observer=BufferedLog(written.append, Clock().callLater, lambda: False))
        self.addCleanup(FORM.configure, "text", "info")
        for level, most in (("debug", 4), ("info", 3), ("warn", 2), ("error", 1)):
            written.clear()
            FORM.configure("text", level)
            for name in ("debug", "info", "warn", "error"):
                getattr(log, name)("said")
            self.assertEqual(len(b"".join(written).splitlines()), most)
        self.assertEqual(max(LEVELS.values()), LEVELS["critical"])

    def test_mail_refused_for_a_fault_of_the_server_is_a_warning(self) -> None:
        whose = {
            "info": (
                errors.UnknownRecipient("x"),
                errors.RecipientBarred("x"),
                errors.RefusedByPolicy("x"),
                errors.OverQuota("x"),
                errors.LargerThanQuota("x"),
            ),
            "warn": (
                errors.MailboxUnusable("x"),
                errors.NoRoom("x"),
                errors.StoreDown("x"),
                errors.DirectoryDown("x"),
                errors.DirectoryMisconfigured("x"),
                errors.Overloaded("x"),
                errors.NoSuchMailbox("x"),
                ValueError("x"),
            ),
        }
        for level, causes in whose.items():
            for problem in map(problem_of, causes):
                for event in (
                    events.RecipientRefused(CLIENT, "bob@example.org", problem),
                    events.DeliveryFailed(CLIENT, problem),
                ):
                    self.assertIn(f" {level} ".encode(), logged(event, is_json=False)[:40])

    def test_postfix_that_gets_no_answer_is_a_warning(self) -> None:
        for level, answer in ("info", "552 5.2.2 Mailbox is full"), ("warn", ""):
            event = events.PolicyRefused(CLIENT, "a@example.org", "bob@example.org", "4X", answer)
            self.assertIn(f" {level} ".encode(), logged(event, is_json=False)[:40])

    def test_twisteds_lines_about_ports_are_left_out(self) -> None:
        written: list[bytes] = []
        log = Logger("-", observer=BufferedLog(written.append, Clock().callLater, lambda: False))
        for text in (
            "Replaceable starting on 1110",
            "_ControlFactory starting on '/run/control'",
            "Starting factory <gateway.net.replaceable.Replaceable object at 0x7f>",
            "(UNIX Port '/run/control' Closed)",
            "Server Shut Down.",
        ):
            log.info("{text}", text=text)
        self.assertTrue(b"".join(written).endswith(b" info twisted: Server Shut Down.\n"))
        self.assertEqual(len(written), 1)


class TableTests(SynchronousTestCase):
    def test_each_name_is_of_one_event_and_a_word(self) -> None:
        names = [row.name for row in ROWS.values()]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertRegex(name, r"\A[a-z][a-z0-9]*(_[a-z]+)*\Z")
