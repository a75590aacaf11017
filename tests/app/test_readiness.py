"""Whether a process can serve clients, as probes learn it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.questions import Questions, SingleProcess
from gateway.app.server.readiness import (
    KEPT,
    OTHERS_WITHIN,
    WITHIN,
    Readiness,
    disk_check,
    looks_of,
)
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import DirectoryDown, LedgerUnusable
from gateway.events import ServerStopping
from gateway.operations.server.readiness import Check, readiness_of
from gateway.state.memory import MemoryState


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    """Runs work as a thread would."""
    try:
        return succeed(work())
    except Exception:
        return fail()


class ProbesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked = 0
        self.answer: Callable[[], Deferred[Check]] = lambda: succeed(Check("store", "ok"))
        self.readiness = Readiness(self.clock)
        self.readiness.use({"store": self.look})

    def look(self) -> Deferred[Check]:
        """The one check."""
        self.asked += 1
        return self.answer()

    def found(self) -> list[Check]:
        """The result, which is there now."""
        return self.successResultOf(self.readiness.checks())

    def test_one_look_serves_all_who_ask_within_two_seconds(self) -> None:
        for _ in range(100):
            self.assertEqual(self.found(), [Check("store", "ok")])
        self.assertEqual(self.asked, 1)
        self.clock.advance(KEPT)
        self.found()
        self.assertEqual(self.asked, 2)

    def test_a_look_that_cannot_begin_is_a_failed_check_and_the_next_one_is_made(self) -> None:
        def broken() -> Deferred[Check]:
            raise ZeroDivisionError

        self.answer = broken
        (check,) = self.found()
        self.assertEqual((check.name, check.state), ("store", "fail"))
        self.clock.advance(KEPT)
        self.answer = lambda: succeed(Check("store", "ok"))
        self.assertEqual(self.found(), [Check("store", "ok")])

    def test_who_asks_meanwhile_waits_for_the_same_look(self) -> None:
        waits = Deferred[Check]()
        self.answer = lambda: waits
        both = self.readiness.checks(), self.readiness.checks()
        waits.callback(Check("store", "warn", "why"))
        for one in both:
            self.assertEqual(self.successResultOf(one), [Check("store", "warn", "why")])
        self.assertEqual(self.asked, 1)

    def test_an_error_is_the_reason(self) -> None:
        self.answer = lambda: fail(DirectoryDown("no server answers"))
        self.assertEqual(self.found(), [Check("store", "fail", "no server answers")])

    def test_what_hangs_has_failed_and_is_not_asked_again_until_it_answers(self) -> None:
        hangs = Deferred[Check]()
        self.answer = lambda: hangs
        late = Check("store", "fail", "no answer within 2 s")
        asked = self.readiness.checks()
        self.clock.advance(WITHIN)
        self.assertEqual(self.successResultOf(asked), [late])
        self.clock.advance(KEPT)
        self.assertEqual(self.found(), [late])
        self.assertEqual(self.asked, 1)
        hangs.callback(Check("store", "ok"))
        self.answer = lambda: succeed(Check("store", "ok"))
        self.clock.advance(KEPT)
        self.assertEqual(self.found(), [Check("store", "ok")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_server_that_stops_is_not_ready_at_once(self) -> None:
        self.found()
        for take in self.readiness.subscription.values():
            take(ServerStopping(30.0))
        (check,) = self.found()
        self.assertEqual((check.name, check.state), ("stopping", "fail"))

    def test_a_reload_looks_at_the_new_parts_at_once(self) -> None:
        self.found()
        self.readiness.use({"directory": lambda: succeed(Check("directory", "ok"))})
        self.assertEqual([one.name for one in self.found()], ["directory"])


class LooksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = tempfile.mkdtemp(prefix="pop3gw-")
        self.addCleanup(shutil.rmtree, self.place)
        self.clock, self.questions = Clock(), Questions()
        self.directory, self.state = MemoryDirectory({}), MemoryState()
        self.is_led: Callable[[object], object] = lambda _: True
        self.questions.answer("is_led", lambda argument: self.is_led(argument))

    def checks(self, **changes: Any) -> dict[str, Check]:
        """All checks, by name."""
        settings = Settings(state_dir=self.place, **changes)
        os.makedirs(os.path.join(self.place, "mail"), exist_ok=True)
        readiness = Readiness(self.clock)
        processes = SingleProcess(self.questions)
        readiness.use(
            looks_of(self.clock, settings, self.directory, self.state, processes, at_once)
        )
        asked = readiness.checks()
        self.clock.advance(OTHERS_WITHIN)
        return {one.name: one for one in self.successResultOf(asked)}

    def test_a_server_that_has_all_is_ready(self) -> None:
        found = self.checks(retention=Retention(enabled=True))
        self.assertEqual(list(found), ["directory", "store", "disk", "state", "leader"])
        self.assertEqual({one.state for one in found.values()}, {"ok"}, found)

    def test_a_directory_that_is_down_fails_with_its_reason(self) -> None:
        self.directory.find = lambda _: fail(DirectoryDown("ldap://a: refused"))
        self.assertEqual(
            self.checks()["directory"], Check("directory", "fail", "ldap://a: refused")
        )

    def test_a_state_that_cannot_be_read_fails(self) -> None:
        self.state.find_expire = lambda: fail(LedgerUnusable("damaged"))
        self.assertEqual(self.checks()["state"], Check("state", "fail", "damaged"))

    def test_only_a_server_with_jobs_needs_a_leader_and_serves_clients_without(self) -> None:
        self.assertNotIn("leader", self.checks())
        self.is_led = lambda _: False
        found = self.checks(retention=Retention(enabled=True))["leader"]
        self.assertEqual((found.state, found.reason[:10]), ("warn", "no process"))

    def test_another_process_that_hangs_holds_up_no_probe(self) -> None:
        self.is_led = lambda _: Deferred()
        found = self.checks(retention=Retention(enabled=True))["leader"]
        self.assertEqual(found, Check("leader", "warn", "a process does not answer"))

    def test_a_place_of_mail_that_is_gone_is_told(self) -> None:
        settings = Settings(state_dir=os.path.join(self.place, "none"))
        looks = looks_of(
            *(self.clock, settings, self.directory, self.state),
            *(SingleProcess(self.questions), at_once),
        )
        store = self.successResultOf(looks["store"]())
        self.assertEqual((store.name, store.state), ("store", "warn"))
        self.assertIn(self.place, store.reason)

    def test_a_server_of_the_store_that_does_not_answer_is_a_warning(self) -> None:
        os.mkdir(os.path.join(self.place, "mail"))
        settings = Settings(state_dir=self.place)
        looks = looks_of(
            *(self.clock, settings, self.directory, self.state),
            *(SingleProcess(self.questions), at_once, lambda: ["S3 https://s3.example.org/mail"]),
        )
        store = self.successResultOf(looks["store"]())
        reason = "S3 https://s3.example.org/mail does not answer"
        self.assertEqual(store, Check("store", "warn", reason))

    def test_a_disk_is_full_without_room_for_a_message_or_without_inodes(self) -> None:
        def found(free: int, inodes: int, of: int = 1000) -> str:
            # Block size, fragment size, blocks, and so on (statvfs(3)).
            numbers = 4096, 4096, 10_000, free, free, of, inodes, inodes, 0, 255
            return disk_check("/mail", os.statvfs_result(numbers)).state

        self.assertEqual(found(9000, 900), "ok")
        self.assertEqual((found(499, 900), found(9000, 49)), ("warn", "warn"))
        self.assertEqual((found(255, 900), found(9000, 0)), ("fail", "fail"))
        self.assertEqual(found(9000, 0, of=0), "ok", "no inodes are counted on Btrfs")

    def test_the_worst_of_all_processes_counts(self) -> None:
        found = readiness_of(
            [
                *(Check("disk", "ok"), Check("state", "ok")),
                *(Check("disk", "warn", "low"), Check("state", "ok")),
            ]
        )
        self.assertTrue(found.ready)
        self.assertEqual(found.checks, (Check("disk", "warn", "low"), Check("state", "ok")))
        self.assertFalse(readiness_of([Check("disk", "ok"), Check("disk", "fail", "x")]).ready)
