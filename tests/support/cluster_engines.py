"""The real engines of the cluster store, and stores on them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.components import proxyForInterface
from twisted.trial.unittest import SynchronousTestCase

from gateway.interfaces import IBody, IHidingMaildrop, IMaildrop, Run
from gateway.model import Account, Reason, Removed
from gateway.postgresql.database import Database
from gateway.postgresql.migrate import migrate
from gateway.s3.connection import Content
from gateway.s3.requests import Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import Connections, make_connections
from gateway.state.cluster.leader import ClusterLeader
from gateway.state.cluster.state import ClusterState
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.store import ClusterOptions, ClusterStore
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, admit, run_now
from postgresql import PostgreSQL
from radosgw import ACCESS_KEY, OWNER_KEY, OWNER_SECRET, SECRET_KEY, RadosGateway

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"

ROLE, PASSWORD = "gateway", "no-owner"
"""The role of gateways, with the privileges that the manual grants."""


def make_role(url: str) -> None:
    """Make the role of gateways, with what the manual lets it do."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'".encode())
        grant_role(connection)


def grant_role(owner: psycopg.Connection) -> None:
    """Let the role of gateways do in a database what the manual says."""
    text = "".join(re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S))
    owner.execute(text.encode())


class Engines:
    """PostgreSQL, an S3, and a reactor that runs while a test waits."""

    def __init__(self, directory: Path) -> None:
        self._running = ExitStack()
        with self._running:
            self._start(directory)
            self._running = self._running.pop_all()

    def _start(self, directory: Path) -> None:
        self.postgresql = PostgreSQL()
        self._running.callback(self.postgresql.stop)
        self.postgresql.run()
        self.s3 = RadosGateway(directory)
        self._running.callback(self.s3.stop)
        self.s3.run()
        self.reactor = EPollReactor()
        self.reactor.startRunning(installSignalHandlers=False)
        self._running.callback(self._stop_reactor)
        self._numbers = count(1)
        self.postgresql.make_database("mail")
        self.owner = Database(self.postgresql.url("mail"))
        self._running.callback(self.owner.close)
        migrate(self.owner)
        make_role(self.postgresql.url("mail"))
        self.url = self.postgresql.url("mail", ROLE, PASSWORD)
        self._agents: dict[str, Connections] = {}

    def url_by(self, port: int) -> str:
        """Where gateways find the database by a relay, which looks for statements: without TLS."""
        url = self.url.replace(f":{self.postgresql.port}/", f":{port}/")
        return f"{url}?sslmode=disable"

    def stop(self) -> None:
        """End all."""
        self._running.close()

    def _stop_reactor(self) -> None:
        self.reactor.stop()
        self.reactor.iterate()

    def wait(self, answer: Deferred[Any], seconds: float = 60) -> None:
        """Return once it has fired."""
        fired: list[bool] = []

        def fire(result: Any) -> Any:
            fired.append(True)
            return result

        answer.addBoth(fire)
        end = time.monotonic() + seconds
        while not fired:
            assert time.monotonic() < end, "no answer in time"
            due = self.reactor.timeout()
            self.reactor.iterate(1 if due is None else min(due, 1))

    def until(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        """Return once something is so."""
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "it did not become so"
            self.reactor.iterate(0.01)

    def result(self, answer: Deferred[Any]) -> Any:
        """What it fires with; raises as it fails."""
        self.wait(answer)
        results: list[Any] = []
        answer.addBoth(results.append)
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def clear(self) -> None:
        """No mailboxes."""
        tables = [
            *("mailbox", "message", "head", "gone", "former_name", "warning", "digest", "scan"),
            *("removal", "forecast", "retention_order", "announced_expire", "rename"),
            *("last_login", "logins_since", "high_water", "leader", "lease"),
            *("member", "login", "guess", "audit"),
        ]
        self.owner.transact(
            lambda cursor, _: [cursor.execute(f"DELETE FROM pop3gw.{one}") for one in tables]
        )
        self.owner.write("UPDATE pop3gw.version SET epochs = 0")

    def requests(
        self,
        bucket: str,
        *,
        url: str = "",
        keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
        **more: Any,
    ) -> Requests:
        """Requests to a bucket; ``url``: of a relay before S3."""
        signer = Signer("us-east-1", *keys)
        url = url or self.s3.url
        if url not in self._agents or self._agents[url].is_closed:
            self._agents[url] = make_connections(self.reactor, url, connections=8, timeout=10)
        return Requests(self.reactor, self._agents[url], signer, f"{url}/{bucket}", **more)

    def make_bucket(self) -> str:
        """A new, empty bucket, with the policy that the manual has."""
        name = f"mail-{next(self._numbers)}"
        owner = self.requests(name, keys=(OWNER_KEY, OWNER_SECRET))
        self.result(owner.ask("PUT"))
        (text,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.S)
        policy = text.replace(":::mail", f":::{name}").encode()
        self.result(owner.ask("PUT", query={"policy": ""}, content=Content([policy])))
        return name


ENGINES: list[Engines] = []
"""Those that run now: one, or none."""


class Waits:
    """A synchronous test, for which time passes while it asks for a result."""

    def successResultOf(self, deferred: Any) -> Any:
        """Wait for it."""
        ENGINES[0].wait(deferred)
        return super().successResultOf(deferred)  # type: ignore[misc]

    def failureResultOf(self, deferred: Any, *kinds: Any) -> Any:
        """Wait for it."""
        ENGINES[0].wait(deferred)
        return super().failureResultOf(deferred, *kinds)  # type: ignore[misc]


class PromptMaildrop(proxyForInterface(IHidingMaildrop)):  # type: ignore[misc]
    """A maildrop that has opened a message before it returns, as those in memory have."""

    def retrieve(self, index: int) -> Deferred[IBody]:
        """Open it now."""
        opened: Deferred[IBody] = self.original.retrieve(index)
        ENGINES[0].wait(opened)
        return opened


class PromptStore(ClusterStore):
    """A store with such maildrops: no suite can read a body while another answer arrives."""

    def open(self, account: Account, mind: object) -> Deferred[Any]:
        """Open it."""

        def prompt(opened: tuple[IMaildrop, Any]) -> tuple[IMaildrop, Any]:
            return PromptMaildrop(opened[0]), opened[1]

        return super().open(account, mind).addCallback(prompt)


class _Entries(list[Removed]):
    """The audit's entries; to delete all empties the table."""

    def __init__(self, owner: Database) -> None:
        self._owner = owner
        super().__init__(
            Removed(*fields, Reason(*causes))
            for *fields, causes in owner.read(
                "SELECT action, mailbox, uid, message_id, octets,"
                " extract(epoch FROM received)::float8, extract(epoch FROM read)::float8,"
                " ARRAY[rule, session, client, operator] FROM pop3gw.audit ORDER BY at, id"
            )
        )

    def __delitem__(self, which: Any) -> None:
        assert which == slice(None)
        self._owner.write("DELETE FROM pop3gw.audit")


class RowsTrail:
    """The ``Trail`` of the contract suites: what the database has."""

    def __init__(self, engines: Engines) -> None:
        self._owner = engines.owner
        self.fails = False

    @property
    def lines(self) -> _Entries:
        """The entries, the oldest first."""
        return _Entries(self._owner)

    @property
    def fails(self) -> bool:
        """Whether the gateways may write no entry."""
        return self._fails

    @fails.setter
    def fails(self, fails: bool) -> None:
        self._fails = fails
        what = f"REVOKE INSERT ON pop3gw.audit FROM {ROLE}"
        if not fails:
            what = f"GRANT INSERT ON pop3gw.audit TO {ROLE}"
        self._owner.write(what)


class ClusterBench:
    """The store of one gateway, and another gateway that acts beside it."""

    def __init__(self, test: SynchronousTestCase, *, run: Run = run_now, **more: Any) -> None:
        self.engines = engines = ENGINES[0]
        engines.clear()
        self.bucket = engines.make_bucket()
        self.trail = RowsTrail(engines)
        # Or gateways of the tests after this one could write no entry either.
        test.addCleanup(setattr, self.trail, "fails", False)
        self.store = self.gateway(test, run=run, admit=admit, **more)
        # What it removes is no entry of the trail.
        self.other = self.gateway(test, options=ClusterOptions(create=False, audit_days=0))
        self._maker = self.maker(test)
        for account in (ALICE, BOB):
            self.add(account.mailbox)

    def maker(self, test: SynchronousTestCase) -> Any:
        """A store that creates missing mailboxes."""
        return self.gateway(test, options=ClusterOptions(create=True))

    def add(self, name: str) -> Account:
        """An empty mailbox, unless there is one."""
        account = Account(name=name, mailbox=name)
        self.engines.result(self._maker.prepare(account))
        return account

    def gateway(
        self,
        test: SynchronousTestCase,
        *,
        run: Run = run_now,
        database: Database | None = None,
        blobs: Blobs | None = None,
        **more: Any,
    ) -> Any:
        """A store with connections of its own."""
        more.setdefault("options", ClusterOptions(create=False))
        store = PromptStore(
            self.engines.reactor,
            database or Database(self.engines.url),
            blobs or self.blobs(),
            run,
            **more,
        )
        test.addCleanup(store.close)
        return store

    def blobs(self, **more: Any) -> Blobs:
        """The bodies."""
        return Blobs(self.engines.requests(self.bucket), **more)

    def content(self, text: bytes) -> Content:
        """Something to upload."""
        return Content([text])

    def read(self, query: str) -> list[Any]:
        """Rows of the database, as its owner sees them."""
        return self.engines.owner.read(query)

    def change(self, statement: str) -> None:
        """Change the database, as its owner may."""
        self.engines.owner.transact(lambda cursor, _: cursor.execute(statement))

    def deliver(self, content: bytes, account: Account = ALICE) -> None:
        """The other gateway delivers, to Alice or to somebody else who has a mailbox."""
        result = self.engines.result
        incoming = result(self.other.receive(account))
        result(incoming.write(content))
        result(incoming.commit(account, NO_LIMITS))
        result(incoming.close())

    def expunge_first(self) -> None:
        """The other gateway removes Alice's oldest message."""
        maildrop, _ = self.engines.result(self.other.open(ALICE, None))
        self.engines.result(maildrop.finish({0}, set()))

    def contents(self) -> list[bytes]:
        """What S3 has of Alice's messages."""
        rows = self.read(
            "SELECT body, message.octets FROM pop3gw.message JOIN pop3gw.mailbox ON id = mailbox"
            f" WHERE name = '{ALICE.mailbox}' ORDER BY position"
        )
        return [self._object(key) if octets else b"" for key, octets in rows]

    def _object(self, key: Any) -> bytes:
        name = f"{key.hex[-2:]}/{key.hex}"
        text: bytes = self.engines.result(self.engines.requests(self.bucket).ask("GET", name)).text
        return text

    def read_count(self) -> int:
        """How many messages are read."""
        ((read,),) = self.read("SELECT count(*) FROM pop3gw.message WHERE read IS NOT NULL")
        return int(read)

    def left_over(self) -> list[str]:
        """Bodies that no row knows."""
        keys = {key for (key,) in self.read("SELECT body FROM pop3gw.message")}
        keys |= {key for (key,) in self.read("SELECT body FROM pop3gw.gone")}
        listed = self.engines.result(self.blobs().list())
        return [key.hex for key in listed.keys if key not in keys]


def states_on(database: Callable[[], Database]) -> Callable[[SynchronousTestCase], Any]:
    """What ``state_tests`` takes, with connections that ``database`` makes."""

    def state(test: SynchronousTestCase) -> Callable[[], ClusterState]:
        ENGINES[0].clear()

        def opened() -> ClusterState:
            one = ClusterState(database(), run_now)
            test.addCleanup(one.close)
            return one

        return opened

    return state


def leaders_on(database: Callable[[], Database]) -> Callable[[SynchronousTestCase], Any]:
    """What ``leader_tests`` takes, with connections that ``database`` makes."""

    def candidate(test: SynchronousTestCase) -> Callable[[], ClusterLeader]:
        ENGINES[0].clear()

        def made() -> ClusterLeader:
            connections = database()
            test.addCleanup(connections.close)
            return ClusterLeader(connections, run_now)

        return made

    return candidate
