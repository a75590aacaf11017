"""EXPIRE and LOGIN-DELAY: what all users are told before login, and each one after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Account, Terms
from gateway.pop3.capabilities import Line, capability_lines, login_delay_seconds
from gateway.pop3.profile import Profile
from harness import ALICE, SECRET, Wire

BOB = "bob@example.org"

EXPIRE = (
    # set, for all, the user's own: before login, after login
    ("", "", "", b"", b""),
    ("", "", "60", b"", b"60"),
    ("", "NEVER", "", b"NEVER", b"NEVER"),
    ("", "7 USER", "", b"7 USER", b"7"),
    ("", "7 USER", "60", b"7 USER", b"60"),
    ("", "7 USER", "NEVER", b"7 USER", b"NEVER"),
    ("", "0 USER", "0", b"0 USER", b"0"),
    ("", "7", "8", b"7", b"8"),
    ("30", "7 USER", "60", b"30", b"30"),
    ("30 USER", "7 USER", "60", b"30 USER", b"60"),
    ("30 USER", "7 USER", "", b"30 USER", b"30"),
    ("NEVER", "7 USER", "60", b"NEVER", b"NEVER"),
)
LOGIN_DELAY = (
    # set, the user's own: before login, after login
    ("", None, b"", b""),
    ("", 60, b"", b""),
    ("0", None, b"0", b"0"),
    ("30", None, b"30", b"30"),
    ("30", 60, b"30", b"30"),
    ("30", 10, b"30", b"30"),
    ("30 USER", None, b"30 USER", b"30"),
    ("30 USER", 10, b"30 USER", b"10"),
    ("30 USER", 0, b"30 USER", b"0"),
    ("30 USER", 60, b"30 USER", b"30"),
)
TEXTS = st.one_of(st.integers(0, 99_999).map(str), st.just("NEVER"))


def said(tag: bytes, lines: bytes) -> bytes:
    """The parameters of a capability; nothing where it is not announced."""
    found = [line for line in lines.split(b"\r\n") if line.split()[:1] == [tag]]
    assert len(found) <= 1, found
    return b"".join(found).removeprefix(tag).strip()


class PromisesTests(SynchronousTestCase):
    @pytest.mark.conformance("P-13")
    def test_expire_is_the_users_own_after_login_unless_it_is_set_for_all(self) -> None:
        for fixed, for_all, own, before, after in EXPIRE:
            profile, case = Profile(expire=fixed), (fixed, for_all, own)
            lines = capability_lines(profile, Line(), for_all)
            self.assertEqual(said(b"EXPIRE", lines), before, case)
            lines = capability_lines(profile, Line(), for_all, Terms(expire=own))
            self.assertEqual(said(b"EXPIRE", lines), after, case)

    @pytest.mark.conformance("P-13")
    def test_login_delay_is_the_users_own_after_login_where_users_differ(self) -> None:
        for fixed, own, before, after in LOGIN_DELAY:
            profile = Profile(login_delay=fixed)
            lines = capability_lines(profile, Line())
            self.assertEqual(said(b"LOGIN-DELAY", lines), before, (fixed, own))
            lines = capability_lines(profile, Line(), "", Terms(login_delay=own))
            self.assertEqual(said(b"LOGIN-DELAY", lines), after, (fixed, own))

    @given(
        TEXTS, st.booleans(), st.integers(0, 99_999), st.booleans(), TEXTS, st.integers(0, 10**6)
    )
    def test_after_login_user_is_never_said_and_no_delay_is_longer_than_announced(
        self, days: str, differ: bool, longest: int, delays_differ: bool, own: str, own_delay: int
    ) -> None:
        profile = Profile(login_delay=f"{longest}{' USER' * delays_differ}")
        terms = Terms(own, own_delay)
        lines = capability_lines(profile, Line(), f"{days}{' USER' * differ}", terms)
        self.assertNotIn(b"USER", said(b"EXPIRE", lines) + said(b"LOGIN-DELAY", lines))
        self.assertEqual(said(b"LOGIN-DELAY", lines), b"%d" % login_delay_seconds(profile, terms))
        self.assertLessEqual(login_delay_seconds(profile, terms), longest)


class ExpireOnTheWireTests(SynchronousTestCase):
    def test_before_login_it_is_what_is_handed_in_as_it_is_when_the_client_connects(self) -> None:
        live = ["7 USER"]
        wire = Wire(expire=lambda: live[0])
        first = wire.connect()
        self.assertIn(b"EXPIRE 7 USER", first.lines(b"CAPA"))
        live[0] = "NEVER"
        self.assertIn(b"EXPIRE NEVER", wire.connect().lines(b"CAPA"))

    @pytest.mark.conformance("P-13")
    def test_after_login_it_is_what_the_realm_knows_of_the_account(self) -> None:
        own = {ALICE: "60", BOB: ""}

        def terms(account: Account) -> Terms:
            return Terms(expire=own[account.name])

        passwords = {ALICE: SECRET, BOB: "builder"}
        wire = Wire(expire=lambda: "7 USER", terms=terms, passwords=passwords)
        wire.store.add(BOB)
        client = wire.login()
        self.assertIn(b"EXPIRE 60", client.lines(b"CAPA"))
        other = wire.connect()
        self.assertIn(b"EXPIRE 7 USER", other.lines(b"CAPA"))
        other.log_in(BOB, "builder")
        self.assertIn(b"EXPIRE 7", other.lines(b"CAPA"))
        self.assertIn(b"EXPIRE 60", client.lines(b"CAPA"))

    def test_a_failed_login_tells_nothing_of_the_user(self) -> None:
        client = Wire(expire=lambda: "7 USER", terms=lambda _: Terms(expire="60")).connect()
        client.log_in(password="wrong")
        self.assertIn(b"EXPIRE 7 USER", client.lines(b"CAPA"))
