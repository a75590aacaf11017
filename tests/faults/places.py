"""Where runs happen: the cluster store with its engines, and Maildir."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cluster_engines import PASSWORD, ROLE, make_role
from fault_plan import Fault
from gateway.postgresql.database import Database
from gateway.postgresql.migrate import migrate
from gateway.s3.signing import Signer
from gateway.store.cluster.sql import rows
from gateways import Place, Wait
from postgresql_pair import PostgreSQLPair
from radosgw import ACCESS_KEY, SECRET_KEY, RadosGateway

_STORE = """
[store]
kind = "cluster"
timeout = 3.0
database = "postgresql://{role}@{hosts}/mail?target_session_attrs=read-write"
database_password_file = "{directory}/database.secret"
bucket = "{url}/mail"
bucket_access_key = "{key}"
bucket_secret_key_file = "{directory}/bucket.secret"
"""


WRITTEN = 20
"""New messages: more than the writers can have waiting for an answer."""


class MaildirPlace(Place):
    """One gateway, with a Maildir for each mailbox."""

    may_count_removed = True

    def __init__(self, directory: Path, wait: Wait) -> None:
        super().__init__(directory, wait)
        with self.running:
            path = f"{directory}/mail/{{name}}"
            self.start_gateways(f'[store]\npath = "{path}"\nmissing = "create"\n')
            self.running = self.running.pop_all()


class ClusterPlace(Place):
    """Two gateways, a primary and a standby of PostgreSQL, three OSDs and their S3 gateway."""

    def __init__(self, directory: Path, wait: Wait, *, synchronous: bool = True) -> None:
        """Not ``synchronous``: each failover loses commits that were answered."""
        super().__init__(directory, wait)
        self._synchronous = synchronous
        self.acts |= {
            "primary": self._kill_primary,
            "OSD": self._kill_osd,
            "radosgw": self._kill_s3,
        }
        with self.running:
            self._start()
            self.running = self.running.pop_all()

    def _start(self) -> None:
        self._pair = PostgreSQLPair(synchronous=self._synchronous)
        self.running.callback(self._pair.stop)
        self._pair.run()
        (self.directory / "ceph").mkdir()
        self._s3 = RadosGateway(self.directory / "ceph", osds=3)
        self.running.callback(self._s3.stop)
        self._s3.run()
        self._make_database()
        self._make_bucket()
        for name, secret in (("database", PASSWORD), ("bucket", SECRET_KEY)):
            (self.directory / f"{name}.secret").write_text(secret)
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._pair.ports)
        values = {"role": ROLE, "hosts": hosts, "url": self._s3.url, "key": ACCESS_KEY}
        store = _STORE.format(directory=self.directory, **values)
        self.start_gateways(store, store)

    def _make_database(self) -> None:
        primary = self._pair.primary
        primary.make_database("mail")
        owner = Database(primary.url("mail"))
        migrate(owner)
        owner.close()
        make_role(primary.url("mail"))

    def _make_bucket(self) -> None:
        host = urlsplit(self._s3.url).netloc
        signer = Signer("us-east-1", ACCESS_KEY, SECRET_KEY)
        fields = signer.fields("PUT", "/mail", "", {"host": host})
        line = http.client.HTTPConnection(host, timeout=60)
        headers = dict(field.split(":", 1) for field in fields.splitlines())
        line.request("PUT", "/mail", headers=headers)
        assert line.getresponse().status == 200
        line.close()

    def _kill_primary(self, fault: Fault) -> None:
        if not self._synchronous:
            self._pair.fall_behind()
            self._until_written()
        self._pair.fail_over()
        self.wait(fault.outage)
        self._pair.rebuild()

    def _until_written(self) -> None:
        """Return once the primary has more new messages than clients still wait for."""
        owner = Database(self._pair.primary.url("mail"))
        query, end = "SELECT sum(next_uid) FROM pop3gw.mailbox", time.monotonic() + 60
        ((before,),) = owner.read(query)
        while owner.read(query)[0][0] < before + WRITTEN:
            assert time.monotonic() < end, "nothing is written"
            if self.wait(0.05):
                break
        owner.close()

    def _kill_osd(self, fault: Fault) -> None:
        number = fault.victim(len(self._s3.osds))
        self._s3.osds[number].stop(signal.SIGKILL)
        self.wait(fault.outage)
        self._s3.start_osd(number)

    def _kill_s3(self, fault: Fault) -> None:
        self._s3.gateway.stop(signal.SIGKILL)
        self.wait(fault.outage)
        self._s3.start_gateway()

    def check_counters(self) -> Iterator[str]:
        """Compare the counters of each mailbox with its rows, as ``verify.py`` does."""
        owner = Database(self._pair.primary.url("mail"))
        for one in rows.counted(owner, 0, 1000):
            if one.counters != one.contents:
                yield f"{one.name}: {one.counters} counted, {one.contents} there"
        owner.close()
