"""Several servers in a connection string, or several addresses of one name, some of them silent."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import PASSWORD, ROLE, ClusterBench, Waits
from gateway.errors import StoreDown
from gateway.postgresql import connecting
from gateway.postgresql.database import KEPT, Database
from gateway.postgresql.servers import Server, Servers
from postgresql_pair import PostgreSQLPair
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

READ_WRITE = "target_session_attrs=read-write"


class Silent:
    """A port that takes connections and says nothing, at each loopback address."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("0.0.0.0", 0), backlog=1000)
        self.socket.settimeout(0)
        self.port = self.socket.getsockname()[1]

    def taken(self) -> int:
        """How many connections there were since the last time."""
        count = 0
        while True:
            try:
                self.socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


class ServersTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.port = self.bench.engines.postgresql.port
        self.silent = Silent()
        self.addCleanup(self.silent.socket.close)

    def database(self, hosts: str, ports: str, more: str = "", **how: Any) -> Database:
        """One with these words in its string."""
        where = f"host={hosts} port={ports} dbname=mail user={ROLE} {more}"
        database = Database(where, **({"timeout": 0.5, "password": PASSWORD} | how))
        self.addCleanup(database.close)
        return database

    def relay(self) -> Relay:
        relay = Relay(self.port)
        self.addCleanup(relay.stop)
        return relay

    def resolve(self, names: dict[str, list[str]]) -> list[str]:
        """Let names have addresses; each that is asked for is added to what is returned."""
        asked: list[str] = []
        really = socket.getaddrinfo

        def found(host: Any, port: Any, *more: Any, **how: Any) -> Any:
            asked.append(host)
            known = names.get(host, [host])
            if not known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [one for address in known for one in really(address, port, *more, **how)]

        self.patch(socket, "getaddrinfo", found)
        return asked

    def test_a_silent_server_is_asked_once_and_not_for_each_new_connection(self) -> None:
        ports = f"{self.silent.port},{self.port}"
        clock = Clock()
        database = self.database(
            "127.0.0.1,127.0.0.1", ports, READ_WRITE, timeout=10, now=clock.seconds
        )
        for taken in (1, 0, 0):
            self.assertEqual(database.read("SELECT 1"), [(1,)])
            self.assertEqual(self.silent.taken(), taken)
            clock.advance(KEPT + 1)

    def test_nor_are_addresses_of_a_name_before_the_one_that_served(self) -> None:
        self.resolve({"db": ["127.0.0.2", "127.0.0.3", "127.0.0.1"]})
        database = self.database("db", str(self.port))
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        (server,) = database._servers.in_order()
        self.assertEqual(database._servers.addresses_of(server)[0].hostaddr, "127.0.0.1")

    def test_however_many_are_silent_the_time_is_that_of_one(self) -> None:
        """The time limit ends this test if each has two seconds."""
        addresses = [f"127.0.0.{number}" for number in range(1, 121)]
        self.resolve({"db": addresses})
        with ThreadPoolExecutor(1) as threads:
            for hosts, more in (
                ("db", ""),
                (",".join(addresses), ""),
                (",".join("x" for _ in addresses), f"hostaddr={','.join(addresses)}"),
            ):
                database = self.database(hosts, str(self.silent.port), more)
                with self.assertRaisesRegex(StoreDown, "no answer"):
                    threads.submit(database.read, "SELECT 1").result(60)

    def test_a_slow_server_is_waited_for_while_others_are_tried(self) -> None:
        relay = self.relay()
        relay.freeze()
        ports = f"{relay.port},{self.silent.port}"
        database = self.database("127.0.0.1,127.0.0.1", ports, "sslmode=disable", timeout=60)
        with ThreadPoolExecutor(1) as threads:
            done = threads.submit(database.read, "SELECT 1")
            self.bench.engines.until(lambda: self.silent.taken() > 0)
            relay.thaw()
            self.assertEqual(done.result(60), [(1,)])
        self.assertEqual(relay.connections, 1)

    def test_names_after_the_server_that_answers_are_not_looked_up(self) -> None:
        asked = self.resolve({"db1": ["127.0.0.1"]})
        database = self.database("db1,db2", str(self.port))
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        self.assertEqual(asked.count("db2"), 0)

    def test_the_time_of_the_resolver_is_not_that_of_the_servers(self) -> None:
        self.resolve({"db1": [], "db2": ["127.0.0.1"]})
        look_up, ahead = socket.getaddrinfo, 0.0

        def slow(*what: Any, **how: Any) -> Any:
            nonlocal ahead
            ahead += 30
            return look_up(*what, **how)

        self.patch(socket, "getaddrinfo", slow)
        self.patch(connecting, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
        database = self.database("db1,db2", str(self.port))
        self.assertEqual(database.read("SELECT 1"), [(1,)])

    def test_a_name_that_nobody_knows_is_passed_by(self) -> None:
        self.resolve({"db1": [], "db2": ["127.0.0.1"]})
        database = self.database("db1,.,db2", str(self.port))
        self.assertEqual(database.read("SELECT 1"), [(1,)])

    def test_the_error_names_each_server_and_what_it_said(self) -> None:
        self.resolve({"db1": [], "db2": ["127.0.0.2"]})
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        ports = f"1,{self.silent.port},{port}"
        with self.assertRaises(StoreDown) as raised:
            self.database("db1,db2,127.0.0.1", ports).read("SELECT 1")
        self.assertEqual(
            str(raised.exception).split(" Is the server")[0],
            'database: no address of "db1": Name or service not known; connection to server at'
            f' "127.0.0.1", port {port} failed: Connection refused',
        )
        self.assertTrue(
            str(raised.exception).endswith(
                f'connection to server at "db2" (127.0.0.2), port {self.silent.port} failed:'
                " no answer"
            )
        )

    def test_the_certificate_is_compared_with_the_name_and_not_with_the_address(self) -> None:
        self.resolve({"db1": ["127.0.0.1"]})
        trust = f"sslmode=verify-full sslrootcert={self.bench.engines.postgresql.certificate}"
        database = self.database("localhost", str(self.port), trust)
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        with self.assertRaisesRegex(StoreDown, 'does not match host name "db1"'):
            self.database("db1", str(self.port), trust).read("SELECT 1")

    def test_after_a_failover_the_new_primary_is_found_and_remembered(self) -> None:
        pair = PostgreSQLPair(synchronous=False).run()
        self.addCleanup(pair.stop)
        ports = ",".join(map(str, pair.ports))
        owner = pair.primary.url("postgres").partition("@")[0]
        url = f"{owner}@127.0.0.1,127.0.0.1/postgres?port={ports}&{READ_WRITE}"
        database = Database(url, timeout=30)
        self.addCleanup(database.close)
        question = "SELECT inet_server_port()"
        self.assertEqual(database.read(question), [(pair.ports[0],)])
        pair.fail_over()
        self.assertEqual(database.read(question), [(pair.ports[1],)])
        self.assertEqual(database._servers.in_order()[0].port, str(pair.ports[1]))

    def test_a_server_that_takes_no_writes_is_not_asked_first_again(self) -> None:
        self.bench.change(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
        reset = f"ALTER ROLE {ROLE} RESET default_transaction_read_only"
        self.addCleanup(self.bench.change, reset)
        other = self.relay()
        other.is_away = True
        ports = f"{other.port},{self.port}"
        database = self.database("127.0.0.1,127.0.0.1", ports, "sslmode=disable", timeout=5)
        self.assertEqual(database.read("SELECT 1"), [(1,)])
        other.is_away = False
        self.bench.change(reset)
        database.write("UPDATE pop3gw.mailbox SET generation = generation + 1")
        self.assertEqual(other.connections, 1)

    def test_servers_with_load_balance_take_turns(self) -> None:
        words = {"host": "a,b,c,d,e", "load_balance_hosts": "random"}
        servers = Servers(words)
        self.assertGreater(len({servers.in_order()[0] for _ in range(100)}), 1)


def test_servers_are_those_of_the_string_the_environment_or_a_service(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    file.write_text("[mail]\nhost=one,two\nport=1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert Servers({"service": "mail"}).in_order() == [
        Server("one", "", "1"),
        Server("two", "", "1"),
    ]
    monkeypatch.setenv("PGHOST", "x,y")
    monkeypatch.setenv("PGPORT", "7,8")
    assert Servers({}).in_order() == [Server("x", "", "7"), Server("y", "", "8")]
    given = {"host": "a,b", "hostaddr": "127.0.0.1,127.0.0.2", "port": ""}
    assert Servers(given).in_order() == [Server("a", "127.0.0.1", ""), Server("b", "127.0.0.2", "")]
