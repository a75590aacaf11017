"""Gateways, as they are installed, serve one cluster."""

from __future__ import annotations

import json
import poplib
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from cluster_engines import Engines
from cluster_gateway import ClusterGateway, running
from commands import PROGRAM
from gateway.net.tls.certificates import make_certificate
from servers import PASSWORD, USER, Gateway

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

MESSAGE = b"Subject: one\r\n\r\n.dot\r\nbody\r\n"


LEADS_SOON = "[retention]\nenabled = true\npolicy = ''\ncheck_every = 1.0\n"


@pytest.fixture
def pair(engines: Engines, tmp_path: Path) -> Iterator[list[ClusterGateway]]:
    """Two gateways of a cluster without mailboxes."""
    with running(engines, tmp_path, {"one": LEADS_SOON, "two": LEADS_SOON}) as made:
        yield made


def deliver(port: int, message: bytes) -> None:
    """By LMTP."""
    with smtplib.LMTP("127.0.0.1", port, timeout=60) as postfix:
        assert postfix.sendmail("me@example.net", [USER], message) == {}


def logged_in(gateway: Gateway) -> poplib.POP3:
    """A session."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    return client


def test_what_one_takes_in_the_other_serves_and_removes(
    pair: list[ClusterGateway],
) -> None:
    one, two = pair
    for number in range(3):
        deliver(one.lmtp, MESSAGE + b"%d\r\n" % number)
    with closing(logged_in(two)) as client:
        _, lines, _ = client.retr(2)
        assert lines[-4:] == [b"", b".dot", b"body", b"1"]
        assert client.top(1, 0)[1][-2:] == [b"Subject: one", b""]
        uids = client.uidl()[1]
        client.dele(2)
        client.quit()
    with closing(logged_in(one)) as client:
        assert client.stat()[0] == 2
        kept = [line.split()[1] for line in client.uidl()[1]]
        assert kept == [uids[0].split()[1], uids[2].split()[1]]
        client.quit()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_that_ends_leaves_no_file_of_its_body_cache(
    engines: Engines, tmp_path: Path, workers: int
) -> None:
    engines.clear()
    place = tmp_path / "bodies"
    place.mkdir()
    gateway = ClusterGateway(
        engines,
        engines.make_bucket(),
        tmp_path,
        f"[processes]\nworkers = {workers}\n",
        body_cache=str(place),
    )
    gateway.run()
    deliver(gateway.lmtp, MESSAGE)
    with closing(logged_in(gateway)) as client:
        # The first one has the directory made.
        while not list(place.glob("*/*")):
            client.retr(1)
        client.quit()
    gateway.stop()
    assert list(place.iterdir()) == []
    assert "Traceback" not in gateway.log


def leader_check(gateway: Gateway) -> str:
    """Whether the gateway knows that somebody leads, as its operator is told."""
    command = [*PROGRAM, "status", "--json", "--config", str(gateway.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    return str(states["leader"])


def test_they_share_a_state_and_each_knows_that_one_leads(
    engines: Engines, pair: list[ClusterGateway]
) -> None:
    with closing(logged_in(pair[0])) as client:
        client.quit()
    end = time.monotonic() + 60
    while [leader_check(gateway) for gateway in pair] != ["ok", "ok"]:
        assert time.monotonic() < end
    assert engines.owner.read("SELECT count(*) FROM pop3gw.leader WHERE until > now()") == [(1,)]
    for gateway in pair:
        gateway.stop()
        assert not list(gateway.directory.glob("ledger*"))
    # What was not stored yet is stored at the end.
    assert engines.owner.read("SELECT mailbox, method FROM pop3gw.last_login") == [(USER, "PASS")]
    assert engines.owner.read("SELECT count(*) FROM pop3gw.leader WHERE until > now()") == [(0,)]


def subjects(gateway: Gateway) -> list[int]:
    """The numbers of all messages."""
    with closing(logged_in(gateway)) as client:
        count = client.stat()[0]
        heads = [client.top(number, 0)[1] for number in range(1, count + 1)]
        client.quit()
    lines = [line for head in heads for line in head if line.startswith(b"Subject: ")]
    return [int(line.removeprefix(b"Subject: ")) for line in lines]


def test_a_gateway_that_is_killed_loses_no_mail_that_it_has_acknowledged(
    engines: Engines, pair: list[ClusterGateway]
) -> None:
    one, two = pair
    acknowledged: list[int] = []
    enough = threading.Event()

    def send() -> None:
        with suppress(OSError, smtplib.SMTPException):
            for number in range(10_000):
                deliver(one.lmtp, b"Subject: %d\r\n\r\n" % number)
                acknowledged.append(number)
                if number == 20:
                    enough.set()

    sending = threading.Thread(target=send)
    sending.start()
    assert enough.wait(60)
    one.send(signal.SIGKILL)
    sending.join(60)
    # PostgreSQL may still be at its last statement.
    at_work = "SELECT FROM pg_stat_activity WHERE usename = 'gateway' AND state <> 'idle'"
    engines.until(lambda: not engines.owner.read(at_work))
    present = subjects(two)
    # The last one may have been stored, and not acknowledged.
    assert present in (acknowledged, [*acknowledged, len(acknowledged)])
    assert engines.owner.read("SELECT messages FROM pop3gw.mailbox") == [(len(present),)]
    one.run()
    assert subjects(one) == present


def test_a_database_that_crashes_and_comes_back_needs_no_restart_of_a_gateway(
    engines: Engines, pair: list[ClusterGateway]
) -> None:
    one, two = pair
    deliver(one.lmtp, b"Subject: 0\r\n\r\nbody\r\n")
    with closing(logged_in(two)) as client:
        engines.postgresql.crash()
        try:
            assert client.retr(1)[1][-1] == b"body"
            with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
                logged_in(one)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                deliver(one.lmtp, b"Subject: 1\r\n\r\n")
            assert refused.value.recipients[USER][0] == 451
        finally:
            engines.postgresql.run()
        client.dele(1)
        client.quit()
    assert subjects(one) == []
    deliver(one.lmtp, b"Subject: 2\r\n\r\n")
    assert subjects(two) == [2]


@pytest.mark.parametrize("is_known", [True, False])
def test_bodies_go_over_tls_to_an_s3_that_is_known_and_to_no_other(
    engines: Engines, tmp_path: Path, is_known: bool
) -> None:
    engines.clear()
    stranger = tmp_path / "stranger.pem"
    make_certificate(str(stranger), str(tmp_path / "stranger.key"))
    ca_file = engines.s3.certificate if is_known else stranger
    bucket = engines.make_bucket()
    gateway = ClusterGateway(engines, bucket, tmp_path, s3=engines.s3.tls_url, ca_file=str(ca_file))
    gateway.run()
    try:
        if is_known:
            deliver(gateway.lmtp, b"Subject: 1\r\n\r\nbody\r\n")
            with closing(logged_in(gateway)) as client:
                assert client.retr(1)[1][-1] == b"body"
        else:
            with pytest.raises(smtplib.SMTPDataError, match="451"):
                deliver(gateway.lmtp, b"Subject: 1\r\n\r\nbody\r\n")
            assert "certificate verify failed" in gateway.log
            assert subjects(gateway) == []
    finally:
        gateway.stop()


def test_a_message_of_ten_megabytes_goes_in_and_comes_out(pair: list[ClusterGateway]) -> None:
    one, two = pair
    line = b"A line of a large message, which is written and read in pieces....\r\n"
    deliver(one.lmtp, b"Subject: large\r\n\r\n" + line * (10 * 1024 * 1024 // len(line)))
    with closing(logged_in(two)) as client:
        text = b"\r\n".join(client.retr(1)[1])
        assert text.endswith(b"\r\n".join([line[:-2]] * 100))
        assert text.count(line[:-2]) == 10 * 1024 * 1024 // len(line)
        client.quit()


@contextmanager
def limited(engines: Engines, directory: Path, limits: str) -> Iterator[list[Gateway]]:
    """Two gateways that share sessions of users, with these settings."""
    engines.clear()
    bucket = engines.make_bucket()
    made = []
    for name in ("one", "two"):
        (directory / name).mkdir()
        gateway = ClusterGateway(engines, bucket, directory / name)
        text = gateway.config.read_text().replace("[store]", "[store]\nshared_sessions = true")
        gateway.config.write_text(f"{text}{limits}\n")
        gateway.run()
        made.append(gateway)
    try:
        yield made
    finally:
        for gateway in made:
            gateway.stop()
    for gateway in made:
        assert "Traceback" not in gateway.log


def refused(gateway: Gateway) -> str:
    """Why a login fails."""
    with pytest.raises(poplib.error_proto) as raised:
        logged_in(gateway)
    return str(raised.value)


def test_the_sessions_of_a_user_have_a_limit_in_both(engines: Engines, tmp_path: Path) -> None:
    with limited(engines, tmp_path, "[limits]\nsessions_per_user = 1") as (one, two):
        with closing(logged_in(one)) as client:
            assert "[SYS/TEMP]" in refused(two)
            client.quit()
        # The end of a session waits for nothing, so other gateways know it a little later.
        engines.until(lambda: engines.owner.read("SELECT sessions FROM pop3gw.login") == [([],)])
        with closing(logged_in(two)):
            two.send(signal.SIGKILL)
            assert two.process.wait() == -signal.SIGKILL
        # It could not say that its session has ended: that counts until its term is over.
        assert "[SYS/TEMP]" in refused(one)
        expire = (
            "UPDATE pop3gw.member SET until = now()"
            " WHERE id IN (SELECT one >> 32 FROM pop3gw.login, unnest(sessions) one)"
        )
        engines.owner.transact(lambda cursor, _: cursor.execute(expire))
        logged_in(one).quit()


def test_login_delay_holds_in_both(engines: Engines, tmp_path: Path) -> None:
    with limited(engines, tmp_path, '[pop3]\nlogin_delay = "600"') as (one, two):
        logged_in(one).quit()
        assert "[LOGIN-DELAY]" in refused(two)


def throttled(gateway: Gateway) -> str:
    """Who has to wait there, as an operator sees it."""
    pop3gw = Path(sys.executable).with_name("pop3gw")
    command = [sys.executable, str(pop3gw), "throttle", "list", "--kind", "passwords"]
    asked = subprocess.run(
        [*command, "--config", str(gateway.config)], capture_output=True, text=True, check=False
    )
    return asked.stdout


def test_a_wrong_password_counts_in_both_and_in_all_workers(
    engines: Engines, tmp_path: Path
) -> None:
    settings = "[throttle]\nrefuse_after = 1\n[processes]\nworkers = 2"
    with limited(engines, tmp_path, settings) as (one, two):
        with closing(poplib.POP3("127.0.0.1", one.plain, timeout=60)) as client:
            client.user(USER)
            with pytest.raises(poplib.error_proto):
                client.pass_("wrong")
        engines.until(lambda: USER in throttled(two))
        # Where a directory locks accounts, even the right one is refused now.
        assert "[SYS/TEMP]" in refused(two)
