"""A gateway of a cluster, as it is installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from cluster_engines import Engines
from gateway.model import Account
from gateway.postgresql.database import Database
from gateway.store.cluster.blobs import Blobs
from gateway.store.cluster.store import ClusterStore
from gateway.testing.store_contract import NO_LIMITS, run_now
from radosgw import ACCESS_KEY, SECRET_KEY
from servers import Gateway, free_port


class ClusterGateway(Gateway):
    """``twistd pop3gw`` with one account; its mail is in the engines."""

    def __init__(
        self,
        engines: Engines,
        bucket: str,
        directory: Path,
        settings: str = "",
        *,
        s3: str = "",
        ca_file: str = "",
    ) -> None:
        """``settings``: tables besides; ``s3``: its URL, of a server with this ``ca_file``."""
        self._engines, self._bucket = engines, bucket
        self.lmtp = free_port()
        tls = f"?sslmode=verify-full&sslrootcert={engines.postgresql.certificate}"
        (directory / "database.secret").write_text("no-owner\n")
        (directory / "bucket.secret").write_text(f"{SECRET_KEY}\n")
        super().__init__(
            directory,
            f"""
[lmtp]
endpoint = "tcp:{self.lmtp}:interface=127.0.0.1"
[store]
kind = "cluster"
timeout = 2.0
database = "postgresql://gateway@127.0.0.1:{engines.postgresql.port}/mail{tls}"
database_password_file = "database.secret"
bucket = "{s3 or engines.s3.url}/{bucket}"
bucket_ca_file = "{ca_file}"
bucket_access_key = "{ACCESS_KEY}"
bucket_secret_key_file = "bucket.secret"
{settings}
""",
        )

    def put(self, mailbox: str, messages: Iterable[bytes]) -> None:
        """Deliver these as they are: without the trace lines of LMTP."""
        engines, account = self._engines, Account(mailbox, mailbox)
        blobs = Blobs(engines.requests(self._bucket))
        store = ClusterStore(engines.reactor, Database(engines.url), blobs, run_now)
        with closing(store):
            for message in messages:
                incoming = engines.result(store.receive(account))
                engines.result(incoming.write(re.sub(rb"(?<!\r)\n", b"\r\n", message)))
                engines.result(incoming.commit(account, NO_LIMITS))
                engines.result(incoming.close())
