"""Users free a full disk by deleting: the audit has room of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from disks import small_disk_at
from gateway.errors import StoreDown
from gateway.model import Account, Reason, Removed
from gateway.state.audit import RESERVED, Audit
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import run_now

ALICE = Account(name="alice", mailbox="alice")
BOB = Account(name="bob", mailbox="bob")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", mebibytes=32) as place:
        yield place


def outcome(done: Deferred[Any]) -> Any:
    results: list[Any] = []
    done.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class House:
    """Mail and audit on one disk."""

    def __init__(self, disk: Path, *, max_octets: int = 10**9) -> None:
        self.disk = disk
        self.log = disk / "audit.log"
        self.audit = Audit(str(self.log), max_octets=max_octets, keep=3)
        self.store = self.another_process()

    def another_process(self) -> MaildirStore:
        """A store that shares nothing with the others but the disk."""
        audit = Audit(self.audit.path, max_octets=self.audit._max_octets, keep=3)
        return MaildirStore(
            str(self.disk),
            "{name}",
            run_now,
            audit=audit,
            reading=MaildirOptions(),
        )

    def put(self, account: Account, count: int, *, long_ids: bool = False) -> None:
        cur = self.disk / account.mailbox / "cur"
        for folder in ("new", "tmp", "cur"):
            (cur.parent / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            named = f"{number:0900d}" if long_ids else str(number)
            text = f"Message-ID: <{named}@example.org>\r\n\r\n"
            size = len(text)
            name = f"{1_600_000_000 + number}.M{number}P1.host,S={size},W={size}:2,"
            (cur / name).write_text(text)

    def fill(self) -> None:
        """Leave not one octet on the disk."""
        with open(self.disk / "ballast", "ab", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                with suppress(OSError):
                    while True:
                        os.write(file.fileno(), b"x" * piece)
        with pytest.raises(OSError, match="No space left"):
            (self.disk / "more").write_bytes(b"x")
        (self.disk / "more").unlink()

    def left(self, account: Account) -> int:
        return len(os.listdir(self.disk / account.mailbox / "cur"))

    def uids(self) -> list[str]:
        files = sorted(self.disk.glob("audit.log*"), reverse=True)
        return [json.loads(line)["uid"] for file in files for line in file.open()]


@pytest.mark.parametrize(("count", "long_ids"), [(1, False), (3000, False), (5000, True)])
def test_all_of_a_mailbox_can_be_deleted_on_a_full_disk(
    disk: Path, count: int, long_ids: bool
) -> None:
    house = House(disk)
    house.audit.reserve()
    house.put(ALICE, count, long_ids=long_ids)
    drop, _ = outcome(house.store.open(ALICE, None))
    house.fill()
    outcome(drop.finish(range(count), ()))
    assert house.left(ALICE) == 0
    assert sorted(house.uids()) == sorted(outcome(drop.listing()).uids)


def test_sessions_of_several_processes_share_the_room(disk: Path) -> None:
    house = House(disk)
    house.audit.reserve()
    house.put(ALICE, 600)
    house.put(BOB, 600)
    stores = [house.another_process() for _ in range(2)]
    drops = [outcome(store.open(account, None))[0] for account in (ALICE, BOB) for store in stores]
    house.fill()
    for number in range(300):
        for drop in drops:
            outcome(drop.finish([number], ()))
            house.fill()
    assert (house.left(ALICE), house.left(BOB)) == (300, 300)


def test_a_full_disk_begins_no_new_file_and_one_with_room_does(disk: Path) -> None:
    house = House(disk, max_octets=1000)
    house.audit.reserve()
    house.put(ALICE, 40)
    drop, _ = outcome(house.store.open(ALICE, None))
    house.fill()
    for number in range(30):
        outcome(drop.finish([number], ()))
        house.fill()
    assert [path.name for path in disk.glob("audit.log*")] == ["audit.log"]
    assert house.log.stat().st_size > 3000
    (disk / "ballast").unlink()
    outcome(drop.finish([30], ()))
    assert sorted(path.name for path in disk.glob("audit.log*")) == ["audit.log", "audit.log.1"]
    assert len(house.uids()) == 31
    # The old file gives its room back, the new one has its own.
    assert (disk / "audit.log.1").stat().st_blocks * 512 < 100_000
    assert house.log.stat().st_blocks * 512 >= RESERVED


@pytest.mark.parametrize("hold", [False, True])
def test_retention_and_holds_go_on_on_a_full_disk(disk: Path, hold: bool) -> None:
    house = House(disk)
    house.audit.reserve()
    house.put(ALICE, 500)
    store = house.another_process()
    uids = [kept.uid for kept in outcome(store.scan(ALICE))]
    outcome(store.hide(ALICE, uids[:10], Reason(rule="age")))
    drop, _ = outcome(store.open(ALICE, None))
    house.fill()
    assert outcome(store.remove(ALICE, uids[10:200], Reason(rule="age"))) == 190
    house.fill()
    assert outcome(store.hide(ALICE, uids[200:300], Reason(rule="age"))) == 100
    house.fill()
    assert outcome(store.purge(ALICE, uids[:10], Reason(rule="age"))) == 10
    house.fill()
    outcome((drop.hide if hold else drop.finish)(range(490), ()))
    assert house.left(ALICE) == 0
    assert len(os.listdir(disk / "alice" / ".Expired" / "cur")) == (300 if hold else 100)


def test_nothing_goes_that_the_audit_has_no_line_for(disk: Path) -> None:
    house = House(disk)
    house.put(ALICE, 20)
    drop, _ = outcome(house.store.open(ALICE, None))
    house.fill()
    with pytest.raises(StoreDown, match="No space left"):
        outcome(drop.finish(range(20), ()))
    assert house.left(ALICE) == 20


def test_a_refused_line_leaves_the_room_to_others(disk: Path) -> None:
    house = House(disk)
    house.audit.reserve()
    house.put(ALICE, 3)
    drop, _ = outcome(house.store.open(ALICE, None))
    house.fill()
    blocks = house.log.stat().st_blocks
    line = Removed("discard", "alice", "1", None, 1, 0.0, None, Reason())
    with pytest.raises(StoreDown):
        house.audit([line] * 40_000)
    assert house.log.stat().st_blocks == blocks
    outcome(drop.finish(range(3), ()))
    assert house.left(ALICE) == 0
