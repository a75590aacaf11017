"""Another program renames messages while we work with them, as IMAP clients make Dovecot do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from test_expiry import Box
from twisted.logger import capturedLogs, formatEvent

from answers import result
from disks import renamed_before
from gateway.errors import MessageGone, StoreDown
from gateway.model import Limits
from gateway.store.audited import no_limits
from gateway.store.maildir.delivery.inbox import Inbox, Put
from gateway.store.maildir.delivery.incoming import Draft
from gateway.store.maildir.folders.follow import PATIENCE, follow, may_be_there
from gateway.store.maildir.folders.place import FOLDERS, Place, open_place
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.retention_store_contract import RULE
from gateway.testing.store_contract import ALICE, run_now
from survival import sent_by

COUNT = 5
TIMES = 3
"""Renames of each message, more than one look and one more could follow."""


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    for number in range(COUNT):
        box.put(f"cur/{number}.host:2,", b"Message-ID: <%d@x>\r\n\r\n" % number)
    return box


def opened(box: Box) -> Any:
    maildrop, _ = result(box.store.open(ALICE, None))
    result(maildrop.listing())
    return maildrop


# -- sessions -----------------------------------------------------------------


def test_a_message_is_sent_that_is_renamed_at_each_attempt_to_open_it(box: Box) -> None:
    maildrop = opened(box)
    with renamed_before("open", TIMES) as calls:
        for index in range(COUNT):
            sent = sent_by(maildrop, index)
            assert sent == b"Message-ID: <%d@x>\r\n\r\n" % index
    assert set(calls.values()) == {TIMES}


def test_a_large_message_is_measured_and_sent_though_it_is_renamed_meanwhile(box: Box) -> None:
    large = b"x" * 300_000 + b"\r\n"
    box.put("cur/9.host,W=300002:2,", large)
    # Its claim is believed, so that the file is looked at when it is sent.
    reading = MaildirOptions(create=False, verify_octets=0)
    store = MaildirStore(str(box.root), "{name}", run_now, reading=reading)
    maildrop, _ = result(store.open(ALICE, None))
    index = list(result(maildrop.listing()).sizes).index(300_002)
    with renamed_before("open", TIMES):
        assert sent_by(maildrop, index) == large


@pytest.mark.parametrize("call", ["lstat", "open", "unlink"])
def test_quit_removes_and_audits_what_is_renamed_at_each_attempt(box: Box, call: str) -> None:
    maildrop = opened(box)
    with renamed_before(call, TIMES) as calls:
        assert result(maildrop.finish(range(COUNT), ())) is None
    assert set(calls.values()) == {TIMES}
    assert box.files() == []
    assert sorted(str(line.message_id) for line in box.trail.lines) == [
        f"<{number}@x>" for number in range(COUNT)
    ]


def test_what_was_read_is_marked_though_it_is_renamed_at_each_attempt(box: Box) -> None:
    maildrop = opened(box)
    with renamed_before("rename", TIMES):
        result(maildrop.finish((), range(COUNT)))
    assert box.files() == [f"cur/{number}.host:2,FS" for number in range(COUNT)]


def test_a_name_too_long_for_a_flag_keeps_no_other_message_unmarked(box: Box) -> None:
    for letter in "ab":
        box.put(f"new/0{letter * 253}")
    maildrop = opened(box)
    everything = range(COUNT + 2)
    with capturedLogs() as events:
        result(maildrop.finish((), everything))
    marked = [name for name in box.files() if name.endswith(":2,S")]
    assert marked == [f"cur/{number}.host:2,S" for number in range(COUNT)]
    lines = [text for event in events if "marked as read" in (text := formatEvent(event) or "")]
    assert len(lines) == 1
    assert "2 messages cannot be marked as read" in lines[0]


def test_what_is_gone_is_gone_for_retr_and_no_failure_of_quit(box: Box) -> None:
    maildrop = opened(box)
    (box.path / "cur" / "0.host:2,").unlink()
    with pytest.raises(MessageGone):
        sent_by(maildrop, 0)
    result(maildrop.finish(range(COUNT), ()))
    assert box.files() == []


# -- retention ----------------------------------------------------------------


def test_discard_hide_purge_and_restore_find_what_is_renamed_at_each_attempt(box: Box) -> None:
    box.write_list(*(f"{number + 1} :{number}.host" for number in range(COUNT)))
    uids = [str(number + 1) for number in range(COUNT)]
    with renamed_before("lstat", TIMES):
        assert len(box.ask("scan")) == COUNT
    with renamed_before("unlink", TIMES):
        assert box.ask("remove", uids[:1], RULE) == 1
    with renamed_before("rename", TIMES):
        assert box.ask("hide", uids[1:], RULE) == COUNT - 1
    with renamed_before("lstat", TIMES):
        assert len(box.ask("list_hidden")) == COUNT - 1
    with renamed_before("unlink", TIMES):
        assert box.ask("purge", uids[1:2], RULE) == 1
    for path in (box.path / ".Expired" / "cur").iterdir():
        path.rename(str(path).replace(":2,F", ":2,"))
    with renamed_before("rename", TIMES):
        assert box.ask("restore", uids[2:]) == COUNT - 2
    # With the flags that it had at the last moment.
    assert box.files() == [f"cur/{number}.host:2,F" for number in range(2, COUNT)]
    assert sorted(box.shown()) == uids[2:]


def test_what_is_renamed_at_each_attempt_to_count_it_is_counted(box: Box) -> None:
    size = sum(path.stat().st_size for path in (box.path / "cur").iterdir())
    with renamed_before("lstat", TIMES):
        usage = box.ask("usage")
    assert (usage.octets, usage.messages) == (size, COUNT)


def test_what_is_taken_back_from_new_is_found_in_cur(box: Box) -> None:
    inbox = Inbox(str(box.path), MaildirOptions(), no_limits)
    draft = Draft(now_ns=10**18, convert_cr=False)
    draft.take(b"one\r\n")
    put = Put(draft, Limits())
    moved = []

    def failing(directory: Place) -> None:
        (name,) = os.listdir(directory.path)
        os.rename(f"{directory.path}/{name}", f"{box.path}/cur/{name}:2,")
        moved.append(name)
        raise OSError(5, "Input/output error")

    with mock.patch.object(Place, "sync", failing):
        inbox.deliver([put])
    assert isinstance(put.error, StoreDown)
    assert moved
    assert len(box.files()) == COUNT


# -- when to give up ----------------------------------------------------------


class Restless:
    """A clock; while anybody sleeps, something in the directory changes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        os.utime(self.directory / "cur")

    def now(self) -> float:
        return self.seconds


def test_what_cannot_be_told_to_be_gone_is_not(box: Box) -> None:
    clock = Restless(box.path)
    (box.path / "cur" / "0.host:2,").unlink()
    files = [(number, f"cur/{number}.host:2,") for number in range(COUNT)]
    lost = follow(
        open_place(str(box.path), FOLDERS),
        files,
        lambda _, file: os.stat(box.path / file),
        sleep=clock.sleep,
        now=clock.now,
    )
    assert (lost.gone, lost.restless) == ([], [0])
    assert PATIENCE <= clock.seconds < 2 * PATIENCE


def test_a_folder_from_the_future_is_quiet_once_it_was_watched(box: Box) -> None:
    clock = Restless(box.path)
    future = time.time_ns() + 10**18 + 1
    os.utime(box.path / "cur", ns=(future, future))
    lost = follow(
        open_place(str(box.path), FOLDERS),
        [(0, "cur/not.there:2,")],
        lambda _, file: os.stat(box.path / file),
        sleep=lambda seconds: setattr(clock, "seconds", clock.seconds + seconds),
        now=clock.now,
    )
    assert (lost.gone, lost.restless) == ([0], [])
    assert clock.seconds < PATIENCE


def test_something_else_that_is_missing_is_no_missing_message(box: Box) -> None:
    def act(_: int, file: str) -> None:
        os.rename(box.path / file, box.path / "nowhere" / "x")

    with pytest.raises(FileNotFoundError):
        follow(open_place(str(box.path), FOLDERS), [(0, "cur/0.host:2,")], act)


def test_a_list_that_is_rewritten_keeps_the_id_of_what_no_complete_scan_shows(box: Box) -> None:
    stop = time.monotonic() + 20
    really = os.scandir

    def listing(path: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        assert time.monotonic() < stop
        os.utime(path)
        with really(path) as entries:
            return nullcontext([entry for entry in entries if not entry.name.startswith("0.")])

    with mock.patch.object(os, "scandir", listing):
        assert "0.host" in may_be_there(open_place(str(box.path), FOLDERS), ["0.host"])
    assert "0.gone" not in may_be_there(open_place(str(box.path), FOLDERS), ["0.gone"])


# -- in earnest ---------------------------------------------------------------

RENAMER = """
import os, sys
folder, count = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
while count > 0 and (names := os.listdir(folder)):
    for name in names:
        base, _, flags = name.partition(":2,")
        count -= 1
        try:
            os.rename(f"{folder}/{name}", f"{folder}/{base}:2,{'' if 'F' in flags else 'F'}")
        except FileNotFoundError:
            pass
"""


@contextmanager
def somebody_renaming(folder: Path, count: int = 200_000) -> Iterator[None]:
    """Another process that renames all messages again and again, so often at the most."""
    command = [sys.executable, "-c", RENAMER, str(folder), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_beside_a_program_that_never_stops_renaming_all_is_sent_and_removed(
    tmp_path: Path,
) -> None:
    for number in range(10):
        root = tmp_path / str(number)
        root.mkdir()
        box = Box(root)
        for message in range(30):
            box.put(f"cur/{message}.host:2,", b"%d\r\n" % message)
        with somebody_renaming(box.path / "cur"):
            maildrop = opened(box)
            for index in range(30):
                assert sent_by(maildrop, index)
            result(maildrop.finish(range(30), ()))
            assert box.files() == []
        assert len(box.trail.lines) == 30
