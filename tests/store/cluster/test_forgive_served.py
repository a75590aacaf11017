"""An operator of one gateway forgives wrong passwords in all gateways, also in worker processes."""

from __future__ import annotations

import poplib
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_audit_served import SECRET, TOKEN, told

from cluster_engines import Engines
from cluster_gateway import ClusterGateway, running
from servers import USER, Gateway, free_port

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

WRONG = 3


@pytest.fixture
def pair(engines: Engines, tmp_path: Path) -> Iterator[list[ClusterGateway]]:
    """A gateway of one process, and one with workers."""
    settings = {
        name: f"""
[processes]
workers = {workers}
[http]
endpoint = "tcp:{free_port()}:interface=127.0.0.1"
[http.tokens.desk]
{TOKEN}
scopes = ["read", "operate"]
"""
        for name, workers in (("one", 1), ("two", 2))
    }
    with running(engines, tmp_path, settings) as made:
        yield made


def guess(gateway: Gateway) -> None:
    """Try wrong passwords."""
    for number in range(WRONG):
        with closing(poplib.POP3("127.0.0.1", gateway.plain, timeout=60)) as client:
            client.user(USER)
            with pytest.raises(poplib.error_proto, match="AUTH"):
                client.pass_(f"wrong {number}")


def wrong(gateway: Gateway) -> int:
    """How many wrong passwords it counts for the user."""
    return sum(one["count"] for one in told(gateway, "throttle", "list", "--search", USER))


def until(gateway: Gateway, count: int) -> None:
    """Return once it counts so many."""
    while wrong(gateway) != count:
        pass


def test_a_user_whom_one_gateway_forgives_is_forgiven_in_all(pair: list[ClusterGateway]) -> None:
    for here, there in (pair, pair[::-1]):
        guess(there)
        until(here, WRONG)
        (done,) = told(here, "throttle", "forgive", "--user", USER)
        assert done["places"] == 1
        until(there, 0)
        until(here, 0)


def test_the_api_forgives_in_all_gateways(pair: list[ClusterGateway]) -> None:
    here, there = pair
    guess(there)
    until(here, WRONG)
    port = here.config.read_text().partition("[http]")[2].split(":")[1]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/throttle/forgive",
        b'{"address": "127.0.0.1"}',
        {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    until(there, 0)
