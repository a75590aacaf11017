"""``pop3gw cluster verify``, as it is installed, beside gateways and after restores."""

from __future__ import annotations

import json
import poplib
import signal
import smtplib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cluster_engines import Engines
from cluster_gateway import ClusterGateway
from commands import PROGRAM, run_here
from gateway.cli.command import Exit
from gateway.model import Account
from gateway.postgresql.database import Database
from gateway.s3.connection import Content
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.bodies.keys import new_key, object_name, time_of
from gateway.store.cluster.store import ClusterOptions, ClusterStore
from gateway.store.cluster.verify import SETTLED, YOUNG
from gateway.testing.store_contract import NO_LIMITS, run_now
from gateway.units import time_text
from relay import Relay
from servers import PASSWORD, USER

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

ALICE = Account(USER, USER)


class Cluster:
    """A gateway, its engines, and mail that is two days old."""

    def __init__(self, engines: Engines, directory: Path) -> None:
        engines.clear()
        self.engines = engines
        self.bucket = engines.make_bucket()
        self.gateway = ClusterGateway(engines, self.bucket, directory)
        self._requests = engines.requests(self.bucket)
        self.blobs = Blobs(self._requests, now=lambda: time.time() - 2 * YOUNG)

    @contextmanager
    def store(self) -> Iterator[ClusterStore]:
        """What a gateway has."""
        options = ClusterOptions(longest_session=0)
        database = Database(self.engines.url)
        store = ClusterStore(self.engines.reactor, database, self.blobs, run_now, options=options)
        with closing(store):
            yield store

    def put(self, *numbers: int) -> None:
        """Deliver messages."""
        result = self.engines.result
        with self.store() as store:
            for number in numbers:
                incoming = result(store.receive(ALICE))
                result(incoming.write(message(number)))
                result(incoming.commit(ALICE, NO_LIMITS))
                result(incoming.close())

    def remove(self, number: int) -> None:
        """Remove a message as a session does, and its body as the leader does a day later."""
        result = self.engines.result
        with self.store() as store:
            maildrop, release = result(store.open(ALICE, None))
            result(maildrop.finish({number}, set()))
            release()
            assert result(store.collect(10)) == 1

    def body_of(self, uid: int) -> UUID:
        """The key of the body of a message."""
        ((body,),) = self.engines.owner.read(
            "SELECT body FROM pop3gw.message WHERE uid = %s", (uid,)
        )
        found: UUID = body
        return found

    def objects(self) -> dict[str, bytes]:
        """All that the bucket has."""
        keys = self.engines.result(self.blobs.list()).keys
        names = [object_name(key) for key in keys]
        return {name: self.engines.result(self._requests.ask("GET", name)).text for name in names}

    def put_object(self, name: str, text: bytes) -> None:
        """Write an object."""
        self.engines.result(self._requests.ask("PUT", name, content=Content([text])))

    def restore_objects(self, objects: dict[str, bytes]) -> None:
        """Make the bucket what it was."""
        for name in self.objects():
            self.engines.result(self._requests.ask("DELETE", name))
        for name, text in objects.items():
            self.put_object(name, text)

    def dumped(self) -> bytes:
        """A backup of the database."""
        return self.engines.postgresql.dumped("mail")

    def restore_database(self, dump: bytes) -> None:
        """Make the database what it was."""
        self.engines.postgresql.restore("mail", dump)

    def verify(self, *options: str, config: Path | None = None) -> Verified:
        """Run the command."""
        config = config or self.gateway.config
        command = [*PROGRAM, "cluster", "verify", "--config", str(config), *options]
        return Verified(
            subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        )

    def present(self) -> list[int]:
        """The numbers of the messages that a client reads."""
        with closing(logged_in(self.gateway)) as client:
            texts = [client.retr(number)[1] for number in range(1, client.stat()[0] + 1)]
            client.quit()
        return [int(text[-1]) for text in texts]


class Verified:
    """What the command has printed with ``--json``."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert "Traceback" not in done.stderr
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def problems(self) -> list[dict[str, Any]]:
        """All but the last line."""
        return [json.loads(line) for line in self.out.splitlines()[:-1]]

    def found(self) -> Counter[tuple[str, str]]:
        """Kinds of problems, and the Message-ID in each."""
        return Counter((one["problem"], one["message_id"]) for one in self.problems)

    def mended(self) -> set[bool]:
        """Whether all were."""
        return {one["mended"] for one in self.problems}


def message(number: int) -> bytes:
    """A message with this number in its Message-ID and in its last line."""
    return b"Message-ID: <%d@example.org>\r\n\r\n%d\r\n" % (number, number)


def named(kind: str, *numbers: int) -> Counter[tuple[str, str]]:
    """These problems."""
    return Counter((kind, f"<{number}@example.org>") for number in numbers)


def logged_in(gateway: ClusterGateway) -> poplib.POP3:
    """A session."""
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    return client


@pytest.fixture
def cluster(engines: Engines, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with eight messages; its gateway does not run yet."""
    cluster = Cluster(engines, tmp_path)
    cluster.put(*range(8))
    yield cluster
    if cluster.gateway.process is not None:
        cluster.gateway.stop()
        assert "Traceback" not in cluster.gateway.log


def damage(cluster: Cluster) -> str:
    """One problem of each kind that can be mended; the key of the unused body."""
    cluster.engines.result(cluster.blobs.remove(cluster.body_of(3)))
    cluster.engines.owner.write("UPDATE pop3gw.mailbox SET octets = octets + 1")
    orphan = new_key(time.time() - 2 * YOUNG)
    cluster.put_object(object_name(orphan), message(99))
    cluster.engines.result(cluster.blobs.new().part(Content([b"half"])))
    return orphan.hex


def test_it_prints_what_does_not_fit_and_mends_it_without_a_gateway(cluster: Cluster) -> None:
    orphan, lost = damage(cluster), cluster.body_of(3).hex
    looked = cluster.verify()
    assert (looked.code, looked.err) == (Exit.FAILED, "")
    lines = looked.out.splitlines()
    octets = 8 * len(message(0))
    assert lines[0] == f"wrong counters: {USER}; {octets + 1} octets for {octets}"
    assert lines[1].startswith(f"missing body: {USER} uid=3 body={lost} made=")
    assert lines[1].endswith(" message_id=<2@example.org>")
    assert lines[2].startswith(f"unused body: body={orphan} made=")
    assert lines[3].startswith("unfinished upload: body=")
    assert [line.partition(":")[0] for line in lines[4:8]] == [
        "missing body",
        "unfinished upload",
        "unused body",
        "wrong counters",
    ]
    assert lines[8:] == ["1 mailbox, 8 messages, 8 bodies: 4 problems, 0 mended"]
    repaired = cluster.verify("--repair")
    assert (repaired.code, repaired.err) == (Exit.DONE, "")
    assert repaired.out.splitlines()[1] == f"{lines[1]}; mended"
    assert repaired.out.endswith("4 problems, 4 mended\n")
    well = cluster.verify()
    expected = "1 mailbox, 7 messages, 7 bodies: no problems\n"
    assert (well.code, well.out, well.err) == (Exit.DONE, expected, "")
    told = cluster.engines.owner.read("SELECT mailbox, uid, message_id, operator FROM pop3gw.audit")
    assert told == [(USER, "3", "<2@example.org>", "uid 0")]


def test_it_says_that_mail_of_the_last_hour_was_not_compared(cluster: Cluster) -> None:
    # A restored database does not know it.
    lost = new_key()
    cluster.put_object(object_name(lost), message(8))
    looked = cluster.verify()
    assert (looked.code, looked.err) == (Exit.DONE, "")
    assert looked.out.splitlines() == [
        "not compared: 1 body without a message, less than an hour old, since a delivery may be"
        f" under way; verify again after {time_text(time_of(lost) + SETTLED)}",
        "1 mailbox, 8 messages, 9 bodies: no problems",
    ]
    assert json.loads(cluster.verify("--json").out)["young"] == 1


def test_it_finds_and_mends_while_a_gateway_takes_in_and_removes_mail(cluster: Cluster) -> None:
    cluster.gateway.run()
    kept: list[int] = []
    enough = threading.Event()

    def work() -> None:
        for first in count(100, 3):
            if enough.is_set():
                return
            with smtplib.LMTP("127.0.0.1", cluster.gateway.lmtp, timeout=60) as postfix:
                for number in range(first, first + 3):
                    assert postfix.sendmail("me@example.net", [USER], message(number)) == {}
            with closing(logged_in(cluster.gateway)) as client:
                # Of the three, the one in the middle.
                client.dele(client.stat()[0] - 1)
                client.quit()
            kept.extend((first, first + 2))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert (cluster.verify().code, cluster.verify("--repair").code) == (Exit.DONE, Exit.DONE)
        damage(cluster)
        looked = cluster.verify("--json")
        assert looked.code == Exit.FAILED
        kinds = ["missing body", "unfinished upload", "unused body", "wrong counters"]
        assert sorted(one["problem"] for one in looked.problems) == kinds
        repaired = cluster.verify("--json", "--repair")
        assert (repaired.code, repaired.mended()) == (Exit.DONE, {True})
        assert (cluster.verify().code, cluster.verify("--repair").code) == (Exit.DONE, Exit.DONE)
    finally:
        enough.set()
        worker.join(60)
    assert kept
    assert cluster.present() == [0, 1, 3, 4, 5, 6, 7, *kept]


def test_a_database_that_was_restored_to_an_earlier_time_than_the_bucket(cluster: Cluster) -> None:
    dump = cluster.dumped()
    cluster.put(8, 9)
    cluster.remove(0)
    cluster.restore_database(dump)
    # Removed since: its body is missing.  Delivered since: their bodies have no message.
    expected = named("missing body", 0) + named("unused body", 8, 9)
    looked = cluster.verify("--json")
    assert (looked.code, looked.found(), looked.mended()) == (Exit.FAILED, expected, {False})
    repaired = cluster.verify("--json", "--repair")
    assert (repaired.code, repaired.found(), repaired.mended()) == (Exit.DONE, expected, {True})
    assert cluster.verify().code == Exit.DONE
    moved = subprocess.run(
        [*PROGRAM, "move-ids", "--config", str(cluster.gateway.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (moved.returncode, moved.stderr) == (Exit.DONE, "")
    cluster.gateway.run()
    with smtplib.LMTP("127.0.0.1", cluster.gateway.lmtp, timeout=60) as postfix:
        assert postfix.sendmail("me@example.net", [USER], message(10)) == {}
    with closing(logged_in(cluster.gateway)) as client:
        uids = [int(line.split()[1]) for line in client.uidl()[1]]
        client.quit()
    # 9 and 10 were those of the messages that the database has lost.
    assert uids == [2, 3, 4, 5, 6, 7, 8, 3_000_009]
    assert cluster.present() == [1, 2, 3, 4, 5, 6, 7, 10]


def test_a_bucket_that_was_restored_to_an_earlier_time_than_the_database(cluster: Cluster) -> None:
    objects = cluster.objects()
    cluster.put(8, 9)
    cluster.remove(0)
    cluster.restore_objects(objects)
    # Delivered since: their bodies are missing.  Removed since: its body is back.
    expected = named("missing body", 8, 9) + named("unused body", 0)
    looked = cluster.verify("--json")
    assert (looked.code, looked.found(), looked.mended()) == (Exit.FAILED, expected, {False})
    repaired = cluster.verify("--json", "--repair")
    assert (repaired.code, repaired.found(), repaired.mended()) == (Exit.DONE, expected, {True})
    assert cluster.verify().code == Exit.DONE
    cluster.gateway.run()
    assert cluster.present() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("which", ["database", "bucket"])
def test_an_empty_one_of_the_two_is_refused_until_it_is_confirmed(
    cluster: Cluster, which: str
) -> None:
    if which == "database":
        cluster.engines.clear()
    else:
        cluster.restore_objects({})
    refused = cluster.verify("--json", "--repair")
    assert (refused.code, refused.mended()) == (Exit.PARTLY, {False})
    assert f"is store.{which} the {which} of this" in json.loads(refused.err)["error"]
    confirmed = cluster.verify("--json", "--repair", "--most")
    assert (confirmed.code, confirmed.mended(), confirmed.err) == (Exit.DONE, {True}, "")


def away_from(cluster: Cluster, directory: Path, relay: Relay) -> Path:
    """The configuration of a gateway that reaches S3 by a relay."""
    directory.mkdir()
    url = f"http://127.0.0.1:{relay.port}"
    return ClusterGateway(cluster.engines, cluster.bucket, directory, s3=url).config


@pytest.fixture
def relay(engines: Engines) -> Iterator[Relay]:
    """A relay before S3."""
    relay = Relay(engines.s3.port)
    yield relay
    relay.stop()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "S3: GET bucket: Connection"),
        (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", "S3: bucket: status 503"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "check the keys, the bucket"),
    ],
)
def test_an_outage_is_an_error_and_nothing_is_removed(
    cluster: Cluster, tmp_path: Path, relay: Relay, answer: bytes | None, said: str
) -> None:
    damage(cluster)
    cluster.engines.owner.write("UPDATE pop3gw.mailbox SET octets = octets - 1")
    if answer is None:
        relay.go_away()
    else:
        relay.answers = {b"GET": answer}
    config = away_from(cluster, tmp_path / "away", relay)
    failed = cluster.verify("--repair", "--most", config=config)
    assert (failed.code, failed.out) == (Exit.FAILED, "")
    assert failed.err.startswith("pop3gw cluster verify: S3: ")
    assert said in failed.err
    assert sorted(one["problem"] for one in cluster.verify("--json").problems) == [
        "missing body",
        "unfinished upload",
        "unused body",
    ]


class Few(dict[bytes, bytes]):
    """Answers to the first requests."""

    left = 5

    def items(self) -> Any:
        """What is left of them."""
        self.left -= 1
        return super().items() if self.left >= 0 else ()


def test_s3_that_restarts_does_not_end_it(cluster: Cluster, tmp_path: Path, relay: Relay) -> None:
    relay.answers = few = Few({b"GET": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"})
    well = cluster.verify(config=away_from(cluster, tmp_path / "away", relay))
    assert (well.code, well.err) == (Exit.DONE, "")
    assert few.left < 0


def test_without_the_database_it_is_an_error(cluster: Cluster, engines: Engines) -> None:
    relay = Relay(engines.postgresql.port)
    relay.go_away()
    config = cluster.gateway.config
    ports = f":{engines.postgresql.port}/", f":{relay.port}/"
    config.write_text(config.read_text().replace(*ports))
    failed = cluster.verify("--json", "--repair")
    relay.stop()
    assert (failed.code, failed.out) == (Exit.FAILED, "")
    assert json.loads(failed.err)["error"].startswith("database: ")


def test_most_is_for_repair() -> None:
    code, _, err = run_here("cluster", "verify", "--most")
    assert (code, "--most is for --repair" in err) == (Exit.USAGE, True)


def test_ctrl_c_ends_it(cluster: Cluster, tmp_path: Path, relay: Relay) -> None:
    relay.answers = {b"GET": b""}
    config = away_from(cluster, tmp_path / "away", relay)
    command = [*PROGRAM, "cluster", "verify", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: relay.connections > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (Exit.INTERRUPTED, "", "")


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
