"""A copy from or to the cluster is killed at any step: both ends read, and a second run ends it.

Steps are questions to the database, requests to S3 and what is done on the disk.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import Engines
from copy_suite import Near, tools_of
from doomed import Death, Doomed, doomed_children, serve
from gateway.model import Reason
from gateway.operations.mail.copy import copy_mailbox
from gateway.operations.tools import Tools
from gateway.postgresql.database import Database
from gateway.s3.requests import Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import make_connections
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.store import ClusterOptions, ClusterStore
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, NO_LIMITS, read_all, run_now
from radosgw import ACCESS_KEY, SECRET_KEY

pytestmark = [pytest.mark.usefixtures("no_sync"), pytest.mark.xdist_group("cluster")]

STRIDE = 3
"""Every third step, beginning with another one in each direction: a round takes half a second."""


class CountedDatabase(Database):
    """Each question is a step, and so is the moment after its answer."""

    def __init__(self, step: Callable[[], None], conninfo: str) -> None:
        super().__init__(conninfo)
        self._step = step

    def _perform(self, act: Any) -> Any:
        self._step()
        result = super()._perform(act)
        self._step()
        return result


class CountedRequests(Requests):
    """Each request is a step, and so is the moment after its answer."""

    def __init__(self, step: Callable[[], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._step = step

    def _once(self, *arguments: Any, **more: Any) -> Deferred[Any]:
        self._step()

        def answered(response: Any) -> Any:
            self._step()
            return response

        return super()._once(*arguments, **more).addCallback(answered)


class Lab:
    """Both places, as after a restart."""

    def __init__(
        self, root: str, reactor: Any, where: dict[str, str], step: Callable[[], None]
    ) -> None:
        """``where``: the addresses of the engines."""
        reading = MaildirOptions(lock_timeout=1)
        maildir = MaildirStore(f"{root}/mail", "{name}", run_now, reading=reading)
        connections = make_connections(reactor, where["s3"], connections=4, timeout=10)
        signer = Signer("us-east-1", ACCESS_KEY, SECRET_KEY)
        requests = CountedRequests(
            step, reactor, connections, signer, f"{where['s3']}/{where['bucket']}"
        )
        self.cluster = ClusterStore(
            reactor,
            CountedDatabase(step, where["database"]),
            Blobs(requests),
            run_now,
            options=ClusterOptions(),
        )
        self.places = [tools_of(maildir, "maildir"), tools_of(self.cluster, "cluster")]

    def copy(self, *, back: bool) -> Deferred[Any]:
        """Copy Alice's mailbox to the cluster, or from it."""
        old, new = reversed(self.places) if back else self.places
        return Deferred.fromCoroutine(copy_mailbox(old, new, mailbox=ALICE.mailbox))


def copied(
    death: Death, root: str, _: Callable[[Any], None], *, back: bool = False, **__: bool
) -> None:
    """Copy it in a process of its own, and die meanwhile."""
    reactor = EPollReactor()
    reactor.startRunning(installSignalHandlers=False)
    lab = Lab(root, reactor, json.loads(Path(root, "where").read_text()), death.step)
    death.arm()
    fired: list[Any] = []
    lab.copy(back=back).addBoth(fired.append)
    end = time.monotonic() + 60
    while not fired and time.monotonic() < end:
        reactor.iterate(0.1)
    if fired and hasattr(fired[0], "raiseException"):
        fired[0].raiseException()
    assert fired


ACTS = {"copy": copied}


@pytest.fixture(scope="module")
def children() -> Iterator[Doomed]:
    """Children that copy."""
    yield from doomed_children(__file__)


def fill(engines: Engines, tools: Tools) -> None:
    """Alice gets messages: one is read, one is hidden."""
    store: Any = tools.store

    async def filled() -> None:
        await store.prepare(ALICE)
        for number in range(3):
            incoming = await store.receive(ALICE)
            await incoming.write(b"Subject: %d\r\n\r\n" % number)
            await incoming.commit(ALICE, NO_LIMITS)
            await incoming.close()
        maildrop, give_back = await store.open(ALICE, None)
        await maildrop.finish((), {1})
        give_back()
        last = (await maildrop.listing()).uids[2]
        await store.hide(ALICE, [last], Reason(operator="desk"))

    engines.result(Deferred.fromCoroutine(filled()))


def mail(engines: Engines, tools: Tools) -> list[tuple[Any, ...]]:
    """All of it."""
    store: Any = tools.store

    class Waiting(SynchronousTestCase):
        def successResultOf(self, answer: Any) -> Any:
            return engines.result(answer)

    found = []
    for one in engines.result(store.inspect(ALICE)).messages:
        body = engines.result(store.open_message(ALICE, one))
        hidden = None if one.hidden is None else Near(one.hidden)
        text = read_all(Waiting(), body)
        found.append((one.uid, text, Near(one.received), one.read is None, hidden))
    return found


@pytest.mark.parametrize("back", [False, True], ids=["to the cluster", "from the cluster"])
def test_a_copy_that_is_killed_at_any_step_is_ended_by_a_second_run(
    engines: Engines, tmp_path: Path, children: Doomed, back: bool
) -> None:
    where = {"database": engines.url, "s3": engines.s3.url, "bucket": engines.make_bucket()}
    step, killed_while_closed = 1 + back, 0
    while True:
        step += STRIDE
        root = tmp_path / str(step)
        root.mkdir()
        (root / "where").write_text(json.dumps(where))
        engines.clear()
        lab = Lab(str(root), engines.reactor, where, lambda: None)
        old, new = reversed(lab.places) if back else lab.places
        fill(engines, old)
        before = mail(engines, old)
        end = children.live(root, "copy", step, cuts=1, back=back)
        if end.killed:
            assert mail(engines, old) == before, f"step {step}"
            # A hold in the database ends within a minute.
            engines.owner.write("UPDATE pop3gw.mailbox SET held_until = now()")
            old_store: Any = old.store
            new_store: Any = new.store
            is_away = bool(engines.result(old_store.inspect(ALICE)).away)
            killed_while_closed += is_away
            if not is_away:
                engines.result(old_store.open(ALICE, None))[1]()
            if not is_away or engines.result(new_store.inspect(ALICE)).away:
                engines.result(lab.copy(back=back))
        assert mail(engines, new) == before, f"step {step}"
        new_store = new.store
        engines.result(new_store.open(ALICE, None))[1]()
        lab.cluster.close()
        if not end.killed:
            break
    assert step > 50
    assert killed_while_closed


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), ACTS)
