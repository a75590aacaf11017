"""A gateway of a cluster between relays."""

from __future__ import annotations

import poplib
import re
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster_engines import Engines
from cluster_gateway import TIMEOUT, ClusterGateway
from commands import PROGRAM
from relay import Relay
from servers import PASSWORD, USER

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"

LEADS = '[retention]\nenabled = true\npolicy = "unread 60d"\n'
"""With it a gateway asks who leads, and leads."""


class Relayed:
    """A gateway that reaches both engines by relays."""

    def __init__(
        self, engines: Engines, directory: Path, *, timeout: float, threads: int, is_plain: bool
    ) -> None:
        """As ``relayed_gateway``."""
        engines.clear()
        self.engines = engines
        self.database, self.s3 = Relay(engines.postgresql.port), Relay(engines.s3.port)
        url = f"http://127.0.0.1:{self.s3.port}"
        bucket = engines.make_bucket()
        self.gateway = ClusterGateway(engines, bucket, directory, LEADS, s3=url)
        self.bucket = bucket
        config = self.gateway.config
        ports = f":{engines.postgresql.port}/", f":{self.database.port}/"
        text = (
            config.read_text()
            .replace(*ports)
            .replace(f"timeout = {TIMEOUT}", f"timeout = {timeout}\nthreads = {threads}")
        )
        if is_plain:
            text = re.sub(r"sslmode=verify-full&sslrootcert=[^\"]*", "sslmode=disable", text)
        config.write_text(text)
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

    def messages(self) -> int:
        """How many the database has."""
        ((messages,),) = self.engines.owner.read("SELECT count(*) FROM pop3gw.message")
        return int(messages)

    def has_leader(self) -> bool:
        """Whether a gateway leads."""
        return bool(self.engines.owner.read("SELECT FROM pop3gw.leader WHERE until > now()"))


@contextmanager
def relayed_gateway(
    engines: Engines,
    directory: Path,
    *,
    timeout: float = TIMEOUT,
    threads: int = 4,
    is_plain: bool = False,
) -> Iterator[Relayed]:
    """It runs during a ``with``, and its mailbox has two messages.

    ``timeout`` and ``threads``: as of ``[store]``; ``is_plain``: the relay sees statements.
    """
    relayed = Relayed(engines, directory, timeout=timeout, threads=threads, is_plain=is_plain)
    try:
        yield relayed
    finally:
        relayed.database.thaw()
        relayed.s3.thaw()
        relayed.gateway.stop()
        relayed.database.stop()
        relayed.s3.stop()
    assert "Traceback" not in relayed.gateway.log
    assert "Unhandled" not in relayed.gateway.log
