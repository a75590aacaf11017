"""The trace of sessions: who is seen, what is blanked, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from test_postfix_policy import DUNNO, ask
from test_postfix_policy import Wire as PolicyWire
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from answers import result
from gateway.app.server.questions import Questions, SingleProcess
from gateway.app.server.traces import MOST_LINES, UNREAD, Traces, answer_traces
from gateway.directory.memory import MemoryDirectory
from gateway.errors import Overloaded
from gateway.lmtp.profile import Profile as LMTPProfile
from gateway.mailboxes.recipients import Recipients
from gateway.model import Limits
from gateway.net.lmtp_factory import LMTPFactory, LMTPOptions
from gateway.observe.labels import _MECHANISMS
from gateway.operations.server.traces import read_trace
from gateway.store.maildir.store import MaildirStore
from gateway.store.memory import MemoryStore
from gateway.testing.store_contract import run_now
from harness import ALICE, MESSAGES, SECRET, Client, Line, Wire, b64, plain

BOB = "bob@example.org"
Lines = list[tuple[str, str]]


class LMTPWire:
    """A server of LMTP, with a mailbox for Alice."""

    def __init__(self) -> None:
        store, directory = MemoryStore(), MemoryDirectory({ALICE: SECRET})
        store.add(ALICE)
        self.factory = LMTPFactory(
            Recipients(directory, store, lambda _: Limits()),
            store,
            LMTPOptions(LMTPProfile(name="mail.example.org"), allows=lambda _: True),
            clock=Clock(),
        )

    def send(self, *pieces: bytes) -> None:
        """Send these to a new connection."""
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(Line("127.0.0.1"))
        for piece in pieces:
            protocol.dataReceived(piece)


class Several:
    """Processes with these traces."""

    def __init__(self, *traces: Traces) -> None:
        self._processes = []
        for one in traces:
            questions = Questions()
            answer_traces(questions, one)
            self._processes.append(SingleProcess(questions))

    def ask_each(self, question: str, argument: object = None) -> Deferred[list[Any]]:
        """As ``IProcesses.ask_each``."""
        return gatherResults(one.ask_parent(question, argument) for one in self._processes)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = Wire(passwords={ALICE: SECRET, BOB: "looking-glass"})
        self.wire.store.add(BOB)
        self.clock = Clock()
        self.factories: list[Any] = [self.wire.factory]
        self.traces = Traces(self.clock, lambda: self.factories)

    def begin(self, user: str = "", address: str = "", **more: Any) -> None:
        """Start the trace ``t``."""
        asked = {"trace": "t", "user": user, "address": address, "seconds": 600, "bodies": False}
        self.traces.start({**asked, **more})

    def seen(self, after: float = 0.0) -> Lines:
        """Direction and text of each line so far."""
        found = self.traces.read({"trace": "t", "after": after})
        assert found is not None
        return [(line.direction, line.text) for line in found["lines"]]


class WhoTests(Case):
    def test_a_session_is_seen_from_its_greeting_on_though_its_name_comes_later(self) -> None:
        self.begin(ALICE)
        client = self.wire.connect("192.0.2.1", secure=True)
        client.log_in()
        client.send(b"STAT")
        client.hang_up()
        self.assertEqual(
            self.seen(),
            [
                ("-", "connected from 192.0.2.1 (pop3)"),
                ("S", "+OK POP3 server ready."),
                ("C", f"USER {ALICE}"),
                ("S", "+OK Send the password."),
                ("C", "PASS [blanked]"),
                ("S", "+OK The maildrop is open."),
                ("C", "STAT"),
                ("S", f"+OK 3 {sum(map(len, MESSAGES))}"),
                ("-", "closed"),
            ],
        )

    def test_sessions_that_are_open_are_seen_from_now_on(self) -> None:
        client = self.wire.login()
        self.begin(ALICE.upper())
        client.send(b"NOOP")
        self.assertEqual(self.seen()[0], ("C", "NOOP"))

    def test_nothing_of_another_user_is_seen_and_its_session_is_left_alone(self) -> None:
        self.begin(BOB)
        client = self.wire.login()
        client.send(b"NOOP")
        self.clock.advance(1)
        self.assertEqual(type(client.protocol.session.output).__name__, "Outgoing")
        client.send(b"NOOP")
        self.assertEqual(self.seen(), [])

    def test_a_login_that_fails_is_seen(self) -> None:
        self.begin(BOB)
        self.wire.connect().log_in(BOB, "wrong-one")
        self.assertIn(("C", f"USER {BOB}"), self.seen())
        self.assertTrue(self.seen()[-1][1].startswith("-ERR [AUTH]"))

    def test_an_address_or_a_network_is_seen_and_no_other(self) -> None:
        for address in ("192.0.2.1", "192.0.2.0/24", "2001:db8::/32"):
            self.begin(address=address)
            for host in ("192.0.2.1", "198.51.100.1", "2001:db8::1"):
                self.wire.connect(host).send(b"CAPA")
            hosts = {text.split()[2] for sign, text in self.seen() if text.startswith("connected")}
            self.assertEqual(hosts, {"2001:db8::1" if ":" in address else "192.0.2.1"})
            self.traces.stop({"trace": "t"})

    def test_by_lmtp_a_recipient_is_seen_with_the_size_of_the_message(self) -> None:
        wire = LMTPWire()
        self.factories.append(wire.factory)
        self.begin(ALICE)
        recipient = f"RCPT TO:<{ALICE}>"
        wire.send(
            b"LHLO x\r\nMAIL FROM:<>\r\n%b\r\nDATA\r\n" % recipient.encode(),
            b"Subject: x\r\n\r\nhe",
            b"llo\r\n.\r\nQUIT\r\n",
        )
        text = self.seen()
        self.assertIn(("C", recipient), text)
        self.assertIn(("C", "[24 octets]"), text)
        self.assertLess(text.index(("C", "DATA")), text.index(("C", "[24 octets]")))
        self.assertNotIn("hello", str(text))
        self.assertIn(("C", "QUIT"), text)

    def test_by_lmtp_a_recipient_that_there_is_not_is_seen_too(self) -> None:
        wire = LMTPWire()
        self.factories.append(wire.factory)
        self.begin("nobody@example.org")
        wire.send(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<Nobody@example.org>\r\n")
        self.assertTrue(self.seen()[-1][1].startswith("550 "), self.seen())


class PolicyTests(Case):
    def test_postfixs_policy_service_has_no_commands_and_answers_during_and_after_a_trace(
        self,
    ) -> None:
        wire = PolicyWire()
        self.factories.append(wire.factory)
        before, asked = wire.protocol, ask(ALICE)
        before.dataReceived(asked[:30])
        self.begin(address="0.0.0.0/0")
        before.dataReceived(asked[30:])
        line, during = wire.connect()
        during.dataReceived(asked)
        self.assertEqual((wire.line.value(), line.value()), (DUNNO, DUNNO))
        self.traces.stop({"trace": "t"})
        for protocol in (before, during):
            protocol.dataReceived(asked)
        self.assertEqual((wire.line.value(), line.value()), (DUNNO * 2, DUNNO * 2))


class BodyTests(Case):
    def test_a_message_is_its_size(self) -> None:
        self.begin(ALICE)
        client = self.wire.login()
        client.send(b"RETR 2", b"NOOP")
        self.assertIn("[34 octets]", str(self.seen()))
        self.assertNotIn("second", str(self.seen()))
        self.assertEqual(self.seen()[-1][0], "S")

    def test_a_message_that_is_read_at_once_is_its_size_too(self) -> None:
        root = Path(self.mktemp())
        Path(root, ALICE, "new").mkdir(parents=True)
        Path(root, ALICE, "new", "1700000000.M1P1.host").write_bytes(b"Subject: x\n\nsecond\n")
        store = MaildirStore(str(root), "{name}", run_now)
        wire = Wire(store=store)
        self.factories[:] = [wire.factory]
        self.begin(ALICE)
        wire.login().send(b"RETR 1", b"NOOP")
        self.assertIn("[25 octets]", str(self.seen()))
        self.assertNotIn("second", str(self.seen()))

    def test_its_text_is_there_if_it_is_asked_for(self) -> None:
        self.begin(ALICE, bodies=True)
        client = self.wire.login()
        client.send(b"TOP 2 9", b"NOOP")
        self.assertIn(("S", "second"), self.seen())

    def test_a_long_listing_is_cut(self) -> None:
        for _ in range(500):
            self.wire.mailbox.deliver(b"x\r\n")
        self.begin(ALICE)
        self.wire.login().send(b"UIDL")
        self.assertLess(len(self.seen()), 80)


class SecretTests(Case):
    secrets = ("PassWort1", "PassWort2")

    def transcript(self, octets: bytes, cuts: list[int], host: str = "127.0.0.1") -> str:
        """All that is seen when these octets come in pieces."""
        self.begin(address="127.0.0.1")
        client = self.wire.connect(host)
        ends = sorted({min(cut, len(octets)) for cut in cuts} | {len(octets)})
        for start, end in zip([0, *ends], ends, strict=False):
            client.send_octets(octets[start:end])
        client.hang_up()
        said = str(self.seen())
        self.traces.stop({"trace": "t"})
        return said

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"PASS PassWort1\r\n",
                    b"pass  PassWort1 PassWort2\r\n",
                    b"\tPASS PassWort1\r\n",
                    b"PAS PassWort1\r\n",
                    b"PASS\x00PassWort1\r\n",
                    b"PassWort1\r\n",
                    b"USER alice@example.org PassWort1\r\n",
                    b"USER alice@example.org\r\n",
                    b"AUTH PLAIN " + plain(ALICE, "PassWort1") + b"\r\n",
                    b"AUTH PLAIN\r\n" + plain(ALICE, "PassWort1") + b"\r\n",
                    b"AUTH LOGIN\r\n" + b64(b"alice") + b"\r\n" + b64(b"PassWort1") + b"\r\n",
                    b"AUTH PassWort1 PassWort2\r\n",
                    b"AUTH PLAIN\r\n*\r\n",
                    b"AUTH LOGIN\r\n" + b64(b"alice") + b"\r\nPassWort1\r\n",
                    b"APOP alice PassWort1\r\n",
                    b"NOOP\r\n",
                    b"PASS " + b"PassWort1" * 200 + b"\r\n",
                ]
            ),
            max_size=6,
        ),
        st.lists(st.integers(0, 400), max_size=6),
    )
    def test_no_password_is_seen_however_it_is_sent(
        self, lines: list[bytes], cuts: list[int]
    ) -> None:
        said = self.transcript(b"".join(lines), cuts)
        for secret in (*self.secrets, *(b64(one.encode())[:8].decode() for one in self.secrets)):
            self.assertNotIn(secret, said)
        self.assertNotIn(plain(ALICE, "PassWort1")[-12:].decode(), said)

    def test_no_response_of_any_mechanism_is_seen_whether_it_is_offered_or_not(self) -> None:
        for mechanism in sorted(_MECHANISMS | {"X-OWN"}):
            for octets in (
                f"AUTH {mechanism} cGFzc3dvcmQ=\r\n",
                f"AUTH {mechanism}\r\ncGFzc3dvcmQ=\r\ncGFzc3dvcmQ=\r\n",
            ):
                said = self.transcript(octets.encode(), [])
                self.assertNotIn("cGFz", said)
                self.assertIn("AUTH ", said)

    def test_no_challenge_is_seen(self) -> None:
        self.begin(address="127.0.0.1")
        self.wire.connect().send(b"AUTH LOGIN")
        self.assertEqual(self.seen()[-1], ("S", "+ [blanked]"))

    def test_a_login_works_as_without_a_trace(self) -> None:
        for how in (Client.log_in, lambda client: client.send(b"AUTH PLAIN " + plain())):
            self.begin(ALICE)
            ask: Callable[[Client], bytes] = how
            self.assertTrue(ask(self.wire.connect()).startswith(b"+OK"))
            self.traces.stop({"trace": "t"})

    def test_what_cannot_be_printed_is_escaped(self) -> None:
        self.begin(address="127.0.0.1")
        self.wire.connect().send(b"USER a\x1b[2J\xff")
        self.assertIn(("C", "USER a\\x1b[2J\\xff"), self.seen())


class EndTests(Case):
    def test_it_ends_by_itself(self) -> None:
        self.begin(ALICE, seconds=20)
        client = self.wire.login()
        for _ in range(20):
            self.clock.advance(1)
        self.assertIsNone(self.traces.read({"trace": "t", "after": 0.0}))
        self.assertEqual(type(client.protocol.session.output).__name__, "Outgoing")
        self.assertEqual(self.wire.factory.opened, self.wire.factory._sessions.opened)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_ends_when_nobody_reads_it(self) -> None:
        self.begin(ALICE)
        for _ in range(int(UNREAD) - 1):
            self.clock.advance(1)
        self.seen()
        for _ in range(int(UNREAD) + 1):
            self.clock.advance(1)
        self.assertIsNone(self.traces.read({"trace": "t", "after": 0.0}))

    def test_lines_that_were_read_are_forgotten_and_come_once(self) -> None:
        self.begin(ALICE)
        client = self.wire.login()
        part = self.traces.read({"trace": "t", "after": 0.0})
        assert part is not None
        client.send(b"NOOP", b"RSET")
        self.assertEqual(
            [text for sign, text in self.seen(part["upto"]) if sign == "C"][-2:], ["NOOP", "RSET"]
        )
        self.assertNotIn("USER", str(self.seen(part["upto"])))

    def test_a_reader_that_is_too_slow_is_told_what_is_missing(self) -> None:
        self.begin(ALICE)
        client = self.wire.login()
        for _ in range(MOST_LINES):
            client.send(b"NOOP")
        found = self.traces.read({"trace": "t", "after": 0.0})
        assert found is not None
        self.assertGreater(found["dropped"], MOST_LINES)

    def test_there_is_a_limit_of_traces(self) -> None:
        for name in "abcd":
            self.begin(ALICE, trace=name)
        self.assertRaises(Overloaded, self.begin, ALICE)

    def test_two_traces_see_the_same_session_and_one_may_end(self) -> None:
        self.begin(ALICE)
        self.begin("", "127.0.0.1", trace="u")
        client = self.wire.login()
        self.traces.stop({"trace": "t"})
        client.send(b"RSET")
        found = self.traces.read({"trace": "u", "after": 0.0})
        assert found is not None
        self.assertIn("RSET", [line.text for line in found["lines"]])

    def test_listeners_of_a_reload_are_seen_as_well(self) -> None:
        other = Wire()
        self.begin(ALICE)
        self.factories.append(other.factory)
        self.clock.advance(1)
        other.login()
        self.assertIn(("C", f"USER {ALICE}"), self.seen())

    def test_a_worker_that_starts_later_joins_at_the_next_reading(self) -> None:
        others = Traces(self.clock, lambda: [late.factory])
        late = Wire()
        self.begin(ALICE)
        tools = SimpleNamespace(processes=Several(self.traces, others))
        reading: Any = partial(read_trace, tools, trace="t")  # type: ignore[arg-type]
        late.login()
        self.assertEqual(result(Deferred.fromCoroutine(reading())).lines, ())
        late.login()
        found = result(Deferred.fromCoroutine(reading())).lines
        self.assertIn(f"USER {ALICE}", [line.text for line in found])

    def test_processes_answer_by_their_questions(self) -> None:
        questions = Questions()
        answer_traces(questions, self.traces)
        processes = SingleProcess(questions)
        self.begin(ALICE)
        self.wire.login()
        (answer,) = self.successResultOf(
            processes.ask_each("trace read", {"trace": "t", "after": 0.0})
        )
        self.assertEqual(answer["lines"][0][2], "-")
