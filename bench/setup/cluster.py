"""``python -m bench --store cluster``: a gateway of a cluster, its engines on this machine.

What it costs is the gateway's own CPU; the engines' is beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.setup import processes
from bench.setup.maildirs import DOMAIN, Drop, give, wire_size
from bench.setup.servers import ROOT, Gateway, changed

# Tests and benchmark start the same engines.
sys.path += [str(ROOT / "tests" / part) for part in ("support", "peers")]

ROWS = (
    *("login", "login-cold", "poll", "fetch-lf", "fetch-lf-dots"),
    *("retr-10k-lf", "retr-10k-crlf-dots", "retr-10m-lf", "retr-10m-crlf-dots"),
    *("lmtp-1", "lmtp-8", "lmtp-100m", "idle"),
)
"""The rows that put no file into a Maildir."""

LONG = 5000
"""Messages from which on a mailbox has rows only: no row of the table retrieves them."""


class Cluster(Gateway):
    """``twistd pop3gw`` on PostgreSQL and S3, with what the Maildirs of its directory have."""

    name = "cluster"
    _engines: Any = None
    _bucket = ""
    _owns_engines = False

    def start(self, seconds: float = 60.0) -> None:
        """Start the engines and fill them, if that was not done, and the gateway."""
        if self._engines is None:
            from cluster_engines import Engines

            self._engines = engines = Engines(self.directory / "engines")
            self._owns_engines = True
            self._bucket = engines.make_bucket()
            for home in sorted(self.mail.iterdir()):
                self._take(f"{home.name}@{DOMAIN}", list(_messages(home / "Maildir")))
        super().start(seconds)

    def close(self) -> None:
        """End it, and the engines that it has started."""
        self.stop()
        if self._owns_engines:
            self._engines.stop()

    def join(self, other: Cluster) -> None:
        """Serve the mail of another gateway, whose engines run."""
        self._engines, self._bucket = other._engines, other._bucket
        self.accounts.write_text(other.accounts.read_text())

    def engines_cpu(self) -> Mapping[str, float]:
        """Of PostgreSQL and of S3."""
        s3 = self._engines.s3
        parts = {"postgresql": [self._engines.postgresql], "s3": [s3.gateway, *s3.osds]}
        return {
            name: sum(processes.cpu(one.process.pid) for one in some)
            for name, some in parts.items()
        }

    def _take(self, mailbox: str, files: Sequence[Path]) -> None:
        if len(files) >= LONG:
            self._take_rows(mailbox, [wire_size(file.read_bytes()) for file in files])
            return
        from gateway.model import Account, Limits
        from gateway.postgresql.database import Database
        from gateway.store.cluster.bodies.blobs import Blobs
        from gateway.store.cluster.store import ClusterStore
        from gateway.testing.store_contract import run_now

        engines, account = self._engines, Account(mailbox, mailbox)
        database, blobs = Database(engines.url), Blobs(engines.requests(self._bucket))
        with closing(ClusterStore(engines.reactor, database, blobs, run_now)) as store:
            engines.result(store.prepare(account))
            for file in files:
                text = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                incoming = engines.result(store.receive(account))
                engines.result(incoming.write(text))
                engines.result(incoming.commit(account, Limits()))
                engines.result(incoming.close())

    def _take_rows(self, mailbox: str, sizes: Sequence[int]) -> None:
        def take(cursor: Any, _: bool) -> None:
            cursor.execute(
                "INSERT INTO pop3gw.mailbox (name, next_uid, octets, messages, generation)"
                " VALUES (%s, %s, %s, %s, 1) RETURNING id",
                (mailbox, len(sizes) + 1, sum(sizes), len(sizes)),
            )
            ((number,),) = cursor.fetchall()
            cursor.execute(
                "INSERT INTO pop3gw.message (mailbox, uid, position, octets, form, body, copy)"
                " SELECT %s, uid, uid, octets, 0, gen_random_uuid(), 1"
                " FROM unnest(%s::bigint[]) WITH ORDINALITY AS sizes(octets, uid)",
                (number, [*sizes]),
            )

        self._engines.owner.transact(take)

    def count(self, drops: Sequence[Drop]) -> int:
        """How many messages there are."""
        names = [drop.login for drop in drops]
        ((found,),) = self._engines.owner.read(
            "SELECT coalesce(sum(messages), 0)::bigint FROM pop3gw.mailbox WHERE name = ANY(%s)",
            (names,),
        )
        return int(found)

    def _settings(self) -> str:
        from cluster_engines import PASSWORD
        from radosgw import ACCESS_KEY, SECRET_KEY

        engines = self._engines
        for name, secret in (("database", PASSWORD), ("bucket", SECRET_KEY)):
            (self.directory / f"{name}.secret").write_text(secret)
        url = f"postgresql://gateway@127.0.0.1:{engines.postgresql.port}/mail?sslmode=disable"
        return changed(
            super()._settings(),
            {
                'kind = "maildir"\n': f"""\
kind = "cluster"
database = "{url}"
database_password_file = "{self.directory}/database.secret"
bucket = "{engines.s3.url}/{self._bucket}"
bucket_access_key = "{ACCESS_KEY}"
bucket_secret_key_file = "{self.directory}/bucket.secret"
""",
                f'path = "{self.mail}/{{local}}/Maildir"\n': self.more_settings(),
            },
        )

    def more_settings(self) -> str:
        """Lines of ``[store]`` that are no defaults."""
        return ""


class CachingCluster(Cluster):
    """The same, which keeps bodies on its disk."""

    name = "cached"

    def more_settings(self) -> str:
        """Where they are."""
        place = self.directory / "bodies"
        place.mkdir(exist_ok=True)
        give(place, self.owner)
        return f'body_cache = "{place}"\n'


def _messages(maildir: Path) -> Iterator[Path]:
    """The files of a Maildir, in the order of its listing."""
    found = [entry for part in ("new", "cur") for entry in os.scandir(maildir / part)]
    return (Path(entry.path) for entry in sorted(found, key=lambda entry: entry.name))
