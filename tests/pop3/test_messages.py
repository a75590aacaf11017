"""RETR and TOP: exact octets, dots, sizes, forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from gateway.errors import SizeChanged, StoreDown
from gateway.interfaces import IWholeBody
from gateway.model import Form
from gateway.pop3.profile import Profile
from gateway.pop3.reply import LONGEST_HEADER
from gateway.store.memory import BytesBody, MemoryStore
from gateway.wire.outgoing import SLICE
from harness import ALICE, Client, Wire

ODD = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\0", b"\xff", b"\n.\r\n"])
).map(b"".join)


def canonical(stored: bytes) -> bytes:
    """What is to be sent, worked out the slow and plain way."""
    lines = stored.replace(b"\r\n", b"\n").replace(b"\r.", b"\n.").split(b"\n")
    if lines[-1] == b"":
        del lines[-1]
    return b"".join(line + b"\r\n" for line in lines)


class RetrTests(SynchronousTestCase):
    @pytest.mark.conformance("O-C0022", "O-C0006", "P-1")
    def test_a_message_comes_with_its_dots_stuffed_and_ends_with_a_dot(self) -> None:
        client = Wire([b".\r\n..\r\na.b\r\n.c"]).login()
        answer = client.send(b"RETR 1").split(b"\r\n", 1)[1]
        self.assertEqual(answer, b"..\r\n...\r\na.b\r\n..c\r\n.\r\n")

    @pytest.mark.conformance("O-C0006")
    def test_an_empty_message_is_a_dot(self) -> None:
        client = Wire([b""]).login()
        self.assertRegex(client.send(b"RETR 1"), rb"\A\+OK [^\r\n]+\r\n\.\r\n\Z")
        self.assertEqual(client.send(b"LIST 1"), b"+OK 1 0\r\n")

    @pytest.mark.conformance("X-C0011", "P-2", "P-3")
    def test_line_ends_come_out_as_crlf_and_are_counted_so(self) -> None:
        for stored in (b"a: b\n\nc\n", b"a: b\r\n\r\nc\r\n", b"a: b\r\n\nc", b"a: b\n\nc"):
            client = Wire([stored]).login()
            self.assertEqual(client.message(b"RETR 1"), b"a: b\r\n\r\nc\r\n")
            self.assertEqual(client.send(b"STAT"), b"+OK 1 11\r\n")

    @pytest.mark.conformance("P-5")
    def test_bare_cr_and_nul_and_eight_bit_come_out_as_they_went_in(self) -> None:
        stored = b"a\rb\0c\xff\xfe\r\n\r\r\n"
        client = Wire([stored]).login()
        self.assertEqual(client.message(b"RETR 1"), stored)
        self.assertEqual(client.send(b"LIST 1"), b"+OK 1 %d\r\n" % len(stored))

    @pytest.mark.conformance("P-1", "P-5")
    def test_a_dot_after_a_bare_cr_is_no_end_to_a_client_that_ends_lines_at_one(self) -> None:
        client = Wire([b"a: b\r\n\r\nhello\r.\r\n+OK injected\r\n"]).login()
        for command in (b"RETR 1", b"TOP 1 9"):
            sent = client.send(command)
            self.assertTrue(sent.endswith(b"\r\nhello\r\n..\r\n+OK injected\r\n.\r\n"), sent)
        message = client.message(b"RETR 1")
        self.assertEqual(client.send(b"LIST 1"), b"+OK 1 %d\r\n" % len(message))

    @given(st.lists(ODD, min_size=1, max_size=4))
    @pytest.mark.conformance("O-C0023", "O-C0021", "X-N5", "X-N4", "P-1", "P-2", "P-3")
    def test_what_is_sent_is_the_message_and_its_size_is_exact(self, stored: list[bytes]) -> None:
        client = Wire(stored).login()
        sizes = [int(line.split()[1]) for line in client.lines(b"LIST")]
        for number, content in enumerate(stored, 1):
            sent = client.message(b"RETR %d" % number)
            self.assertEqual(sent, canonical(content))
            self.assertEqual(len(sent), sizes[number - 1])
        self.assertEqual(client.send(b"STAT"), b"+OK %d %d\r\n" % (len(stored), sum(sizes)))

    def test_a_message_of_many_slices_comes_whole(self) -> None:
        stored = b"".join(b".%d line\r\n" % number for number in range(200_000))
        client = Wire([stored]).login()
        self.assertEqual(client.message(b"RETR 1"), stored)


class TopTests(SynchronousTestCase):
    MESSAGE = b"A: 1\nB: 2\n\none\n.two\nthree"

    @pytest.mark.conformance("O-C0034", "X-V0007", "P-4")
    def test_top_is_header_empty_line_and_so_many_lines_of_the_body(self) -> None:
        client = Wire([self.MESSAGE]).login()
        head = b"A: 1\r\nB: 2\r\n\r\n"
        self.assertEqual(client.message(b"TOP 1 0"), head)
        self.assertEqual(client.message(b"TOP 1 2"), head + b"one\r\n.two\r\n")
        for lines in (b"3", b"4", b"9999999999"):
            self.assertEqual(client.message(b"TOP 1 " + lines), canonical(self.MESSAGE))

    @pytest.mark.conformance("O-C0032")
    def test_a_count_of_lines_may_have_any_number_of_digits(self) -> None:
        client = Wire([self.MESSAGE]).login()
        for lines in (b"99999999999", b"9" * 400, b"%d" % 2**64, b"0" * 30 + b"9"):
            self.assertEqual(client.message(b"TOP 1 " + lines), canonical(self.MESSAGE))
        head = client.message(b"TOP 1 0")
        self.assertEqual(client.message(b"TOP 1 " + b"0" * 400), head)
        self.assertEqual(client.message(b"TOP " + b"0" * 30 + b"1 0"), head)
        for number in (b"0" * 30, b"9" * 400):
            self.assertTrue(client.send(b"TOP " + number + b" 0").startswith(b"-ERR "), number)

    @pytest.mark.conformance("O-C0032")
    def test_the_count_of_lines_is_digits(self) -> None:
        client = Wire([self.MESSAGE]).login()
        for count in (b"-1", b"x", b"+1", b"1.5", "\uff11".encode()):
            self.assertTrue(client.send(b"TOP 1 " + count).startswith(b"-ERR "), count)

    @pytest.mark.conformance("P-4")
    def test_a_message_without_a_body_is_given_whole(self) -> None:
        for stored in (b"A: 1", b"A: 1\r\n", b"A: 1\n\n", b""):
            client = Wire([stored]).login()
            self.assertEqual(client.message(b"TOP 1 0"), canonical(stored))

    @pytest.mark.conformance("P-4")
    def test_a_message_that_begins_with_an_empty_line_has_no_header(self) -> None:
        client = Wire([b"\nbody\nmore\n"]).login()
        self.assertEqual(client.message(b"TOP 1 1"), b"\r\nbody\r\n")

    @given(ODD, st.integers(0, 5), st.integers(1, 7))
    @pytest.mark.conformance("P-1", "P-4")
    def test_top_is_the_same_however_the_message_is_cut(
        self, stored: bytes, lines: int, chunk: int
    ) -> None:
        whole = canonical(stored)
        header, gap, body = (b"\r\n" + whole).partition(b"\r\n\r\n")
        wanted = (header + gap)[2:] + b"".join(body.splitlines(keepends=True)[:lines])
        if b"\r" not in body.replace(b"\r\n", b""):  # splitlines would split there
            client = Wire([stored], store=_Chunked(stored, chunk)).login()
            self.assertEqual(client.message(b"TOP 1 %d" % lines), wanted)
            self.assertEqual(client.message(b"RETR 1"), whole)

    def test_top_reads_no_more_than_it_needs(self) -> None:
        store = _Chunked(b"A: 1\r\n\r\n" + b"x\r\n" * 1000, 16)
        client = Wire(store=store).login()
        client.message(b"TOP 1 2")
        self.assertEqual(store.body.left, 1000 * 3 - 8)


class _Chunked(MemoryStore):
    """One message, read in chunks of so many octets, with what may go wrong with that."""

    def __init__(self, stored: bytes, chunk: int, **how: Any) -> None:
        super().__init__()
        self.add(ALICE).deliver(stored)
        self._stored, self._chunk, self._how = stored, chunk, how
        self.body: _Body

    def open(self, account, mind):  # type: ignore[no-untyped-def]
        """The maildrop with another body."""

        def chunked(opened):  # type: ignore[no-untyped-def]
            opened[0].retrieve = self._retrieve
            return opened

        return super().open(account, mind).addCallback(chunked)

    def _retrieve(self, _: int) -> Deferred[object]:
        self.body = _Body(self._stored, self._chunk, **self._how)
        return succeed(self.body)


class _Body(BytesBody):
    def __init__(
        self,
        content: bytes,
        chunk: int,
        *,
        fault: bool = False,
        waiting: Deferred[bytes] | None = None,
    ) -> None:
        """With a fault after the first chunk, or a first chunk that has to be waited for."""
        super().__init__(content, Form.STORED, chunk=chunk)
        self._fault = fault
        self._waiting = waiting
        self.closed = 0

    @property
    def left(self) -> int:
        """Octets that were not read."""
        return len(self.content) - self._at

    def read_now(self) -> bytes | None:
        if self._waiting is not None:
            return None
        if self._fault and self._at:
            raise SizeChanged("shorter than it was")
        return super().read_now()

    def read(self) -> Deferred[bytes]:
        assert self._waiting is not None
        return self._waiting

    def close(self) -> None:
        self.closed += 1


class WholeTests(SynchronousTestCase):
    """A message of which the store has all octets, but not at once."""

    stored = b"A: 1\r\n\r\n.dot\r\n" + b"x\r\n" * 100

    def ask(self, command: bytes, stored: bytes = stored) -> tuple[Client, _Later]:
        """The client has sent a command, which waits for the message."""
        store = _Later(stored)
        client = Wire(store=store).login()
        self.assertEqual(client.send(command), b"")
        return client, store

    def test_it_is_sent_as_any_other(self) -> None:
        for command in (b"RETR 1", b"TOP 1 0", b"TOP 1 3"):
            wanted = Wire([self.stored]).login().send(command)
            client, store = self.ask(command)
            store.give()
            self.assertEqual(client.read(), wanted)
            self.assertEqual(store.body.closed, 1)

    def test_a_long_one_is_sent_in_slices(self) -> None:
        long = b"A: 1\r\n\r\n" + b"x\r\n" * SLICE
        client, store = self.ask(b"RETR 1", long)
        store.give()
        reply = client.read()
        self.assertEqual(reply[-len(long) - 3 :], long + b".\r\n")
        self.assertEqual(store.body.closed, 1)

    def test_it_is_closed_once_when_the_line_drops_before_it_comes(self) -> None:
        client, store = self.ask(b"RETR 1")
        client.hang_up()
        store.give()
        self.assertEqual(store.body.closed, 1)


class _Later(_Chunked):
    """One message, which comes as a whole when the test gives it."""

    def __init__(self, stored: bytes) -> None:
        super().__init__(stored, len(stored))
        self._asked: Deferred[object] = Deferred()

    def _retrieve(self, _: int) -> Deferred[object]:
        return self._asked

    def give(self) -> None:
        """It is here."""
        self.body = _Body(self._stored, self._chunk)
        directlyProvides(self.body, IWholeBody)
        self._asked.callback(self.body)


class FaultTests(SynchronousTestCase):
    @pytest.mark.conformance("P-18", "O-C0006")
    def test_a_fault_in_the_middle_of_a_message_ends_the_connection_without_a_dot(self) -> None:
        store = _Chunked(b"a\r\n" * 100_000, 150_000, fault=True)
        client = Wire(store=store).login()
        self.assertNotIn(b"\r\n.\r\n", client.send(b"RETR 1", b"NOOP"))
        self.assertTrue(client.line.aborted)
        self.assertEqual(store.body.closed, 1)

    def test_a_body_is_closed_once_when_the_line_drops_while_it_is_read(self) -> None:
        waiting: Deferred[bytes] = Deferred()
        store = _Chunked(b"a\r\n", 3, waiting=waiting)
        client = Wire(store=store).login()
        self.assertEqual(client.send(b"RETR 1"), b"")
        client.hang_up()
        self.assertEqual(store.body.closed, 0)
        waiting.callback(b"a\r\n")
        self.assertEqual(store.body.closed, 1)


class Utf8HeaderTests(SynchronousTestCase):
    RAW = "Subject: grüß\r\n\r\nbody\r\n".encode()
    BODY_ONLY = "Subject: x\r\n\r\ngrüß\r\n".encode()

    def test_a_raw_utf_8_header_is_sent_as_it_is_by_default(self) -> None:
        self.assertEqual(Wire([self.RAW]).login().message(b"RETR 1"), self.RAW)

    def test_where_so_set_it_is_refused_with_its_code_until_the_client_says_utf8(self) -> None:
        wire = Wire([self.RAW, self.BODY_ONLY], profile=Profile(utf8_headers="refuse"))
        client = wire.login()
        for command in (b"RETR 1", b"TOP 1 0"):
            self.assertRegex(client.send(command), rb"\A-ERR \[UTF8\] [^\r\n]+\r\n\Z")
        self.assertEqual(client.message(b"RETR 2"), self.BODY_ONLY)
        client = wire.connect()
        self.assertTrue(client.send(b"UTF8").startswith(b"+OK "))
        client.log_in()
        self.assertEqual(client.message(b"RETR 1"), self.RAW)

    def test_where_it_is_refused_pieces_of_any_size_make_no_difference(self) -> None:
        for size in (1, 7, 16, 17, 100):
            client = self._refusing(_Chunked(self.RAW, size))
            for command in (b"RETR 1", b"TOP 1 0", b"TOP 1 9"):
                self.assertRegex(client.send(command), rb"\A-ERR \[UTF8\] [^\r\n]+\r\n\Z")
            for text in (self.BODY_ONLY, self.BODY_ONLY.replace(b"\r\n", b"\n")):
                client = self._refusing(_Chunked(text, size))
                self.assertEqual(client.message(b"RETR 1"), self.BODY_ONLY)
                self.assertEqual(client.message(b"TOP 1 0"), b"Subject: x\r\n\r\n")

    def test_where_it_is_refused_a_body_without_a_header_is_a_body(self) -> None:
        text = "\r\ngrüß\r\n".encode()
        for size in (1, 3, 100):
            self.assertEqual(self._refusing(_Chunked(text, size)).message(b"RETR 1"), text)

    def test_where_it_is_refused_a_header_without_an_end_is_sent_if_it_is_ascii(self) -> None:
        for size in (1, 100):
            client = self._refusing(_Chunked(b"Subject: x\r\n", size))
            self.assertEqual(client.message(b"RETR 1"), b"Subject: x\r\n")
        self.assertEqual(self._refusing(_Chunked(b"", 1)).message(b"RETR 1"), b"")

    def test_where_it_is_refused_no_header_is_held_without_end(self) -> None:
        lines = b"a: b\r\n" * LONGEST_HEADER
        client = self._refusing(_Chunked(lines, 100_000))
        self.assertEqual(client.message(b"RETR 1"), lines)

    def _refusing(self, store: _Chunked) -> Client:
        return Wire(store=store, profile=Profile(utf8_headers="refuse")).login()


class BareCrTests(SynchronousTestCase):
    @pytest.mark.conformance("X-C0011", "P-5")
    def test_where_so_set_a_bare_cr_becomes_a_line_end(self) -> None:
        # The memory store counts as stored, so it is the core alone that is shown here.
        client = Wire([b"a\rb\r\rc\r"], convert_cr=True).login()
        self.assertEqual(client.message(b"RETR 1"), b"a\r\nb\r\n\r\nc\r\n")


class UnreadTests(SynchronousTestCase):
    """Who was refused a message does not delete it."""

    def setUp(self) -> None:
        self.wire = Wire([b"one\r\n", b"two\r\n"])
        self.faulty = True
        really = self.wire.store.open

        def opened(account, mind):  # type: ignore[no-untyped-def]
            return really(account, mind).addCallback(self._spoil)

        self.wire.store.open = opened

    def _spoil(self, opened):  # type: ignore[no-untyped-def]
        retrieve = opened[0].retrieve
        opened[0].retrieve = lambda index: (
            fail(StoreDown("disk")) if self.faulty and index == 0 else retrieve(index)
        )
        return opened

    def test_dele_after_a_refused_retr_or_top_is_refused_and_others_go(self) -> None:
        for command in (b"RETR 1", b"TOP 1 0"):
            client = self.wire.login()
            answers = client.send(command, b"DELE 1", b"RSET", b"DELE 1").split(b"\r\n")
            self.assertEqual(
                [answer[:4] for answer in answers[:4]], [b"-ERR", b"-ERR", b"+OK ", b"-ERR"]
            )
            client.hang_up()
        client = self.wire.login()
        client.send(b"RETR 1", b"DELE 1", b"DELE 2", b"QUIT")
        self.assertEqual(list(self.wire.mailbox.messages.values()), [b"one\r\n"])

    def test_once_it_was_sent_it_can_be_deleted(self) -> None:
        client = self.wire.login()
        client.send(b"RETR 1")
        self.faulty = False
        self.assertTrue(client.send(b"RETR 1").startswith(b"+OK"))
        self.assertTrue(client.send(b"DELE 1").startswith(b"+OK"))

    def test_without_an_attempt_to_get_it_it_can_be_deleted(self) -> None:
        self.assertTrue(self.wire.login().send(b"DELE 1").startswith(b"+OK"))
