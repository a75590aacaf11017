"""LMTP as a mail stack meets it: stopped, by TLS, by UNIX socket, short of room, beside Dovecot."""

from __future__ import annotations

import os
import poplib
import re
import signal
import smtplib
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client_process import run
from disks import small_disk_at
from mail_places import MaildirMail, MailOf
from servers import (
    OWNER,
    PASSWORD,
    USER,
    Dovecot,
    Gateway,
    corpus,
    fill,
    free_port,
    need,
    refuses_connections,
    until_listening,
)

pytestmark = pytest.mark.interop

SENDER = "sender@example.net"
TEXT = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n"


@pytest.fixture
def serve(mail_of: MailOf, directory: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes a gateway whose ``[lmtp]`` is this, of each store; it must have foreseen everything."""
    yield from served(directory, mail_of)


@pytest.fixture
def serve_maildirs(directory: Path) -> Iterator[Callable[..., Gateway]]:
    """The same, for what only Maildirs have."""
    yield from served(directory, MaildirMail)


def served(directory: Path, mail_of: MailOf) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways, and ends them."""
    made: list[Gateway] = []

    def start(settings: str) -> Gateway:
        made.append(Gateway(directory, f"[lmtp]\n{settings}\n", mail_of(directory)))
        return made[-1]

    yield start
    for gateway in made:
        gateway.stop()
        print(gateway.log)  # seen when a test fails
        assert "Traceback" not in gateway.log


def lmtp(port: int) -> smtplib.LMTP:
    """A client that has said LHLO."""
    client = smtplib.LMTP("127.0.0.1", port, timeout=30)
    client.ehlo_or_helo_if_needed()
    return client


def deliver(client: smtplib.SMTP, message: bytes = TEXT) -> tuple[int, bytes]:
    """Code and text after the message, or after RCPT if it is refused there."""
    client.mail(SENDER)
    code, text = client.rcpt(USER)
    if code == 250:
        return client.data(message)
    client.rset()
    return code, text


def mailbox(port: int) -> list[tuple[bytes, bytes]]:
    """Unique-id and content of all messages, in order."""
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    ids = [line.split()[1] for line in client.uidl()[1]]
    found = [
        (uid, b"\r\n".join(client.retr(number)[1]) + b"\r\n") for number, uid in enumerate(ids, 1)
    ]
    client.quit()
    return found


def on_port(port: int, more: str = "") -> str:
    """Settings."""
    return f'endpoint = "tcp:{port}:interface=127.0.0.1"\n{more}'


def test_at_sigterm_a_message_in_progress_is_delivered_and_idle_clients_get_421(
    serve: Callable[..., Gateway],
) -> None:
    port = free_port()
    gateway = serve(on_port(port)).run()
    idle, busy = lmtp(port), lmtp(port)
    busy.mail(SENDER)
    busy.rcpt(USER)
    assert busy.docmd("DATA")[0] == 354
    busy.send(TEXT)
    gateway.send(signal.SIGTERM)
    assert idle.getreply()[0] == 421
    refuses_connections(port)
    busy.send(b".\r\n")
    assert busy.getreply()[0] == 250
    assert busy.getreply()[0] == 421
    assert gateway.process is not None
    assert gateway.process.wait(30) == -signal.SIGTERM
    gateway.run()
    ((_, content),) = mailbox(gateway.plain)
    assert content.endswith(TEXT)


def test_what_swaks_sends_curl_fetches(
    serve: Callable[..., Gateway], directory: Path, tmp_path: Path
) -> None:
    need("swaks", "curl")
    port = free_port()
    gateway = serve(on_port(port)).run()
    ended = [
        content.replace(b"\r\n", b"\n").rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"
        for _, content in corpus()
    ]
    # What an mbox or an earlier delivery put before a message does not stay, and
    # swaks ends a header that has no end.
    whole = re.compile(rb"(?!Return-Path:)[\w-]+:.*\r\n\r\n", re.DOTALL)
    sent = [content for content in ended if whole.match(content)][:25]
    for number, content in enumerate(sent, 1):
        file = directory / "message"
        file.write_bytes(content[:-2])  # swaks adds a line end of its own
        options = ["--protocol", "LMTP", "--server", f"127.0.0.1:{port}", "--suppress-data"]
        options += ["--from", SENDER, "--to", USER, "--data", f"@{file}"]
        done = run(tmp_path, "swaks", *options)
        assert done.returncode == 0, done.stdout
        assert "250 2.0.0" in done.stdout
        place = f"pop3://127.0.0.1:{gateway.plain}/{number}"
        user = ("--user", f"{USER}:{PASSWORD}")
        done = run(tmp_path, "curl", "--disable", "--silent", *user, "--output", "fetched", place)
        assert done.returncode == 0
        assert (tmp_path / "fetched").read_bytes().endswith(content), content[:200]


def test_a_message_that_never_ends_does_not_keep_the_server_from_stopping(
    serve: Callable[..., Gateway],
) -> None:
    port = free_port()
    gateway = serve(on_port(port, "[limits]\ndrain_timeout = 0.5")).run()
    client = lmtp(port)
    client.mail(SENDER)
    client.rcpt(USER)
    client.docmd("DATA")
    client.send(TEXT * 10_000)
    assert gateway.stop() == -signal.SIGTERM
    assert gateway.mail.heads(USER) == []


def test_mail_comes_in_over_tls(serve: Callable[..., Gateway]) -> None:
    port = free_port()
    gateway = serve(on_port(port, 'tls = "stls"')).run()
    context = ssl.create_default_context(cafile=gateway.certificate)
    context.check_hostname = False
    with lmtp(port) as client:
        assert client.has_extn("starttls")
        client.starttls(context=context)
        client.ehlo_or_helo_if_needed()
        assert not client.has_extn("starttls")
        large = TEXT + (b"z" * 70 + b"\r\n") * 20_000
        assert deliver(client)[0] == deliver(client, large)[0] == 250
    found = mailbox(gateway.plain)
    assert [content.endswith(sent) for (_, content), sent in zip(found, (TEXT, large), strict=True)]
    assert b" with LMTPS id " in found[0][1]


def test_what_was_sent_in_clear_along_with_starttls_is_never_a_command(
    serve: Callable[..., Gateway],
) -> None:
    port = free_port()
    gateway = serve(on_port(port, 'tls = "stls"')).run()
    context = ssl.create_default_context(cafile=gateway.certificate)
    context.check_hostname = False
    client = lmtp(port)
    client.send("STARTTLS\r\nNOOP\r\nVRFY x\r\n")
    assert client.getreply()[0] == 220
    assert client.sock is not None
    with context.wrap_socket(client.sock) as line:
        line.sendall(b"QUIT\r\n")
        assert line.recv(100).startswith(b"221 ")


def test_mail_comes_in_on_a_unix_socket(serve: Callable[..., Gateway], directory: Path) -> None:
    path = directory / "lmtp.sock"
    gateway = serve(f'endpoint = "unix:{path}:mode=600"').run()
    assert path.stat().st_mode & 0o777 == 0o600
    with smtplib.LMTP(str(path)) as client:
        client.ehlo_or_helo_if_needed()
        assert deliver(client)[0] == 250
    assert mailbox(gateway.plain)[0][1].endswith(TEXT)
    gateway.stop()
    # Also after an end that left the socket behind.
    gateway.run()
    gateway.stop(signal.SIGKILL)
    gateway.run()
    with smtplib.LMTP(str(path)) as client:
        client.ehlo_or_helo_if_needed()
        assert deliver(client)[0] == 250


def test_only_allowed_networks_may_deliver(serve: Callable[..., Gateway]) -> None:
    port = free_port()
    gateway = serve(on_port(port, 'allowed_networks = ["127.0.0.2/32"]')).run()
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        smtplib.LMTP("127.0.0.1", port, timeout=30)
    assert refused.value.smtp_code == 554
    with smtplib.LMTP("127.0.0.1", port, source_address=("127.0.0.2", 0), timeout=30) as client:
        client.ehlo_or_helo_if_needed()
        assert deliver(client)[0] == 250
    assert "lmtp.allowed_networks" in gateway.log


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """The place of all mail, with room for 2 MiB."""
    with small_disk_at(directory / "mail", mebibytes=2) as place:
        yield place


def test_a_full_disk_gets_its_own_reply_and_leaves_no_file(
    small_disk: Path, serve_maildirs: Callable[..., Gateway]
) -> None:
    port = free_port()
    gateway = serve_maildirs(on_port(port)).run()
    # Of one visit to a worker, and one that is written as it comes.
    sizes = (100_000, 600_000)
    taken = 0
    with lmtp(port) as client:
        for size in sizes:
            message = TEXT + (b"z" * 98 + b"\r\n") * (size // 100)
            for _ in range(50):
                code, text = deliver(client, message)
                if code != 250:
                    break
                taken += 1
            assert (code, text.split()[0]) == (452, b"4.3.1")
            assert not list((gateway.maildir / "tmp").iterdir())
    assert len(list((gateway.maildir / "new").iterdir())) == taken > 10
    assert len(mailbox(gateway.plain)) == taken
    for file in (gateway.maildir / "cur").iterdir():
        file.unlink()
    with lmtp(port) as client:
        assert deliver(client)[0] == 250
    assert small_disk.is_mount()


def test_dovecots_lmtp_delivers_into_the_same_maildir_and_all_ids_agree(
    directory: Path, serve_maildirs: Callable[..., Gateway]
) -> None:
    ours, theirs = free_port(), free_port()
    gateway = serve_maildirs(on_port(ours))
    fill(gateway.maildir, [])
    (directory / "dovecot").mkdir()
    dovecot = Dovecot(
        directory / "dovecot",
        gateway.maildir,
        more=f"""\
protocols = pop3 imap lmtp
postmaster_address = postmaster@example.org
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {theirs}
  }}
}}
""",
    )
    os.chown(gateway.maildir.parent, OWNER, OWNER)
    dovecot.run()
    gateway.run()
    try:
        until_listening(theirs)

        def many(port: int) -> list[int]:
            with lmtp(port) as client:
                return [
                    deliver(client, b"X-Number: %d-%d\r\n" % (port, number) + TEXT)[0]
                    for number in range(40)
                ]

        seen: dict[bytes, bytes] = {}
        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(many, port) for port in (ours, theirs, ours, theirs)]
            while not all(one.done() for one in running):
                for port in (gateway.plain, dovecot.plain):
                    for uid, content in mailbox(port):
                        # What an id has meant once it means for ever, whoever is asked.
                        assert seen.setdefault(uid, content) == content
        assert [one.result() for one in running] == [[250] * 40] * 4
        found = mailbox(gateway.plain)
        assert found == mailbox(dovecot.plain)
        assert len(found) == 160
        assert dict(found).items() >= seen.items()
    finally:
        dovecot.stop()
        print(dovecot.log)
