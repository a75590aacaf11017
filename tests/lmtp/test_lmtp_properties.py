"""Whatever a client sends: no crash, replies in order, and cuts do not matter."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway import errors
from gateway.lmtp.profile import Profile
from lmtp_harness import PATIENT, Shell, codes, split

REFUSE = {"x@y": errors.UnknownRecipient()}
COMMITS = {"full@y": errors.OverQuota()}
PROFILE = Profile(refused_in_a_row=10**6, max_size=60)

WORDS = st.sampled_from(
    b"LHLO LHLO_a MAIL_FROM:<> MAIL_FROM:<a@b>_SIZE=9 MAIL_FROM:<a@b>_SIZE=99"
    b" MAIL_FROM:<\xc3\xa4@b> RCPT_TO:<a@b> RCPT_TO:<full@y> RCPT_TO:<x@y> RCPT_TO:<>"
    b" RSET NOOP VRFY_a HELP HELO_a STARTTLS XYZZY".split()
).map(lambda word: word.replace(b"_", b" "))
BODY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"a", b"\n.\r\n", b"\r\n.\n", b"Return-Path:", b"QUIT"]
    ),
    max_size=12,
).map(b"".join)


def dotted(body: bytes) -> bytes:
    """DATA and a body, as a client sends it."""
    body = b"" if not body else body + b"\r\n"
    stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
    return b"DATA\r\n" + stuffed + b".\r\n"


def chunk(body: bytes, last: bool) -> bytes:
    """BDAT and a body."""
    return b"BDAT %d%b\r\n" % (len(body), b" LAST" if last else b"") + body


COMMANDS = WORDS.map(lambda word: word + b"\r\n")
CHUNKS = st.builds(chunk, BODY, st.booleans())
MAILS = st.builds(
    lambda recipients, parts: b"".join([b"RSET\r\nMAIL FROM:<>\r\n", *recipients, *parts]),
    st.lists(st.sampled_from([b"RCPT TO:<a@b>\r\n", b"RCPT TO:<full@y>\r\n"]), min_size=1),
    st.one_of(
        BODY.map(lambda body: [dotted(body)]),
        st.lists(CHUNKS),
    ),
)
STREAMS = st.lists(st.one_of(COMMANDS, CHUNKS, MAILS), max_size=8)


def shell(**scripted: object) -> Shell:
    """One that knows LHLO already."""
    made = Shell(PROFILE, refuse=REFUSE, commits=COMMITS, **scripted)  # type: ignore[arg-type]
    made.send(b"LHLO a")
    return made


def fed(to: Shell, pieces: list[bytes]) -> bytes:
    """All that comes back."""
    return b"".join([to.send_octets(piece) for piece in pieces])


class PropertyTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=60), max_size=8))
    def test_no_octets_crash_a_session(self, pieces: list[bytes]) -> None:
        starts = [b"", b"LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"]
        starts += [starts[1] + b"DATA\r\n", starts[1] + b"BDAT 100\r\n", b"BDAT ", b"MAIL FROM:<"]
        for start in starts:
            made = Shell()
            made.send_octets(start)
            data = fed(made, pieces)
            self.assertNotRegex(data, rb"(?<!\r)\n|\r(?!\n)")
            codes(data)

    @settings(max_examples=200)
    @given(STREAMS, st.data())
    def test_where_the_input_is_cut_changes_nothing(
        self, stream: list[bytes], data: st.DataObject
    ) -> None:
        octets = b"".join(stream)
        whole, pieces = shell(), []
        replies = fed(whole, [octets])
        while octets:
            cut = data.draw(st.integers(1, min(len(octets), 40)))
            pieces.append(octets[:cut])
            octets = octets[cut:]
        one = shell()
        self.assertEqual(fed(one, pieces), replies)
        self.assertEqual(one.messages, whole.messages)

    @given(STREAMS)
    def test_pipelining_changes_no_reply(self, stream: list[bytes]) -> None:
        self.assertEqual(fed(shell(), stream), fed(shell(), [b"".join(stream)]))

    @given(st.lists(WORDS, max_size=20))
    def test_there_is_one_reply_for_each_command_in_order(self, commands: list[bytes]) -> None:
        together = split(shell().send(*commands))
        one = shell()
        self.assertEqual(together, [one.send(command) for command in commands])

    @given(BODY, st.lists(st.sampled_from([b"a@b", b"full@y", b"x@y"]), max_size=5))
    @example(b"\n.\r\nMAIL FROM:<evil@a>\r\n", [b"a@b"])
    def test_after_the_dot_there_is_one_reply_for_each_accepted_recipient(
        self, body: bytes, wanted: list[bytes]
    ) -> None:
        made = Shell(PATIENT, refuse=REFUSE, commits=COMMITS)
        accepted = codes(made.begin_mail(*wanted)).count("250 2.1.5")
        for sent in (dotted(body), chunk(body, True)):
            if not accepted and sent.startswith(b"DATA"):
                continue  # its lines are commands then
            made.send(b"RSET")
            made.begin_mail(*wanted)
            told = codes(made.send_octets(sent))
            outcomes = {b"a@b": "250 2.0.0", b"full@y": "452 4.2.2"}
            told = [code for code in told if code != "354"]
            self.assertEqual(told, [outcomes[one] for one in wanted if one in outcomes])
        for _, content in made.messages:
            self.assertNotRegex(content, rb"(?<!\r)\n")

    @given(STREAMS, st.integers(0, 60), st.booleans(), st.booleans())
    def test_a_store_that_fails_costs_mail_nothing_but_time(
        self, stream: list[bytes], room: int, full: bool, closed: bool
    ) -> None:
        error = errors.NoRoom() if full else errors.StoreDown()
        octets = b"".join(stream)
        failing = shell(write_fails=(room, error), begin=error if closed else None)
        working = shell()
        sent = codes(fed(failing, [octets]))
        if b"DATA" not in octets or not closed:
            # Where DATA fails its lines are commands; else the replies are as many.
            self.assertEqual(len(sent), len(codes(fed(working, [octets]))))
