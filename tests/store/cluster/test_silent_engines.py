"""A gateway beside a PostgreSQL and an S3 that take connections and answer nothing, for a while."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster_engines import Engines
from cluster_gateway import TIMEOUT
from line_clients import Lmtp, NoAnswer, Pop3, Refused
from relayed_gateway import MESSAGE, Relayed, relayed_gateway
from servers import PASSWORD, USER
from sockets import readable

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

LONG = 60.0
"""The ``timeout`` of a gateway where a question waits until the test lets it pass."""

MARGIN = 20.0
"""Seconds for all that waits for no engine, on any machine."""

OF_DATABASE = TIMEOUT + 2 + MARGIN
"""Seconds to an answer, as docs/cluster.md has it: a new connection may take two more."""

OF_S3 = 3 * TIMEOUT + MARGIN
"""Seconds for three tries."""

MANY = 15
"""Sessions: one after the other they would wait for longer than that."""

LOGIN = f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode()

TEXT = b"Subject: new\r\n\r\nthis one\r\n"

LARGE = b"Subject: large\r\n\r\n" + b"A line of a message that is not sent as a whole.\r\n" * 20_000

SYS_TEMP = "-ERR [SYS/TEMP] "

TEMPORARY = re.compile(r"451 4\.\d\.\d ")


def logged_in(relayed: Relayed, patience: float) -> Pop3:
    """A session."""
    client = Pop3(relayed.gateway.plain, patience=patience)
    client.login(USER, PASSWORD)
    return client


def refused(client: Pop3 | Lmtp) -> str:
    """Why."""
    with pytest.raises(Refused) as raised:
        client.reply()
    return str(raised.value)


def refused_login(client: Pop3) -> str:
    """Why a ``LOGIN`` was refused."""
    client.reply()
    return refused(client)


def begun(relayed: Relayed, patience: float) -> Lmtp:
    """A delivery that lacks the message."""
    postfix = Lmtp(relayed.gateway.lmtp, patience=patience)
    for command in ("MAIL FROM:<me@example.net>", f"RCPT TO:<{USER}>", "DATA"):
        postfix.ask(command)
    return postfix


def delivered(relayed: Relayed, patience: float) -> dict[str, str]:
    """Deliver; why it was refused."""
    with Lmtp(relayed.gateway.lmtp, patience=patience) as postfix:
        return postfix.deliver([USER], TEXT)


def listed(client: Pop3) -> list[str]:
    """What a session answers without an engine."""
    client.ask("NOOP")
    return [client.ask("STAT"), *client.column("LIST"), *client.column("UIDL")]


def check_outage(relayed: Relayed, name: str) -> None:
    """The log has one, which is over."""
    (down,) = relayed.lines("backend_down")
    (up,) = relayed.lines("backend_up")
    assert down.startswith(f"{name} ")
    assert up.startswith(f"{name} ")


def test_a_client_that_waits_for_a_silent_engine_keeps_no_other_client_waiting(
    engines: Engines, tmp_path: Path
) -> None:
    with (
        relayed_gateway(engines, tmp_path, timeout=LONG, is_plain=True) as relayed,
        logged_in(relayed, LONG) as other,
        logged_in(relayed, LONG) as third,
        Pop3(relayed.gateway.plain) as waits,
    ):
        before = listed(other)
        waits.ask(f"USER {USER}")
        relayed.database.freeze_at = b"WHERE name = ANY"
        waits.send(f"PASS {PASSWORD}\r\n".encode())
        relayed.until(lambda: relayed.database.is_frozen)
        assert listed(other) == before
        assert not readable(waits.fileno(), 0)
        relayed.database.thaw()
        waits.reply()

        relayed.s3.freeze_at = f"GET /{relayed.bucket}/".encode()
        waits.send(b"RETR 1\r\n")
        relayed.until(lambda: relayed.s3.is_frozen)
        assert listed(other) == before
        third.ask("DELE 2")
        third.ask("QUIT")
        with logged_in(relayed, LONG) as new:
            assert new.ask("STAT") == f"1 {len(MESSAGE)}"
        assert not readable(waits.fileno(), 0)
        relayed.s3.thaw()
        waits.reply()
        assert waits.text().endswith(MESSAGE)


def test_a_silent_database_is_sys_temp_and_451_in_time_and_all_is_well_when_it_answers_again(
    engines: Engines, tmp_path: Path
) -> None:
    with (
        relayed_gateway(engines, tmp_path, is_plain=True) as relayed,
        logged_in(relayed, OF_DATABASE) as reads,
        logged_in(relayed, OF_DATABASE) as removes,
        Pop3(relayed.gateway.plain, patience=OF_DATABASE) as begins,
        begun(relayed, OF_DATABASE) as postfix,
    ):
        before = listed(reads)
        relayed.database.freeze_at = b"INSERT INTO pop3gw.message"
        postfix.send(TEXT + b".\r\n")
        relayed.until(lambda: relayed.database.is_frozen)
        begins.send(LOGIN)
        reads.send(b"RETR 1\r\n")
        removes.send(b"DELE 2\r\nQUIT\r\n")
        assert refused_login(begins).startswith(SYS_TEMP)
        assert TEMPORARY.match(refused(postfix))
        reads.reply()
        assert reads.text().endswith(MESSAGE)
        removes.reply()
        assert refused(removes).startswith(SYS_TEMP)
        # Connections that were open are given up: now it takes new ones, and is as silent.
        with Lmtp(relayed.gateway.lmtp, patience=OF_DATABASE) as again:
            again.ask("MAIL FROM:<me@example.net>")
            again.send(f"RCPT TO:<{USER}>\r\n".encode())
            begins.send(LOGIN)
            reads.send(b"RETR 2\r\n")
            assert refused_login(begins).startswith(SYS_TEMP)
            assert TEMPORARY.match(refused(again))
            reads.reply()
            assert reads.text().endswith(MESSAGE)
        assert listed(reads) == before
        relayed.database.thaw()

        # The statement that it never answered: it performs it now, and the message has its body.
        relayed.until(lambda: relayed.messages() == 3)
        begins.send(LOGIN)
        begins.reply()
        begins.reply()
        assert begins.column("UIDL")[:2] == reads.column("UIDL")
        assert delivered(relayed, OF_DATABASE) == {}
        with logged_in(relayed, OF_DATABASE) as new:
            for number, text in enumerate([MESSAGE, MESSAGE, TEXT, TEXT], 1):
                assert new.ask_text(f"RETR {number}").endswith(text)
            new.ask("DELE 1")
            new.ask("QUIT")
        assert relayed.messages() == 3
    check_outage(relayed, "PostgreSQL")


def test_who_removes_mail_while_the_database_is_silent_keeps_no_login_waiting_for_each_of_them(
    engines: Engines, tmp_path: Path
) -> None:
    with ExitStack() as opened:
        one_thread = relayed_gateway(engines, tmp_path, threads=1)
        relayed = opened.enter_context(one_thread)
        begins = opened.enter_context(Pop3(relayed.gateway.plain, patience=OF_DATABASE))
        remove = [opened.enter_context(logged_in(relayed, OF_DATABASE)) for _ in range(MANY)]
        for client in remove:
            client.ask("DELE 1")
        relayed.database.freeze()
        for client in remove:
            client.send(b"QUIT\r\n")
        begins.send(LOGIN)
        assert refused_login(begins).startswith(SYS_TEMP)
        for client in remove:
            assert refused(client).startswith(SYS_TEMP)
        relayed.database.thaw()
        begins.send(LOGIN)
        begins.reply()
        begins.reply()
        assert begins.ask("STAT") == f"2 {2 * len(MESSAGE)}"


def test_a_silent_s3_is_sys_temp_and_451_in_time_and_all_is_well_when_it_answers_again(
    engines: Engines, tmp_path: Path
) -> None:
    with (
        relayed_gateway(engines, tmp_path) as relayed,
        logged_in(relayed, OF_S3) as removes,
    ):
        relayed.gateway.mail.put(USER, [LARGE])
        with (
            logged_in(relayed, OF_S3) as reads,
            logged_in(relayed, OF_S3) as reads_large,
            begun(relayed, OF_S3) as postfix,
        ):
            before = listed(reads)
            relayed.s3.freeze_after = len(LARGE) // 2
            reads_large.ask("RETR 3")
            relayed.until(lambda: relayed.s3.is_frozen)
            reads.send(b"RETR 1\r\n")
            postfix.send(TEXT + b".\r\n")
            removes.ask("DELE 2")
            removes.ask("QUIT")
            with logged_in(relayed, OF_S3) as new:
                assert new.ask("STAT").startswith("2 ")
                assert new.ask_text("TOP 1 0").endswith(b"Subject: x\r\n\r\n")
            # Before any octet, and all while it is silent.
            assert refused(reads).startswith(SYS_TEMP)
            assert TEMPORARY.match(refused(postfix))
            with pytest.raises(NoAnswer):
                reads_large.text()
            assert listed(reads) == before
            relayed.s3.thaw()

            assert reads.ask_text("RETR 1").endswith(MESSAGE)
            assert delivered(relayed, OF_S3) == {}
            with logged_in(relayed, OF_S3) as new:
                for number, text in enumerate([MESSAGE, LARGE, TEXT], 1):
                    assert new.ask_text(f"RETR {number}").endswith(text)
    check_outage(relayed, "S3")
