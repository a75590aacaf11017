"""The cluster of ``etc/cluster``, by its own files: mail through HAProxy, and a failover."""

from __future__ import annotations

import poplib
import shlex
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_engines import Engines
from cluster_example import ClusterExample, Service
from pages import blocks

# In the group of the other stack, which listens on port 1110 of all addresses.
pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("mail_stack"),
    pytest.mark.timeout(600),
]

ALICE, PASSWORD = "alice@example.org", "wonderland"
NAME = "mail.example.org"
"""What the certificate is for."""


class Client(poplib.POP3):
    """A POP3S client with an address of its own, which verifies name and certificate."""

    def __init__(self, example: ClusterExample) -> None:
        self._example = example
        super().__init__(example.addresses["haproxy"], 1995, 60)

    def _create_socket(self, timeout: float) -> socket.socket:
        context = ssl.create_default_context(cafile=self._example.files / "tls/ca/ca.crt")
        own = (self._example.client, 0)
        line = socket.create_connection((self.host, self.port), timeout, source_address=own)
        return context.wrap_socket(line, server_hostname=NAME)


class Site:
    """The example with all of its services."""

    def __init__(self, directory: Path, engines: Engines) -> None:
        self.example = example = ClusterExample(directory, engines.s3)
        try:
            self.db1, self.db2 = example.service("db1"), example.service("db2")
            for database in (self.db2, self.db1):
                database.begin()
            for database in (self.db1, self.db2):
                database.wait_until_healthy()
            engines.result(engines.requests("mail").ask("PUT"))
            self.migrate()
            self.gateways = [example.service(name).run() for name in ("gateway1", "gateway2")]
            self.haproxy = example.service("haproxy")
            self.haproxy.run()
            example.add(ALICE, PASSWORD)
        except BaseException:
            example.stop()
            raise

    def migrate(self) -> str:
        """Run the service of that name; what it prints."""
        service = self.example.service("migrate")
        service.begin()
        assert service.end() == 0, service.log
        return service.log

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command of the manual, ``docker compose exec SERVICE ...``, in the service."""
        lines = [line for block in blocks("cluster-compose.md") for line in block.text.splitlines()]
        assert line in lines, lines
        words = shlex.split(line)
        assert words[:3] == ["docker", "compose", "exec"]
        (service,) = (one for one in (self.db1, self.db2) if one.name == words[3])
        return service.execute(*words[4:])

    def deliver(self, subject: str) -> None:
        """Hand a message to HAProxy by LMTP."""
        at = (self.example.addresses["haproxy"], 1024)
        own = (self.example.client, 0)
        with smtplib.LMTP(*at, source_address=own, timeout=60) as client:
            text = f"Subject: {subject}\r\n\r\nhello\r\n"
            assert client.sendmail("sender@example.net", [ALICE], text) == {}

    def mail(self) -> dict[str, str]:
        """Alice's messages: subject by unique-id."""
        client = Client(self.example)
        client.user(ALICE)
        client.pass_(PASSWORD)
        found = {}
        for line in client.uidl()[1]:
            number, uid = line.decode().split()
            lines = client.retr(int(number))[1]
            (subject,) = (one[9:].decode() for one in lines if one.startswith(b"Subject: "))
            found[uid] = subject
        client.quit()
        return found


PROMOTE = "docker compose exec db2 sh /etc/cluster/promote"
WAIT_FOR_NONE = (
    "docker compose exec db1 psql -U postgres"
    """ -c "ALTER SYSTEM SET synchronous_standby_names = ''" -c "SELECT pg_reload_conf()\""""
)
WAIT_FOR_STANDBY = "docker compose exec {} psql -U postgres -f /etc/cluster/synchronous.sql"
STANDBYS = "SELECT application_name, sync_state FROM pg_stat_replication"


@pytest.fixture(scope="module")
def site(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started once; its tests run in their order."""
    started = Site(tmp_path_factory.mktemp("cluster"), engines)
    yield started
    started.example.stop()
    for service in (started.db1, started.db2, *started.gateways):
        assert "Traceback" not in service.log


def ask(database: Service, query: str) -> list[str]:
    """What psql prints, as the administrator of the page calls it."""
    done = database.execute("psql", "-XAt", "-U", "postgres", "-d", "mail", "-c", query)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_gateways_role_has_what_the_manual_grants_and_no_more(site: Site) -> None:
    granted = ask(
        site.db1,
        "SELECT DISTINCT string_agg(privilege_type, ',' ORDER BY privilege_type)"
        " FROM information_schema.role_table_grants WHERE grantee = 'gateway' GROUP BY table_name",
    )
    assert granted == ["DELETE,INSERT,SELECT,UPDATE"]
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'pop3gw'"
    assert ask(site.db1, tables) == ask(
        site.db1,
        "SELECT count(DISTINCT table_name) FROM information_schema.role_table_grants"
        " WHERE grantee = 'gateway'",
    )
    rights = "SELECT rolname FROM pg_roles WHERE rolsuper OR rolcreatedb OR rolcreaterole"
    assert ask(site.db1, f"{rights} ORDER BY 1") == ["postgres"]
    may = "has_database_privilege('gateway', 'mail', 'CREATE, TEMP')"
    assert ask(site.db1, f"SELECT {may}") == ["f"]


def test_each_commit_waits_for_the_standby_and_all_connections_have_tls(site: Site) -> None:
    assert ask(site.db1, STANDBYS) == ["db2|sync"]
    site.deliver("before")
    lines = ask(
        site.db1,
        "SELECT DISTINCT usename, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename <> 'postgres' ORDER BY 1",
    )
    assert lines == ["gateway|t", "standby|t"]


def test_mail_goes_through_haproxy_and_the_log_names_the_client(site: Site) -> None:
    site.deliver("hello")
    assert "hello" in site.mail().values()
    client, proxy = site.example.client, site.example.addresses["haproxy"]
    line = f"end=quit user={ALICE} from={client} via={proxy} "
    end = time.monotonic() + 30
    # The log is written a moment later.
    while not any(line in gateway.log for gateway in site.gateways):
        assert time.monotonic() < end, [gateway.log for gateway in site.gateways]
        time.sleep(0.02)


def test_without_the_standby_no_mail_is_acknowledged_until_the_administrator_says_so(
    site: Site,
) -> None:
    before = site.mail()
    site.db2.stop(signal.SIGKILL)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        site.deliver("unanswered")
    assert refused.value.smtp_code == 451
    assert site.mail().items() >= before.items()
    waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    assert ask(site.db1, waiting) == ["t"]
    assert site.type(WAIT_FOR_NONE).returncode == 0
    site.deliver("again")
    assert "again" in site.mail().values()
    site.db2.run()
    assert site.type(WAIT_FOR_STANDBY.format("db1")).returncode == 0
    site.deliver("in step")
    assert ask(site.db1, STANDBYS) == ["db2|sync"]


def test_a_standby_is_not_promoted_beside_a_primary_that_runs(site: Site) -> None:
    done = site.type(PROMOTE)
    assert (done.returncode, done.stderr) == (1, "db2: db1 is a primary and runs: stop it first\n")


def test_mail_goes_on_after_the_loss_of_a_gateway_and_a_promotion(site: Site) -> None:
    before = site.mail()
    site.gateways[0].stop(signal.SIGKILL)
    assert site.mail() == before
    site.db1.stop(signal.SIGKILL)
    done = site.type(PROMOTE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.mail() == before
    site.deliver("after")
    after = site.mail()
    (new,) = after.keys() - before.keys()
    assert after[new] == "after"
    # Of a lost commit a client may have seen the next one.
    assert int(new) > 1_000_000


def test_the_old_primary_stays_out_until_it_is_a_copy_of_the_new_one(site: Site) -> None:
    site.db1.begin()
    assert site.db1.end() == 1
    said = "db1: db2 is the primary now: remove the volume of db1, and let it copy db2"
    assert said in site.db1.log
    shutil.rmtree(site.example.data / "db1")
    site.db1.run()
    done = site.type(WAIT_FOR_STANDBY.format("db2"))
    assert done.returncode == 0, done.stderr
    # The first commit that waits for it.
    site.deliver("copied")
    assert ask(site.db2, STANDBYS) == ["db1|sync"]
    assert ask(site.db1, "SELECT pg_is_in_recovery()") == ["t"]


def test_a_gateway_that_comes_back_gets_clients_again(site: Site) -> None:
    assert "nothing to do" in site.migrate()
    site.gateways[0].run()
    before = site.mail()
    site.gateways[1].stop(signal.SIGKILL)
    assert site.mail() == before
