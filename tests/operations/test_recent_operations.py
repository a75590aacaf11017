"""Deliveries and refusals of late: what LMTP and Postfix were told, as an operator finds it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from gateway.app.server.questions import Questions
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadCredentials, BadValue, StoreDown
from gateway.events import LoginFailed, PolicyRefused, problem_of
from gateway.lmtp.profile import Profile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Account, Connection, Delivery, FailedLogin, Limits
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.net.postfix_policy import PolicyFactory, PolicyOptions
from gateway.observe.bus import EventBus
from gateway.observe.recent import KEPT, MOST, Recent
from gateway.operations.users.recent import list_deliveries, list_failed_logins
from gateway.quota.postfix_policy import Answers
from gateway.store.memory import MemoryStore
from harness import Line
from memory_tools import NOW, OperationCase

BOB = Account(
    name="bob@example.org",
    mailbox="bob-mail",
    addresses=("bob@example.org", "sales@example.org"),
)
CAROL = Account(name="carol@example.org", mailbox="carol@example.org", gets_mail=False)


class FailingStore(MemoryStore):
    """A store with a broken disk."""

    def receive(self, account: Account) -> Deferred[Any]:  # noqa: ARG002
        """Fails."""
        return fail(StoreDown("/mail: Input/output error"))


class RecentCase(OperationCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.accounts |= {one.name: one for one in (BOB, CAROL)}
        self.store.add("bob-mail")
        self.limits = Limits()
        self.events = EventBus()
        self.recent = Recent(lambda: self.now)
        self.events.subscribe(self.recent.subscription)
        self.answer(self.questions, self.recent)

    def answer(self, questions: Questions, recent: Recent) -> None:
        """Have a process answer operators."""
        questions.answer("deliveries", recent.deliveries)
        questions.answer("failed logins", recent.failed_logins)

    @property
    def recipients(self) -> Recipients:
        """Accounts by address."""
        directory = MemoryDirectory({}, self.accounts)
        return Recipients(directory, self.store, lambda _: self.limits, emit=self.events.emit)

    def talk(self, factory: Any, *octets: bytes) -> bytes:
        """A client says this."""
        line = Line("192.0.2.1")
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(line)
        for piece in octets:
            protocol.dataReceived(piece)
        return bytes(line.value())

    def deliver(
        self, *people: str, content: bytes = b"Message-ID: <m1@example.net>\r\n\r\nx\r\n"
    ) -> bytes:
        """Postfix sends a message by LMTP."""
        options = LMTPOptions(Profile(), allows=lambda _: True, now=lambda: NOW)
        factory = LMTPFactory(
            self.recipients, self.store, options, clock=self.clock, emit=self.events.emit
        )
        named = [f"RCPT TO:<{one}>\r\n".encode() for one in people]
        start = b"LHLO relay.example.net\r\nMAIL FROM:<Eve@example.net>\r\n"
        return self.talk(factory, start, *named, b"DATA\r\n", content, b".\r\n")

    def rows(self, **arguments: Any) -> list[Delivery]:
        """What is listed."""
        return list(self.ask(list_deliveries, **arguments).items)


class DeliveryTests(RecentCase):
    def test_a_delivery_is_listed_with_its_envelope_and_ids(self) -> None:
        self.deliver("bob@example.org", "sales@example.org")
        (row,) = self.rows()
        self.assertEqual(
            (row.at, row.outcome, row.mailbox, row.recipients, row.sender, row.message_id),
            (
                NOW,
                "delivered",
                "bob-mail",
                ("bob@example.org", "sales@example.org"),
                "Eve@example.net",
                "<m1@example.net>",
            ),
        )
        self.assertTrue(row.message.startswith(row.session))
        self.assertEqual((row.client, row.octets > 0, row.reason), ("192.0.2.1", True, ""))

    def test_each_refused_recipient_has_its_reason_in_words(self) -> None:
        self.deliver("nobody@example.org", "carol@example.org")
        barred, unknown = self.rows()
        self.assertEqual((unknown.outcome, unknown.error), ("refused", "UnknownRecipient"))
        self.assertIn("nobody has nobody@example.org", unknown.reason)
        self.assertEqual(unknown.recipients, ("nobody@example.org",))
        self.assertIn("barred", barred.reason)
        self.assertEqual(barred.sender, "Eve@example.net")

    def test_a_full_mailbox_is_found_by_any_name_of_its_user(self) -> None:
        self.limits = Limits(octets=100)
        self.store.add("bob-mail").deliver(b"x" * 200)
        self.deliver("sales+july@example.org")
        for name in ("bob@example.org", "SALES@example.org", "bob-mail"):
            (row,) = self.rows(user=name)
            self.assertEqual((row.mailbox, row.error), ("bob-mail", "OverQuota"), name)
        self.assertEqual(self.rows(user="carol@example.org"), [])

    def test_a_message_that_fails_is_listed_for_all_its_recipients(self) -> None:
        self.store = FailingStore()
        self.store.add("bob-mail")
        self.deliver("bob@example.org")
        (row,) = self.rows(outcome="failed")
        self.assertEqual((row.recipients, row.error), (("bob@example.org",), "StoreDown"))
        self.assertIn("Input/output error", row.reason)

    def test_postfix_is_told_no_and_that_is_listed_with_its_queue_id(self) -> None:
        self.limits = Limits(octets=100)
        self.store.add("bob-mail").deliver(b"x" * 200)
        options = PolicyOptions(lambda _: True, Answers(unknown="reject"))
        factory = PolicyFactory(self.recipients, options, clock=self.clock, emit=self.events.emit)
        question = (
            "request=smtpd_access_policy\nprotocol_state=RCPT\nsender=eve@example.net\n"
            "recipient={}\nqueue_id=4F1\nsize=10\n\n"
        )
        asked = [question.format(one).encode() for one in ("bob@example.org", "x@example.org")]
        self.talk(factory, *asked)
        unknown, full = self.rows(outcome="policy")
        self.assertEqual((full.recipients, full.message), (("bob@example.org",), "4F1"))
        self.assertEqual(
            (full.reason, full.sender), ("552 5.2.2 Mailbox is full", "eve@example.net")
        )
        self.assertIn("550 5.1.1", unknown.reason)

    def test_what_postfix_may_take_is_not_listed(self) -> None:
        factory = PolicyFactory(
            self.recipients, PolicyOptions(lambda _: True), clock=self.clock, emit=self.events.emit
        )
        question = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%b\n\n"
        self.talk(factory, question % b"bob@example.org", question % b"x@example.org")
        self.assertEqual(self.rows(), [])


class FilterTests(RecentCase):
    def setUp(self) -> None:
        super().setUp()
        self.deliver("bob@example.org")
        self.now += 60
        self.deliver("nobody@example.org", content=b"MESSAGE-id:\r\n <m2@x>\r\n\r\n")
        self.deliver("bob@example.org", content=b"Subject: x\r\n\r\nMessage-ID: <m3@x>\r\n")

    def test_rows_fit_all_that_is_asked_for_the_latest_first(self) -> None:
        self.assertEqual(
            [row.outcome for row in self.rows()], ["delivered", "refused", "delivered"]
        )
        self.assertEqual(len(self.rows(since=NOW + 1)), 2)
        self.assertEqual(len(self.rows(since=NOW + 1, outcome="delivered")), 1)
        self.assertEqual([row.outcome for row in self.rows(outcome="not-delivered")], ["refused"])
        self.assertEqual(len(self.rows(address="NOBODY@example.org")), 1)
        self.assertEqual(len(self.rows(address="eve@example.net")), 3)
        self.assertEqual(self.rows(address="'; --"), [])

    def test_a_message_is_found_by_its_message_id_and_by_the_id_of_the_log(self) -> None:
        for wanted in ("m1@example.net", "<m1@example.net>"):
            (row,) = self.rows(message_id=wanted)
            self.assertEqual(row.at, NOW)
        self.assertEqual(self.rows(message_id=row.message), [row])
        # It is in the body.
        self.assertEqual(self.rows(message_id="m3@x"), [])

    def test_pages_are_parts_of_one_list(self) -> None:
        page = self.ask(list_deliveries, page=1, per_page=2)
        self.assertEqual((len(page.items), page.total), (1, 3))
        self.assertEqual(page.items[0].at, NOW)

    def test_a_message_id_in_a_later_piece_is_found(self) -> None:
        content = b"X-Long: " + b"y" * 9000 + b"\r\nMessage-ID: <m4@x>\r\n\r\n"
        self.deliver("bob@example.org", content=content)
        self.assertEqual(len(self.rows(message_id="m4@x")), 1)


class BoundTests(RecentCase):
    def test_memory_is_bounded_in_rows_and_in_the_length_of_texts(self) -> None:
        evil = "\udcff" + "x" * 100_000
        for number in range(KEPT + 10):
            self.events.emit(PolicyRefused(Connection(str(number), ""), evil, evil, evil, evil))
        page = self.ask(list_deliveries, per_page=1000)
        self.assertEqual(page.total, MOST)
        self.assertEqual(page.items[0].session, str(KEPT + 9))
        repr(page).encode()
        self.assertLess(len(repr(page.items[0])), 2000)
        self.assertEqual(len(self.recent._deliveries), KEPT)


class FailedLoginTests(RecentCase):
    def refuse(self, user: str, host: str = "192.0.2.1") -> None:
        """A login fails."""
        problem = problem_of(BadCredentials("no entry of that name"))
        self.events.emit(LoginFailed(Connection("s1", host, False, "a"), user, "PASS", problem))

    def logins(self, **arguments: Any) -> list[FailedLogin]:
        """What is listed."""
        return list(self.ask(list_failed_logins, **arguments).items)

    def test_a_failed_login_is_listed_with_the_reason_in_words(self) -> None:
        self.refuse("Bob@example.org")
        (row,) = self.logins()
        self.assertEqual(
            (row.at, row.user, row.method, row.client, row.session, row.listener),
            (NOW, "Bob@example.org", "PASS", "192.0.2.1", "s1", "a"),
        )
        self.assertEqual(row.reason, "wrong credentials: no entry of that name")

    def test_they_are_found_by_user_address_and_time(self) -> None:
        self.refuse("sales@example.org")
        self.now += 5
        self.refuse("nobody", "2001:db8::1")
        self.assertEqual([row.user for row in self.logins()], ["nobody", "sales@example.org"])
        self.assertEqual(
            [row.user for row in self.logins(user="bob@example.org")], ["sales@example.org"]
        )
        self.assertEqual([row.user for row in self.logins(user="NoBody")], ["nobody"])
        self.assertEqual([row.user for row in self.logins(since=NOW + 1)], ["nobody"])

    def test_they_are_found_by_the_network_of_the_client_however_it_is_written(self) -> None:
        for user, host in (("alice", "192.0.2.1"), ("nobody", "2001:db8::1"), ("here", "")):
            self.refuse(user, host)
        for address in ("2001:db8::1", "2001:DB8:0::1", "2001:db8::/32"):
            self.assertEqual([row.user for row in self.logins(address=address)], ["nobody"])
        self.assertEqual(self.logins(address="198.51.100.0/24"), [])

    def test_what_is_no_address_is_refused_and_not_searched_for(self) -> None:
        for address in ("nonsense", "999.1.1.1"):
            error = self.fault(list_failed_logins, address=address)
            self.assertIsInstance(error, BadValue)
