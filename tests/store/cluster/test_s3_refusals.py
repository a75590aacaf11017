"""What S3 refuses for a reason that keys and policies do not cure."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MailboxUnusable, NoRoom
from gateway.s3.requests import Requests
from gateway.s3.signing import Signer
from gateway.s3.transport import make_connections
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.testing.store_contract import ALICE, NO_LIMITS
from radosgw import ACCESS_KEY, SECRET_KEY

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class RefusalTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)

    def deliver(self, store: Any) -> Any:
        """Deliver a message; the answer to its commit."""
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"text\r\n"))
        committed = incoming.commit(ALICE, NO_LIMITS)
        self.bench.engines.wait(committed)
        self.successResultOf(incoming.close())
        return committed

    def test_a_bucket_of_which_the_quota_is_full_has_no_room(self) -> None:
        self.bench.engines.s3.limit(self.bench.bucket, 1)
        self.successResultOf(self.deliver(self.bench.store))
        failure = self.failureResultOf(self.deliver(self.bench.store), NoRoom)
        self.assertRegex(str(failure.value), "QuotaExceeded; raise the quota of the bucket")
        self.assertEqual(self.bench.contents(), [b"text\r\n"])

    def test_a_clock_that_is_wrong_is_named(self) -> None:
        engines = self.bench.engines
        connections = make_connections(engines.reactor, engines.s3.url, connections=1, timeout=10)
        self.addCleanup(connections.close)
        signer = Signer("us-east-1", ACCESS_KEY, SECRET_KEY, now=lambda: time.time() + 3600)
        url = f"{engines.s3.url}/{self.bench.bucket}"
        blobs = Blobs(Requests(engines.reactor, connections, signer, url))
        failure = self.failureResultOf(blobs.list(), MailboxUnusable)
        self.assertRegex(str(failure.value), "RequestTimeTooSkewed; set the clock of this machine")
