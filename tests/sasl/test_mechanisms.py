"""PLAIN and LOGIN, step by step; names and passwords as SASLprep has them."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.credentials import IUsernamePassword
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import GatewayError, MechanismFailed
from gateway.interfaces import Challenge, IMechanism, Proven
from gateway.model import Peer
from gateway.sasl.login import LoginMechanism
from gateway.sasl.mechanisms import MECHANISMS
from gateway.sasl.plain import Plain
from gateway.saslprep import login_name, saslprep


class MechanismCase(SynchronousTestCase):
    def proven(self, outcome: Any) -> tuple[bytes, bytes]:
        self.assertIsInstance(outcome, Proven)
        return outcome.credentials.username, outcome.credentials.password


class PlainTests(MechanismCase):
    def test_the_vectors_of_the_rfcs(self) -> None:
        for text, name, password in (
            ("AHRpbQB0YW5zdGFhZnRhbnN0YWFm", b"tim", b"tanstaaftanstaaf"),
            ("dGVzdAB0ZXN0AHRlc3Q=", b"test", b"test"),
        ):
            outcome = self.successResultOf(Plain().step(b64decode(text)))
            self.assertEqual(self.proven(outcome), (name, password))

    def test_who_wants_to_act_as_another_is_no_mere_name_with_a_password(self) -> None:
        # RFC 4616's own example; whether Kurt may act as Ursel is not for here to say.
        outcome = self.successResultOf(Plain().step(b64decode("VXJzZWwAS3VydAB4aXBqM3BsbXE=")))
        self.assertEqual(self.proven(outcome), (b"Kurt", b"xipj3plmq"))
        self.assertEqual(outcome.credentials.acts_as, b"Ursel")
        self.assertFalse(IUsernamePassword.providedBy(outcome.credentials))
        self.assertNotIn("xipj3plmq", repr(outcome.credentials))

    @pytest.mark.conformance("P-9")
    def test_an_empty_response_is_wrong_and_an_absent_one_is_asked_for(self) -> None:
        self.assertEqual(self.successResultOf(Plain().step(None)), Challenge(b""))
        self.failureResultOf(Plain().step(b""), MechanismFailed)

    def test_three_fields_with_names_in_utf_8_and_a_password(self) -> None:
        bad = (b"a", b"a\0b", b"\0a\0b\0c", b"\0\0b", b"\0a\0", b"\0\xff\0b")
        for message in (*bad, b"\xff\0a\0b", b"\0\xed\xa0\x80\0b"):
            self.failureResultOf(Plain().step(message), MechanismFailed)

    def test_each_field_may_have_255_octets(self) -> None:
        long = b"x" * 255
        outcome = self.successResultOf(Plain().step(long + b"\0" + long + b"\0" + long))
        self.assertEqual(self.proven(outcome), (long, long))

    def test_the_authorization_identity_is_compared_in_its_prepared_form(self) -> None:
        outcome = self.successResultOf(Plain().step("USER\0u\u00adser\0p".encode()))
        self.assertEqual(self.proven(outcome)[1], b"p")


class LoginTests(MechanismCase):
    def test_it_asks_for_the_name_and_then_for_the_password(self) -> None:
        login = LoginMechanism()
        self.assertEqual(self.successResultOf(login.step(None)), Challenge(b"Username:"))
        self.assertEqual(self.successResultOf(login.step(b"a")), Challenge(b"Password:"))
        self.assertEqual(self.proven(self.successResultOf(login.step(b" p "))), (b"a", b" p "))

    def test_a_bad_name_and_an_empty_password_fail(self) -> None:
        self.failureResultOf(LoginMechanism().step(b"\xff"), MechanismFailed)
        login = LoginMechanism()
        self.successResultOf(login.step(b"a"))
        self.failureResultOf(login.step(b""), MechanismFailed)


class AnyMechanismTests(MechanismCase):
    @given(st.lists(st.none() | st.binary(max_size=40), max_size=4))
    def test_no_response_leads_to_anything_but_an_outcome_or_a_named_failure(
        self, responses: list[bytes | None]
    ) -> None:
        for make in MECHANISMS.values():
            mechanism = make(Peer("192.0.2.1", True, "1"))
            self.assertTrue(IMechanism.providedBy(mechanism))
            for response in responses:
                results: list[Any] = []
                mechanism.step(response).addBoth(results.append)
                if not isinstance(results[0], Challenge | Proven):
                    self.assertIsInstance(results[0].value, GatewayError)

    def test_a_proof_is_not_shown_by_its_repr(self) -> None:
        outcome = self.successResultOf(Plain().step(b"\0alice\0c4nary"))
        self.assertNotIn("c4nary", repr(outcome))


class SaslprepTests(SynchronousTestCase):
    def test_the_vectors_of_rfc_4013(self) -> None:
        for text, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ):
            self.assertEqual(saslprep(text), prepared)
        for text in ("\u0007", "\u0627\u0031"):
            with self.assertRaises(ValueError):
                saslprep(text)

    def test_spaces_of_other_scripts_are_spaces_and_nothing_is_refused(self) -> None:
        self.assertEqual(saslprep("a\u00a0b"), "a b")
        for text in ("", "\u00ad"):
            with self.assertRaises(ValueError):
                saslprep(text)

    def test_right_to_left_text_stands_alone(self) -> None:
        self.assertEqual(saslprep("\u0627\u0628"), "\u0627\u0628")
        for text in ("\u0627a\u0628", "\u06271"):
            with self.assertRaises(ValueError):
                saslprep(text)

    def test_what_unicode_3_2_does_not_know_may_be_asked_but_not_stored(self) -> None:
        new = "\u0221"
        self.assertEqual(saslprep(new), new)
        with self.assertRaises(ValueError):
            saslprep(new, stored=True)

    @pytest.mark.conformance("P-12")
    @given(st.text(min_size=1))
    def test_a_login_name_has_one_form(self, name: str) -> None:
        try:
            once = login_name(name.encode("utf-8", "surrogatepass"))
        except ValueError:
            return
        self.assertEqual(once, once.lower())
