"""Each verb of mailboxes and messages, over the control socket of a real server."""

from __future__ import annotations

import http.client
import json
import os
import poplib
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from gateway.directory import passwd_entries
from mail_places import Mail, MailOf
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

DAY = 86_400
HELD, ANNA = "held@example.org", "anna@example.org"
ODD = "j\u00f6rg & <b>s\u00f8n 100%@example.org"
MANY = 10_000
"""Messages that take a while to remove."""

PAUSE = 0.05
"""Seconds without a session, or without an operator: each has to come in between at times."""

SETTINGS = """\
[retention]
policy = "unread 36500d, hide 14d"
enabled = true
[quota]
octets = "1 MB"
[lmtp]
endpoint = "unix:{directory}/lmtp"
[processes]
workers = {workers}
"""


def message(number: int) -> bytes:
    """A message."""
    return (
        b"From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>\r\nSubject: <b>%d</b>\r\n"
        b"Message-ID: <%d@example.net>\r\n\r\nsecret text\r\n" % (number, number)
    )


class Answer(NamedTuple):
    """An answer of the API."""

    status: int
    content: Any
    headers: http.client.HTTPMessage


class ControlSocket(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Office(Gateway):
    """A gateway with a few mailboxes, and what an operator asks of it."""

    def __init__(self, directory: Path, workers: int, mail: Mail | None = None) -> None:
        super().__init__(directory, SETTINGS.format(directory=directory, workers=workers), mail)
        passwd_entries.put(str(self.accounts), HELD, PASSWORD.encode(), "SSHA256")
        *others, held = self.accounts.read_text().splitlines()
        held = held.rpartition(":")[0] + ":retention=hold"
        self.accounts.write_text("\n".join([*others, held]) + "\n")
        for name in (USER, HELD, ODD):
            self.mail.put(name, map(message, range(3)))

    def run(self, **env: str) -> Gateway:
        """Start it; returns once it answers at the control socket."""
        super().run(**env)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "mailboxes")
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return self

    def ask(self, method: str, path: str, **content: Any) -> Answer:
        """An answer; ``path`` without ``/v1/``; ``content`` is the query of a GET, or the body."""
        line = ControlSocket(str(self.directory / "control"))
        target, body = f"/v1/{path}", None
        if method == "GET" and content:
            target += "?" + "&".join(f"{name}={quote(str(one))}" for name, one in content.items())
        elif content:
            body = json.dumps(content)
        line.request(method, target, body, {"content-type": "application/json"})
        got = line.getresponse()
        data = got.read()
        line.close()
        return Answer(got.status, json.loads(data) if data else None, got.headers)

    def done(self, method: str, path: str, **content: Any) -> Any:
        """The value of an answer without a problem."""
        answer = self.ask(method, path, **content)
        assert answer.status == 200, answer
        return answer.content

    def log_in(self, user: str = USER) -> poplib.POP3:
        """A session."""
        client = poplib.POP3("127.0.0.1", self.plain, timeout=60)
        client.user(user)
        client.pass_(PASSWORD)
        return client

    def uids(self, user: str = USER) -> list[str]:
        """What UIDL says."""
        client = self.log_in(user)
        found = [line.split()[1].decode() for line in client.uidl()[1]]
        client.quit()
        return found

    def audited(self) -> list[tuple[str, str, str]]:
        """Action, unique-id and operator of the entries of the audit."""
        entries = self.mail.audited()
        return [(entry["action"], entry["uid"], entry["operator"]) for entry in entries]


def place(mailbox: str, rest: str = "") -> str:
    """The path of a mailbox in the API."""
    return f"mailboxes/{quote(mailbox, safe='')}{rest}"


@pytest.fixture
def office(mail_and_workers: tuple[MailOf, int], tmp_path: Path) -> Iterator[Office]:
    """A server, which must have foreseen everything."""
    mail_of, workers = mail_and_workers
    server = Office(tmp_path, workers, mail_of(tmp_path))
    server.run()
    yield server
    server.stop()
    print(server.log)
    assert "Traceback" not in server.log


def test_mailboxes_are_listed_searched_and_shown(office: Office) -> None:
    page = office.done("GET", "mailboxes", sort="mailbox")
    assert [row["mailbox"] for row in page["items"]] == sorted([USER, HELD, ODD])
    assert page["total"] == 3
    (row,) = office.done("GET", "mailboxes", search="<B>S", sort="share")["items"]
    size = sum(len(message(number)) for number in range(3))
    assert (row["mailbox"], row["octets"], row["messages"]) == (ODD, size, 3)
    assert (row["limit_octets"], row["limit_octets_from"]) == (1024 * 1024, "default")
    assert (row["level"], row["policy_from"], row["owner"]) == ("normal", "default", None)
    told = office.done("GET", place(ODD))
    assert (told["mailbox"]["mailbox"], told["shown_messages"], told["sessions"]) == (ODD, 3, 0)
    client = office.log_in()
    assert office.done("GET", place(USER))["sessions"] == 1
    client.quit()
    for sort in ("octets", "messages", "share", "last_login"):
        assert len(office.done("GET", "mailboxes", sort=sort)["items"]) == 3


def test_names_that_lead_nowhere_are_problems(office: Office) -> None:
    for name in ("nobody@example.org", "../../etc", "a/b", "<b>", "x" * 500, ".", "..", "%"):
        for rest in ("", "/messages"):
            answer = office.ask("GET", place(name, rest))
            assert answer.status == 404, (name, rest, answer)
            assert answer.headers["content-type"] == "application/problem+json"
        for verb in ("/recalculate", "/restore", "/move-ids"):
            assert office.ask("POST", place(name, verb)).status == 404
        assert office.ask("GET", place(name, "/hidden")).status == 404
        assert office.ask("DELETE", place(name), confirm=name).status == 404
    assert office.ask("GET", place(USER, "/messages/99")).status == 404
    assert office.ask("GET", "mailboxes", sort="nonsense").status == 400
    assert office.ask("GET", "mailboxes", per_page=100_000).status == 400
    assert office.mail.names() == sorted([USER, HELD, ODD])


def test_messages_are_listed_hidden_and_removed_while_a_session_has_them(office: Office) -> None:
    office.done("POST", place(USER, "/recalculate"))
    rows = office.done("GET", place(USER, "/messages"), sort="uid")["items"]
    uids = [row["uid"] for row in rows]
    assert uids == office.uids()
    assert rows[0]["why"] == "unread for 36500 days after receipt"
    head = office.done("GET", place(USER, f"/messages/{uids[0]}"))
    assert (head["sender"], head["subject"]) == ("J\u00f6rg <joerg@example.org>", "<b>0</b>")
    assert "secret" not in json.dumps(head)

    client = office.log_in()
    office.done("POST", place(USER, "/hide"), uids=[uids[0]])
    office.done("POST", place(USER, "/remove"), uids=[uids[1]])
    # The session has its snapshot: two messages are gone, and the third is itself.
    assert client.stat()[0] == 3
    for number in (1, 2):
        with pytest.raises(poplib.error_proto):
            client.retr(number)
    assert b"\r\n".join(client.retr(3)[1]) + b"\r\n" == message(2)
    client.dele(2)
    assert client.quit().startswith(b"+OK")

    assert office.uids() == uids[2:]
    (hidden,) = office.done("GET", place(USER, "/messages"), show="hidden")["items"]
    assert (hidden["uid"], hidden["why"]) == (uids[0], "hidden for 14 days")
    assert office.audited() == [("hide", uids[0], "uid 0"), ("discard", uids[1], "uid 0")]
    assert office.done("GET", place(USER))["mailbox"]["messages"] == 1
    assert office.done("POST", place(USER, "/restore"), uids=[uids[0]])["restored"] == 1
    last = [uids[2], uids[0]]
    assert office.uids() == (last if office.mail.restored_come_last else last[::-1])
    assert office.audited()[2] == ("restore", uids[0], "uid 0")
    assert office.ask("POST", place(USER, "/remove"), uids=[uids[1]]).status == 404
    assert office.ask("POST", place(USER, "/remove"), uids=[]).status == 422


def test_on_hold_nothing_is_removed_and_the_cure_is_told(office: Office) -> None:
    uids = office.uids(HELD)
    for method, rest, content in (
        ("POST", "/remove", {"uids": uids}),
        ("DELETE", "", {"confirm": HELD}),
        ("POST", "/rename", {"target": ANNA}),
    ):
        answer = office.ask(method, place(HELD, rest), **content)
        assert answer.status == 409, answer
        assert "hold" in answer.content["detail"]
    assert office.uids(HELD) == uids


def test_usage_is_counted_again_and_ids_move_ahead(office: Office) -> None:
    office.mail.miscount(USER, 77)
    told = office.done("POST", place(USER, "/recalculate"))
    assert (told["messages_before"], told["messages"]) == (77, 3)
    before = office.uids()
    moved = office.done("POST", place(USER, "/move-ids"), by=5000)
    assert moved["next_uid"] > int(before[-1]) + 5000
    with smtplib.LMTP(str(office.directory / "lmtp")) as client:
        client.sendmail("", [USER], message(9))
    *old, new = office.uids()
    assert old == before
    assert int(new) >= moved["next_uid"]


def test_a_mailbox_is_renamed_with_all_it_has_and_not_while_it_is_open(office: Office) -> None:
    uids = office.uids()
    office.done("POST", place(USER, "/hide"), uids=uids[:1])
    client = office.log_in()
    answer = office.ask("POST", place(USER, "/rename"), target=ANNA)
    assert answer.status == 409, answer
    assert "end them first" in answer.content["detail"]
    client.quit()
    bad = dict.fromkeys(office.mail.bad_names, 404)
    for target, status in {HELD: 409, USER: 409, **bad}.items():
        assert office.ask("POST", place(USER, "/rename"), target=target).status == status, target
    told = office.done("POST", place(USER, "/rename"), target=ANNA)
    assert (told["mailbox"], told["was"], told["owner"]) == (ANNA, USER, USER)
    assert office.ask("GET", place(USER)).status == 404
    rows = office.done("GET", place(ANNA, "/messages"), show="shown")["items"]
    assert {row["uid"] for row in rows} == set(uids[1:])
    assert office.done("GET", place(ANNA))["mailbox"]["hidden"] == 1
    # The account still has the old name: mail for it goes into a new mailbox.
    with smtplib.LMTP(str(office.directory / "lmtp")) as lmtp:
        lmtp.sendmail("", [USER], message(9))
    (new,) = office.uids()
    assert new not in uids
    assert office.ask("POST", place(ANNA, "/rename"), target=USER).status == 409


def test_a_mailbox_is_deleted_after_a_dry_run_and_its_confirmation(office: Office) -> None:
    dry = office.done("DELETE", place(ODD), dry_run=True)
    assert (dry["messages"], dry["dry_run"]) == (3, True)
    answer = office.ask("DELETE", place(ODD))
    assert answer.status == 428, answer
    assert office.done("GET", place(ODD))["shown_messages"] == 3
    told = office.done("DELETE", place(ODD), confirm=ODD)
    assert (told["messages"], told["octets"]) == (3, dry["octets"])
    assert [(action, who) for action, _, who in office.audited()] == [("discard", "uid 0")] * 3
    assert office.ask("GET", place(ODD)).status == 404
    assert ODD not in office.mail.names()
    names = [row["mailbox"] for row in office.done("GET", "mailboxes", sort="mailbox")["items"]]
    assert ODD not in names or office.done("GET", "mailboxes", search="nothing")["items"] == []


def test_mail_sessions_and_operators_at_once_lose_and_repeat_nothing(office: Office) -> None:
    """Mail arrives and is read while its mailbox is renamed to and fro, and deleted in the end."""
    stop = threading.Event()
    delivered: set[str] = set()
    faults: list[str] = []

    def deliver() -> None:
        number = 100
        while not stop.is_set() and number < 600:
            number += 1
            try:
                with smtplib.LMTP(str(office.directory / "lmtp")) as client:
                    client.sendmail("", [USER], message(number))
            except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
                if " 5" in str(error):
                    faults.append(f"mail bounced: {error}")
            else:
                delivered.add(f"<{number}@example.net>")

    seen: dict[str, bytes] = {}

    def read() -> None:
        while not stop.is_set():
            try:
                client = office.log_in()
                for line in client.uidl()[1]:
                    number, uid = line.split()
                    content = b"\r\n".join(client.retr(int(number))[1])
                    if seen.setdefault(uid.decode(), content) != content:
                        faults.append(f"{uid!r} is two messages")
                client.quit()
            except (poplib.error_proto, OSError):
                continue
            stop.wait(PAUSE)

    workers = [threading.Thread(target=deliver), threading.Thread(target=read)]
    for one in workers:
        one.start()
    names: list[str] = []
    tries, end = 0, time.monotonic() + 60
    while tries < 12 or not names:
        assert time.monotonic() < end, "the mailbox was never free"
        tries += 1
        target = f"moved{tries}@example.org"
        answer = office.ask("POST", place(USER, "/rename"), target=target)
        assert answer.status in (200, 404, 409), answer
        if answer.status == 200:
            names.append(target)
        time.sleep(PAUSE)
    stop.set()
    for one in workers:
        one.join()
    assert not faults
    there: list[str] = []
    for name in [*names, USER]:
        for row in office.ask("GET", place(name, "/messages"), per_page=1000).content.get(
            "items", ()
        ):
            head = office.done("GET", place(name, f"/messages/{row['uid']}"))
            there.append(head["message_id"])
    assert delivered <= set(there)
    assert len(there) == len(set(there)), "a message is there twice"
    for name in names:
        office.done("DELETE", place(name), confirm=name)
    gone = [one for one in office.audited() if one[0] == "discard"]
    left = office.ask("GET", place(USER, "/messages"), per_page=1000).content.get("total", 0)
    assert len(gone) + left == len(there)


def test_a_server_that_is_killed_during_a_deletion_goes_on_with_it(tmp_path: Path) -> None:
    server = Office(tmp_path, 1)
    many = server.maildir.parent / ANNA
    fill(many, map(message, range(MANY)))
    server.run()
    thread = threading.Thread(target=lambda: _ask_and_lose(server))
    thread.start()
    while len(os.listdir(many / "new")) == MANY:
        pass
    server.send(signal.SIGKILL)
    thread.join()
    left = sum(len(os.listdir(many / folder)) for folder in ("new", "cur"))
    assert 0 < left < MANY
    server.stop()
    server.run()
    audited = len(server.audited())
    assert audited >= MANY - left
    told = server.done("DELETE", place(ANNA), confirm=ANNA)
    assert told["messages"] == left
    assert not many.exists()
    assert len({uid for _, uid, _ in server.audited()}) == MANY
    server.stop()


def _ask_and_lose(server: Office) -> None:
    try:
        server.ask("DELETE", place(ANNA), confirm=ANNA)
    except (OSError, http.client.HTTPException):
        return
