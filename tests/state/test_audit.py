"""The audit file: whole lines, before anything is removed, by however many processes."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disks import small_disk_at
from doomed import Death, Doomed, serve
from gateway.errors import StoreDown
from gateway.model import Reason, Removed
from gateway.state.audit import Audit

NOW = 1_700_000_000.25
REMOVED = Removed(
    action="discard",
    mailbox="alice@example.org",
    uid="17",
    message_id="<one@example.org>",
    size=1234,
    received=1_690_000_000.0,
    read=1_695_000_000.5,
    cause=Reason(rule="read 7d"),
)
LINE = {
    "time": "2023-11-14T22:13:20.250Z",
    "action": "discard",
    "mailbox": "alice@example.org",
    "uid": "17",
    "message_id": "<one@example.org>",
    "size": 1234,
    "received": "2023-07-22T04:26:40.000Z",
    "read": "2023-09-18T01:20:00.500Z",
    "rule": "read 7d",
    "session": "",
    "client": "",
    "operator": "",
}


def audit_in(directory: Path, *, max_octets: int = 10**6, keep: int = 3) -> Audit:
    return Audit(str(directory / "audit.log"), max_octets=max_octets, keep=keep, now=lambda: NOW)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbered(*uids: int) -> list[Removed]:
    return [REMOVED._replace(uid=str(uid)) for uid in uids]


def test_a_line_says_what_goes_when_and_why(tmp_path: Path) -> None:
    audit = audit_in(tmp_path)
    audit([REMOVED])
    by_session = REMOVED._replace(read=None, cause=Reason(session="ab12", client="192.0.2.1"))
    audit([by_session])
    said = LINE | {"read": None, "rule": "", "session": "ab12", "client": "192.0.2.1"}
    audit([REMOVED._replace(cause=Reason(operator="token desk"))])
    by_hand = LINE | {"rule": "", "operator": "token desk"}
    assert lines_of(tmp_path / "audit.log") == [LINE, said, by_hand]


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    audit_in(tmp_path)([REMOVED])
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["\r\n{}", "\x00\x1b[2J", '"\\', "\u2028\x85", "\udcff", "ü"])
def test_nothing_that_a_message_says_of_itself_breaks_a_line(tmp_path: Path, text: str) -> None:
    audit_in(tmp_path)([REMOVED._replace(message_id=text)])
    (line,) = (tmp_path / "audit.log").read_bytes().splitlines()
    assert all(0x20 <= octet < 0x7F for octet in line)
    assert json.loads(line)["message_id"] == text


@pytest.mark.parametrize("seconds", [-1.0, 1e12, 1e300])
def test_times_that_no_calendar_has_are_written_all_the_same(
    tmp_path: Path, seconds: float
) -> None:
    audit_in(tmp_path)([REMOVED._replace(received=seconds)])
    (line,) = lines_of(tmp_path / "audit.log")
    assert line["received"] in ("1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z")


def test_of_nothing_not_even_a_file_is_made(tmp_path: Path) -> None:
    audit_in(tmp_path)([])
    assert not list(tmp_path.iterdir())


def test_a_batch_is_one_write_and_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    write, sync = os.write, os.fsync

    def writing(file: int, data: bytes) -> int:
        steps.append("write")
        return write(file, data)

    def syncing(file: int) -> None:
        steps.append("sync" if stat.S_ISREG(os.fstat(file).st_mode) else "sync directory")
        sync(file)

    monkeypatch.setattr(os, "write", writing)
    monkeypatch.setattr(os, "fsync", syncing)
    audit_in(tmp_path)(numbered(*range(100)))
    assert steps == ["sync directory", "write", "sync"]


def test_a_full_file_gets_a_number_and_the_oldest_goes(tmp_path: Path) -> None:
    audit = audit_in(tmp_path, max_octets=600, keep=2)
    for uid in range(1, 9):
        audit(numbered(uid))
    found = {
        path.name: [line["uid"] for line in lines_of(path)] for path in sorted(tmp_path.iterdir())
    }
    assert found == {"audit.log": ["7", "8"], "audit.log.1": ["5", "6"], "audit.log.2": ["3", "4"]}


def test_a_batch_that_is_larger_than_a_file_may_be_is_written_whole(tmp_path: Path) -> None:
    audit = audit_in(tmp_path, max_octets=600)
    audit(numbered(1, 2, 3))
    audit(numbered(4, 5, 6))
    assert [line["uid"] for line in lines_of(tmp_path / "audit.log")] == ["4", "5", "6"]
    assert [line["uid"] for line in lines_of(tmp_path / "audit.log.1")] == ["1", "2", "3"]


def test_who_has_to_wait_finds_the_new_file_after_another_made_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    audit_in(tmp_path)(numbered(1))
    really_lock = fcntl.flock

    def lock(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", really_lock)
        # Another process is quicker, and starts a new file.
        audit_in(tmp_path, max_octets=1)(numbered(2))
        really_lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    audit_in(tmp_path)(numbered(3))
    assert [line["uid"] for line in lines_of(tmp_path / "audit.log")] == ["2", "3"]
    assert [line["uid"] for line in lines_of(tmp_path / "audit.log.1")] == ["1"]


def test_where_nothing_can_be_written_the_store_is_down(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir()
    with pytest.raises(StoreDown, match="Is a directory"):
        audit_in(tmp_path)([REMOVED])
    with pytest.raises(StoreDown):
        audit_in(tmp_path / "missing")([REMOVED])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDown):
        audit_in(tmp_path)([REMOVED])
    assert not (tmp_path / "elsewhere").exists()


def test_on_a_full_disk_all_of_a_batch_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", mebibytes=1) as disk:
        audit = audit_in(disk, max_octets=10**8)
        audit(numbered(1))
        with pytest.raises(StoreDown, match="No space left"):
            audit(numbered(*range(2, 6000)))
        assert [line["uid"] for line in lines_of(disk / "audit.log")] == ["1"]
        audit(numbered(2))
        assert [line["uid"] for line in lines_of(disk / "audit.log")] == ["1", "2"]


# -- deaths -------------------------------------------------------------------


def act_write(death: Death, root: str, tell: Callable[[Any], None], **_: bool) -> None:
    audit = audit_in(Path(root), max_octets=700, keep=2)
    death.arm()
    for uid in (2, 3):
        audit(numbered(uid))
        tell({str(uid).encode(): "written"})


@pytest.mark.usefixtures("no_sync")
def test_a_death_at_any_step_loses_no_line_and_spoils_none(doomed: Doomed, tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        directory = tmp_path / str(step)
        directory.mkdir()
        audit_in(directory)(numbered(1))
        killed, told = doomed.live(directory, "write", step, cuts=6)
        audit_in(directory)(numbered(4))
        whole = []
        for path in sorted(directory.iterdir(), reverse=True):
            for line in path.read_text().splitlines():
                try:
                    whole.append(json.loads(line)["uid"])
                except ValueError:
                    assert killed
        assert {"1", "4", *(uid.decode() for uid in told)} <= set(whole)
        assert whole == sorted(set(whole))
    assert step > 15


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, {"write": act_write})
