"""A database that an older pop3gw has filled is whole after its migration."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import Any

import psycopg
import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import PASSWORD, ROLE, ClusterBench, Waits, grant_role
from gateway.model import Account, Peer, Reason, RetentionOrder
from gateway.postgresql.database import Database
from gateway.postgresql.migrate import VERSION, check_version, migrate, steps
from gateway.state.cluster.leader import ClusterLeader
from gateway.state.cluster.state import ClusterRows
from gateway.testing.store_contract import NO_LIMITS, read_all, run_now
from older_schema import make_older_schema

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

ALICE, BOB, CAROL = (Account(name, name) for name in ("alice", "bob", "carol"))

TEXTS = [b"Subject: %d\r\n\r\ntext\r\n" % number for number in range(3)]

# By the version from which it may be there; in the words of that version.
FILL = {
    1: """\
INSERT INTO pop3gw.mailbox (name, next_uid, octets, messages, hidden_octets, hidden_messages)
    VALUES ('alice', 8, {octets} * 2, 2, {octets}, 1), ('bob', 1, 0, 0, 0, 0);
INSERT INTO pop3gw.former_name (name, next_uid) VALUES ('carol', 50);
INSERT INTO pop3gw.message
    (mailbox, uid, unique_id, position, octets, form, body, copy, read, hidden)
    SELECT id, given.* FROM pop3gw.mailbox, (VALUES
        (3, NULL, 3, {octets}, {form}, '{0}'::uuid, 0, now(), NULL::timestamptz),
        (5, 'carried.over', 5, {octets}, {form}, '{1}', 0, NULL, NULL),
        (7, NULL, 7, {octets}, {form}, '{2}', 0, NULL, now())) AS given
    WHERE name = 'alice';
INSERT INTO pop3gw.head (mailbox, uid, octets)
    SELECT mailbox, uid, 'Subject: x' FROM pop3gw.message;
INSERT INTO pop3gw.gone (body, copy) VALUES (gen_random_uuid(), 0)""",
    2: """\
INSERT INTO pop3gw.warning (mailbox, level) VALUES ('alice', 1);
INSERT INTO pop3gw.retention_order (mailbox, given, released) VALUES ('alice', 5, false);
INSERT INTO pop3gw.leader (holder, until) VALUES (gen_random_uuid(), now() - interval '1 day')""",
    3: """\
INSERT INTO pop3gw.lease (mailbox, holder, until)
    SELECT id, gen_random_uuid(), now() - interval '1 day' FROM pop3gw.mailbox""",
    4: """\
INSERT INTO pop3gw.guess (writer, name, host, digest, account, is_answer, is_right)
    VALUES (gen_random_uuid(), 'alice', '192.0.2.1', 'x', 'alice', true, false)""",
    5: "UPDATE pop3gw.mailbox SET away = 'copy 1' WHERE name = 'bob'",
    6: """\
INSERT INTO pop3gw.audit
    (at, action, mailbox, uid, octets, received, rule, session, client, operator)
    VALUES (now() - interval '1 hour', 'discard', 'alice', '1', 1, now(), '', '', '', '')""",
}


class FilledTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        self.postgresql = self.bench.engines.postgresql
        # Bodies that S3 has.
        for text in TEXTS:
            self.bench.deliver(text)
        self.rows = self.bench.read("SELECT body, octets, form FROM pop3gw.message ORDER BY uid")

    @contextmanager
    def older(self, version: int) -> Iterator[str]:
        """The address of a database as an older pop3gw left it, for the owner."""
        name = f"filled_{version}"
        self.postgresql.make_database(name)
        try:
            with self.postgresql.connect(name) as owner:
                make_older_schema(owner, version)
                # Tables of later steps are the gateways' by its defaults.
                grant_role(owner)
                self.fill(owner, version)
            yield self.postgresql.url(name)
        finally:
            self.postgresql.drop_database(name)

    def fill(self, owner: psycopg.Connection, version: int) -> None:
        """What gateways of that version have written."""
        bodies = [body for body, _, _ in self.rows]
        _, octets, form = self.rows[0]
        for since, text in FILL.items():
            if since <= version:
                owner.execute(text.format(*bodies, octets=octets, form=form).encode())

    def migrate(self, url: str, version: int) -> None:
        """Two do it at once."""
        engines = [Database(url) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            applied = list(threads.map(migrate, engines))
        for one in engines:
            one.close()
        self.assertEqual(sorted(chain.from_iterable(applied)), steps()[version:])

    def gateway(self, version: int) -> Database:
        """The database as gateways of this version open it."""
        url = self.postgresql.url(f"filled_{version}", ROLE, PASSWORD)
        return Database(url, check=check_version)

    def test_its_mail_is_read_removed_and_delivered_by_the_role_of_gateways(self) -> None:
        for version in range(1, VERSION):
            with self.older(version) as url:
                self.migrate(url, version)
                store = self.bench.gateway(self, database=self.gateway(version))
                self.check_mail(store, has_audit=version >= 6, has_marks=version >= 5)
                store.close()

    def check_mail(self, store: Any, *, has_audit: bool, has_marks: bool) -> None:
        """All of it is there, and all that gateways do works."""
        ask = self.successResultOf
        maildrop, leave = ask(store.open(ALICE, Peer(host="192.0.2.7", secure=True, session="s")))
        self.assertEqual(ask(maildrop.listing()).uids, ["3", "carried.over"])
        self.assertEqual(read_all(self, ask(maildrop.retrieve(1))), TEXTS[1])
        self.assertEqual([one.uid for one in ask(store.list_hidden(ALICE))], ["7"])
        ask(maildrop.finish({0}, {1}))
        leave()
        self.assertEqual(ask(store.restore(ALICE, ["7"], Reason(operator="x"))), 1)
        incoming = ask(store.receive(ALICE))
        ask(incoming.write(b"new\r\n"))
        ask(incoming.commit(ALICE, NO_LIMITS))
        ask(incoming.close())
        self.assertEqual([one.uid for one in ask(store.scan(ALICE))], ["carried.over", "7", "8"])
        counted = ask(store.recalculate(ALICE))
        self.assertEqual(counted.before, counted.after)
        lines = store._database.read("SELECT uid FROM pop3gw.audit ORDER BY at, id")
        self.assertEqual([uid for (uid,) in lines], [*(["1"] if has_audit else []), "3", "7"])
        self.assertEqual(ask(store.inspect(BOB)).away, "copy 1" if has_marks else "")
        ask(store.mark_away(BOB, ""))
        ask(store.rename(BOB, CAROL))
        # A mailbox of the name had ids below.
        self.assertGreaterEqual(ask(store.inspect(CAROL)).next_uid, 50)

    def test_its_state_is_known_to_the_gateways(self) -> None:
        for version in range(2, VERSION):
            with self.older(version) as url:
                self.migrate(url, version)
                database = self.gateway(version)
                self.assertEqual(ClusterRows(database).orders(), {"alice": RetentionOrder(5.0)})
                leader = ClusterLeader(database, run_now)
                self.assertIs(self.successResultOf(leader.is_leader()), True)
                database.close()
