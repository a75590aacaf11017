"""The commands of docs/troubleshooting.md, typed at a server where mail and logins fail."""

from __future__ import annotations

import poplib
import smtplib
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pages import check_answers
from programs import need
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

SETTINGS = """\
[quota]
octets = "1K"
[lmtp]
endpoint = "unix:{directory}/lmtp"
[processes]
workers = 2
[throttle]
free = 1
delay = 0.2
"""
MESSAGE_ID = "20260131.1@example.net"
ANSWERS = {
    f"pop3gw deliveries --message-id {MESSAGE_ID}": rf"delivered.*{USER}",
    f"pop3gw deliveries --user {USER} --since 1d": r"refused.*(over|larger)",
    f"pop3gw users show {USER}": rf"(?s){USER}.*1.0 KB",
    f"pop3gw logins failed --user {USER} --since 1d": rf"{USER} by PASS from 127\..*password",
    f"echo {PASSWORD} | pop3gw users auth-test {USER} --stdin": r"(?m)^Login: +works$",
    f"pop3gw users flush {USER}": r"dropped \d+ passwords",
    "pop3gw throttle list --search alice": rf"passwords {USER} 127\.0\.0\.",
    f"pop3gw throttle forgive --user {USER}": rf"forgave {USER}: ",
    f"pop3gw audit --mailbox {USER} --since 30d": rf"discard {USER} \d+",
    f"pop3gw audit --message-id {MESSAGE_ID}": rf"discard {USER} \d+.*127\.0\.0\.1",
    "pop3gw logins list --unused-days 90": "no such mailbox",
}
"""What each command prints, as a pattern."""


def deliver(gateway: Gateway, message_id: str, octets: int) -> None:
    """Postfix delivers a message."""
    content = f"Message-ID: <{message_id}>\r\n\r\n" + "x" * 70 + "\r\n" + "y\r\n" * (octets // 3)
    lmtp = str(gateway.directory / "lmtp")
    with suppress(smtplib.SMTPException), smtplib.LMTP(lmtp) as client:
        client.sendmail("eve@example.net", [USER], content)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server where a message was delivered and removed, one was too large, and a login failed."""
    need("bash")
    place = tmp_path_factory.mktemp("trouble")
    one = Gateway(place, SETTINGS.format(directory=place))
    fill(one.maildir, [])
    try:
        one.run()
        deliver(one, MESSAGE_ID, 30)
        deliver(one, "2@example.net", 5000)
        good, bad = (poplib.POP3("127.0.0.1", one.plain, timeout=60) for _ in range(2))
        good.user(USER)
        good.pass_(PASSWORD)
        good.dele(1)
        good.quit()
        bad.user(USER)
        with pytest.raises(poplib.error_proto):
            bad.pass_("wrong")
        bad.close()
        yield one
    finally:
        one.stop()
    assert "Traceback" not in one.log


def test_each_command_of_the_page_finds_the_cause(gateway: Gateway) -> None:
    check_answers(gateway, "troubleshooting.md", ANSWERS)
