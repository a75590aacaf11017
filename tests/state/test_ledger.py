"""What is remembered beside the mail, whoever dies and whoever else writes.

This file run as a program is the other process.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from gateway.errors import LedgerUnusable, StoreDown
from gateway.model import LastLogin, LastScan, Level, RetentionOrder, WarningState
from gateway.quota.warnings import UNKNOWN
from gateway.state.ledger import Ledger
from gateway.state.ledger_file import APPLICATION_ID, NAME, VERSIONS

NORMAL, WARN, OVER = Level
DAY = 86_400.0
WARNED = WarningState(WARN, warned=1_700_000_000.123456)
FULL = WarningState(OVER, warned=1.5, over=2.5)
MAILBOXES = [f"user{number}@example.org" for number in range(200)]


# -- the other process --------------------------------------------------------


def write(directory: str) -> None:
    """Change states for ever, and say each time that it is done."""
    ledger = Ledger(directory)
    states = {mailbox: ledger.warning_state(mailbox) for mailbox in MAILBOXES}
    start = 1 + max(int(state.warned or 0) for state in states.values())
    for number in count(start):
        mailbox = MAILBOXES[number % len(MAILBOXES)]
        state = WarningState(WARN, warned=number)
        assert ledger.keep_warning_state(mailbox, state, states[mailbox])
        states[mailbox] = state
        print(number, flush=True)


def warn(directory: str) -> None:
    """Look at all mailboxes, and say whom to warn."""
    sys.stdin.readline()
    for _ in range(5):  # Whoever closes last removes files that the next one needs.
        with closing(Ledger(directory)) as ledger:
            for mailbox in MAILBOXES:
                if ledger.weigh(mailbox, OVER, 1000.0, DAY).notice:
                    print(mailbox)


def open_and_die(directory: str) -> None:
    """Die before each statement that opens a new file; each time the next one finds it well."""
    really_do = Ledger._do
    for step in count(1):
        where = os.path.join(directory, str(step))
        os.mkdir(where)
        left = step

        def do(self: Ledger, statement: str, **values: object) -> list[tuple[object, ...]]:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return really_do(self, statement, **values)

        pid = os.fork()
        if not pid:
            Ledger._do = do  # type: ignore[method-assign]
            Ledger(where)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with closing(Ledger(where)) as ledger:
            assert ledger.keep_warning_state("alice", FULL, UNKNOWN)
        if status == 0:
            print(step)
            return
        assert status == -signal.SIGKILL


@contextmanager
def another(what: Callable[[str], None], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that does it."""
    command = [sys.executable, __file__, what.__name__, str(directory)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# -- this one -----------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(str(tmp_path))) as ledger:
        yield ledger


def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.warning_state("jörg") == UNKNOWN
        assert ledger.keep_warning_state("jörg", WARNED, UNKNOWN)
        assert ledger.keep_warning_state("alice", FULL, UNKNOWN)
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.warning_state("jörg") == WARNED
        assert ledger.warning_states() == {"alice": FULL, "jörg": WARNED}
        assert ledger.warning_states(OVER) == {"alice": FULL}


def test_only_the_owner_of_the_file_reads_it(ledger: Ledger, tmp_path: Path) -> None:
    ledger.keep_warning_state("alice", WARNED, UNKNOWN)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{NAME}*")}
    assert modes == dict.fromkeys((NAME, f"{NAME}-wal", f"{NAME}-shm"), 0o600)


def test_a_state_is_replaced_only_while_it_is_what_the_caller_believes(ledger: Ledger) -> None:
    keep = ledger.keep_warning_state
    assert not keep("alice", FULL, WARNED)
    assert not keep("alice", UNKNOWN, WARNED)
    assert keep("alice", UNKNOWN, UNKNOWN)
    assert keep("alice", WARNED, UNKNOWN)
    for state in (FULL, WARNED, UNKNOWN):
        assert not keep("alice", state, UNKNOWN)
        assert not keep("alice", state, FULL)
        assert ledger.warning_state("alice") == WARNED
    assert keep("alice", FULL, WARNED)
    assert keep("alice", UNKNOWN, FULL)
    assert ledger.warning_states() == {}


def test_a_state_that_says_nothing_is_as_good_as_none(ledger: Ledger, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
        database.execute("INSERT INTO warnings VALUES ('alice', 0, NULL, NULL)")
    assert ledger.weigh("alice", WARN, 5.0, DAY).notice is WARN


def test_of_two_that_look_at_once_the_second_sees_what_the_first_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Ledger(str(tmp_path))) as one, closing(Ledger(str(tmp_path))) as other:
        really = one.warning_state

        def overtaken(mailbox: str) -> WarningState:
            found = really(mailbox)
            monkeypatch.undo()
            assert other.weigh(mailbox, WARN, 0.0, DAY).notice is WARN
            return found

        monkeypatch.setattr(one, "warning_state", overtaken)
        assert one.weigh("alice", WARN, 0.0, DAY).notice is None


def test_a_file_of_the_first_version_keeps_what_is_in_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as database:
        database.execute(VERSIONS[0])
        database.execute("INSERT INTO warnings VALUES ('alice', 1, 5.0, NULL)")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.warning_states() == {"alice": WarningState(WARN, warned=5.0)}
        assert ledger.take_digest("root", 5.0, DAY)
        ledger.keep_scan("alice", SCAN)
        assert ledger.last_scans("", 99) == {"alice": SCAN}


def test_a_file_with_releases_of_no_policy_is_opened_without_them(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as database:
        for statement in VERSIONS[:11]:
            database.execute(statement)
        database.execute("INSERT INTO orders VALUES ('alice', 5.0, 1)")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 11")
    order = RetentionOrder(6.0, 6.0, "any 1d")
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.orders() == {}
        ledger.add_order("alice", order)
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.orders() == {"alice": order}


def test_a_file_of_before_purges_were_counted_keeps_scans_and_the_day(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as database:
        for statement in VERSIONS[:13]:
            database.execute(statement)
        database.execute("INSERT INTO retention VALUES ('alice', 'unread 60d', 9.5, 1.5, 3, NULL)")
        database.execute("INSERT INTO removals VALUES (20000, 7)")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 13")
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.last_scans("", 99) == {"alice": SCAN}
        assert (ledger.count_removed(20_000, 1), ledger.count_purged(20_000, 2)) == (8, 2)


SCAN = LastScan("unread 60d", due=9.5, looked=1.5, messages=3)


def test_what_retention_found_is_there_after_a_restart(tmp_path: Path) -> None:
    stopped = LastScan("read 7d", due=None, looked=2.0, messages=0, stopped="too many", hidden=7)
    with closing(Ledger(str(tmp_path))) as ledger:
        ledger.keep_scan("jörg", stopped)
        ledger.keep_scan("jörg", SCAN)
        ledger.keep_scan("alice", stopped)
    with closing(Ledger(str(tmp_path))) as ledger:
        assert ledger.last_scans("", 99) == {"alice": stopped, "jörg": SCAN}
        ledger.forget_scan("jörg")
        assert ledger.last_scans("", 99) == {"alice": stopped}


class Watched(sqlite3.Connection):
    """Finds out when two threads use it at once, which works with some versions of Python only."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._in_use = Lock()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if not self._in_use.acquire(blocking=False):
            raise AssertionError("two threads use the connection at once")
        try:
            return super().execute(*arguments)
        finally:
            self._in_use.release()


def test_threads_use_its_connection_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    with closing(Ledger(str(tmp_path))) as ledger, ThreadPoolExecutor(4) as pool:
        list(pool.map(ledger.warning_state, MAILBOXES * 10))


class Waiting(sqlite3.Connection):
    """Notes which statements wait for the disk."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        ((level,),) = super().execute("PRAGMA synchronous").fetchall()
        waited.extend([arguments[0]] * (level == 2))
        return super().execute(*arguments)


waited: list[str] = []


def test_what_no_unique_id_reaches_survives_a_loss_of_power_and_the_rest_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Waiting))
    with closing(Ledger(str(tmp_path))) as ledger:
        waited.clear()
        ledger.weigh("alice", WARN, 5.0, DAY)
        ledger.high_water("/mail/alice")
        assert waited == []
        ledger.high_water("/mail/alice", 5)
        ledger.raise_high_water(5)
        ledger.keep_scan("alice", SCAN)
        assert [one.split()[0] for one in waited if "PRAGMA" not in one] == ["INSERT", "UPDATE"]


def test_threads_may_share_it(ledger: Ledger) -> None:
    def look(_: int) -> list[str]:
        return [name for name in MAILBOXES if ledger.weigh(name, WARN, 5.0, DAY).notice]

    with ThreadPoolExecutor(4) as pool:
        warned = [name for names in pool.map(look, range(4)) for name in names]
    assert sorted(warned) == sorted(MAILBOXES)


def test_processes_that_begin_at_once_warn_everybody_once(tmp_path: Path) -> None:
    with (
        another(warn, tmp_path) as one,
        another(warn, tmp_path) as two,
        another(warn, tmp_path) as three,
    ):
        processes = (one, two, three)
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        warned = [name for process in processes for name in process.communicate()[0].split()]
        assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(warned) == sorted(MAILBOXES)


def test_a_kill_in_the_middle_of_writes_loses_nothing_that_was_done(tmp_path: Path) -> None:
    last = 0
    for lines in (1, 3, 1500, 700, 20, 2500):
        with another(write, tmp_path) as process:
            assert process.stdout
            for _ in range(lines):
                last = int(process.stdout.readline())
            process.kill()
            last = max([last, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        with closing(Ledger(str(tmp_path))) as ledger:
            kept = {int(state.warned or 0) for state in ledger.warning_states().values()}
        newest = max(kept)
        # One more may be done that it had no time to speak of.
        assert newest in (last, last + 1)
        assert kept == set(range(max(1, newest - len(MAILBOXES) + 1), newest + 1))


def test_a_kill_at_any_step_of_making_the_file_leaves_one_that_can_be_used(tmp_path: Path) -> None:
    with another(open_and_die, tmp_path) as process:
        steps = process.communicate()[0]
        assert process.returncode == 0
    assert int(steps) > 8


# -- what fails ---------------------------------------------------------------


def reason(directory: Path, kind: type[Exception] = LedgerUnusable) -> str:
    """Why it cannot be opened."""
    with pytest.raises(kind) as caught:
        Ledger(str(directory))
    return str(caught.value)


def test_what_is_no_database_is_said_with_its_place_and_cure(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database, but long enough to be taken for one" * 100)
    text = reason(tmp_path)
    assert text.startswith(f"{tmp_path / NAME}: is damaged (file is not a database); move it away")


def test_a_file_damaged_in_the_middle_is_found_at_start(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path))) as ledger:
        for mailbox in MAILBOXES:
            ledger.keep_warning_state(mailbox, WARNED, UNKNOWN)
    data = bytearray((tmp_path / NAME).read_bytes())
    data[5000:9000] = os.urandom(4000)
    (tmp_path / NAME).write_bytes(data)
    assert "is damaged (" in reason(tmp_path)


def test_a_file_that_is_damaged_while_it_is_open_is_said_too(tmp_path: Path) -> None:
    with closing(Ledger(str(tmp_path))) as ledger:
        for mailbox in MAILBOXES:
            ledger.keep_warning_state(mailbox, WARNED, UNKNOWN)
    with closing(Ledger(str(tmp_path))) as ledger:
        with (tmp_path / NAME).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 20000)
        with closing(sqlite3.connect(tmp_path / NAME)) as database, database:
            database.execute("PRAGMA user_version = 1")  # So that no cache is trusted.
        with pytest.raises(LedgerUnusable, match=r"is damaged \(.*\); move it away"):
            ledger.warning_states()


def test_the_file_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    Ledger(str(tmp_path)).close()
    newer = len(VERSIONS) + 1
    with closing(sqlite3.connect(tmp_path / NAME)) as database:
        database.execute(f"PRAGMA user_version = {newer}")
    before = (tmp_path / NAME).read_bytes()
    text = reason(tmp_path)
    assert f"{tmp_path / NAME}: has version {newer}" in text
    assert "run the newer pop3gw" in text
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE cats (name)", "PRAGMA user_version = 1", "PRAGMA application_id = 77"],
)
def test_another_programs_file_is_not_touched(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as database:
        database.execute(statement)
    before = (tmp_path / NAME).read_bytes()
    assert "is another program's" in reason(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert reason(tmp_path / "var") == f"{tmp_path / 'var'}: No such file or directory"


def test_something_else_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert str(tmp_path / NAME) in reason(tmp_path)


def test_a_full_disk_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "ledger")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        assert reason(tmp_path, StoreDown) == "ledger: No space left on device"
    Ledger(str(tmp_path)).close()


def test_a_disk_that_is_full_when_last_logins_are_kept_passes(tmp_path: Path) -> None:
    logins = {f"{number:0200}": LastLogin(1.0, "APOP", "192.0.2.0/24") for number in range(5000)}
    with closing(Ledger(str(tmp_path))) as ledger:
        ((pages,),) = ledger._do("PRAGMA page_count")
        ledger._do(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreDown, match="full"):
            ledger.keep_logins(logins)
        ledger._do(f"PRAGMA max_page_count = {2**30}")
        ledger.keep_logins(logins)


def test_another_process_that_writes_for_too_long_passes(tmp_path: Path) -> None:
    with (
        closing(Ledger(str(tmp_path), busy_timeout=0.01)) as ledger,
        closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as database,
    ):
        database.execute("BEGIN IMMEDIATE")
        assert ledger.warning_state("alice") == UNKNOWN
        with pytest.raises(StoreDown, match="locked"):
            ledger.keep_warning_state("alice", WARNED, UNKNOWN)
        database.execute("ROLLBACK")
        assert ledger.keep_warning_state("alice", WARNED, UNKNOWN)


def test_a_call_after_close_is_a_bug_and_not_trouble(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.warning_state("alice")


if __name__ == "__main__":
    {"write": write, "warn": warn, "open_and_die": open_and_die}[sys.argv[1]](sys.argv[2])
