"""TLS to the engines; ``test_served`` has gateways with TLS to S3."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench
from gateway.errors import StoreDown
from gateway.net.tls.certificates import make_certificate
from gateway.postgresql.database import Database
from gateway.s3.transport import make_connections

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class TLSTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.stranger = str(Path(self.mktemp()))
        make_certificate(self.stranger, f"{self.stranger}.key")

    def test_a_file_of_authorities_that_has_none_is_refused(self) -> None:
        engines = self.bench.engines
        for path, fault in (("/nonexistent", "No such file"), (__file__, "expected certificates")):
            with self.assertRaisesRegex(ValueError, f"^bucket_ca_file: .*{fault}"):
                make_connections(
                    engines.reactor,
                    engines.s3.tls_url,
                    connections=2,
                    timeout=5,
                    authorities=path,
                )

    def test_the_database_is_known_by_its_certificate_too(self) -> None:
        postgresql = self.bench.engines.postgresql
        url = f"{self.bench.engines.url}?sslmode=verify-full&sslrootcert="
        known = Database(f"{url}{postgresql.certificate}")
        self.addCleanup(known.close)
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        self.assertEqual(known.read(asked), [(True,)])
        with self.assertRaisesRegex(StoreDown, "certificate verify failed"):
            Database(f"{url}{self.stranger}", timeout=0.3).read(asked)
