"""Retention in the whole process: what goes, what stays, what clients and operators are told."""

from __future__ import annotations

import json
import os
import poplib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import PROGRAM
from gateway.directory import passwd_entries
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

HELD = "held@example.org"
DAY = 86_400
SETTINGS = """\
[retention]
enabled = true
check_every = 1.0
policy = "unread 60d, read 7d"
"""


class StoredMessage(Gateway):
    """A gateway with retention, and a second user whose mail is held."""

    def __init__(self, directory: Path, settings: str = SETTINGS) -> None:
        super().__init__(directory, settings)
        passwd_entries.put(str(self.accounts), HELD, PASSWORD.encode(), "SSHA256")
        *others, held = self.accounts.read_text().splitlines()
        held = held.rpartition(":")[0] + ":retention=hold"
        self.accounts.write_text("\n".join([*others, held]) + "\n")

    def mail_of(self, user: str, count: int, days: int) -> None:
        """Messages that came so many days ago."""
        then = time.time() - days * DAY
        for file in fill(self.maildir.parent / user, map(text_of, range(days, days + count))):
            os.utime(file, (then, then))

    def log_in(self, user: str = USER) -> poplib.POP3:
        """A session."""
        client = poplib.POP3("127.0.0.1", self.plain, timeout=60)
        client.user(user)
        client.pass_(PASSWORD)
        return client

    def announced(self) -> list[str] | None:
        """What CAPA says of EXPIRE before a login."""
        client = poplib.POP3("127.0.0.1", self.plain, timeout=60)
        found = client.capa().get("EXPIRE")
        client.quit()
        return found

    def uids(self, user: str = USER) -> list[bytes]:
        """What UIDL says."""
        client = self.log_in(user)
        found = [line.split()[1] for line in client.uidl()[1]]
        client.quit()
        return found

    def audited(self) -> list[dict[str, object]]:
        """The lines of the audit."""
        return [json.loads(line) for line in (self.directory / "audit.log").open()]

    def operator(self, *command: str) -> str:
        """What an operator's command says."""
        program = [*PROGRAM, "retention", *command]
        done = subprocess.run(
            [*program, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


def text_of(number: int) -> bytes:
    """A message."""
    return b"Subject: s\r\nMessage-ID: <%d@example.net>\r\n\r\ntext\r\n" % number


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., StoredMessage]]:
    """Makes one; it is ended, and must have foreseen everything."""
    made: list[StoredMessage] = []

    def make(settings: str = SETTINGS) -> StoredMessage:
        made.append(StoredMessage(tmp_path, settings))
        return made[-1]

    yield make
    for gateway in made:
        gateway.stop()
        print(gateway.log)
        assert "Traceback" not in gateway.log


def test_retention_removes_old_mail_with_audit_lines_and_announces_expire_by_user(
    keep: Callable[..., StoredMessage],
) -> None:
    gateway = keep()
    gateway.mail_of(USER, 3, days=61)
    # Not so old, and under names of their own.
    for number in range(4):
        gateway.maildir.joinpath(
            "new", f"{int(time.time()) - 59 * DAY}.M{number}P2.test"
        ).write_bytes(text_of(number))
    gateway.mail_of(HELD, 2, days=400)
    gateway.run()
    gateway.wait_for(f"{USER}: retention removed 3 messages, 4 left".encode())
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    assert client.capa()["EXPIRE"] == ["7", "USER"]
    client.quit()
    client = gateway.log_in()
    assert client.capa()["EXPIRE"] == ["7"]
    assert client.stat()[0] == 4
    client.quit()
    client = gateway.log_in(HELD)
    assert client.capa()["EXPIRE"] == ["NEVER"]
    assert client.stat()[0] == 2
    client.quit()
    lines = gateway.audited()
    assert {line["message_id"] for line in lines} == {f"<{n}@example.net>" for n in (61, 62, 63)}
    assert {(line["mailbox"], line["rule"]) for line in lines} == {(USER, "unread 60d")}


def test_under_a_hold_dele_hides_and_an_operator_brings_it_back(
    keep: Callable[..., StoredMessage],
) -> None:
    gateway = keep()
    gateway.mail_of(HELD, 2, days=400)
    gateway.run()
    before = gateway.uids(HELD)
    client = gateway.log_in(HELD)
    client.dele(1)
    client.quit()
    assert gateway.uids(HELD) == before[1:]
    (line,) = gateway.audited()
    assert (line["action"], line["uid"]) == ("hide", before[0].decode())
    assert (line["client"], line["message_id"]) == ("127.0.0.1", "<400@example.net>")
    assert before[0].decode() in gateway.operator("hidden", HELD)
    gateway.operator("restore", HELD)
    assert sorted(gateway.uids(HELD)) == sorted(before)


def test_two_processes_announce_the_same_though_only_the_leader_asks(
    keep: Callable[..., StoredMessage],
) -> None:
    # Each writes the configuration with ports of its own.
    both = [keep().run(), keep().run()]
    assert [gateway.announced() for gateway in both] == [["7", "USER"]] * 2
    text = both[0].accounts.read_text()
    both[0].accounts.write_text(text.replace("retention=hold", "retention=read_1d"))
    while [gateway.announced() for gateway in both] != [["1", "USER"]] * 2:
        pass
    for gateway in both:
        gateway.stop()
    assert both[0].directory.joinpath("leader.lock").exists()
    assert not both[0].directory.joinpath("ledger.sqlite3-wal").exists()


def test_killed_again_and_again_it_removes_what_is_due_and_nothing_else(
    keep: Callable[..., StoredMessage],
) -> None:
    gateway = keep(f"{SETTINGS}max_removal_share = 1.0\nbatch = 10\nrate = 400.0\n")
    gateway.mail_of(USER, 900, days=61)
    young = {
        gateway.maildir / "new" / f"{int(time.time())}.M{number}P2.test" for number in range(50)
    }
    for file in young:
        file.write_bytes(text_of(5000))
    audit = gateway.directory / "audit.log"
    for lines in (200, 500):
        gateway.run()
        while not audit.exists() or audit.read_bytes().count(b"\n") < lines:
            assert gateway.process is not None
            assert gateway.process.poll() is None
        gateway.stop(signal.SIGKILL)
        assert young <= set(gateway.maildir.glob("new/*"))
    gateway.run()
    gateway.wait_for(b" messages, 50 left")
    assert set(gateway.maildir.glob("[nc]*/*")) == young
    # More than once is allowed to a message that was not gone yet; none at all is not.
    assert {line["message_id"] for line in gateway.audited()} == {
        f"<{number}@example.net>" for number in range(61, 961)
    }
