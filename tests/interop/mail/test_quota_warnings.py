"""Users whose mailbox is getting full find a message about it."""

from __future__ import annotations

import email
import poplib
import smtplib
from email.policy import default
from pathlib import Path

import pytest

from mail_places import Mail, MailOf
from servers import PASSWORD, USER, Gateway, free_port

pytestmark = pytest.mark.interop

MESSAGE = b"Subject: fill\r\n\r\n" + (b"f" * 70 + b"\r\n") * 14


def serve(mail: Mail, directory: Path, port: int, settings: str) -> Gateway:
    """A gateway that takes mail, and warns."""
    return Gateway(
        directory,
        f"""\
[lmtp]
endpoint = "tcp:{port}:interface=127.0.0.1"
[quota]
octets = "8 KB"
grace = "2 KB"
warn_octets = "2500"
warn_from = "postmaster@example.org"
warn_check = 0.2
{settings}
""",
        mail,
    )


def deliver(port: int) -> int:
    """The code after the message."""
    with smtplib.LMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("sender@example.net")
        code = client.rcpt(USER)[0]
        return client.data(MESSAGE)[0] if code == 250 else code


def warnings(gateway: Gateway) -> list[email.message.EmailMessage]:
    """The warnings among the mail."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    found = [
        email.message_from_bytes(b"\r\n".join(client.retr(number)[1]), policy=default)
        for number in range(1, client.stat()[0] + 1)
    ]
    client.quit()
    return [one for one in found if one["Auto-Submitted"] == "auto-generated"]  # type: ignore[misc]


@pytest.mark.conformance("X-E0003", "X-E0004")
def test_a_user_is_warned_once_when_it_gets_full_and_once_when_it_is(
    mail_of: MailOf, tmp_path: Path
) -> None:
    port = free_port()
    gateway = serve(mail_of(tmp_path), tmp_path, port, "").run()
    try:
        assert deliver(port) == deliver(port) == 250
        assert warnings(gateway) == []
        assert deliver(port) == 250
        gateway.wait_for(b"quota_warning: user=alice@example.org quota_level=WARN")
        assert deliver(port) == 250
        (warning,) = warnings(gateway)
        assert warning["From"].addresses[0].addr_spec == "postmaster@example.org"
        assert warning["List-Id"] is not None
        assert {part.get_content_type() for part in warning.walk()} == {
            *("multipart/alternative", "text/plain", "text/html"),
        }
        while deliver(port) == 250:
            continue
        gateway.wait_for(b"quota_warning: user=alice@example.org quota_level=OVER")
        # However often all mailboxes are looked at, and through a restart.
        gateway.stop()
        gateway.run()
        for _ in range(3):
            assert deliver(port) == 452
        assert len(warnings(gateway)) == 2
    finally:
        gateway.stop()
    assert gateway.log.count("quota_warning: ") == 2
    assert "Traceback" not in gateway.log


def test_a_limit_that_is_lowered_warns_without_any_mail(mail_of: MailOf, tmp_path: Path) -> None:
    port = free_port()
    gateway = serve(
        mail_of(tmp_path), tmp_path, port, '[quota.domains."example.org"]\noctets = "unlimited"'
    ).run()
    try:
        for _ in range(2):
            assert deliver(port) == 250
    finally:
        gateway.stop()
    assert "quota_warning: " not in gateway.log
    lowered = gateway.config.read_text().replace('"unlimited"', '"1 KB"\nwarn_octets = "100"')
    gateway.config.write_text(lowered)
    gateway.run()
    try:
        gateway.wait_for(b"quota_warning: user=alice@example.org quota_level=OVER")
        assert len(warnings(gateway)) == 1
    finally:
        gateway.stop()


def test_an_administrator_finds_the_full_mailboxes_in_a_message(
    mail_of: MailOf, tmp_path: Path
) -> None:
    port = free_port()
    gateway = serve(mail_of(tmp_path), tmp_path, port, f'digest_to = "{USER}"\n').run()
    try:
        for _ in range(3):
            assert deliver(port) == 250
        gateway.wait_for(b"quota_digest: to=alice@example.org mailboxes=1")
        subjects = {one["Subject"] for one in warnings(gateway)}
    finally:
        gateway.stop()
    assert "Mailboxes that are full or nearly so: 1" in subjects
    assert gateway.log.count("quota_digest: ") == 1
    assert "Traceback" not in gateway.log
