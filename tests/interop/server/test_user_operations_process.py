"""Users, throttle, logins and deliveries of late, asked of a real server of one or two workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import poplib
import signal
import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.client import NoServer, Refused
from gateway.cli.client import Server as Operator
from gateway.directory import passwd_entries
from gateway.operations.users.auth import auth_test, flush_caches
from gateway.operations.users.logins import list_logins
from gateway.operations.users.recent import list_deliveries, list_failed_logins
from gateway.operations.users.throttle import forgive, list_throttled
from gateway.operations.users.users import show_user
from mail_places import Mail, MailOf
from servers import PASSWORD, USER, Gateway

pytestmark = pytest.mark.interop

BOB = "bob@example.org"
GUESS = "s3cret-guess"
SETTINGS = """\
[lmtp]
endpoint = "unix:{directory}/lmtp"
[policy]
endpoint = "unix:{directory}/policy"
unknown = "reject"
[throttle]
free = 2
delay = 0.2
longest = 1.0
[processes]
workers = {workers}
"""


class Office(Gateway):
    """A gateway with two accounts, and who asks it."""

    def __init__(self, directory: Path, workers: int, mail: Mail) -> None:
        super().__init__(directory, SETTINGS.format(directory=directory, workers=workers), mail)
        self.workers = workers
        passwd_entries.put(str(self.accounts), BOB, PASSWORD.encode(), "SSHA256")
        self.mail.put(USER, [])
        self.operator = Operator(str(directory), 60)

    def run(self, **env: str) -> Gateway:
        """Start it; returns once it answers operators."""
        super().run(**env)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.operator.ask(list_throttled)
            except (NoServer, Refused):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return self

    def log_in(self, user: str = USER, password: str = PASSWORD) -> poplib.POP3:
        """A session."""
        client = poplib.POP3("127.0.0.1", self.plain, timeout=60)
        client.user(user)
        client.pass_(password)
        return client

    def guess(self, user: str, count: int) -> None:
        """Somebody tries wrong passwords, by a connection each."""
        for number in range(count):
            with pytest.raises(poplib.error_proto):
                self.log_in(user, f"{GUESS}{number}")

    def deliver(self, *people: str, message_id: str = "<m1@example.net>") -> None:
        """Postfix delivers by LMTP."""
        content = f"Message-ID: {message_id}\r\n\r\ntext\r\n"
        lmtp = str(self.directory / "lmtp")
        with contextlib.suppress(smtplib.SMTPRecipientsRefused), smtplib.LMTP(lmtp) as client:
            client.sendmail("eve@example.net", people, content)

    def http(self, method: str, target: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and content of any answer."""
        line = http.client.HTTPConnection("localhost", timeout=60)
        line.sock = socket.socket(socket.AF_UNIX)
        line.sock.settimeout(60)
        line.sock.connect(str(self.directory / "control"))
        line.request(method, target, body, {"content-type": "application/json"})
        answer = line.getresponse()
        content = json.loads(answer.read())
        line.close()
        return answer.status, content


@pytest.fixture
def office(mail_and_workers: tuple[MailOf, int], tmp_path: Path) -> Iterator[Office]:
    """A running server."""
    mail_of, workers = mail_and_workers
    found = Office(tmp_path, workers, mail_of(tmp_path))
    found.run()
    yield found
    found.stop()


def test_why_mail_did_not_come_is_answered_whichever_process_took_it(office: Office) -> None:
    for number in range(6):
        office.deliver(BOB, "nobody@example.org", message_id=f"<m{number}@example.net>")
    ask = office.operator.ask
    (row,) = ask(list_deliveries, message_id="m4@example.net").items
    assert (row.outcome, row.mailbox, row.recipients) == ("delivered", BOB, (BOB,))
    office.wait_for(f" message={row.message} ".encode())
    refused = ask(list_deliveries, outcome="not-delivered", address="nobody@example.org")
    assert refused.total == 6
    assert {one.error for one in refused.items} == {"UnknownRecipient"}
    found = ask(list_deliveries, user=BOB).items
    assert len(found) == 6
    assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)


def test_postfix_is_told_no_and_an_operator_reads_why(office: Office) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(office.directory / "policy"))
        line.sendall(
            b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=eve@example.net\n"
            b"recipient=nobody@example.org\nqueue_id=4F1\n\n"
        )
        assert b"550 5.1.1" in line.recv(200)
    (row,) = office.operator.ask(list_deliveries, outcome="policy").items
    assert (row.sender, row.message) == ("eve@example.net", "4F1")
    assert "550 5.1.1" in row.reason


def test_why_a_login_failed_who_waits_and_how_it_is_forgiven(office: Office) -> None:
    office.guess(BOB, 4)
    ask = office.operator.ask
    failed = ask(list_failed_logins, user=BOB).items
    assert [one.user for one in failed] == [BOB] * 4
    assert {one.reason.partition(":")[0] for one in failed} == {"wrong password"}
    assert {one.error for one in failed} == {"WrongPassword"}
    (row,) = ask(list_throttled, search="bob", kind="passwords").items
    assert (row.count, row.network) == (4, "127.0.0.1/32")
    assert any("4 wrong passwords" in one for one in ask(show_user, user=BOB).login_refused)
    assert ask(forgive, user=BOB).places == 1
    assert ask(list_throttled, search="bob").items == ()
    assert ask(show_user, user=BOB).login_refused == ()
    office.log_in(BOB).quit()


def test_a_login_is_tested_without_a_trace_of_the_password(office: Office) -> None:
    ask = office.operator.ask
    for _ in range(3):
        wrong = ask(auth_test, user=BOB, password=GUESS)
        assert (wrong.passed, wrong.failed) == (False, "password")
    assert ask(auth_test, user=BOB, password=PASSWORD).passed
    # Nobody waits because of it.
    assert ask(list_throttled).items == ()
    for _ in range(6):
        ask(auth_test, user=BOB, password=PASSWORD)
    with pytest.raises(Refused, match="try again in") as refused:
        ask(auth_test, user=BOB, password=PASSWORD)
    assert refused.value.status == 429
    office.stop()
    assert GUESS not in office.log
    assert PASSWORD not in office.log


def test_caches_of_all_processes_are_flushed(office: Office) -> None:
    for _ in range(8):
        office.log_in(BOB).quit()
    done = office.operator.ask(flush_caches, user=BOB)
    assert done.processes == office.workers
    assert 1 <= done.passwords <= office.workers
    assert 1 <= done.listings <= office.workers
    office.log_in(BOB).quit()
    assert office.operator.ask(flush_caches).passwords == 1


def test_a_login_is_listed_at_once_whichever_process_has_it(office: Office) -> None:
    ask = office.operator.ask
    assert {one.at for one in ask(list_logins).items} == {None}
    began = time.time()
    office.log_in().quit()
    (row,) = [one for one in ask(list_logins).items if one.at is not None]
    assert row.mailbox == USER
    assert row.at is not None
    assert row.at >= began - 1
    assert ask(list_logins, unused_days=90, search=USER).items == ()


def test_last_logins_outlive_a_stop_and_a_kill_loses_none_that_was_stored(office: Office) -> None:
    began = time.time()
    office.log_in().quit()
    office.stop()
    office.run()
    rows = {one.mailbox: one for one in office.operator.ask(list_logins).items}
    login = rows[USER]
    assert login.at is not None
    assert began - 1 <= login.at <= time.time()
    assert (login.method, login.network) == ("PASS", "local")
    office.log_in().quit()
    office.stop(signal.SIGKILL)
    office.run()
    again = {one.mailbox: one for one in office.operator.ask(list_logins).items}[USER]
    assert again.at is not None
    assert again.at >= login.at


BAD = [
    ("GET", "/v1/users/%00", 404),
    ("GET", "/v1/users/nobody%2F..%2F..%2Fetc", 404),
    ("GET", "/v1/users/%3Cscript%3E", 404),
    ("GET", "/v1/users/%ff%fe", 400),
    ("GET", "/v1/users/" + "x" * 3000, 404),
    ("GET", "/v1/logins?page=-1", 400),
    ("GET", "/v1/logins?per_page=1000000000", 400),
    ("GET", "/v1/logins?unused_days=%D9%A1", 400),
    ("GET", "/v1/audit?cursor=1%3A1%3A1", 422),
    ("GET", "/v1/audit?since=nan", 400),
    ("GET", "/v1/deliveries?outcome=lost", 400),
    ("GET", "/v1/deliveries?address=%ff", 400),
    ("GET", "/v1/throttle?kind=x", 400),
    ("GET", "/v1/users/bob/auth-test?password=" + GUESS, 405),
    ("POST", "/v1/users/bob/auth-test?password=" + GUESS, 400),
    ("POST", "/v1/throttle/forgive", 422),
    ("DELETE", "/v1/users/bob", 405),
]


def test_bad_questions_get_a_clear_refusal_and_leave_no_secret_in_the_log(office: Office) -> None:
    answers = [(target, status, office.http(method, target)) for method, target, status in BAD]
    wrong = [(target, status, got) for target, status, (got, _) in answers if status != got]
    assert wrong == []
    for _, _, (_, problem) in answers:
        assert GUESS not in json.dumps(problem)
        assert "Traceback" not in json.dumps(problem)
    for body in (b"[]", b"{", b'{"password": 5}', b'{"password": "\\u0000"}', b"\xff", b"{}"):
        status, problem = office.http("POST", "/v1/users/bob/auth-test", body)
        assert status == 400, (body, problem)
    assert office.http("GET", "/v1/logins")[0] == 200
    office.stop()
    assert GUESS not in office.log
    assert "Traceback" not in office.log
