"""Whatever a client sends: no crash, one answer for each line, and cuts do not matter."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.pop3.profile import Profile
from harness import ALICE, SECRET, Wire, plain

PATIENT = Profile(refused_in_a_row=10**6)

KEYWORDS = b"USER PASS STAT LIST UIDL RETR TOP DELE NOOP RSET CAPA LANG UTF8 APOP XYZZY".split()
WORDS = [b"1", b"2", b"3", b"4", b"0", b"-1", b"x", b"99999999999", b"\xc3\xa4", b"de", b"*"]
COMMANDS = st.builds(
    lambda keyword, arguments: b" ".join([keyword, *arguments]),
    st.sampled_from(KEYWORDS),
    st.lists(st.sampled_from(WORDS), max_size=3),
)
LOGIN = [b"USER " + ALICE.encode(), b"PASS " + SECRET.encode()]
SINGLE = re.compile(rb"(?:\+OK|-ERR) [^\r\n]*\r\n")


def answers(data: bytes, commands: list[bytes]) -> list[bytes]:
    """Cut a run of replies into one for each command, by what a client knows of it."""
    found = []
    for command in commands:
        line = SINGLE.match(data)
        assert line, (command, data[:80])
        end = line.end()
        words = command.upper().split()
        multi = words[0] in (b"RETR", b"TOP", b"CAPA") or (
            words[0] in (b"LIST", b"UIDL", b"LANG") and len(words) == 1
        )
        if multi and line[0].startswith(b"+OK"):
            last = data.index(b"\r\n.\r\n", end - 2)
            end = last + 5
        found.append(data[:end])
        data = data[end:]
    assert data == b""
    return found


class PropertyTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=60), max_size=8))
    def test_no_octets_crash_a_session(self, pieces: list[bytes]) -> None:
        # With it the marked message is rightly removed.
        assume(b"QUIT" not in b"".join(pieces).upper())
        for start in ([], LOGIN, [*LOGIN, b"DELE 1"]):
            wire = Wire()
            client = wire.connect()
            client.send(*start)
            for piece in pieces:
                data = client.send_octets(piece)
                self.assertNotRegex(data, rb"(?<!\r)\n")
            self.assertEqual(len(wire.mailbox.messages), 3)
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(st.lists(COMMANDS, max_size=12), st.booleans())
    @pytest.mark.conformance("O-C0014", "O-C0005", "O-V0001")
    def test_there_is_one_reply_for_each_command_in_order(
        self, commands: list[bytes], logged_in: bool
    ) -> None:
        client = Wire(profile=PATIENT).connect()
        if logged_in:
            client.send(*LOGIN)
        together = answers(client.send(*commands), commands)
        again = Wire(profile=PATIENT).connect()
        if logged_in:
            again.send(*LOGIN)
        self.assertEqual(together, [again.send(command) for command in commands])

    @settings(max_examples=60)
    @given(st.lists(COMMANDS, max_size=6), st.data())
    def test_where_the_input_is_cut_changes_nothing(
        self, commands: list[bytes], data: st.DataObject
    ) -> None:
        lines = [b"AUTH PLAIN", plain(), *commands, b"RETR 2", b"", b"QUIT"]
        octets = b"\r\n".join(lines) + b"\r\n"
        whole = Wire(profile=PATIENT).connect().send_octets(octets)
        client = Wire(profile=PATIENT).connect()
        came = b""
        while octets:
            cut = data.draw(st.integers(1, len(octets)))
            came += client.send_octets(octets[:cut])
            octets = octets[cut:]
        self.assertEqual(came, whole)
