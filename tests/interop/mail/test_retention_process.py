"""Retention in the whole process: what goes, what stays, what clients and operators are told."""

from __future__ import annotations

import poplib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import PROGRAM
from gateway.directory import passwd_entries
from mail_places import Mail, MailOf
from servers import PASSWORD, USER, Gateway

pytestmark = pytest.mark.interop

HELD = "held@example.org"
SETTINGS = """\
[retention]
enabled = true
check_every = 1.0
policy = "unread 60d, read 7d"
"""


class StoredMessage(Gateway):
    """A gateway with retention, and a second user whose mail is held."""

    def __init__(self, directory: Path, settings: str, mail: Mail) -> None:
        super().__init__(directory, settings, mail)
        passwd_entries.put(str(self.accounts), HELD, PASSWORD.encode(), "SSHA256")
        *others, held = self.accounts.read_text().splitlines()
        held = held.rpartition(":")[0] + ":retention=hold"
        self.accounts.write_text("\n".join([*others, held]) + "\n")

    def put(self, user: str, count: int, days: int) -> None:
        """Messages that came so many days ago."""
        self.mail.put(user, map(text_of, range(days, days + count)), days=days)

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
def keep(mail_of: MailOf, tmp_path: Path) -> Iterator[Callable[..., StoredMessage]]:
    """Makes some with the same mail; they are ended, and must have foreseen everything."""
    made: list[StoredMessage] = []
    mail = mail_of(tmp_path)

    def make(settings: str = SETTINGS) -> StoredMessage:
        made.append(StoredMessage(tmp_path, settings, mail))
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
    gateway.put(USER, 3, days=61)
    gateway.put(USER, 4, days=59)
    gateway.put(HELD, 2, days=400)
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
    lines = gateway.mail.audited()
    assert {line["message_id"] for line in lines} == {f"<{n}@example.net>" for n in (61, 62, 63)}
    assert {(line["mailbox"], line["rule"]) for line in lines} == {(USER, "unread 60d")}


@pytest.mark.conformance("X-E0005")
def test_mail_goes_by_its_age_read_and_unread(keep: Callable[..., StoredMessage]) -> None:
    gateway = keep(SETTINGS.replace("read 7d", "read 1s"))
    gateway.put(USER, 2, days=61)
    gateway.put(USER, 3, days=0)
    gateway.run()
    gateway.wait_for(f"{USER}: retention removed 2 messages, 3 left".encode())
    client = gateway.log_in()
    assert b"\r\n".join([*client.retr(1)[1], b""]) == text_of(0)
    client.quit()
    # What was read goes, with no client to ask for it: POP3 has no part in it.
    gateway.wait_for(f"{USER}: retention removed 1 messages, 2 left".encode())


def test_under_a_hold_dele_hides_and_an_operator_brings_it_back(
    keep: Callable[..., StoredMessage],
) -> None:
    gateway = keep()
    gateway.put(HELD, 2, days=400)
    gateway.run()
    before = gateway.uids(HELD)
    client = gateway.log_in(HELD)
    client.dele(1)
    client.quit()
    assert gateway.uids(HELD) == before[1:]
    (line,) = gateway.mail.audited()
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
    while [gateway.announced() for gateway in both] != [["7", "USER"]] * 2:
        pass
    text = both[0].accounts.read_text()
    both[0].accounts.write_text(text.replace("retention=hold", "retention=read_1d"))
    while [gateway.announced() for gateway in both] != [["1", "USER"]] * 2:
        pass
    for gateway in both:
        gateway.stop()
    is_locked = both[0].directory.joinpath("leader.lock").exists()
    assert is_locked == both[0].mail.has_state_files
    assert not both[0].directory.joinpath("ledger.sqlite3-wal").exists()


def test_killed_again_and_again_it_removes_what_is_due_and_nothing_else(
    keep: Callable[..., StoredMessage],
) -> None:
    gateway = keep(f"{SETTINGS}max_removal_share = 1.0\nbatch = 10\nrate = 400.0\n")
    gateway.put(USER, 900, days=61)
    young = [text_of(number) for number in range(5000, 5050)]
    heads = {message.partition(b"\r\n\r\n")[0] for message in young}
    mail = gateway.mail
    mail.put(USER, young)
    for lines in (200, 500):
        gateway.run()
        while len(mail.audited()) < lines:
            assert gateway.process is not None
            assert gateway.process.poll() is None
        gateway.stop(signal.SIGKILL)
        assert heads <= set(mail.heads(USER))
        mail.end_terms()
    gateway.run()
    # The second one may have come to the end, and then this one has nothing to say.
    end = time.monotonic() + 60
    while sorted(mail.heads(USER)) != sorted(heads):
        assert time.monotonic() < end
    # More than once is allowed to a message that was not gone yet; none at all is not.
    assert {line["message_id"] for line in gateway.mail.audited()} == {
        f"<{number}@example.net>" for number in range(61, 961)
    }
