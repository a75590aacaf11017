"""CAPA, AUTH, LANG and what they say in each state."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from gateway.pop3.profile import PROFILES, Profile
from harness import ALICE, SECRET, Wire, b64, plain


class CapaTests(SynchronousTestCase):
    @pytest.mark.conformance("P-13")
    def test_capa_is_the_same_in_both_states_but_for_stls(self) -> None:
        client = Wire(tls=object()).connect()
        before = client.lines(b"CAPA")
        client.log_in()
        self.assertEqual([line for line in before if line != b"STLS"], client.lines(b"CAPA"))
        self.assertIn(b"STLS", before)

    @pytest.mark.conformance("P-13")
    def test_stls_is_announced_only_where_it_works(self) -> None:
        self.assertNotIn(b"STLS", Wire().connect().lines(b"CAPA"))
        self.assertNotIn(b"STLS", Wire(tls=object()).connect(secure=True).lines(b"CAPA"))
        self.assertTrue(Wire().connect().send(b"STLS").startswith(b"-ERR "))
        self.assertTrue(Wire(tls=object()).connect(secure=True).send(b"STLS").startswith(b"-ERR "))

    @pytest.mark.conformance("P-13", "O-C0009")
    def test_where_cleartext_is_barred_no_cleartext_login_is_announced(self) -> None:
        wire = Wire(tls=object())
        lines = wire.connect("192.0.2.1").lines(b"CAPA")
        self.assertNotIn(b"USER", lines)
        self.assertEqual([line for line in lines if line.startswith(b"SASL")], [])
        self.assertIn(b"STLS", lines)
        secure = wire.connect("192.0.2.1", secure=True).lines(b"CAPA")
        self.assertIn(b"USER", secure)
        self.assertIn(b"SASL PLAIN LOGIN", secure)

    def test_capa_lists_what_the_extensions_demand(self) -> None:
        lines = Wire().connect().lines(b"CAPA")
        wanted = b"TOP UIDL RESP-CODES PIPELINING AUTH-RESP-CODE LANG".split()
        self.assertEqual([line for line in wanted if line not in lines], [])
        self.assertIn(b"UTF8 USER", lines)
        self.assertIn(b"IMPLEMENTATION pop3gw", lines)

    def test_expire_and_login_delay_are_what_they_were_set_to_and_else_absent(self) -> None:
        profile = Profile(expire="60 USER", login_delay="30")
        lines = Wire(profile=profile).connect().lines(b"CAPA")
        self.assertIn(b"EXPIRE 60 USER", lines)
        self.assertIn(b"LOGIN-DELAY 30", lines)
        tags = {line.split()[0] for line in Wire().connect().lines(b"CAPA")}
        self.assertEqual(tags & {b"EXPIRE", b"LOGIN-DELAY"}, set())

    def test_every_profile_offers_a_way_to_log_in(self) -> None:
        for name, profile in PROFILES.items():
            client = Wire(profile=profile).connect(secure=True)
            self.assertIn(b"USER", client.lines(b"CAPA"), name)
            self.assertTrue(client.log_in().startswith(b"+OK "), name)


class AuthTests(SynchronousTestCase):
    def test_auth_alone_lists_the_mechanisms(self) -> None:
        self.assertEqual(Wire().connect().lines(b"AUTH"), [b"PLAIN", b"LOGIN"])

    @pytest.mark.conformance("P-6")
    def test_plain_without_initial_response_gets_an_empty_challenge_with_its_space(self) -> None:
        client = Wire().connect()
        self.assertEqual(client.send(b"auth plain"), b"+ \r\n")
        self.assertTrue(client.send(plain()).startswith(b"+OK "))
        self.assertTrue(client.send(b"STAT").startswith(b"+OK 3 "))

    def test_plain_with_an_initial_response_is_one_line(self) -> None:
        self.assertTrue(Wire().connect().send(b"AUTH PLAIN " + plain()).startswith(b"+OK "))

    def test_login_asks_twice_and_takes_the_name_at_once_too(self) -> None:
        client = Wire().connect()
        self.assertEqual(client.send(b"AUTH LOGIN"), b"+ VXNlcm5hbWU6\r\n")
        self.assertEqual(client.send(b64(ALICE.encode())), b"+ UGFzc3dvcmQ6\r\n")
        self.assertTrue(client.send(b64(SECRET.encode())).startswith(b"+OK "))
        client = Wire().connect()
        self.assertEqual(client.send(b"AUTH LOGIN " + b64(ALICE.encode())), b"+ UGFzc3dvcmQ6\r\n")
        self.assertTrue(client.send(b64(SECRET.encode())).startswith(b"+OK "))

    @pytest.mark.conformance("P-7", "P-8")
    def test_a_star_cancels_and_the_next_line_is_a_command(self) -> None:
        client = Wire().connect()
        for mechanism in (b"PLAIN", b"LOGIN"):
            client.send(b"AUTH " + mechanism)
            self.assertRegex(client.send(b"*"), rb"\A-ERR [^\[]")
            self.assertTrue(client.send(b"CAPA").startswith(b"+OK "))
        self.assertTrue(client.log_in().startswith(b"+OK "))

    @pytest.mark.conformance("P-8")
    def test_after_a_failed_exchange_the_next_line_is_a_command(self) -> None:
        client = Wire().connect()
        failures = (plain(password="wrong"), b"=AAA", b"AAA=BBB", b"AAAA====", b"QR==", b"!", b" ")
        for response in failures:
            self.assertEqual(client.send(b"AUTH PLAIN"), b"+ \r\n")
            self.assertTrue(client.send(response).startswith(b"-ERR "), response)
            self.assertTrue(client.send(b"CAPA").startswith(b"+OK "))

    @pytest.mark.conformance("P-9")
    def test_an_equals_sign_is_an_empty_response_and_not_an_absent_one(self) -> None:
        client = Wire().connect()
        self.assertTrue(client.send(b"AUTH PLAIN =").startswith(b"-ERR "))
        self.assertEqual(client.send(b"AUTH PLAIN"), b"+ \r\n")
        self.assertTrue(client.send(b"").startswith(b"-ERR "))

    def test_only_a_wrong_proof_has_the_code_auth(self) -> None:
        client = Wire().connect()
        wrong = (plain(password="wrong"), plain(name="nobody"), plain(authzid="bob@example.org"))
        for message in wrong:
            self.assertTrue(client.send(b"AUTH PLAIN " + message).startswith(b"-ERR [AUTH] "))
        for message in (b"AUTH PLAIN " + b64(b"no nul"), b"AUTH GSSAPI", b"AUTH PLAIN ?"):
            self.assertRegex(client.send(message), rb"\A-ERR [^\[]")

    def test_a_response_may_be_far_longer_than_a_command_and_has_a_limit_all_the_same(self) -> None:
        client = Wire().connect()
        client.send(b"AUTH PLAIN")
        longest = Profile().sasl_line_limit
        self.assertIn(b"mechanism", client.send(b"A" * (longest - 4)))  # read, and no PLAIN
        client.send(b"AUTH PLAIN")
        self.assertIn(b"too long", client.send(b"A" * longest))
        self.assertTrue(client.send(b"AUTH PLAIN " + b"A" * 100_000).startswith(b"-ERR "))
        self.assertTrue(client.log_in().startswith(b"+OK "))

    def test_responses_may_be_pipelined(self) -> None:
        client = Wire().connect()
        name, password = b64(ALICE.encode()), b64(SECRET.encode())
        answers = client.send(b"AUTH LOGIN", name, password, b"STAT").split(b"\r\n")
        self.assertEqual([line[:4] for line in answers], [b"+ VX", b"+ UG", b"+OK ", b"+OK ", b""])

    def test_more_than_a_mechanism_and_a_response_is_refused(self) -> None:
        client = Wire().connect()
        self.assertTrue(client.send(b"AUTH PLAIN " + plain() + b" x").startswith(b"-ERR "))


class LangTests(SynchronousTestCase):
    def test_lang_lists_languages_in_both_states(self) -> None:
        client = Wire().connect()
        self.assertEqual(client.lines(b"LANG"), [b"en English", b"de Deutsch"])
        client.log_in()
        self.assertEqual(client.lines(b"LANG"), [b"en English", b"de Deutsch"])

    def test_a_language_holds_from_its_own_reply_on(self) -> None:
        client = Wire().connect()
        self.assertEqual(client.send(b"LANG DE-at"), b"+OK de Texte sind jetzt auf Deutsch.\r\n")
        self.assertEqual(client.send(b"STAT"), b"-ERR Bitte zuerst anmelden.\r\n")

    def test_an_unknown_language_is_refused_and_the_old_one_stays(self) -> None:
        client = Wire().connect()
        client.send(b"LANG de")
        self.assertTrue(client.send(b"LANG tlh").startswith(b"-ERR Keine Texte"))

    def test_a_star_is_the_administrators_choice(self) -> None:
        client = Wire(profile=Profile(language="de")).connect()
        self.assertTrue(client.send(b"LANG *").startswith(b"+OK de "))
        self.assertTrue(Wire().connect().send(b"LANG *").startswith(b"+OK en "))
