"""The test of a login in words, its limit, and the flushing of caches in a whole server."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.inspection import TESTS, TESTS_OF_USER, PasswordTests
from gateway.app.parts.logins import Logins, flush_caches
from gateway.app.parts.parts import Parts
from gateway.auth.password_cache import PasswordCache
from gateway.config.settings import DirectorySettings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadRequest, DirectoryDown, NoSuchUser, NotSupported, TooManyGuesses
from gateway.model import Account, Terms
from gateway.observe.bus import EventBus
from gateway.operations.tools import Tools
from gateway.operations.users.auth import AuthTest, auth_test
from gateway.operations.users.auth import flush_caches as flush
from gateway.store.maildir.cache import MailboxCache
from memory_tools import OperationCase

BOB = Account(name="bob", mailbox="bob", addresses=("bob@example.org",))
CAROL = Account(name="carol", mailbox="carol", may_log_in=False, delegates=frozenset({"bob"}))
AWAY = Account(name="away", mailbox="away", host="there.example.org")


class Directory(MemoryDirectory):
    """One that may be down, and counts the passwords that reach it."""

    down = False
    asked = 0

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """As the other one."""
        self.asked += 1
        if self.down:
            return fail(DirectoryDown("ldaps://there: no answer"))
        return super().verify(login, password)


class AuthCase(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.settings = evolve(
            self.settings,
            store=evolve(self.settings.store, path="mail/{name}"),
            directory=DirectorySettings(delegates=True, hosts=("here.example.org",)),
        )
        self.accounts |= {one.name: one for one in (BOB, CAROL, AWAY)} | {"bob@example.org": BOB}
        self.directory = Directory(
            {"bob": "right", "bob@example.org": "right", "away": "right", "carol": "right"},
            self.accounts,
        )
        self.store.add("bob")
        self.questions.answer("waiting", lambda _: {"throttled": [], "delayed": [], "total": 0})
        self.questions.answer("permit test", PasswordTests(Clock().seconds).permit)
        events = EventBus()
        self.logins = Logins(
            Clock(),
            self.settings,
            self.directory,
            self.store,
            maybeDeferred,
            parts=Parts(events),
            admission=None,  # type: ignore[arg-type]
            terms=lambda _: Terms(),
            is_held=lambda _: False,
            emit=events.emit,
        )

    @property
    def tools(self) -> Tools:
        """With the checker of a server."""
        return evolve(super().tools, verify=self.logins.verify, directory=self.directory)

    def log_in(self, user: str, password: str = "right", **more: str) -> AuthTest:
        """What a test says."""
        found = self.ask(auth_test, user=user, password=password, **more)
        assert isinstance(found, AuthTest)
        return found

    def steps(self, found: AuthTest) -> list[tuple[str, bool]]:
        """The steps."""
        return [(one.step, one.passed) for one in found.steps]


class AuthTestTests(AuthCase):
    def test_a_right_password_passes_every_step(self) -> None:
        found = self.log_in("BOB")
        self.assertEqual((found.passed, found.failed, found.mailbox), (True, "", "bob"))
        self.assertEqual(
            self.steps(found), [("password", True), ("account", True), ("mailbox", True)]
        )

    def test_a_wrong_password_says_so_and_is_in_no_answer(self) -> None:
        found = self.log_in("bob", "s3cret-guess")
        self.assertEqual((found.passed, found.failed, found.account), (False, "password", ""))
        self.assertNotIn("s3cret", repr(found))

    def test_an_unknown_user_is_named_as_that(self) -> None:
        found = self.log_in("nobody")
        self.assertEqual(found.failed, "account")
        self.assertIn("nobody is not in the directory", found.steps[-1].text)

    def test_a_name_that_cannot_be_one_fails_at_once(self) -> None:
        found = self.log_in("b\u0007b")
        self.assertEqual((found.failed, self.directory.asked), ("name", 0))

    def test_an_outage_is_no_wrong_password(self) -> None:
        self.directory.down = True
        found = self.log_in("bob")
        self.assertEqual(found.failed, "directory")
        self.assertIn("no answer", found.steps[-1].text)

    def test_an_account_that_may_not_log_in_says_so(self) -> None:
        found = self.log_in("carol")
        self.assertEqual(found.failed, "account")
        self.assertIn("may not log in", found.steps[-1].text)

    def test_a_mailbox_of_another_server_says_where(self) -> None:
        self.assertIn("there.example.org", self.log_in("away").steps[-1].text)

    def test_a_delegate_opens_the_mailbox_of_a_disabled_owner(self) -> None:
        for found in (self.log_in("bob@example.org/carol"), self.log_in("bob", acts_as="carol")):
            self.assertEqual((found.passed, found.mailbox), (True, "carol"))
            self.assertIn("may open the mailbox of carol", found.steps[1].text)

    def test_who_is_no_delegate_is_told_that_the_password_was_right(self) -> None:
        found = self.log_in("bob@example.org/away")
        self.assertEqual(self.steps(found), [("password", True), ("delegate", False)])

    def test_a_mailbox_that_is_not_there_yet_is_no_fault_and_is_not_made(self) -> None:
        self.directory._accounts["dora"] = Account(name="dora", mailbox="dora")
        self.directory._passwords["dora"] = b"right"
        found = self.log_in("dora")
        self.assertTrue(found.passed)
        self.assertIn("does not exist yet", found.steps[-1].text)
        self.assertNotIn("dora", self.store.mailboxes)

    def test_it_opens_nothing_and_asks_no_admission(self) -> None:
        # ``admission`` is None here: a login by the portal would fail.
        self.assertTrue(self.log_in("bob").passed)

    def test_tests_of_a_user_are_limited_and_others_go_on(self) -> None:
        for number in range(TESTS_OF_USER):
            self.log_in("bob", f"guess{number}")
        error = self.fault(auth_test, user="bob", password="right")
        self.assertIsInstance(error, TooManyGuesses)
        self.assertIn("try again in", str(error))
        self.assertEqual(self.directory.asked, TESTS_OF_USER)
        self.assertTrue(self.log_in("bob@example.org/carol").passed)

    def test_an_empty_password_and_a_process_without_clients_are_refused(self) -> None:
        self.assertIsInstance(self.fault(auth_test, user="bob", password=""), BadRequest)
        without = evolve(self.tools, verify=None)
        asked = Deferred.fromCoroutine(auth_test(without, user="bob", password="x"))
        self.failureResultOf(asked, NotSupported)


class LimitTests(SynchronousTestCase):
    def test_a_minute_later_tests_are_permitted_again(self) -> None:
        clock = Clock()
        tests = PasswordTests(clock.seconds)
        for _ in range(TESTS_OF_USER):
            self.assertEqual(tests.permit("bob"), 0.0)
            clock.advance(1)
        self.assertEqual(tests.permit("bob"), 60.0 - TESTS_OF_USER)
        clock.advance(60 - TESTS_OF_USER)
        self.assertEqual(tests.permit("bob"), 0.0)

    def test_many_users_have_a_limit_together(self) -> None:
        tests = PasswordTests(Clock().seconds)
        waits = [tests.permit(f"user{number}") for number in range(TESTS + 1)]
        self.assertEqual((waits[:-1], waits[-1]), ([0.0] * TESTS, 60.0))


class FlushTests(AuthCase):
    def setUp(self) -> None:
        super().setUp()
        self.cache = PasswordCache(Clock().seconds, ttl=60, size=10)
        for name in ("bob", "bob@example.org", "carol"):
            self.cache.keep(name, b"right")
        parts = (self.directory, self.store)
        self.questions.answer("flush", lambda question: flush_caches(self.cache, parts, question))

    def test_all_names_of_one_user_are_dropped_and_no_others(self) -> None:
        done = self.ask(flush, user="bob@example.org")
        self.assertEqual((done.passwords, done.processes), (2, 1))
        self.assertFalse(self.cache.knows("bob", b"right"))
        self.assertTrue(self.cache.knows("carol", b"right"))

    def test_without_a_user_everything_is_dropped(self) -> None:
        self.assertEqual(self.ask(flush).passwords, 3)
        self.assertEqual(self.ask(flush).passwords, 0)

    def test_an_unknown_user_is_an_error(self) -> None:
        for unknown in ("nobody", ""):
            self.assertIsInstance(self.fault(flush, user=unknown), NoSuchUser)

    def test_lists_of_messages_are_read_anew(self) -> None:
        class Box:
            messages = 5

        cache, boxes = MailboxCache(40), [Box(), Box(), Box()]
        for number, box in enumerate(boxes):
            cache.add(str(number), box)  # type: ignore[arg-type]
            cache.count(str(number), box)  # type: ignore[arg-type]
            if number == 0:
                self.assertTrue(cache.drop("0"))
                self.assertFalse(cache.drop("0"))
        # What was dropped does not count any more.
        self.assertEqual(list(cache), ["2"])
