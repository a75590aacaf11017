"""Logins by NTLM on the wire: which of them are guesses at a password, and how many."""

from __future__ import annotations

from base64 import b64decode, b64encode
from functools import partial
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.admission.throttle import ThrottleLimits
from gateway.auth.ntlm import HashAuthority, NtlmChecker
from gateway.auth.password_cache import PasswordCache
from gateway.auth.passwords import PasswordChecker
from gateway.auth.realm import MaildropRealm
from gateway.directory.memory import MemoryDirectory
from gateway.model import Account
from gateway.pop3.profile import Profile
from gateway.sasl.md4 import nt_hash
from gateway.sasl.mechanisms import MECHANISMS
from gateway.sasl.ntlm import Ntlm, NtlmOptions
from gateway.store.memory import MemoryStore
from harness import SECRET, Client, Wire
from ntlm_client import Client as NtlmClient

NOW = 1_700_000_000.0
PEOPLE = [f"user{number}@example.org" for number in range(40)]
HASHED = PEOPLE[:20]
"""Who has an NT hash."""

SHORT = "erin"
"""The same, whose login name has no domain."""


class NtlmGuessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.challenges = 0
        self.wire = self.server()

    def server(self, **limits: Any) -> Wire:
        """One with the usual throttle, for which nobody has to wait unseen."""
        clock = Clock()
        hashed = {
            name: Account(name=name, mailbox=name, nt_hash=nt_hash(SECRET))
            for name in (*HASHED, SHORT)
        }
        directory = MemoryDirectory(dict.fromkeys((*PEOPLE, SHORT), SECRET), hashed)
        store = MemoryStore()
        for name in (*PEOPLE, SHORT):
            store.add(name)
        checkers = [
            PasswordChecker(directory, PasswordCache(clock.seconds, ttl=0, size=1)),
            NtlmChecker(HashAuthority(directory)),
        ]
        make = partial(Ntlm, NtlmOptions(), now=lambda: NOW, random=self.random)
        return Wire(
            store=store,
            portal=Portal(MaildropRealm(directory, store), checkers),
            profile=Profile(mechanisms=("NTLM", "PLAIN"), refused_in_a_row=10**6),
            mechanisms={**MECHANISMS, "NTLM": make},
            throttle=ThrottleLimits(**limits),
            clock=clock,
        )

    def random(self, count: int) -> bytes:
        """A challenge that was never there before."""
        self.challenges += 1
        return self.challenges.to_bytes(count, "big")

    def by_ntlm(self, name: str, password: str = SECRET, *, now: float = NOW, **how: Any) -> bytes:
        """AUTH NTLM; nothing if the answer has to wait."""
        client, far = self.wire.connect(), NtlmClient(name, password, now=now, **how)
        far.negotiate()
        client.send(b"AUTH NTLM")
        challenge = client.send(b64encode(far.negotiate())).removeprefix(b"+ ")
        return self.ended(client, client.send(b64encode(far.authenticate(b64decode(challenge)))))

    def by_password(self, name: str, password: str = SECRET) -> bytes:
        """USER and PASS; nothing if the answer has to wait."""
        client = self.wire.connect()
        return self.ended(client, client.log_in(name, password))

    def ended(self, client: Client, reply: bytes) -> bytes:
        client.hang_up()
        return reply[:10]

    def test_thirty_users_with_clients_that_try_ntlm_first_delay_no_login(self) -> None:
        without = PEOPLE[20:]
        for _ in range(3):
            for name in without:
                self.assertEqual(self.by_ntlm(name), b"-ERR [AUTH")
                self.assertEqual(self.by_password(name)[:3], b"+OK")
        self.assertEqual(self.by_password(PEOPLE[0])[:3], b"+OK")
        self.assertEqual(self.by_ntlm(PEOPLE[1])[:3], b"+OK")

    def test_new_ones_are_let_in_at_once_though_none_of_them_has_logged_in_before(self) -> None:
        for name in PEOPLE[20:] * 3:
            self.assertEqual(self.by_ntlm(name), b"-ERR [AUTH")
        for name in PEOPLE:
            self.assertEqual(self.by_password(name)[:3], b"+OK", name)

    def test_an_account_that_is_not_there_is_as_one_without_a_hash(self) -> None:
        for number in range(40):
            self.assertEqual(self.by_ntlm(f"nobody{number}@example.org"), b"-ERR [AUTH")
            self.assertEqual(self.by_ntlm("nobody@example.org"), b"-ERR [AUTH")
        self.assertEqual(self.by_password(PEOPLE[0])[:3], b"+OK")

    def test_the_hash_of_the_empty_password_lets_nobody_in(self) -> None:
        account = Account(name="a", mailbox="a", nt_hash=nt_hash(""))
        directory = MemoryDirectory({}, {"a": account})
        store = MemoryStore()
        store.add("a")
        portal = Portal(MaildropRealm(directory, store), [NtlmChecker(HashAuthority(directory))])
        make = partial(Ntlm, NtlmOptions(), now=lambda: NOW, random=self.random)
        profile = Profile(mechanisms=("NTLM",))
        self.wire = Wire(store=store, portal=portal, profile=profile, mechanisms={"NTLM": make})
        self.assertEqual(self.by_ntlm("a", ""), b"-ERR [AUTH")

    def test_a_client_that_repeats_a_wrong_password_counts_once(self) -> None:
        for name in HASHED[:19]:
            for _ in range(4):
                self.by_ntlm(name, "last year's")
                self.wire.clock.advance(60)
            self.assertEqual(self.by_password(name)[:3], b"+OK", name)
        self.assertEqual(self.by_password(PEOPLE[30])[:3], b"+OK")

    def test_by_password_its_owner_waits_for_nothing_that_his_old_phone_does(self) -> None:
        for _ in range(100):
            self.by_ntlm(PEOPLE[0], "last year's")
            self.wire.clock.advance(20)
        self.assertEqual(self.by_password(PEOPLE[0], "a slip"), b"-ERR [AUTH")
        self.assertEqual(self.by_password(PEOPLE[0])[:3], b"+OK")
        self.assertEqual(self.by_ntlm(PEOPLE[0])[:3], b"+OK")

    def test_guesses_by_ntlm_at_one_account_become_slow(self) -> None:
        for number in range(3):
            self.assertEqual(self.by_ntlm(PEOPLE[0], f"guess {number}"), b"-ERR [AUTH")
        self.assertEqual(self.by_ntlm(PEOPLE[0], "guess 4"), b"")
        self.assertEqual(self.by_ntlm(PEOPLE[1])[:3], b"+OK")

    def test_no_spelling_of_the_domain_gives_further_guesses(self) -> None:
        self.assertEqual(self.by_ntlm(SHORT, domain="DOMAIN")[:3], b"+OK")
        self.wire = self.server()
        for number in range(10):
            for domain, user in (
                (rf"a\b{number}", SHORT),
                (f"a/b{number}", SHORT),
                ("a", rf"b{number}\{SHORT}"),
                ("a", f"b{number}/{SHORT}"),
            ):
                for password in (SECRET, f"guess {number}"):
                    reply = self.by_ntlm(user, password, domain=domain)
                    self.assertEqual(reply, b"-ERR [AUTH", (domain, user))
        replies = [self.by_ntlm(SHORT, f"guess {n}", domain=f"D{n}") for n in range(4)]
        self.assertEqual(replies, [b"-ERR [AUTH"] * 3 + [b""])

    def test_guesses_by_ntlm_at_many_accounts_slow_the_network_down(self) -> None:
        self.wire = self.server(network_free=10)
        for name in HASHED[:10]:
            self.assertEqual(self.by_ntlm(name, "wonderland!"), b"-ERR [AUTH")
        self.assertEqual(self.by_ntlm(HASHED[11], "wonderland!"), b"")

    def test_where_a_directory_locks_accounts_every_answer_counts(self) -> None:
        self.wire = self.server(refuse_after=3, delay=0.0)
        for _ in range(3):
            self.assertEqual(self.by_ntlm(PEOPLE[0], "last year's"), b"-ERR [AUTH")
        self.assertEqual(self.by_ntlm(PEOPLE[0], "last year's"), b"-ERR [SYS/")
        self.assertEqual(self.by_password(PEOPLE[0]), b"-ERR [SYS/")

    def test_a_right_answer_that_is_of_no_use_is_no_guess(self) -> None:
        for how in ({"mic": False}, {"now": NOW - 10**6, "timestamp": False, "oem": True}):
            for _ in range(2):
                for name in HASHED:
                    self.assertEqual(self.by_ntlm(name, **how), b"-ERR [AUTH", how)
        self.assertEqual(self.by_password(PEOPLE[30])[:3], b"+OK")
        self.assertEqual(self.by_ntlm(PEOPLE[0])[:3], b"+OK")

    def test_an_exchange_that_is_broken_off_is_no_guess(self) -> None:
        client = self.wire.connect()
        for last in (b"*", b"no base64!", b64encode(b"NTLMSSP\0\3\0\0\0")):
            for _ in range(30):
                client.send(b"AUTH NTLM")
                client.send(b64encode(NtlmClient(PEOPLE[0], "x", now=NOW).negotiate()))
                self.assertTrue(client.send(last).startswith(b"-ERR"), last)
        self.assertEqual(self.by_ntlm(PEOPLE[0])[:3], b"+OK")
        self.assertEqual(self.by_password(PEOPLE[1])[:3], b"+OK")

    def test_a_password_that_was_right_is_known_after_a_login_by_ntlm(self) -> None:
        self.by_password(PEOPLE[0])
        self.by_ntlm(PEOPLE[0])
        for number in range(9):
            self.by_password(PEOPLE[0], f"slip {number}")
            self.wire.clock.advance(20)
        self.assertEqual(self.by_password(PEOPLE[0])[:3], b"+OK")
