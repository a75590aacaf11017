"""Retention in a server that runs, and the operator's commands beside it."""

from __future__ import annotations

import json
import poplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import PROGRAM
from disks import state_of
from mail_places import Mail, MailOf
from servers import PASSWORD, USER, Gateway

pytestmark = pytest.mark.interop


@contextmanager
def house(mail: Mail, directory: Path, policy: str, *, old: int, young: int) -> Iterator[Gateway]:
    """A gateway that is not yet started, and mail of which so much came 61 days ago."""
    settings = f'[retention]\nenabled = true\npolicy = "{policy}"\ncheck_every = 0.4\n'
    gateway = Gateway(directory, settings, mail)
    messages = [b"Subject: %d\r\n\r\n" % number for number in range(old + young)]
    mail.put(USER, messages[:old], days=61)
    mail.put(USER, messages[old:])
    mail.give_ids(USER)
    try:
        yield gateway
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def operator(gateway: Gateway, command: str, *arguments: str) -> list[str]:
    """What the command prints."""
    done = subprocess.run(
        [*PROGRAM, *command.split(), "--config", str(gateway.config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def shown(gateway: Gateway) -> set[str]:
    """The unique-ids that a client sees."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    uids = {line.split()[1].decode() for line in client.uidl()[1]}
    client.quit()
    return uids


def test_what_a_preview_foretells_is_hidden_and_can_be_brought_back(
    mail_of: MailOf, tmp_path: Path
) -> None:
    with house(mail_of(tmp_path), tmp_path, "unread 60d, hide 14d", old=3, young=2) as gateway:
        before = state_of(gateway.directory)
        said = json.loads(operator(gateway, "retention preview", "--json", USER)[0])
        assert state_of(gateway.directory) == before
        foretold = {one["uid"] for one in said["removed"]}
        assert (len(foretold), said["messages"]) == (3, 5)
        gateway.run()
        gateway.wait_for(b"retention hid 3 messages, 2 left")
        left = shown(gateway)
        hidden = {
            json.loads(line)["uid"]
            for line in operator(gateway, "retention hidden", "--json", USER)
        }
        assert (hidden, len(left)) == (foretold, 2)
        assert operator(gateway, "retention restore", USER) == [
            f"3 of 3 messages are back in {USER}"
        ]
        assert shown(gateway) == left | foretold


def test_a_mailbox_that_would_lose_too_much_waits_for_its_release(
    mail_of: MailOf, tmp_path: Path
) -> None:
    with house(mail_of(tmp_path), tmp_path, "unread 60d", old=120, young=2) as gateway:
        gateway.run()
        gateway.wait_for(b"120 of 122 messages of mailbox")
        assert len(shown(gateway)) == 122
        operator(gateway, "retention release", USER)
        gateway.wait_for(b"retention removed 120 messages, 2 left")
        assert len(shown(gateway)) == 2
        lines = gateway.mail.audited()
        assert [(one["action"], one["rule"]) for one in lines] == [("discard", "unread 60d")] * 120


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_after_a_restore_no_id_means_another_message(mail_of: MailOf, tmp_path: Path) -> None:
    def come(first: int) -> None:
        numbers = range(first, first + 20)
        gateway.mail.put(USER, [b"Subject: %d\r\n\r\n" % number for number in numbers])

    def look() -> set[str]:
        gateway.run()
        uids = shown(gateway)
        gateway.stop()
        return uids

    with house(mail_of(tmp_path), tmp_path, "unread 60d", old=0, young=3) as gateway:
        before = look()
        restore = gateway.mail.back_up(USER)
        come(100)
        since = look() - before
        restore()
        assert operator(gateway, "move-ids", "--by", "5000") == [
            "1 of 1 mailboxes go on at least 5,000 further"
        ]
        come(200)
        after = look()
        assert len(since) == len(after - before) == 20
        assert after >= before
        assert after.isdisjoint(since)
