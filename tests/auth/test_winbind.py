"""The pool of NTLM helpers, with helpers that do whatever they should not."""

from __future__ import annotations

import errno
import os
from base64 import b64encode
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.auth.login import account_of
from gateway.auth.winbind import PROTOCOL, Winbind
from gateway.directory.memory import MemoryDirectory
from gateway.errors import BadCredentials, DirectoryDown, Overloaded
from gateway.events import BackEndBack, BackEndDown

RIGHT = b"Authenticated: Yes\nUser-Session-Key: " + b"AB" * 16 + b"\n.\n"
WRONG = b"Authenticated: No\nAuthentication-Error: The specified account does not exist.\n.\n.\n"


class Claim:
    """What a client answered."""

    challenge, response, legacy = b"01234567", b"r" * 60, False

    def __init__(self, user: str = "alice", domain: str = "LAB") -> None:
        self.user, self.domain = user, domain
        self.username = user.encode("utf-8", "replace")


class Process:
    """A helper's process, as its protocol sees it."""

    def __init__(self, protocol: Any, command: list[str]) -> None:
        self.protocol, self.command = protocol, command
        self.pid: int | None = 1
        self.asked = b""
        self.signals: list[str] = []

    def write(self, data: bytes) -> None:
        """A question."""
        self.asked += data

    def signalProcess(self, name: str) -> None:
        """It is killed."""
        self.signals.append(name)

    def loseConnection(self) -> None:
        """Its pipes are closed."""

    def die(self) -> None:
        """It is gone."""
        self.pid = None
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class Machine(Clock):
    """A clock on which processes can be started."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Process] = []
        self.failure: OSError | None = None
        """Why none can be started."""

    def spawnProcess(self, protocol: Any, program: str, command: list[str], env: Any) -> None:  # noqa: ARG002
        """Start one."""
        if self.failure is not None:
            raise self.failure
        process = Process(protocol, command)
        self.started.append(process)
        protocol.makeConnection(process)


class WinbindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = Machine()
        self.events: list[Any] = []
        self.pool = Winbind(
            self.machine,
            ["ntlm_auth"],
            helpers=2,
            timeout=10,
            domains=("LAB", "lab.test", ""),
            emit=self.events.append,
        )

    def answer(self, number: int, *parts: bytes) -> None:
        """A helper says something."""
        for part in parts:
            self.machine.started[number].protocol.outReceived(part)

    def test_names_are_sent_in_base64_and_a_right_answer_gives_login_and_key(self) -> None:
        proven = self.pool.prove(Claim("jörg: x", "LAB"))
        (process,) = self.machine.started
        self.assertEqual(process.command, ["ntlm_auth", PROTOCOL])
        self.assertIn(b"Username:: " + b64encode("jörg: x".encode()) + b"\n", process.asked)
        self.assertIn(b"NT-Domain:: " + b64encode(b"LAB") + b"\n", process.asked)
        self.assertTrue(process.asked.endswith(b"\n.\n"))
        self.answer(0, RIGHT[:30], RIGHT[30:])
        self.assertEqual(self.successResultOf(proven), ("jörg: x", b"\xab" * 16))

    def test_names_that_cannot_be_never_reach_a_helper(self) -> None:
        for name in ("a\0b", "a\nb", "", "\ud800"):
            self.failureResultOf(self.pool.prove(Claim(name)), BadCredentials)
        self.assertEqual(self.machine.started, [])

    def test_the_domain_is_part_of_the_login_name_unless_it_is_ours(self) -> None:
        for domain, login in (
            ("LAB", "alice"),
            ("Lab.Test", "alice"),
            ("", "alice"),
            ("OTHER", r"other\alice"),
        ):
            proven = self.pool.prove(Claim("Alice", domain))
            self.answer(0, RIGHT)
            self.assertEqual(self.successResultOf(proven), (login, b"\xab" * 16))

    def test_guesses_by_a_spelling_that_the_domain_alone_knows_count_for_its_user(self) -> None:
        directory = MemoryDirectory({"alice": "x", "carol@lab.test": "x"})
        for login, account in (
            ("alice", "alice"),
            ("alice@lab.test", "alice"),
            ("alice@lab", "alice"),
            (r"lab\alice", "alice"),
            ("lab.test/alice", "alice"),
            (r"lab\alice@lab.test", "alice"),
            ("bob@lab", "bob"),
            ("carol@lab.test", "carol@lab.test"),
            ("alice@other", ""),
            (r"other\alice", ""),
            ("bob", ""),
        ):
            counted = account_of(login, directory, self.pool.bare)
            self.assertEqual(self.successResultOf(counted), account, login)

    def test_while_the_directory_is_away_guesses_by_any_spelling_count_together(self) -> None:
        directory = MemoryDirectory({})
        directory.find = lambda _: fail(DirectoryDown("x"))  # type: ignore[method-assign]
        for login in ("alice@lab", r"lab.test\alice"):
            counted = account_of(login, directory, self.pool.bare)
            self.assertEqual(self.successResultOf(counted), "alice")

    def test_the_second_dot_of_a_refusal_is_not_the_next_users_answer(self) -> None:
        for parts in ((WRONG,), (WRONG[:-2], b".\n"), (WRONG[:-3], b"\n", b".", b"\n")):
            refused = self.pool.prove(Claim("nobody"))
            self.answer(0, parts[0])
            following = self.pool.prove(Claim())
            self.answer(0, *parts[1:])
            self.failureResultOf(refused, BadCredentials)
            if self.machine.started[1:]:
                self.answer(1, RIGHT)
            else:
                self.answer(0, RIGHT)
            self.assertEqual(self.successResultOf(following)[0], "alice")

    def test_trouble_of_its_own_is_no_wrong_password(self) -> None:
        for words in (
            b"Reading winbind reply failed!",
            b"No logon servers are currently available to service the logon request.",
            b"The trust relationship ... have a computer account for this workstation",
            b"The transport connection has been reset.",
        ):
            asked = self.pool.prove(Claim())
            self.answer(0, b"Authenticated: No\nAuthentication-Error: " + words + b"\n.\n.\n")
            self.failureResultOf(asked, DirectoryDown)

    def test_a_helper_that_is_out_of_step_is_not_used_again(self) -> None:
        asked = self.pool.prove(Claim())
        self.answer(0, b"Error: hex decode failed!\n.\n")
        self.failureResultOf(asked, DirectoryDown)
        self.assertEqual(self.machine.started[0].signals, ["KILL"])
        following = self.pool.prove(Claim())
        self.answer(0, WRONG)
        self.assertNoResult(following)
        self.answer(1, RIGHT)
        self.successResultOf(following)

    def test_one_that_misses_its_time_holds_up_nobody_else(self) -> None:
        slow, other = self.pool.prove(Claim()), self.pool.prove(Claim("bob"))
        third = self.pool.prove(Claim("carol"))
        self.answer(1, RIGHT, RIGHT)
        self.successResultOf(other)
        self.assertEqual(self.successResultOf(third)[0], "carol")
        self.machine.advance(10)
        self.failureResultOf(slow, DirectoryDown)
        self.assertEqual(self.machine.started[0].signals, ["KILL"])
        self.machine.started[0].die()
        self.answer(0, RIGHT)  # too late for anybody

    def test_one_that_ends_tells_why_and_another_takes_its_place(self) -> None:
        asked = self.pool.prove(Claim())
        process = self.machine.started[0]
        process.protocol.errReceived(b"winbind: first\nno such option")
        process.die()
        self.assertIn("no such option", str(self.failureResultOf(asked, DirectoryDown).value))
        following = self.pool.prove(Claim())
        self.answer(1, RIGHT)
        self.successResultOf(following)

    def test_the_queue_is_not_endless_and_is_worked_off(self) -> None:
        asked = [self.pool.prove(Claim()) for _ in range(202)]
        self.failureResultOf(self.pool.prove(Claim()), Overloaded)
        self.answer(0, RIGHT * 101)
        self.answer(1, RIGHT * 100)
        self.answer(0, RIGHT)
        for one in asked:
            self.successResultOf(one)
        # Whoever speaks without being asked is out of step.
        self.answer(0, RIGHT)
        self.assertEqual(self.machine.started[0].signals, ["KILL"])

    def test_one_that_cannot_be_started_is_an_outage_and_the_next_login_tries_again(self) -> None:
        for number in (errno.EMFILE, errno.EAGAIN, errno.ENOENT):
            self.machine.failure = OSError(number, os.strerror(number))
            for _ in range(3):
                failed = self.failureResultOf(self.pool.prove(Claim()), DirectoryDown)
                self.assertIn(os.strerror(number), str(failed.value))
                self.assertTrue(failed.value.logged)
        self.machine.failure = None
        asked = self.pool.prove(Claim())
        self.machine.advance(5)
        self.answer(0, RIGHT)
        self.successResultOf(asked)
        reason = f"the NTLM helper cannot be started: {os.strerror(errno.EMFILE)}"
        self.assertEqual(self.events, [BackEndDown("winbind", reason), BackEndBack("winbind", 5)])

    def test_if_no_other_can_be_started_those_that_run_take_all_logins(self) -> None:
        first = self.pool.prove(Claim())
        self.machine.failure = OSError(errno.EAGAIN, "too many processes")
        second = self.pool.prove(Claim("bob"))
        self.answer(0, RIGHT, RIGHT)
        for one in (first, second):
            self.successResultOf(one)
        self.assertEqual(self.events, [])

    def test_if_the_last_one_ends_and_no_other_can_be_started_nobody_waits(self) -> None:
        first = self.pool.prove(Claim())
        self.machine.failure = OSError(errno.EAGAIN, "too many processes")
        waiting = [self.pool.prove(Claim()) for _ in range(5)]
        self.machine.started[0].die()
        for one in (first, *waiting):
            self.failureResultOf(one, DirectoryDown)

    def test_at_the_end_all_helpers_are_ended_and_nobody_waits_for_others(self) -> None:
        asked = [self.pool.prove(Claim()) for _ in range(5)]
        self.pool.stop()
        self.assertEqual([one.signals for one in self.machine.started], [["KILL"], ["KILL"]])
        for process in self.machine.started:
            process.die()
        for one in (*asked, self.pool.prove(Claim())):
            self.failureResultOf(one, DirectoryDown)
        self.assertEqual(len(self.machine.started), 2)
        self.assertEqual(self.machine.getDelayedCalls(), [])
        # Winbind was not away.
        self.assertEqual(self.events, [])
