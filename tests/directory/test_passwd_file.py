"""The passwd-file: schemes, lines, changes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.directory import passwd_entries, schemes
from gateway.directory.passwd import AGAIN_AFTER, PasswdFile, parse
from gateway.errors import BadCredentials, DirectoryDown, DirectoryMisconfigured, Overloaded
from gateway.model import UNLIMITED, Quota
from gateway.testing.store_contract import run_now
from support.calls import calls_of
from support.descriptors import free_descriptors

# Made by Dovecot 2.3's doveadm pw for the password "wonderland".
FOREIGN = (
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$MEl8SDRFKXpvctOsTpaBrQ$"
    "ahqa9WJOPLFliFg2vtg9YR+WVUgDyWmp9GSLSSfmmbg",
    "{BLF-CRYPT}$2y$05$lSgeAjfq2vyGBxu7v8ddQeeNk1BoqPcg1P8HvzkJZwelVHnQLdu5.",
    "{SHA512-CRYPT}$6$FBPNeBeu/9fy.ZMq$JZ4mxYC0BWrO/HDXTSig5FK3AKG3iRPCuzl6h3hmggHsA5UTY.6s"
    "GTgBNZ51itYn2ZLLFlsQuCv5tDrB9ZjNx0",
    "{SSHA}B+7LzLI4M+KSQoISGYDC+LrNh+OPiL3l",
    "{SSHA256}1x5dLlQjprBDsGCDphYYtgx/1VdFrCDL4yEu4DJnHdC4AEiu",
    "{SSHA512}vRbVHCG2ARZSSLcr4UdAsKgDJh53FFpypxo1KE1yC+8r701/ts/AD/2/hgHwR6odbCZCkxOpZ+rBMmf6"
    "yGUnZCI5P1U=",
    "{SSHA256.HEX}2b61855475b211de1f098d2f9bfc32b9d9ba80f0171307fddffbcd5c74a6f3bbb9d597fc",
    "{SSHA.B64}4NAUMKBgq56SUf7SYkgKXVOkhHqAELbi",
)


class SchemeTests(SynchronousTestCase):
    def test_every_scheme_knows_its_own_entries_and_no_others(self) -> None:
        for name in schemes.SCHEMES:
            secret = schemes.make(name, b"wonderland")
            self.assertTrue(schemes.verify(secret, b"wonderland"), name)
            self.assertFalse(schemes.verify(secret, b"Wonderland"), name)
            self.assertFalse(schemes.verify(secret, b""), name)

    def test_vectors_that_other_programs_made(self) -> None:
        for secret in FOREIGN:
            self.assertTrue(schemes.verify(secret, b"wonderland"), secret)
            self.assertFalse(schemes.verify(secret, b"wonderland "), secret)
        # The SHA-crypt specification's first SHA-512 example, and crypt_blowfish's first.
        sha = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJ"
        self.assertTrue(schemes.verify(sha + "uesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", b"Hello world!"))
        blowfish = "{CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
        self.assertTrue(schemes.verify(blowfish, b"U*U"))

    def test_a_secret_without_a_known_scheme_is_never_taken_for_plain(self) -> None:
        for secret in ("wonderland", "", "{MD5}x", "{PLAIN", "{}x", "$1$salt$hash", "x"):
            with self.assertRaises(DirectoryMisconfigured):
                schemes.verify(secret, b"wonderland")

    def test_a_damaged_hash_is_a_misconfiguration_and_no_wrong_password(self) -> None:
        argon2 = schemes.make("ARGON2ID", b"x")
        for secret in (
            *("{SSHA}c2hvcnQ=", "{SSHA256}?", "{ARGON2ID}x", "{BLF-CRYPT}x", "{SSHA}"),
            *("{SHA512-CRYPT}x", "{CRYPT}$6$", "{CRYPT}$2", "{ARGON2}$argon2", "{SSHA512}abc"),
            *(argon2[:-40], argon2.replace("m=19456", "m=1"), argon2.replace("t=2", "t=0")),
            argon2.replace("$argon2id", "$argon2zz"),
        ):
            for password in (b"x", b"", b"a\0b", b"y" * 5000, b"\xff"):
                with self.assertRaises(DirectoryMisconfigured, msg=secret):
                    schemes.verify(secret, password)

    def test_no_change_to_a_hash_makes_a_traceback_or_shows_it(self) -> None:
        for secret in FOREIGN:
            stored = secret.partition("}")[2]
            for odd in (
                *(f"{secret}\udcff", f"{secret}é", f"{secret}\n", f"{secret}\0", secret[:-1]),
                *(secret.replace("}", "}é"), secret.replace("$", "\udcff$"), secret[:-9] + " " * 9),
            ):
                if odd == secret:
                    continue
                try:
                    self.assertFalse(schemes.verify(odd, b"wonderland"), ascii(odd))
                except DirectoryMisconfigured as error:
                    self.assertNotIn(stored[-8:], str(error))

    def test_a_password_beyond_what_a_scheme_can_hash_is_a_wrong_one(self) -> None:
        for name in schemes.SCHEMES:
            secret = schemes.make(name, b"x")
            for password in (b"x" * 511, b"x" * 512, b"x" * 100_000, b"x\0", b"\0", b"\xff" * 600):
                self.assertFalse(schemes.verify(secret, password), (name, password[:3]))
        longest = schemes.make("SHA512-CRYPT", b"x" * 511)
        self.assertTrue(schemes.verify(longest, b"x" * 511))
        self.assertFalse(schemes.verify(longest, b"x" * 512))
        with self.assertRaises(ValueError):
            schemes.make("SHA512-CRYPT", b"x" * 512)

    def test_hexadecimal_is_recognized(self) -> None:
        import base64

        secret = schemes.make("SSHA256", b"x").removeprefix("{SSHA256}")
        spelt = base64.b64decode(secret).hex()
        self.assertTrue(schemes.verify("{SSHA256.HEX}" + spelt, b"x"))

    def test_the_decoy_costs_what_the_costliest_entry_costs(self) -> None:
        secrets = {schemes.make("SSHA", b"x"), schemes.make("SHA512-CRYPT", b"x")}
        self.assertTrue(schemes.decoy(secrets).startswith("{SHA512-CRYPT}"))
        self.assertTrue(schemes.decoy([]).startswith("{ARGON2ID}"))

    def test_what_a_scheme_cannot_hold_is_refused_when_an_entry_is_made(self) -> None:
        with self.assertRaises(ValueError):
            schemes.make("BLF-CRYPT", b"x" * 73)
        with self.assertRaises(ValueError):
            schemes.make("SHA512-CRYPT", b"a\0b")


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.join(self.mktemp(), "accounts")
        os.makedirs(os.path.dirname(self.path))
        self.write("alice:{PLAIN}a::::::\n")
        self.works: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def write(self, text: str) -> None:
        with open(f"{self.path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{self.path}.new", self.path)

    def read_later(self, work: Callable[[], Any]) -> Deferred[Any]:
        """A thread that has other work first."""
        self.works.append((Deferred(), work))
        return self.works[-1][0]

    def test_a_change_is_seen_at_the_next_login(self) -> None:
        directory = PasswdFile(self.path, run_now)
        self.write("bob:{PLAIN}b::::::\n")
        self.assertIsNotNone(self.successResultOf(directory.find("bob")))
        self.assertIsNone(self.successResultOf(directory.find("alice")))

    def test_a_changed_file_is_read_in_a_thread_once_for_all_who_wait(self) -> None:
        works, directory = self.works, PasswdFile(self.path, run_now, read_file=self.read_later)
        self.successResultOf(directory.find("alice"))
        self.assertEqual(works, [])
        self.write("".join(f"user{number}:{{PLAIN}}u::::::\n" for number in range(100)))
        answers = [directory.find(f"user{number}") for number in range(100)]
        answers.append(directory.verify("user1", b"u"))
        for answer in answers:
            self.assertNoResult(answer)
        ((reading, work),) = works
        reading.callback(work())
        for answer in answers:
            self.assertIsNotNone(self.successResultOf(answer))

    def test_a_login_costs_the_same_however_many_accounts_there_are(self) -> None:
        def cost(accounts: int) -> int:
            numbers = range(accounts)
            lines = [f"user{number}:{{PLAIN}}u::::::\n" for number in numbers]
            lines += [f"info@d{number}.example:{{PLAIN}}u::::::\n" for number in numbers]
            self.write("".join(lines))
            directory = PasswdFile(self.path, run_now)

            def log_in() -> None:
                self.successResultOf(directory.verify("user1", b"u"))
                self.successResultOf(directory.find("example/user2"))
                self.successResultOf(directory.find("d1/info"))
                self.successResultOf(directory.find("any/info"))
                self.successResultOf(directory.with_retention())

            return calls_of(log_in)

        self.assertEqual(cost(10), cost(2000))

    def test_a_change_of_a_line_reads_that_line_and_keeps_the_accounts_of_others(self) -> None:
        def find(name: str) -> Any:
            return self.successResultOf(directory.find(name))

        shared = "team:{PLAIN}t::::::delegates=example/alice\n"
        self.write(f"alice@example.org:{{PLAIN}}a::::::\nbob:{{PLAIN}}b::::::\n{shared}")
        directory = PasswdFile(self.path, run_now)
        alice, bob, team = map(find, ("alice@example.org", "bob", "team"))
        self.write(f"alice@example.net:{{PLAIN}}a::::::\n{shared}bob:{{PLAIN}}b::::::\n")
        self.assertIs(find("bob"), bob)
        self.assertIsNone(find("alice@example.org"))
        # The same line, which now means another account.
        self.assertIn(alice.name, team.delegates)
        self.assertNotIn(alice.name, find("team").delegates)
        self.assertIn("alice@example.net", find("team").delegates)

    def test_who_comes_after_a_second_change_does_not_get_the_first_one(self) -> None:
        works, directory = self.works, PasswdFile(self.path, run_now, read_file=self.read_later)
        self.write("bob:{PLAIN}b::::::\n")
        first = directory.find("bob")
        text = works[0][1]()
        self.write("carol:{PLAIN}longer::::::\n")
        second = directory.find("carol")
        works[0][0].callback(text)
        self.assertIsNotNone(self.successResultOf(first))
        self.assertNoResult(second)
        works[1][0].callback(works[1][1]())
        self.assertIsNotNone(self.successResultOf(second))

    def test_a_reading_that_finds_no_thread_fails_for_now_and_is_tried_again(self) -> None:
        answers: list[Deferred[Any]] = [fail(Overloaded("full"))]
        directory = PasswdFile(self.path, run_now, read_file=lambda _: answers.pop(0))
        self.write("bob:{PLAIN}b::::::\n")
        self.failureResultOf(directory.find("bob"), Overloaded)
        answers.append(succeed(parse("bob:{PLAIN}b::::::\n", self.path)))
        self.assertIsNotNone(self.successResultOf(directory.find("bob")))

    def test_a_change_for_the_worse_is_logged_and_the_good_accounts_stay(self) -> None:
        directory = PasswdFile(self.path, run_now)
        self.write("bob\n")
        self.assertIsNotNone(self.successResultOf(directory.find("alice")))

    def test_a_changed_file_that_cannot_be_opened_now_is_read_soon(self) -> None:
        clock, events, readings = Clock(), list[Any](), list[object]()

        def read_file(work: Callable[[], Any]) -> Deferred[Any]:
            readings.append(work)
            return run_now(work)

        directory = PasswdFile(
            self.path, run_now, read_file=read_file, emit=events.append, now=clock.seconds
        )

        def is_known(name: str) -> bool:
            return self.successResultOf(directory.find(name)) is not None

        self.write("bob:{PLAIN}b::::::\n")
        with free_descriptors(0):
            for _ in range(4):
                for _ in range(100):
                    self.assertTrue(is_known("alice"))
                clock.advance(AGAIN_AFTER)
        # Not at each login, and in the log once.
        self.assertEqual((len(readings), len(events)), (4, 1))
        self.assertIn("Too many open files", events[0].reason)
        self.assertTrue(is_known("bob"))
        self.assertFalse(is_known("alice"))

    def test_a_changed_file_with_a_fault_is_read_again_only_when_it_has_changed(self) -> None:
        clock, events = Clock(), list[Any]()
        directory = PasswdFile(self.path, run_now, emit=events.append, now=clock.seconds)
        for _ in range(2):
            self.write("bob\n")
            for _ in range(3):
                self.assertIsNotNone(self.successResultOf(directory.find("alice")))
                clock.advance(60)
        self.assertEqual(len(events), 2)

    def test_a_file_that_vanished_is_an_outage_and_no_wrong_password(self) -> None:
        directory = PasswdFile(self.path, run_now)
        os.unlink(self.path)
        self.failureResultOf(directory.find("alice"), DirectoryDown)
        self.failureResultOf(directory.verify("alice", b"a"), DirectoryDown)

    def test_a_missing_file_at_the_start_is_named_with_the_cure(self) -> None:
        with self.assertRaises(DirectoryMisconfigured) as caught:
            PasswdFile(self.path + ".none", run_now)
        self.assertIn("pop3gw passwd --file", str(caught.exception))

    def test_an_outage_costs_no_account_when_another_one_is_put(self) -> None:
        path = os.path.abspath(self.mktemp())
        passwd_entries.put(path, "alice", b"secret", "SSHA256")
        with no_room("stat", path, errno.ESTALE), no_room("lstat", path, errno.ESTALE):
            for change in (
                lambda: passwd_entries.put(path, "bob", b"secret", "SSHA256"),
                lambda: passwd_entries.delete(path, "alice"),
            ):
                self.assertRaises(OSError, change)
        self.assertTrue(passwd_entries.delete(path, "alice"))

    def test_a_fault_is_named_with_its_line(self) -> None:
        for line, words in (
            ("bob", "expected name:"),
            ("bob:x", "scheme"),
            (":{PLAIN}x", "no valid name"),
            ("Alice:{PLAIN}x", "same name as line 1"),
            ("bob:{PLAIN}x::::home:", "begin with a slash"),
            ("bob:{PLAIN}x::::::nt_hash=12", "32 hexadecimal digits"),
            ("bob:{PLAIN}x::::::aliases=b@e,alice", "alice is an address of another line"),
        ):
            with self.assertRaises(DirectoryMisconfigured) as caught:
                parse(f"alice:{{PLAIN}}a\n\n{line}\n", "F")
            self.assertIn("F:3: ", str(caught.exception))
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("{PLAIN}x", str(caught.exception))

    def test_what_else_is_known_of_an_account_stands_in_its_extra_fields(self) -> None:
        fields = "nt_hash=" + "AB" * 16 + " host=MX1.e aliases=a@e,B@e delegates=Bob,carol@e"
        fields += " language=de-AT,en"
        self.write(f"alice:{{PLAIN}}a::::::{fields}\n")
        directory = PasswdFile(self.path, run_now)
        account = self.successResultOf(directory.find("alice"))
        self.assertEqual((account.nt_hash, account.host), (b"\xab" * 16, "mx1.e"))
        self.assertEqual(account.delegates, {"bob", "carol@e"})
        self.assertEqual(account.languages, ("de-at", "en"))
        for address in ("alice", "a@e", "b@e"):
            self.assertIs(self.successResultOf(directory.recipient(address)), account)

    def test_a_delegate_may_be_named_with_a_domain_before_the_name(self) -> None:
        self.write(
            "ann@example.org:{PLAIN}x\nbob@example.net:{PLAIN}x\n"
            "room@example.org:{PLAIN}x::::::delegates=EXAMPLE\\ann,example.net/bob,EXAMPLE\\no\n"
        )
        directory = PasswdFile(self.path, run_now)
        room, ann, bob = (
            self.successResultOf(directory.find(name))
            for name in ("example\\room", "ann@example.org", "bob@example.net")
        )
        self.assertTrue(room.admits(ann) and room.admits(bob))
        self.assertFalse(bob.admits(ann))

    def test_a_file_that_is_being_written_in_place_locks_nobody_out(self) -> None:
        self.write("alice:{PLAIN}a\n")
        directory = PasswdFile(self.path, run_now)
        for text in ("", "alice:{PL"):
            self.write(text)
            self.assertEqual(self.successResultOf(directory.verify("alice", b"a")).name, "alice")
        self.write("alice:{PLAIN}b\n")
        self.assertEqual(self.successResultOf(directory.verify("alice", b"b")).name, "alice")

    def test_the_spaces_of_a_retention_policy_are_written_as_underscores(self) -> None:
        self.write("alice:{PLAIN}a::::::quota=5M retention=unread_60d,read_7d\nbob:{PLAIN}b\n")
        directory = PasswdFile(self.path, run_now)
        policies = [self.successResultOf(directory.find(name)) for name in ("alice", "bob")]
        self.assertEqual([one.retention for one in policies], ["unread 60d,read 7d", ""])

    def test_home_and_nologin_are_read(self) -> None:
        self.write("alice:{PLAIN}a::::/home/alice::nologin\n# comment\n\nbob:{PLAIN}b\n")
        directory = PasswdFile(self.path, run_now)
        account = self.successResultOf(directory.find("alice"))
        self.assertEqual(account.home, "/home/alice")
        self.failureResultOf(directory.verify("alice", b"a"), BadCredentials)
        self.assertEqual(self.successResultOf(directory.verify("bob", b"b")).name, "bob")

    def test_only_who_may_not_log_in_needs_no_hash(self) -> None:
        for secret in ("", "*", "!", "x", "{NONE}y"):
            account = parse(f"room:{secret}::::::nologin\n", "F")["room"]
            self.assertEqual((account.may_log_in, account.gets_mail), (False, True))
            with self.assertRaises(DirectoryMisconfigured):
                parse(f"room:{secret}::::::nologin=no\n", "F")
        self.write("room:*::::::nologin nomail\nalice:{PLAIN}a\n")
        directory = PasswdFile(self.path, run_now)
        for password in (b"*", b"", b"x"):
            self.failureResultOf(directory.verify("room", password), BadCredentials)
        self.assertFalse(self.successResultOf(directory.find("room")).gets_mail)

    def test_a_quota_of_zero_is_no_limit(self) -> None:
        for text, octets in (("0", UNLIMITED), ("0MB", UNLIMITED), ("1", 1)):
            account = parse(f"a:{{PLAIN}}a::::::QUOTA={text}\n", "F")["a"]
            self.assertEqual(account.quota, Quota(octets=octets))

    def test_a_name_with_a_domain_is_that_users_and_of_two_nobodys(self) -> None:
        names = ("ann@a.org", "ann@b.org", "ann@a.com", "bob", "cy@a.org", "dan", "dan@b.org")
        entries = parse("".join(f"{name}:{{PLAIN}}x\n" for name in names), "F")
        for login, name in {
            "a.org/ann": "ann@a.org",
            r"b.org\ann": "ann@b.org",
            "b/ann": "ann@b.org",
            "a/ann": None,
            "c/ann": None,
            "c/cy": "cy@a.org",
            "/cy": "cy@a.org",
            "b.org/cy": None,
            "c/bob": "bob",
            "c.org/bob": "bob",
            "c/dan": "dan",
            "b/dan": "dan@b.org",
            "x/cy@a.org": "cy@a.org",
            "x/y/cy": None,
            "cy": None,
        }.items():
            found = entries.named(login)
            self.assertEqual(found and found.name, name, login)

    def test_an_alias_is_the_same_in_every_spelling_of_its_letters(self) -> None:
        self.write("alice:{PLAIN}a::::::aliases=JU\u0308RGEN@e\n")
        directory = PasswdFile(self.path, run_now)
        found = self.successResultOf(directory.recipient("j\u00fcrgen@e"))
        self.assertEqual(found.name, "alice")
        with self.assertRaisesRegex(DirectoryMisconfigured, "no valid alias"):
            parse("alice:{PLAIN}a::::::aliases=\u200b\n", "F")

    def test_guesses_by_an_alias_count_for_its_account(self) -> None:
        self.write("alice:{PLAIN}a::::::aliases=a@e\n")
        directory = PasswdFile(self.path, run_now)
        failure = self.failureResultOf(directory.verify("a@e", b"x"), BadCredentials)
        self.assertEqual(failure.value.account, "alice")
        self.assertIsNone(self.successResultOf(directory.owner("a@e")))

    def test_a_known_and_an_unknown_name_cost_the_same_work_on_a_worker(self) -> None:
        works = []

        def run(work):  # type: ignore[no-untyped-def]
            works.append(work)
            return run_now(work)

        self.write(f"alice:{schemes.make('SHA512-CRYPT', b'a')}::::::\n")
        directory = PasswdFile(self.path, run)
        self.failureResultOf(directory.verify("alice", b"x"), BadCredentials)
        self.failureResultOf(directory.verify("nobody", b"x"), BadCredentials)
        self.failureResultOf(directory.verify("nobody", b""), BadCredentials)
        self.assertEqual(len(works), 3)

    def test_a_hash_that_is_quicker_than_a_thread_needs_none(self) -> None:
        def run(_: object) -> Deferred[Any]:
            raise AssertionError("a thread was asked")

        for name in ("SSHA", "SSHA256", "SSHA512", "PLAIN"):
            self.write(f"alice:{schemes.make(name, b'a')}::::::\nbob:{{SSHA}}x::::::\n")
            directory = PasswdFile(self.path, run)
            self.assertEqual(self.successResultOf(directory.verify("alice", b"a")).name, "alice")
            self.failureResultOf(directory.verify("alice", b"x"), BadCredentials)
            self.failureResultOf(directory.verify("nobody", b"x"), BadCredentials)
            self.failureResultOf(directory.verify("bob", b"x"), DirectoryMisconfigured)

    def test_a_password_counts_as_it_came_and_as_saslprep_has_it(self) -> None:
        passwd_entries.put(self.path, "carol", "IX\u00aa".encode(), "SSHA")
        directory = PasswdFile(self.path, run_now)
        for typed in ("IXa", "IX\u00aa", "\u2168a"):
            self.successResultOf(directory.verify("carol", typed.encode()))

    def test_nothing_is_answered_before_the_worker_has_answered(self) -> None:
        self.write(f"alice:{schemes.make('SHA512-CRYPT', b'a')}::::::\n")
        waiting: Deferred[bool] = Deferred()
        answer = PasswdFile(self.path, lambda _: waiting).verify("alice", b"a")
        self.assertNoResult(answer)
        waiting.callback(True)
        self.assertEqual(self.successResultOf(answer).name, "alice")

    @given(st.text())
    def test_no_file_crashes_the_parser(self, text: str) -> None:
        with contextlib.suppress(DirectoryMisconfigured):
            parse(text, "F")
