"""Prometheus scrapes a server with two workers: its figures, the board's queries, the alerts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_alert_rules import RULES, promtool
from test_process import Client
from test_workers_process import READY, clients_of_each, server_of, workers

from gateway.observe.families import FAMILIES
from programs import need
from servers import PASSWORD, USER, Gateway, Server, fill, free_port

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]
BOARD = json.loads((ROOT / "etc/grafana/pop3gw.json").read_text())
TOKEN = "a-token-for-prometheus"

CONFIG = """\
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [{rules}]
scrape_configs:
  - job_name: pop3gw
    authorization:
      credentials: {token}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Prometheus(Server):
    """A Prometheus on a loopback port."""

    def __init__(self, directory: Path, target: int) -> None:
        super().__init__(directory)
        self.port = free_port()
        config = directory / "prometheus.yml"
        config.write_text(CONFIG.format(rules=RULES, token=TOKEN, port=target))
        self.start(
            [
                *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data"),
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            b"Server is ready to receive web requests",
        )

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=30
        ) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """The values of a query, now."""
        found = self.ask("query", query=expression)["result"]
        return [float(one["value"][1]) for one in found]

    def until(self, expression: str, fits: Callable[[float], bool]) -> None:
        """Wait until a query has one value that fits."""
        end = time.monotonic() + 60
        while not ((values := self.values(expression)) and fits(values[0])):
            assert time.monotonic() < end, f"{expression}: {values}"
            time.sleep(0.2)


class Monitored:
    """The server, and Prometheus beside it."""

    def __init__(self, place: Path) -> None:
        self.http = free_port()
        self.lmtp = f"{place}/lmtp"
        self.gateway = Gateway(
            place,
            "[processes]\nworkers = 2\nhang_timeout = 300.0\n"
            f'[lmtp]\nendpoint = "unix:{self.lmtp}"\n'
            f'[http]\nendpoint = "tcp:{self.http}:interface=127.0.0.1"\ntoken = "{TOKEN}"\n'
            '[quota]\noctets = "1 MB"\nwarn_from = "post@example.org"\n'
            '[retention]\nenabled = true\npolicy = "any 10000d"\n'
            "[throttle]\nrefuse_after = 4\n",
        )
        fill(place / "mail" / USER, [b"Subject: 1\r\n\r\none\r\n"])
        self.gateway.start(self.gateway.command, READY)
        self.prometheus = Prometheus(place, self.http)

    def stop(self) -> None:
        """End both."""
        self.prometheus.stop()
        self.gateway.stop()

    def scrape(self, path: str = "/metrics", token: str = TOKEN) -> bytes:
        """What an HTTP client gets."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}")
        request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def log_in(self, password: str = PASSWORD, *commands: str) -> None:
        """A session."""
        with Client(self.gateway.connect()) as client:
            client.ask(f"USER {USER}")
            client.ask(f"PASS {password}")
            for command in (*commands, "QUIT"):
                client.ask(command)

    def log_in_by_tls(self) -> None:
        """A session over TLS."""
        plain = socket.create_connection(("127.0.0.1", self.gateway.tls), timeout=30)
        with Client(self.gateway.context().wrap_socket(plain, server_hostname="localhost")) as one:
            one.ask(f"USER {USER}", f"PASS {PASSWORD}", "QUIT")

    def deliver(self, recipient: str) -> None:
        """A message by LMTP."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(self.lmtp)
            with Client(line) as client:
                reply = client.ask("LHLO test")
                while reply[3:4] == b"-":
                    reply = client.read()
                reply = client.ask("MAIL FROM:<>", f"RCPT TO:<{recipient}>")
                if reply.startswith(b"250"):
                    client.ask("DATA")
                    client.ask("Subject: x\r\n\r\nx\r\n.")
                client.ask("QUIT")


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    need("prometheus", "promtool")
    found = Monitored(tmp_path_factory.mktemp("monitored"))
    try:
        yield found
    finally:
        found.stop()


def test_promtool_finds_no_fault_with_a_scrape(monitored: Monitored) -> None:
    monitored.log_in(PASSWORD, "STAT", "RETR 1", "XYZZY")
    monitored.log_in("wrong")
    assert promtool("check", "metrics", given=monitored.scrape()) == ""


COUNTED = {
    "pop3gw_deliveries_total": 1,
    "pop3gw_recipients_refused_total": 1,
    'pop3gw_recipients_refused_total{reason="unknown"}': 1,
    'pop3gw_logins_total{result="wrong_password"}': 1,
    'pop3gw_retrieved_messages_total{command="RETR"}': 5,
    'pop3gw_tls_handshakes_total{version="1.3"}': 1,
}
"""What the next test does, whichever tests have run before it in this process."""


def test_prometheus_knows_what_happened_in_both_workers(monitored: Monitored) -> None:
    asked, logins = monitored.prometheus, 'sum(pop3gw_logins_total{result="ok"})'
    begun = time.time()
    asked.until("sum(up)", lambda up: up == 1)
    # All that the tests before did is in it.
    asked.until("max(timestamp(up))", lambda scraped: scraped > begun)
    asked.until("pop3gw_workers{state='serving'}", lambda serving: serving == 2)
    before = {one: sum(asked.values(f"sum({one})")) for one in COUNTED}
    clients = clients_of_each(monitored.gateway)
    assert len(clients) == 2
    asked.until("sum(pop3gw_sessions_logged_in)", lambda sessions: sessions == 2)
    for client in clients.values():
        client.ask("QUIT")
    asked.until("sum(pop3gw_sessions_logged_in)", lambda sessions: sessions == 0)
    since = sum(asked.values(logins))
    # Of a worker that was killed the last PASS may be missing.
    missing = "sum(pop3gw_logins_total) - sum(pop3gw_command_seconds_count{command='PASS'})"
    (missed,) = asked.values(missing)
    for _ in range(5):
        monitored.log_in(PASSWORD, "RETR 1", "STAT")
    monitored.log_in_by_tls()
    monitored.log_in("wrong")
    monitored.deliver(USER)
    monitored.deliver("nobody@example.org")
    asked.until(logins, lambda count: count == since + 6)

    for one, more in COUNTED.items():
        goal = before[one] + more
        asked.until(f"sum({one})", lambda count, goal=goal: count == goal)  # type: ignore[misc]
    assert sum(asked.values('sum(pop3gw_quota_decisions_total{decision="fine"})')) >= 1
    asked.until(missing, lambda count: count == missed)


def test_no_counter_goes_down_when_a_worker_is_killed(monitored: Monitored) -> None:
    asked, gateway = monitored.prometheus, monitored.gateway
    monitored.log_in()
    logins = 'sum(pop3gw_logins_total{result="ok"})'
    asked.until(logins, lambda count: count >= 1)
    (before,) = asked.values(logins)
    clients = clients_of_each(gateway)
    asked.until(logins, lambda count: count >= before + 2)
    (known,) = asked.values(logins)
    worker = server_of(gateway, next(iter(clients.values())).line)
    ready = gateway.log.count(" ready: pid=")
    os.kill(worker, signal.SIGKILL)
    gateway.wait_for(b" ready: pid=", times=ready + 1)
    assert worker not in workers(gateway).values()
    asked.until("pop3gw_worker_ends_total{how='failed'}", lambda ends: ends == 1)
    asked.until("pop3gw_workers{state='serving'}", lambda serving: serving == 2)
    monitored.log_in()
    asked.until(logins, lambda count: count >= known + 1)
    for name, family in FAMILIES.items():
        if family.kind == "counter":
            assert not any(asked.values(f"resets({name}[10m])")), name


def test_a_worker_that_hangs_does_not_stop_the_scrape(monitored: Monitored) -> None:
    asked, gateway = monitored.prometheus, monitored.gateway
    hangs = next(iter(workers(gateway).values()))
    noticed = b" accepts its clients"
    before = gateway.log.count(noticed.decode())
    os.kill(hangs, signal.SIGSTOP)
    try:
        # Until then a scrape waits for it, or with it.
        gateway.wait_for(noticed, times=before + 1)
        asked.until("scrape_samples_scraped", lambda samples: samples > 0)
        asked.until("min_over_time(up[3s])", lambda up: up == 1)
        asked.until("pop3gw_workers{state='serving'}", lambda serving: serving >= 1)
    finally:
        os.kill(hangs, signal.SIGCONT)


NEEDS_MORE = {
    "pop3gw_directory_seconds_bucket": "an LDAP server",
    "pop3gw_directory_failures_total": "an LDAP server that is down",
    "pop3gw_backend_up": "an LDAP server",
    "pop3gw_backend_seconds_bucket": "a cluster",
    "pop3gw_backend_seconds_count": "a cluster",
    "pop3gw_backend_failures_total": "a cluster of which an engine is down",
    "pop3gw_actions_failed_total": "a failure of the store",
    "pop3gw_deliveries_failed_total": "a failure of the store",
}
"""Figures without a value on this server, and what they would need."""


def test_each_query_of_the_board_is_understood_and_has_data(monitored: Monitored) -> None:
    asked = monitored.prometheus
    for _ in range(2 * len(workers(monitored.gateway))):
        # The second one in a worker finds its password in the cache.
        monitored.log_in(PASSWORD, "TOP 1 0")
    monitored.scrape("/v1/quota")
    monitored.log_in("wrong")
    monitored.log_in_by_tls()
    monitored.deliver(USER)
    monitored.deliver("nobody@example.org")
    for name in ("deliveries", "recipients_refused", "quota_decisions", "tls_handshakes"):
        asked.until(f"sum(rate(pop3gw_{name}_total[1m]))", lambda rate: rate >= 0)
    for name in ("pop3gw_http_requests_total", 'pop3gw_cache_lookups_total{outcome="remembered"}'):
        asked.until(f"sum(rate({name}[1m]))", lambda rate: rate >= 0)
    empty: set[str] = set()
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            if not asked.ask("query", query=query)["result"]:
                empty.update(re.findall(r"pop3gw_\w+", query))
    assert empty == set(NEEDS_MORE)


def test_prometheus_evaluates_all_alerts(monitored: Monitored) -> None:
    asked = monitored.prometheus
    end = time.monotonic() + 60
    while True:
        (group,) = asked.ask("rules")["groups"]
        states = {rule["name"]: rule["health"] for rule in group["rules"]}
        if "unknown" not in states.values():
            break
        assert time.monotonic() < end, states
        time.sleep(0.2)
    assert set(states.values()) == {"ok"}, states


def test_probes_answer_beside_it(monitored: Monitored) -> None:
    assert json.loads(monitored.scrape("/healthz/live")) == {"live": True}
    found = json.loads(monitored.scrape("/healthz/ready"))
    assert found["ready"] is True, found
    assert set(found["checks"]) == {"directory", "store", "disk", "state", "leader"}


def test_the_last_hour_has_the_logins_of_all_workers(monitored: Monitored) -> None:
    def counted() -> tuple[int, int]:
        minutes = history(monitored)
        wrong = sum(minute["failed"].get("wrong_password", 0) for minute in minutes)
        return sum(minute["logins"] for minute in minutes), wrong

    logins, wrong = counted()
    clients = clients_of_each(monitored.gateway)
    monitored.log_in("wrong")
    for client in clients.values():
        client.ask("QUIT")
    assert len(clients) == 2
    found = counted()
    assert found[0] >= logins + 2
    assert found[1] == wrong + 1


def history(monitored: Monitored) -> list[dict[str, Any]]:
    """The last hour, for the server's user."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(monitored.gateway.directory / "control"))
        line.sendall(b"GET /v1/history HTTP/1.0\r\n\r\n")
        answer = b""
        while data := line.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.0 200"), answer[:200]
    found: list[dict[str, Any]] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found
