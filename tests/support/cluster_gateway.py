"""A gateway of a cluster, as it is installed, and where its mail is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from cluster_engines import PASSWORD, ROLE, Engines
from gateway.model import Account
from gateway.postgresql.database import Database
from gateway.postgresql.names import LONGEST
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.store import ClusterStore
from gateway.testing.store_contract import NO_LIMITS, run_now
from mail_places import Mail
from radosgw import ACCESS_KEY, SECRET_KEY
from servers import Gateway, free_port

TIMEOUT = 2.0
"""``store.timeout``, in seconds."""


class ClusterMail(Mail):
    """Rows and bodies in the engines."""

    bad_names = ("", "x" * (LONGEST + 1))
    restored_come_last = False
    has_state_files = False
    stores_what_is_sent = True

    def __init__(
        self,
        engines: Engines,
        bucket: str,
        directory: Path,
        *,
        s3: str = "",
        ca_file: str = "",
        body_cache: str = "",
    ) -> None:
        """``directory``: of the gateway; ``s3``: its URL, of a server with this ``ca_file``."""
        self._engines, self._bucket = engines, bucket
        tls = f"?sslmode=verify-full&sslrootcert={engines.postgresql.certificate}"
        (directory / "database.secret").write_text(f"{PASSWORD}\n")
        (directory / "bucket.secret").write_text(f"{SECRET_KEY}\n")
        self.settings = f"""\
kind = "cluster"
timeout = {TIMEOUT}
database = "postgresql://{ROLE}@127.0.0.1:{engines.postgresql.port}/mail{tls}"
database_password_file = "database.secret"
bucket = "{s3 or engines.s3.url}/{bucket}"
bucket_ca_file = "{ca_file}"
bucket_access_key = "{ACCESS_KEY}"
bucket_secret_key_file = "bucket.secret"
body_cache = "{body_cache}"
"""

    def put(self, mailbox: str, messages: Iterable[bytes], *, days: float = 0) -> None:
        """By a store of its own, without the trace lines of LMTP."""
        engines, account = self._engines, Account(mailbox, mailbox)
        blobs = Blobs(engines.requests(self._bucket))
        store = ClusterStore(engines.reactor, Database(engines.url), blobs, run_now)
        with closing(store):
            engines.result(store.prepare(account))
            before = {kept.uid for kept in engines.result(store.scan(account))}
            for message in messages:
                incoming = engines.result(store.receive(account))
                engines.result(incoming.write(re.sub(rb"(?<!\r)\n", b"\r\n", message)))
                engines.result(incoming.commit(account, NO_LIMITS))
                engines.result(incoming.close())
            new = {kept.uid for kept in engines.result(store.scan(account))} - before
        self._change(
            "UPDATE pop3gw.message SET received = received - %s * interval '1 day'"
            " FROM pop3gw.mailbox WHERE id = mailbox AND name = %s AND uid = ANY(%s::bigint[])",
            days,
            mailbox,
            [int(uid) for uid in new],
        )

    def names(self) -> list[str]:
        """From the rows."""
        return [name for (name,) in self._read("SELECT name FROM pop3gw.mailbox ORDER BY name")]

    def heads(self, mailbox: str) -> list[bytes]:
        """From the rows."""
        rows = self._read(
            "SELECT head.octets FROM pop3gw.message JOIN pop3gw.head USING (mailbox, uid)"
            " JOIN pop3gw.mailbox ON id = mailbox WHERE name = %s AND hidden IS NULL",
            mailbox,
        )
        return [head.partition(b"\r\n\r\n")[0] for (head,) in rows]

    def miscount(self, mailbox: str, messages: int) -> None:
        """In the counters of the mailbox."""
        self._change("UPDATE pop3gw.mailbox SET messages = %s WHERE name = %s", messages, mailbox)

    def give_ids(self, mailbox: str) -> None:
        """They have them."""

    def back_up(self, mailbox: str) -> Callable[[], None]:
        """The row of the mailbox, as a dump of the database has it."""
        columns = "id, next_uid, epoch, generation, layout, octets, messages"
        ((box, next_uid, *rest),) = self._read(
            f"SELECT {columns} FROM pop3gw.mailbox WHERE name = %s", mailbox
        )

        def restore() -> None:
            for table in ("message", "head"):
                self._change(
                    f"DELETE FROM pop3gw.{table} WHERE mailbox = %s AND uid >= %s", box, next_uid
                )
            self._change(
                f"UPDATE pop3gw.mailbox SET ({columns.partition(', ')[2]})"
                " = (%s, %s, %s, %s, %s, %s) WHERE id = %s",
                *(next_uid, *rest, box),
            )

        return restore

    def end_terms(self) -> None:
        """Of the leader's row."""
        self._change("DELETE FROM pop3gw.leader")

    @contextmanager
    def without_audit(self) -> Iterator[None]:
        """The role of gateways may write none."""
        self._change(f"REVOKE INSERT ON pop3gw.audit FROM {ROLE}")
        try:
            yield
        finally:
            self._change(f"GRANT INSERT ON pop3gw.audit TO {ROLE}")

    def audited(self) -> list[Mapping[str, str]]:
        """The rows."""
        fields = ("action", "mailbox", "uid", "message_id", "rule", "client", "operator")
        rows = self._read(f"SELECT {', '.join(fields)} FROM pop3gw.audit ORDER BY at, id")
        return [dict(zip(fields, row, strict=True)) for row in rows]

    def _read(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return self._engines.owner.read(query, values)

    def _change(self, statement: str, *values: object) -> None:
        self._engines.owner.write(statement, values)


class ClusterGateway(Gateway):
    """``twistd pop3gw`` with one account and LMTP; its mail is in the engines."""

    def __init__(
        self, engines: Engines, bucket: str, directory: Path, settings: str = "", **store: str
    ) -> None:
        """``settings``: tables besides; ``store``: as ``ClusterMail`` has it."""
        self.lmtp = free_port()
        lmtp = f'[lmtp]\nendpoint = "tcp:{self.lmtp}:interface=127.0.0.1"\n'
        mail = ClusterMail(engines, bucket, directory, **store)
        super().__init__(directory, lmtp + settings, mail)


@contextmanager
def running(
    engines: Engines, directory: Path, settings: Mapping[str, str]
) -> Iterator[list[ClusterGateway]]:
    """Gateways of a cluster without mailboxes, by name with their tables, during a ``with``."""
    engines.clear()
    bucket, made = engines.make_bucket(), []
    for name, tables in settings.items():
        (directory / name).mkdir()
        made.append(ClusterGateway(engines, bucket, directory / name, tables))
    for gateway in made:
        gateway.run()
    yield made
    for gateway in made:
        gateway.stop()
        assert "Traceback" not in gateway.log
