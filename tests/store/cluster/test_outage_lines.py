"""What the log of a gateway has of outages of PostgreSQL and S3, and of a body that is missing."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from cluster_engines import Engines
from relayed_gateway import Relayed, relayed_gateway
from servers import USER

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]


@pytest.fixture
def relayed(engines: Engines, tmp_path: Path) -> Iterator[Relayed]:
    """A gateway."""
    with relayed_gateway(engines, tmp_path) as relayed:
        yield relayed


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


def test_a_gateway_that_starts_while_both_are_away_needs_no_restart(relayed: Relayed) -> None:
    relayed.gateway.stop()
    relayed.database.go_away()
    relayed.s3.go_away()
    relayed.gateway.run()
    with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\]"):
        relayed.login()
    assert relayed.deliver() == 451
    relayed.database.is_away = relayed.s3.is_away = False
    assert relayed.deliver() == 250
    with closing(relayed.login()) as client:
        assert client.stat()[0] == 3
        assert client.retr(3)[1][-1] == b"body"
        client.quit()


def test_a_gateway_that_stops_while_the_database_is_away_says_what_it_could_not_do(
    relayed: Relayed,
) -> None:
    relayed.until(relayed.has_leader)
    relayed.database.go_away()
    relayed.gateway.stop()
    assert "shutdown: not all work finished: database: " in relayed.gateway.log
    assert relayed.lines("backend_replaced") == []
