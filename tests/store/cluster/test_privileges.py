"""What gateways and backups may not do in S3; the other tests show that gateways may do what they
need."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MailboxUnusable
from gateway.s3.connection import Content
from radosgw import BACKUP_KEY, BACKUP_SECRET, OWNER_KEY, OWNER_SECRET

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class PrivilegesTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.requests = self.bench.engines.requests(self.bench.bucket)

    def assert_denied(self, method: str, **more: object) -> None:
        """The policy does not allow it, and the error names the cure."""
        asked = self.requests.ask(method, **more)  # type: ignore[arg-type]
        failure = self.failureResultOf(asked, MailboxUnusable)
        self.assertRegex(str(failure.value), "403 AccessDenied; check the keys, .* and its policy")

    def test_the_bucket_itself_and_its_policy_are_the_owners(self) -> None:
        self.assert_denied("DELETE")
        self.assert_denied("GET", query={"policy": ""})
        self.assert_denied("PUT", query={"policy": ""}, content=Content([b"{}"]))
        self.assert_denied("PUT", query={"acl": ""}, content=Content([b""]))

    def test_another_bucket_is_not_theirs(self) -> None:
        engines, name = self.bench.engines, "not-theirs"
        owner = engines.requests(name, keys=(OWNER_KEY, OWNER_SECRET))
        self.successResultOf(owner.ask("PUT"))
        self.successResultOf(owner.ask("PUT", "secret", content=Content([b"text"])))
        self.requests = engines.requests(name)
        self.assert_denied("GET")
        self.assert_denied("GET", name="secret")
        self.assert_denied("DELETE", name="secret")
        self.assert_denied("PUT", name="more", content=Content([b"text"]))

    def test_a_backup_lists_and_reads_what_gateways_write_and_changes_nothing(self) -> None:
        engines, name = self.bench.engines, self.bench.bucket
        self.successResultOf(self.requests.ask("PUT", "ab/body", content=Content([b"text"])))
        # It belongs to the gateway, in Ceph.
        self.requests = engines.requests(name, keys=(OWNER_KEY, OWNER_SECRET))
        self.assert_denied("GET", name="ab/body")
        self.requests = engines.requests(name, keys=(BACKUP_KEY, BACKUP_SECRET))
        self.assertEqual(self.successResultOf(self.requests.ask("GET", "ab/body")).text, b"text")
        listed = self.successResultOf(self.requests.ask("GET", query={"list-type": "2"}))
        self.assertIn(b"<Key>ab/body</Key>", listed.text)
        self.assert_denied("PUT", name="ab/more", content=Content([b"text"]))
        self.assert_denied("DELETE", name="ab/body")
        self.assert_denied("DELETE")
        self.assert_denied("PUT", query={"policy": ""}, content=Content([b"{}"]))

    def test_a_body_that_is_missing_is_not_taken_for_a_denied_one(self) -> None:
        failure = self.failureResultOf(self.requests.ask("GET", "00/missing"))
        self.assertRegex(str(failure.value), "404 NoSuchKey$")
