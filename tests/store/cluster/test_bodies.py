"""Bodies: large ones, shared ones, missing ones, and connections that break."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.errors import MessageGone, StoreDown
from gateway.events import BodyMissing, Event
from gateway.model import Form
from gateway.postgresql.database import Database
from gateway.s3.connection import SHORT
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.bodies.body import HELD
from gateway.store.cluster.bodies.body_cache import BodyCache
from gateway.store.cluster.bodies.keys import object_name
from gateway.testing.store_contract import ALICE, BOB, NO_LIMITS, read_all, run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

LONG = SHORT // 3 + 1
"""Lines of three octets that make more than a short answer."""

LARGE = b"".join(
    b"%08d A line of a large message, of 64 octets in all.............\r\n" % n
    for n in range(200_000)
)
PART = 5 * 1024 * 1024
"""The smallest that S3 takes."""


def broken(*_: object) -> bytes:
    """What a broken disk answers."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class BodyTests(Waits, SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = ClusterBench(self)

    def send(self, store: Any, *pieces: bytes) -> None:
        """A message to Alice and Bob."""
        incoming = self.successResultOf(store.receive(ALICE))
        for piece in pieces:
            self.successResultOf(incoming.write(piece))
        for account in (ALICE, BOB):
            self.successResultOf(incoming.commit(account, NO_LIMITS))
        self.successResultOf(incoming.close())

    def open(self, store: Any) -> Any:
        """Alice's maildrop."""
        return self.successResultOf(store.open(ALICE, None))[0]

    def relayed(self, **more: Any) -> tuple[Relay, Any]:
        """A relay before S3, and a store behind it."""
        relay = Relay(self.bench.engines.s3.port)
        self.addCleanup(relay.stop)
        url = f"http://127.0.0.1:{relay.port}"
        blobs = Blobs(self.bench.engines.requests(self.bench.bucket, url=url, timeout=5), **more)
        return relay, self.bench.gateway(self, blobs=blobs)

    def objects(self) -> int:
        """How many there are."""
        return len(self.bench.engines.result(self.bench.blobs().list()).keys)

    def test_a_large_message_goes_in_parts_and_comes_back(self) -> None:
        store = self.bench.gateway(self, blobs=self.bench.blobs(part=PART))
        self.send(store, *(LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)))
        self.assertEqual(self.objects(), 1)
        body = self.successResultOf(self.open(self.bench.store).retrieve(0))
        self.assertEqual(body.form, Form.CLEAN)
        self.assertTrue(read_all(self, body) == LARGE)

    def test_messages_at_the_limits_of_pieces_and_parts_come_back(self) -> None:
        limits = SHORT, HELD, PART, 2 * PART
        wanted = [limit + more for limit in limits for more in (-1, 0, 1)]
        line = b"A line of 64 octets".ljust(62, b".") + b"\r\n"
        texts = [b"x" * (size % 64) + line * (size // 64) for size in wanted]
        store = self.bench.gateway(self, blobs=self.bench.blobs(part=PART))
        for text in texts:
            self.send(store, text)
        maildrop = self.open(self.bench.store)
        sizes = self.successResultOf(maildrop.listing()).sizes
        self.assertEqual([*sizes], wanted)
        for index, text in enumerate(texts):
            body = self.successResultOf(maildrop.retrieve(index))
            self.assertTrue(read_all(self, body) == text, len(text))

    def test_of_a_large_message_that_no_mailbox_gets_nothing_is_left(self) -> None:
        store = self.bench.gateway(self, blobs=self.bench.blobs(part=PART))
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(LARGE))
        self.successResultOf(incoming.close())
        uploads = self.bench.engines.requests(self.bench.bucket).ask("GET", "", {"uploads": ""})
        self.assertEqual(self.successResultOf(uploads).values("UploadId"), [])
        self.assertEqual(self.objects(), 0)

    def test_what_a_session_has_fetched_ahead_is_given_up_however_it_ends(self) -> None:
        for number in range(3):
            self.send(self.bench.store, b"%d\r\n" % number)
        memory = self.bench.store._means.ahead
        maildrop, leave = self.successResultOf(self.bench.store.open(ALICE, None))
        before = memory.left
        for index in (0, 1):
            self.successResultOf(maildrop.retrieve(index)).close()
        self.assertLess(memory.left, before)
        leave()
        self.assertEqual(memory.left, before)

    def test_a_message_that_was_fetched_ahead_and_broke_is_opened_anew(self) -> None:
        for number in range(3):
            self.send(self.bench.store, b"%d\r\n" % number * LONG)
        *_, (key,) = self.bench.read("SELECT body FROM pop3gw.message ORDER BY uid")
        relay, store = self.relayed()
        target = f"GET /{self.bench.bucket}/{object_name(key)} ".encode()
        relay.answers = {target: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n2\r\n" % (3 * LONG)}
        maildrop = self.open(store).original
        for index in (0, 1):
            self.successResultOf(maildrop.retrieve(index)).close()
        octets, opened = maildrop._ahead._fetched[2]
        fetched: Any = self.successResultOf(opened)
        maildrop._ahead._fetched[2] = octets, succeed(fetched)
        relay.go_away()
        self.bench.engines.until(lambda: fetched.is_broken)
        relay.answers, relay.is_away = {}, False
        body = self.successResultOf(maildrop.retrieve(2))
        self.assertEqual(read_all(self, body), b"2\r\n" * LONG)

    def test_a_file_of_the_cache_that_cannot_be_read_costs_no_message(self) -> None:
        place = Path(self.mktemp())
        place.mkdir()
        cache = BodyCache(str(place), 10**6, run_now)
        self.send(self.bench.store, b"one\r\n")
        store = self.bench.gateway(self, cache=cache)
        maildrop = self.open(store)
        self.assertEqual(read_all(self, self.successResultOf(maildrop.retrieve(0))), b"one\r\n")
        for name in ("preadv", "pread"):
            self.patch(os, name, broken)
        self.assertEqual(read_all(self, self.successResultOf(maildrop.retrieve(0))), b"one\r\n")

    def test_the_recipients_of_a_message_share_its_body(self) -> None:
        self.send(self.bench.store, b"one\r\n")
        self.assertEqual(self.objects(), 1)

    def test_an_empty_message_needs_no_body(self) -> None:
        self.send(self.bench.store)
        self.assertEqual(self.objects(), 0)
        body = self.successResultOf(self.open(self.bench.store).retrieve(0))
        self.assertEqual(read_all(self, body), b"")

    def test_a_missing_body_fails_before_any_octet_and_the_error_names_it(self) -> None:
        self.bench.deliver(b"one\r\n")
        ((key,),) = self.bench.read("SELECT body FROM pop3gw.message")
        self.successResultOf(self.bench.blobs().remove(key))
        failure = self.failureResultOf(self.open(self.bench.store).retrieve(0), StoreDown)
        for name in (ALICE.mailbox, "message 1", key.hex):
            self.assertIn(name, str(failure.value))

    def test_a_missing_body_is_told_only_while_a_message_needs_it_or_nobody_knows(self) -> None:
        for number in range(2):
            self.send(self.bench.store, b"%d\r\n" % number)
        relay, events = Relay(self.bench.engines.postgresql.port), list[Event]()
        self.addCleanup(relay.stop)
        database = Database(self.bench.engines.url_by(relay.port), timeout=3)
        store = self.bench.gateway(self, database=database, emit=events.append)
        maildrop = self.open(store)
        rows = self.bench.read("SELECT DISTINCT uid, body FROM pop3gw.message ORDER BY uid")
        keys = [key for _, key in rows]
        for key in keys:
            self.successResultOf(self.bench.blobs().remove(key))
        # A session of yesterday lists what was removed and collected since.
        self.bench.expunge_first()
        self.failureResultOf(maildrop.retrieve(0), MessageGone)
        self.assertEqual(events, [])
        self.failureResultOf(maildrop.retrieve(1), StoreDown)
        (told,) = events
        self.assertEqual(told, BodyMissing(ALICE.mailbox, "2", keys[1].hex))
        relay.go_away()
        self.failureResultOf(maildrop.retrieve(1), StoreDown)
        self.assertEqual(events, [told] * 2)

    def test_a_connection_that_breaks_within_a_body_is_replaced_at_the_same_octet(self) -> None:
        self.send(self.bench.store, LARGE)
        relay, store = self.relayed()
        relay.cut_after = 3_000_000
        body = self.successResultOf(self.open(store).retrieve(0))
        self.assertTrue(read_all(self, body) == LARGE)
        self.assertEqual(relay.cuts, 1)

    def test_a_client_that_does_not_read_holds_little_in_memory(self) -> None:
        self.send(self.bench.store, LARGE)
        relay, store = self.relayed()
        body = self.successResultOf(self.open(store).retrieve(0))
        self.bench.engines.until(lambda: body._held >= HELD)
        for _ in range(200):
            # Time for more than it wants.
            self.bench.engines.reactor.iterate(0.005)
        data = body.read_now()
        self.assertGreaterEqual(len(data), HELD)
        self.assertLess(len(data), HELD + 1024 * 1024)
        self.assertLess(relay.passed, len(LARGE))
        self.assertTrue(data + read_all(self, body) == LARGE)

    def test_top_of_a_small_message_keeps_its_connection(self) -> None:
        self.bench.deliver(b"Subject: one\r\n\r\n" + b"body\r\n" * 20_000)
        relay, store = self.relayed()
        body = self.successResultOf(self.open(store).retrieve(0))
        self.successResultOf(body.read())
        body.close()
        self.bench.engines.until(lambda: relay.passed > 16 + 120_000)
        for _ in range(20):
            # It is in the socket; now it is read.
            self.bench.engines.reactor.iterate(0.01)
        body = self.successResultOf(self.open(store).retrieve(0))
        self.assertEqual(len(read_all(self, body)), 16 + 120_000)
        self.assertEqual(relay.connections, 1)

    def test_top_without_lines_reads_no_body(self) -> None:
        self.bench.deliver(b"Subject: one\r\n\r\nbody\r\n")
        self.bench.deliver(b"X-Long: y\r\n" * 10_000 + b"\r\nbody\r\n")
        relay, store = self.relayed()
        maildrop = self.open(store).original
        body = self.successResultOf(maildrop.retrieve_header(0))
        self.assertEqual(read_all(self, body), b"Subject: one\r\n\r\n")
        self.assertEqual(relay.connections, 0)
        # A header that is longer than what is kept comes with the message.
        body = self.successResultOf(maildrop.retrieve_header(1))
        self.assertEqual(len(read_all(self, body)), 110_000 + 8)
        self.bench.expunge_first()
        self.failureResultOf(maildrop.retrieve_header(0), MessageGone)

    def test_top_of_a_large_message_does_not_read_it_all(self) -> None:
        self.send(self.bench.store, LARGE)
        relay, store = self.relayed()
        body = self.successResultOf(self.open(store).retrieve(0))
        self.successResultOf(body.read())
        body.close()
        self.bench.engines.until(lambda: relay.ended == 1)
        self.assertLess(relay.passed, len(LARGE))

    def test_a_request_that_was_not_answered_is_repeated(self) -> None:
        relay, store = self.relayed()
        relay.lose_answer_to = b"PUT "
        self.send(store, b"one\r\n")
        self.assertEqual(relay.cuts, 1)
        self.assertEqual(self.bench.contents(), [b"one\r\n"])

    def test_a_connection_that_breaks_while_a_body_is_sent_is_replaced(self) -> None:
        relay, store = self.relayed()
        relay.cut_request_after = 1_000_000
        text = LARGE[: LARGE.rindex(b"\n", 0, 4_000_000) + 1]
        self.send(store, text)
        self.assertEqual(relay.cuts, 1)
        self.assertTrue(self.bench.contents()[0] == text)

    def test_the_end_of_an_upload_that_was_not_answered_counts(self) -> None:
        relay, store = self.relayed(part=PART)
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(LARGE))
        relay.lose_answer_to = b"CompleteMultipartUpload"
        self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
        self.successResultOf(incoming.close())
        self.assertEqual(relay.cuts, 1)
        body = self.successResultOf(self.open(self.bench.store).retrieve(0))
        self.assertTrue(read_all(self, body) == LARGE)

    def test_without_s3_no_mail_comes_in_or_goes_out_and_the_rest_works(self) -> None:
        self.bench.deliver(b"one\r\n")
        relay, store = self.relayed()
        maildrop = self.open(store)
        relay.go_away()
        self.failureResultOf(maildrop.retrieve(0), StoreDown)
        incoming = self.successResultOf(store.receive(ALICE))
        self.successResultOf(incoming.write(b"two\r\n"))
        self.failureResultOf(incoming.commit(ALICE, NO_LIMITS), StoreDown)
        self.successResultOf(incoming.close())
        self.successResultOf(maildrop.finish({0}, set()))
        self.assertEqual(self.bench.contents(), [])
        relay.is_away = False
        self.send(store, b"three\r\n")
        self.assertEqual(self.bench.contents(), [b"three\r\n"])
