"""The cluster store keeps the promises of all stores, on a real PostgreSQL and a real S3."""

from __future__ import annotations

import pytest

from cluster_engines import ClusterBench, Waits
from gateway.store.cluster.store import ClusterOptions
from gateway.testing.mailbox_admin_contract import mailbox_admin_tests
from gateway.testing.retention_store_contract import keeping_tests
from gateway.testing.store_contract import creating_tests, delivery_tests, store_tests
from gateway.testing.transfer_contract import transfer_tests

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class ClusterStoreTests(Waits, store_tests(ClusterBench)):  # type: ignore[misc]
    pass


class ClusterDeliveryTests(Waits, delivery_tests(ClusterBench)):  # type: ignore[misc]
    pass


class ClusterCreatingTests(
    Waits,
    creating_tests(  # type: ignore[misc]
        lambda test: ClusterBench(test, options=ClusterOptions(create=True))
    ),
):
    pass


class ClusterKeepingTests(Waits, keeping_tests(ClusterBench)):  # type: ignore[misc]
    pass


class ClusterTransferTests(Waits, transfer_tests(ClusterBench)):  # type: ignore[misc]
    pass


class ClusterMailboxAdminTests(Waits, mailbox_admin_tests(ClusterBench)):  # type: ignore[misc]
    pass
