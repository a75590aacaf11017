"""LOGIN-DELAY in the whole process: its listeners have one memory of who was in."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One that lets nobody in twice within an hour, nor two at once."""
    server = Gateway(tmp_path, '[pop3]\nlogin_delay = "3600"\nexclusive = true')
    fill(server.maildir, [b"Subject: one\r\n\r\ntext\r\n"])
    yield server.run()
    server.stop()


def log_in(client: poplib.POP3, password: str = PASSWORD) -> bytes:
    """What the server says to USER and PASS."""
    client.user(USER)
    try:
        return client.pass_(password)
    except poplib.error_proto as refused:
        return bytes(refused.args[0])


@pytest.mark.conformance("P-13")
def test_who_was_in_by_one_listener_waits_at_the_other_as_capa_says(gateway: Gateway) -> None:
    plain = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
    assert plain.capa()["LOGIN-DELAY"] == ["3600"]
    assert log_in(plain, "wrong").startswith(b"-ERR [AUTH] ")
    assert log_in(plain).startswith(b"+OK ")
    secure = poplib.POP3_SSL("localhost", gateway.tls, timeout=30, context=gateway.context())
    assert secure.capa()["LOGIN-DELAY"] == ["3600"]
    # Not [IN-USE]: the mailbox is not even tried.
    assert log_in(secure).startswith(b"-ERR [LOGIN-DELAY] ")
    plain.quit()
    assert log_in(secure).startswith(b"-ERR [LOGIN-DELAY] ")
    assert log_in(secure, "wrong").startswith(b"-ERR [AUTH] ")
    secure.quit()
    gateway.wait_for(f"login_failed: user={USER} from=127.0.0.1 ".encode())
