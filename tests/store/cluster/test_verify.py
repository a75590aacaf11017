"""Database and bucket that do not fit together are found, and mended as far as that is possible."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import OWNER_KEY, OWNER_SECRET, ClusterBench, Waits
from gateway.errors import MailboxUnusable, StoreDown
from gateway.model import Reason, Usage
from gateway.postgresql.database import Database
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.bodies.keys import object_name, time_of
from gateway.store.cluster.problems import (
    COUNTERS,
    DAMAGED,
    MISSING,
    UNUSED,
    UPLOAD,
    Problem,
    Summary,
)
from gateway.store.cluster.verify import SETTLED, YOUNG, Repair, Verification
from gateway.testing.store_contract import ALICE, run_now
from relay import Relay

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]

REPAIR = Repair()

OTHERS = ("a%01b", "a%0Db", "a%20b%2Bc%25", "a%EF%BF%BEb", "aa/b", "%C3%BC%26%3C")
"""Names of objects that are no bodies, as requests have them."""


def answer(status: str, text: str = "") -> bytes:
    """An answer of HTTP."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


class Verifying(Waits, SynchronousTestCase):
    """Five messages of Alice."""

    def setUp(self) -> None:
        self.bench = ClusterBench(self)
        for number in range(5):
            self.bench.deliver(b"Message-ID: <%d@example.org>\r\n\r\nbody\r\n" % number)
        found = self.bench.read("SELECT body FROM pop3gw.message ORDER BY uid")
        self.bodies: list[UUID] = [body for (body,) in found]
        self.summary = Summary()

    def verify(
        self,
        repair: Repair | None = None,
        *,
        later: float = 0,
        blobs: Blobs | None = None,
        database: Database | None = None,
        **more: Any,
    ) -> list[Problem]:
        """What there is to find."""
        problems: list[Problem] = []
        verification = Verification(
            database or self.bench.engines.owner,
            blobs or self.bench.blobs(),
            run_now,
            problems.append,
            repair=repair,
            now=lambda: time.time() + later,
            **more,
        )
        self.summary = self.successResultOf(Deferred.fromCoroutine(verification.verify()))
        return problems

    def usage(self) -> Usage:
        """Of Alice's mailbox."""
        usage: Usage = self.successResultOf(self.bench.store.usage(ALICE))
        return usage

    def remove_body(self, number: int) -> Problem:
        """Take the body of a message away; the problem that this is."""
        body = self.bodies[number]
        self.successResultOf(self.bench.blobs().remove(body))
        named = f"<{number}@example.org>"
        return Problem(MISSING, ALICE.mailbox, str(number + 1), body.hex, time_of(body), named)

    def orphan(self) -> Problem:
        """Add a body that no message has; the problem that this is."""
        orphan = self.bench.blobs().new()
        content = self.bench.content(b"Message-ID: <orphan@example.org>\r\n\r\n")
        self.successResultOf(orphan.finish(content))
        made = time_of(orphan.key)
        return Problem(UNUSED, "", "", orphan.key.hex, made, "<orphan@example.org>")

    def stored(self) -> int:
        """How many bodies S3 has."""
        return len(self.successResultOf(self.bench.blobs().list()).keys)


class VerifyTests(Verifying):
    def test_what_fits_is_no_problem(self) -> None:
        self.bench.expunge_first()
        self.assertEqual(self.verify(REPAIR, later=2 * YOUNG), [])
        self.assertEqual(self.usage().messages, 4)
        summary = self.summary
        # Of ours, Alice and Bob have a mailbox; the body of the removed message is still there.
        seen = (summary.mailboxes, summary.messages, summary.bodies, summary.problems)
        self.assertEqual(seen, (2, 4, 5, 0))

    def test_a_body_without_a_message_is_counted_until_it_can_be_judged(self) -> None:
        # One that waits to be collected is none of them.
        self.bench.expunge_first()
        last = max(made for made in (self.orphan().made, self.orphan().made) if made)
        self.assertEqual(self.verify(REPAIR), [])
        self.assertEqual((self.summary.young, self.summary.settled), (2, last + SETTLED))
        self.verify(later=2 * SETTLED)
        self.assertEqual((self.summary.young, self.summary.problems), (0, 2))

    def test_all_is_looked_at_a_page_at_a_time(self) -> None:
        problems = [self.remove_body(number) for number in (1, 3)]
        shown: list[tuple[int, int]] = []
        found = self.verify(
            page=2,
            mailboxes=1,
            blobs=self.bench.blobs(page=2),
            progress=lambda *one: shown.append(one),
        )
        self.assertEqual(sorted(found), sorted(problems))
        self.assertEqual((self.summary.mailboxes, self.summary.messages), (2, 5))
        self.assertEqual((shown[0], shown[-1]), ((0, 13), (13, 13)))
        self.assertEqual(shown, sorted(shown))

    def test_a_message_without_its_body_is_named_and_then_removed_with_an_audit_entry(self) -> None:
        lost = self.remove_body(1)
        self.assertEqual(self.verify(), [lost])
        self.assertEqual(self.usage().messages, 5)
        repair = Repair(operator="uid 7")
        self.assertEqual(self.verify(repair), [lost._replace(mended=True)])
        self.assertEqual(self.usage().messages, 4)
        (line,) = self.bench.trail.lines
        self.assertEqual(
            (line.action, line.mailbox, line.uid, line.message_id, line.cause.operator),
            ("discard", ALICE.mailbox, "2", "<1@example.org>", "uid 7"),
        )
        self.assertEqual(self.verify(), [])

    def test_a_message_whose_removal_got_no_answer_is_named_as_removed(self) -> None:
        lost = self.remove_body(1)
        relay = Relay(self.bench.engines.postgresql.port)
        self.addCleanup(relay.stop)
        database = Database(self.bench.engines.url_by(relay.port))
        self.addCleanup(database.close)
        relay.lose_answer_to = b"COMMIT"
        found = self.verify(REPAIR, database=database)
        self.assertEqual(relay.cuts, 1)
        self.assertEqual(found, [lost._replace(mended=True)])
        self.assertEqual(len(self.bench.trail.lines), 1)

    def test_a_message_is_not_removed_if_the_audit_fails(self) -> None:
        self.remove_body(1)
        self.bench.trail.fails = True
        database = Database(self.bench.engines.url)
        self.addCleanup(database.close)
        verification = Verification(
            database,
            self.bench.blobs(),
            run_now,
            lambda _: None,
            repair=REPAIR,
        )
        self.failureResultOf(Deferred.fromCoroutine(verification.verify()), StoreDown)
        self.assertEqual(self.usage().messages, 5)

    def test_a_hidden_message_without_a_body_is_purged(self) -> None:
        self.successResultOf(self.bench.store.hide(ALICE, ["2"], Reason(rule="unread 60d")))
        self.remove_body(1)
        self.verify(REPAIR)
        self.assertEqual([line.action for line in self.bench.trail.lines], ["hide", "purge"])
        self.assertEqual(self.verify(), [])

    def test_a_body_without_a_message_is_found_after_an_hour_and_removed_after_a_day(self) -> None:
        orphan = self.orphan()
        self.assertEqual(self.verify(REPAIR), [])
        young = orphan._replace(note="less than a day old: it is not removed yet")
        self.assertEqual(self.verify(REPAIR, later=2 * SETTLED), [young])
        self.assertEqual(self.verify(later=2 * YOUNG), [orphan])
        self.assertEqual(self.verify(REPAIR, later=2 * YOUNG), [orphan._replace(mended=True)])
        self.assertEqual(self.verify(later=2 * YOUNG), [])
        self.assertEqual(len(self.bench.contents()), 5)

    def test_a_body_of_another_length_is_named_and_stays(self) -> None:
        name = object_name(self.bodies[2])
        cut = self.bench.content(b"Message-ID: <2@exam")
        self.successResultOf(
            self.bench.engines.requests(self.bench.bucket).ask("PUT", name, content=cut)
        )
        for repair in (None, REPAIR):
            (damaged,) = self.verify(repair)
            self.assertEqual((damaged.kind, damaged.uid, damaged.mended), (DAMAGED, "3", False))
            self.assertRegex(damaged.note, "expected 37 octets, found 19$")
        self.assertEqual((self.usage().messages, self.stored()), (5, 5))

    def test_counters_that_are_off_are_set_right(self) -> None:
        right = self.usage()
        self.bench.change("UPDATE pop3gw.mailbox SET octets = 5, messages = 99 WHERE messages > 0")
        note = "99 messages for 5, 5 octets for 185"
        wrong = Problem(COUNTERS, ALICE.mailbox, note=note)
        self.assertEqual(self.verify(), [wrong])
        self.assertEqual(self.usage().messages, 99)
        self.assertEqual(self.verify(REPAIR), [wrong._replace(mended=True)])
        self.assertEqual(self.usage(), right)

    def test_an_upload_that_was_not_finished_is_aborted_after_a_day(self) -> None:
        blobs = self.bench.blobs(page=2)
        found = []
        for _ in range(5):
            upload = blobs.new()
            self.successResultOf(upload.part(self.bench.content(b"x" * 10)))
            found.append(Problem(UPLOAD, body=upload.key.hex, made=time_of(upload.key)))
        self.assertEqual(self.verify(REPAIR), [])
        self.assertCountEqual(self.verify(later=2 * YOUNG, blobs=blobs), found)
        mended = [one._replace(mended=True) for one in found]
        self.assertCountEqual(self.verify(REPAIR, later=2 * YOUNG, blobs=blobs), mended)
        self.assertEqual(self.verify(later=2 * YOUNG), [])
        self.assertEqual(self.successResultOf(blobs.uploads()).found, [])

    def test_objects_of_others_are_left_alone_whatever_their_names_are(self) -> None:
        keys = OWNER_KEY, OWNER_SECRET
        others = self.bench.engines.requests(self.bench.bucket, keys=keys)
        begun = []
        for name in OTHERS:
            self.successResultOf(others.ask("PUT", name, content=self.bench.content(b"x")))
            begun.append(self.successResultOf(others.ask("POST", name, {"uploads": ""})))
        upload = self.bench.blobs().new()
        self.successResultOf(upload.part(self.bench.content(b"x" * 10)))
        unfinished = Problem(UPLOAD, body=upload.key.hex, made=time_of(upload.key))
        found = [self.remove_body(1), self.orphan(), unfinished]
        for page in (1, 2, 1000):
            blobs = self.bench.blobs(page=page)
            self.assertCountEqual(self.verify(later=2 * YOUNG, blobs=blobs), found)
            self.assertEqual(self.summary.bodies, 5)
        self.assertEqual(len(self.verify(REPAIR, later=2 * YOUNG)), 3)
        self.assertEqual(self.verify(REPAIR, later=2 * YOUNG), [])
        for name, one in zip(OTHERS, begun, strict=True):
            self.successResultOf(others.ask("GET", name))
            query = {"uploadId": one.values("UploadId")[0]}
            self.successResultOf(others.ask("GET", name, query))

    def test_an_empty_bucket_is_taken_for_the_wrong_one_and_no_message_goes(self) -> None:
        for number in range(5):
            self.remove_body(number)
        problems = self.verify(REPAIR)
        self.assertEqual([one.mended for one in problems], [False] * 5)
        (refusal,) = self.summary.refused
        self.assertRegex(refusal, "^5 of 5 messages have no body .* add --most$")
        self.assertEqual(self.usage().messages, 5)
        self.assertEqual(len(self.verify(Repair(most=True))), 5)
        self.assertEqual(self.usage().messages, 0)

    def test_an_empty_database_is_taken_for_the_wrong_one_and_no_body_goes(self) -> None:
        self.bench.engines.clear()
        problems = self.verify(REPAIR, later=2 * YOUNG)
        self.assertEqual([one.mended for one in problems], [False] * 5)
        (refusal,) = self.summary.refused
        self.assertRegex(refusal, "^5 of 5 bodies have no message .* add --most$")
        self.assertEqual(self.stored(), 5)
        self.assertEqual(len(self.verify(Repair(most=True), later=2 * YOUNG)), 5)
        self.assertEqual(self.stored(), 0)


class MeanwhileTests(Verifying):
    """Gateways work while all is looked at: something happens after the rows were read."""

    def verify_while(
        self, happens: Callable[[], object], later: float = 2 * YOUNG
    ) -> list[Problem]:
        """The problems, if this happens between the rows and the bodies."""
        bench = self.bench
        lists: list[str] = []

        class Late(Blobs):
            def list(self, after: str = "") -> Any:
                if not lists:
                    happens()
                lists.append(after)
                return super().list(after)

        requests = bench.engines.requests(bench.bucket)
        return self.verify(Repair(most=True), later=later, blobs=Late(requests))

    def test_mail_that_comes_in_is_no_problem(self) -> None:
        self.assertEqual(self.verify_while(lambda: self.bench.deliver(b"new\r\n")), [])
        self.assertEqual((self.usage().messages, self.stored()), (6, 6))

    def test_mail_that_comes_in_just_now_is_compared(self) -> None:
        self.assertEqual(self.verify_while(lambda: self.bench.deliver(b"new\r\n"), 0), [])
        self.assertEqual(self.summary.young, 0)

    def test_mail_that_is_removed_and_collected_is_no_problem(self) -> None:
        def remove_and_collect() -> None:
            self.bench.expunge_first()
            self.bench.change("DELETE FROM pop3gw.gone")
            self.successResultOf(self.bench.blobs().remove(self.bodies[0]))

        self.assertEqual(self.verify_while(remove_and_collect), [])
        self.assertEqual((self.usage().messages, self.stored()), (4, 4))

    def test_a_body_that_gets_its_message_late_stays(self) -> None:
        orphan = UUID(self.orphan().body)

        def deliver() -> None:
            self.bench.change(
                "INSERT INTO pop3gw.message (mailbox, uid, position, octets, form, body, copy)"
                f" SELECT mailbox, 9, 9, 36, 0, '{orphan}', 1 FROM pop3gw.message WHERE uid = 1"
            )

        self.assertEqual(self.verify_while(deliver), [])
        self.assertEqual(self.stored(), 6)

    def test_a_body_that_was_removed_a_moment_ago_stays(self) -> None:
        self.assertEqual(self.verify_while(self.bench.expunge_first), [])
        self.assertEqual((self.usage().messages, self.stored()), (4, 5))


class TemporaryTests(Verifying):
    """A body that cannot be read just now is no reason to remove its message."""

    def setUp(self) -> None:
        super().setUp()
        self.remove_body(1)
        self.relay = Relay(self.bench.engines.s3.port)
        self.addCleanup(self.relay.stop)
        url = f"http://127.0.0.1:{self.relay.port}"
        requests = self.bench.engines.requests(self.bench.bucket, url=url, timeout=0.5)
        self.blobs = Blobs(requests)

    def fails(self, *kinds: type[Exception]) -> str:
        """What a repair says as it ends; nothing was removed."""
        verification = Verification(
            self.bench.engines.owner,
            self.blobs,
            run_now,
            lambda problem: self.fail(str(problem)),
            repair=Repair(most=True),
            now=lambda: time.time() + 2 * YOUNG,
        )
        failure = self.failureResultOf(Deferred.fromCoroutine(verification.verify()), *kinds)
        self.assertEqual((self.usage().messages, self.stored()), (5, 4))
        return str(failure.value)

    def answers(self, said: bytes) -> None:
        """Have this answered to all who read a body."""
        self.relay.answers = {
            f"GET /{self.bench.bucket}/{number:x}".encode(): said for number in range(16)
        }

    def test_s3_that_is_away(self) -> None:
        self.relay.go_away()
        self.fails(StoreDown)

    def test_s3_that_goes_away_after_its_list(self) -> None:
        self.answers(b"")
        self.fails(StoreDown)

    def test_an_error_of_the_server(self) -> None:
        for status in ("500 Internal Server Error", "503 Slow Down", "502 Bad Gateway"):
            self.answers(answer(status))
            self.fails(StoreDown)

    def test_a_key_that_may_not_read_any_more(self) -> None:
        self.answers(answer("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"))
        self.assertRegex(self.fails(MailboxUnusable), "403 AccessDenied; check the keys")

    def test_a_bucket_that_is_renamed_meanwhile(self) -> None:
        self.answers(answer("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"))
        self.fails(MailboxUnusable)

    def test_a_proxy_that_has_lost_its_server(self) -> None:
        self.answers(answer("404 Not Found", "404 page not found"))
        self.assertRegex(self.fails(StoreDown), "status 404$")
        self.answers(answer("404 Not Found"))
        self.assertRegex(self.fails(StoreDown), "status 404$")

    def test_a_list_that_lacks_what_is_there(self) -> None:
        empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        self.relay.answers = {
            f"GET /{self.bench.bucket}/?encoding-type=url&list".encode(): answer("200 OK", empty)
        }
        (lost,) = self.verify(Repair(most=True), blobs=self.blobs)
        self.assertEqual((lost.kind, lost.uid), (MISSING, "2"))
        self.assertEqual((self.usage().messages, self.stored()), (4, 4))

    def test_without_the_database_nothing_is_removed(self) -> None:
        orphans = [self.orphan() for _ in range(2)]
        self.bench.change("ALTER TABLE pop3gw.gone RENAME TO not_there")
        self.addCleanup(self.bench.change, "ALTER TABLE pop3gw.not_there RENAME TO gone")
        verification = Verification(
            self.bench.engines.owner,
            self.bench.blobs(),
            run_now,
            lambda _: None,
            repair=Repair(),
            now=lambda: time.time() + 2 * YOUNG,
        )
        self.failureResultOf(Deferred.fromCoroutine(verification.verify()), MailboxUnusable)
        self.assertEqual(self.stored(), 4 + len(orphans))
