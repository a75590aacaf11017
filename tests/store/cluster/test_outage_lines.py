"""What the log of a gateway has of outages of PostgreSQL and S3, and of a body that is missing."""

from __future__ import annotations

import poplib
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from cluster_engines import Engines
from cluster_gateway import ClusterGateway
from commands import PROGRAM
from relay import Relay
from servers import PASSWORD, USER

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

LEADS = '[retention]\nenabled = true\npolicy = "unread 60d"\n'
"""With it a gateway asks who leads, and leads."""


class Relayed:
    """A gateway that reaches both engines by relays."""

    def __init__(self, engines: Engines, directory: Path) -> None:
        engines.clear()
        self.engines = engines
        self.database, self.s3 = Relay(engines.postgresql.port), Relay(engines.s3.port)
        url = f"http://127.0.0.1:{self.s3.port}"
        bucket = engines.make_bucket()
        self.gateway = ClusterGateway(engines, bucket, directory, LEADS, s3=url)
        self.bucket = bucket
        config = self.gateway.config
        ports = f":{engines.postgresql.port}/", f":{self.database.port}/"
        config.write_text(config.read_text().replace(*ports))
        self.gateway.mail.put(USER, [MESSAGE, MESSAGE])
        self.gateway.run()

    def login(self) -> poplib.POP3:
        """A session."""
        client = poplib.POP3("127.0.0.1", self.gateway.plain, timeout=60)
        client.user(USER)
        client.pass_(PASSWORD)
        return client

    def deliver(self) -> int:
        """Deliver by LMTP; the status of what is refused, or 250."""
        with smtplib.LMTP("127.0.0.1", self.gateway.lmtp, timeout=60) as postfix:
            try:
                postfix.sendmail("me@example.net", [USER], MESSAGE)
            except smtplib.SMTPRecipientsRefused as refused:
                code: int = refused.recipients[USER][0]
                return code
            except smtplib.SMTPDataError as refused:
                return refused.smtp_code
        return 250

    def lines(self, event: str) -> list[str]:
        """What the log has of an event."""
        found = (line.partition(f" {event}: ") for line in self.gateway.log.splitlines())
        return [text for _, this, text in found if this]

    def backends(self) -> set[str]:
        """What the figures have of both."""
        done = subprocess.run(
            [*PROGRAM, "metrics", "--config", str(self.gateway.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {line for line in done.stdout.splitlines() if line.startswith("pop3gw_backend_up{")}

    def until(self, is_so: Callable[[], bool]) -> None:
        """Return once something is so."""
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.05)

    def has_leader(self) -> bool:
        """Whether a gateway leads."""
        return bool(self.engines.owner.read("SELECT FROM pop3gw.leader WHERE until > now()"))


@pytest.fixture
def relayed(engines: Engines, tmp_path: Path) -> Iterator[Relayed]:
    """The gateway runs, and its mailbox has two messages."""
    relayed = Relayed(engines, tmp_path)
    yield relayed
    relayed.gateway.stop()
    relayed.database.stop()
    relayed.s3.stop()
    assert "Traceback" not in relayed.gateway.log
    assert "Unhandled" not in relayed.gateway.log


def test_an_outage_of_the_database_is_a_line_when_it_begins_and_one_when_it_ends(
    relayed: Relayed,
) -> None:
    relayed.database.go_away()
    for _ in range(3):
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
            relayed.login()
        assert relayed.deliver() == 451
    name = "PostgreSQL 127.0.0.1/mail"
    assert relayed.backends() == {f'pop3gw_backend_up{{backend="{name}"}} 0.0'}
    relayed.database.is_away = False
    with closing(relayed.login()) as client:
        client.quit()
    assert relayed.deliver() == 250
    (down,) = relayed.lines("backend_down")
    assert down.startswith(f"{name} down: database: ")
    (back,) = relayed.lines("backend_up")
    assert back.startswith(f"{name} back: after=")
    # Of each client a line has the reason, in one word, and no more.
    assert relayed.gateway.log.count("database: ") == 1
    assert f'pop3gw_backend_up{{backend="{name}"}} 1.0' in relayed.backends()


def test_an_outage_of_s3_is_a_line_when_it_begins_and_one_when_it_ends(relayed: Relayed) -> None:
    with closing(relayed.login()) as client:
        relayed.s3.go_away()
        for _ in range(3):
            with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
                client.retr(1)
            assert relayed.deliver() == 451
        client.dele(2)
        client.quit()
    relayed.s3.is_away = False
    with closing(relayed.login()) as client:
        assert client.retr(1)[1][-1] == b"body"
        assert client.stat()[0] == 1
        client.quit()
    assert relayed.deliver() == 250
    name = f"S3 http://127.0.0.1:{relayed.s3.port}/{relayed.bucket}"
    (down,) = relayed.lines("backend_down")
    assert down.startswith(f"{name} down: S3: ")
    (back,) = relayed.lines("backend_up")
    assert back.startswith(f"{name} back: after=")
    assert relayed.gateway.log.count("S3: ") == 1


def test_a_missing_body_is_named_with_its_message(relayed: Relayed) -> None:
    ((body,),) = relayed.engines.owner.read("SELECT body FROM pop3gw.message WHERE uid = 2")
    assert isinstance(body, UUID)
    name = f"{body.hex[-2:]}/{body.hex}"
    relayed.engines.result(relayed.engines.requests(relayed.bucket).ask("DELETE", name))
    with closing(relayed.login()) as client:
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
            client.retr(2)
        assert client.retr(1)[1][-1] == b"body"
        client.quit()
    assert relayed.lines("body_missing") == [f"mailbox={USER} uid=2 body={body.hex}"]
    assert relayed.lines("backend_down") == []


def test_a_gateway_that_stops_while_the_database_is_away_says_what_it_could_not_do(
    relayed: Relayed,
) -> None:
    relayed.until(relayed.has_leader)
    relayed.database.go_away()
    relayed.gateway.stop()
    assert "shutdown: not all work finished: database: " in relayed.gateway.log
    assert relayed.lines("backend_replaced") == []
