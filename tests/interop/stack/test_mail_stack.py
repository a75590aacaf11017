"""The mail stack of ``etc/stack``, by its own files: from LDAP and SMTP to POP3 clients."""

from __future__ import annotations

import json
import os
import poplib
import re
import smtplib
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mail_stack import NAME, MailStack
from programs import need
from servers import fill

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("mail_stack")]

SENDER = "sender@example.net"
ALICE, PASSWORD = "alice@example.org", "wonderland"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailStack]:
    """Started once, with a user of each kind."""
    need("curl", "fetchmail", "sh", "cat")
    started = MailStack(tmp_path_factory.mktemp("stack")).run()
    started.add("alice", PASSWORD)
    started.add("small", PASSWORD, "pop3gwQuota: 40000")
    started.add("disabled", PASSWORD, "pop3gwEnabled: FALSE")
    started.add("brief", PASSWORD, "pop3gwRetention: any 30d")
    yield started
    started.stop()
    assert "Traceback" not in started.log


def message(subject: str, octets: int = 0) -> str:
    """A message with that much text."""
    return f"Subject: {subject}\r\n\r\n" + ("x" * 70 + "\r\n") * (octets // 72)


def deliver(stack: MailStack, recipient: str, *messages: str) -> None:
    """Hand messages to Postfix."""
    with smtplib.SMTP("127.0.0.1", stack.smtp, timeout=60) as client:
        for one in messages:
            assert client.sendmail(SENDER, recipient, one) == {}


def mailbox(stack: MailStack, user: str) -> list[bytes]:
    """All messages, by POP3S with a certificate that is verified."""
    context = ssl.create_default_context(cafile=stack.authority)
    context.check_hostname = False  # curl and fetchmail check the name
    client = poplib.POP3_SSL("127.0.0.1", stack.pop3s, timeout=60, context=context)
    client.user(user)
    client.pass_(PASSWORD)
    count, _ = client.stat()
    found = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in range(1, count + 1)]
    client.quit()
    return found


def until_arrived(stack: MailStack, user: str, subject: str) -> bytes:
    """The first message with the subject, once it is in the mailbox."""
    end = time.monotonic() + 120
    while True:
        for one in mailbox(stack, user):
            if f"Subject: {subject}".encode() in one:
                return one
        assert time.monotonic() < end, stack.log
        time.sleep(0.05)


def test_a_user_of_ldap_gets_mail_by_smtp_and_fetches_it_by_curl_and_fetchmail(
    stack: MailStack, tmp_path: Path
) -> None:
    deliver(stack, ALICE, message("through all three"))
    until_arrived(stack, ALICE, "through all three")
    last = len(mailbox(stack, ALICE))
    curl = ["curl", "--silent", "--show-error", "--cacert", str(stack.authority)]
    done = subprocess.run(
        [
            *(*curl, "--resolve", f"{NAME}:{stack.pop3s}:127.0.0.1"),
            *("--user", f"{ALICE}:{PASSWORD}", f"pop3s://{NAME}:{stack.pop3s}/{last}"),
        ],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Subject: through all three" in done.stdout
    settings = tmp_path / "rc"
    settings.write_text(
        f"poll 127.0.0.1 service {stack.pop3s} proto pop3 uidl auth password\n"
        f'  user "{ALICE}" password "{PASSWORD}" ssl sslcertck\n'
        f"  sslcertfile '{stack.authority}' sslcommonname {NAME}\n"
        f'  nokeep no rewrite mda "cat >{tmp_path}/fetched"\n'
    )
    settings.chmod(0o600)
    command = ["fetchmail", "--nodetach", "--nosyslog", "--fetchmailrc", str(settings)]
    done = subprocess.run(
        [*command, "--idfile", f"{tmp_path}/ids", "--pidfile", f"{tmp_path}/pid"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Subject: through all three" in (tmp_path / "fetched").read_text()
    assert mailbox(stack, ALICE) == []


def test_a_client_that_trusts_another_authority_gets_no_mail(stack: MailStack) -> None:
    done = subprocess.run(
        [
            *("curl", "--silent", "--resolve", f"{NAME}:{stack.pop3s}:127.0.0.1"),
            *("--user", f"{ALICE}:{PASSWORD}", f"pop3s://{NAME}:{stack.pop3s}/"),
        ],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 60


def test_postfix_speaks_tls_with_the_certificate_of_the_stack(stack: MailStack) -> None:
    context = ssl.create_default_context(cafile=stack.authority)
    with smtplib.SMTP("127.0.0.1", stack.smtp, timeout=60) as client:
        client._host = "mx.example.org"  # type: ignore[attr-defined] # the name to verify
        assert client.starttls(context=context)[0] == 220


def test_the_smtp_client_gets_the_refusal_of_unknown_and_disabled_recipients(
    stack: MailStack,
) -> None:
    assert stack.answer(ALICE)[0] == 250
    code, text = stack.answer("nobody@example.org")
    assert (code, text.split()[0]) == (550, "5.1.1")
    code, text = stack.answer("disabled@example.org")
    assert (code, text.split()[0]) == (550, "5.2.1")
    code, text = stack.answer("someone@example.com")
    assert (code, text.split()[0]) == (554, "5.7.1")


def test_a_user_is_warned_before_the_mailbox_is_full_and_then_mail_is_refused_at_rcpt(
    stack: MailStack,
) -> None:
    small = "small@example.org"
    deliver(stack, small, message("most of it", 36_500))
    warning = until_arrived(stack, small, "Your mailbox is 9")
    assert b"From: postmaster@example.org" in warning
    assert stack.answer(small)[0] == 250
    # The last message may be larger than the room that is left (quota.grace).
    deliver(stack, small, message("the rest of it", 10_000))
    until_arrived(stack, small, "the rest of it")
    until_arrived(stack, small, "Your mailbox is full")
    code, text = stack.answer(small)
    assert (code, text.split()[0]) == (552, "5.2.2")
    # Nothing was taken that would have to be returned to its sender.
    assert "status=bounced" not in stack.log
    assert stack.do("exec", "postfix", "postqueue", "-j") == ""


def test_retention_removes_mail_that_is_due_and_no_other_and_writes_it_to_the_audit_log(
    stack: MailStack,
) -> None:
    maildir = stack.mailboxes / "mail/example.org/brief"
    files = fill(maildir, [b"Subject: due\r\n\r\n", b"Subject: not yet due\r\n\r\n"])
    for file, days in zip(files, (31, 29), strict=True):
        os.utime(file, (time.time() - days * 86_400,) * 2)
    owner = stack.mailboxes.stat()
    for path in (maildir.parents[1], maildir.parent, maildir, *maildir.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    # A worker tells the leader of the new mailbox, which looks within a minute.
    deliver(stack, "brief@example.org", message("new"))
    stack.wait_for(b"brief@example.org: retention removed 1 messages, 2 left", seconds=120)
    left = b"".join(mailbox(stack, "brief@example.org"))
    assert set(re.findall(rb"^Subject: (.*)\r\n", left, re.M)) == {b"not yet due", b"new"}
    lines = map(json.loads, (stack.mailboxes / "audit.log").read_text().splitlines())
    (line,) = (line for line in lines if line["mailbox"] == "brief@example.org")
    assert (line["action"], line["rule"]) == ("discard", "any 30d")


def test_postfix_knows_every_parameter_and_finds_nothing_wrong(stack: MailStack) -> None:
    assert "warning" not in stack.do("exec", "postfix", "sh", "-c", "postconf -n 2>&1")
    assert "virtual_transport = lmtp:inet:pop3gw:" in stack.do("exec", "postfix", "postconf", "-n")
    assert "postfix/postfix-script[" in stack.log
    assert not re.search(r"^postfix .*(warning|fatal|error): ", stack.log, re.M)


def test_passwords_cross_no_network_in_the_clear(stack: MailStack) -> None:
    reader = "cn=reader,dc=example,dc=org"
    done = subprocess.run(
        [
            *(*stack.program, "exec", "openldap", "ldapwhoami", "-x", "-D", reader, "-w", "any"),
            *("-H", "ldap://127.0.0.1:1389"),
        ],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Confidentiality required (13)" in done.stderr


def test_no_mail_is_lost_when_each_part_is_killed_and_starts_again(stack: MailStack) -> None:
    accepted: set[str] = set()
    ended = threading.Event()

    def send() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            subject = f"restart {number} of it"
            try:
                deliver(stack, ALICE, message(subject))
            except (OSError, smtplib.SMTPException):
                continue
            accepted.add(subject)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for service in ("pop3gw", "openldap", "postfix", "pop3gw", "postfix", "openldap"):
            before = len(accepted)
            stack.end(service)
            while len(accepted) == before and sender.is_alive():
                time.sleep(0.02)
    finally:
        ended.set()
        sender.join(120)
    assert not sender.is_alive()

    def lost() -> set[str]:
        found = b"".join(mailbox(stack, ALICE))
        return accepted - {
            subject.decode() for subject in re.findall(rb"^Subject: (restart .*)\r\n", found, re.M)
        }

    stack.flush_until(lambda: not lost())
    assert len(accepted) >= 6
