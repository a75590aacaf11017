"""What retention does to a Maildir: the ages it sees, and where files go."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answers import result
from disks import state_of
from gateway.errors import BadMailboxName, MailboxUnusable, StoreDown
from gateway.model import Account, Limits, StoredMessage, Usage
from gateway.store.maildir.folders.place import FOLDERS, open_place
from gateway.store.maildir.folders.scan import LATEST
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.hidden import hidden_files, hidden_name, hidden_of
from gateway.store.maildir.removal.message_info import (
    OPENING,
    as_delivered,
    as_hidden,
    message_id,
    message_id_in,
)
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.transfer import MaildirTransfer
from gateway.store.maildir.uids.uidlist import NAME
from gateway.testing.retention_store_contract import RULE, Trail
from gateway.testing.store_contract import ALICE, BOB, run_now
from gateway.testing.transfer_contract import message
from survival import shown_by

HEAD = f"3 V1600000000 N9 G{'0' * 32}\n"
ALL = "".join(map(chr, range(0x21, 0x7F)))
"""Whatever a unique-id may be made of."""


class Box:
    """Alice's Maildir, and a store that has just been started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ALICE.mailbox
        self.trail = Trail()
        self.count_hidden = False
        for folder in ("tmp", "new", "cur"):
            (self.path / folder).mkdir(parents=True)

    @property
    def store(self) -> Any:
        reading = MaildirOptions(create=False, lock_timeout=0.05, count_hidden=self.count_hidden)
        return MaildirStore(str(self.root), "{name}", run_now, reading=reading, audit=self.trail)

    def ask(self, what: str, *arguments: Any) -> Any:
        return result(getattr(self.store, what)(ALICE, *arguments))

    def put(self, file: str, content: bytes = b"one\r\n") -> Path:
        (self.path / file).write_bytes(content)
        return self.path / file

    def write_list(self, *lines: str) -> None:
        (self.path / NAME).write_text(HEAD + "".join(f"{line}\n" for line in lines))

    def shown(self) -> dict[str, bytes]:
        maildrop, _ = result(self.store.open(ALICE, None))
        return {uid: content for content, uid in shown_by(maildrop).items()}

    def files(self) -> list[str]:
        """All message files, hidden ones too."""
        return sorted(
            str(path.relative_to(self.path))
            for path in self.path.rglob("*")
            if path.is_file() and path.parent.name in ("new", "cur")
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def status(*, mtime: float, ctime: float = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, 5, 0, mtime, ctime))


# -- ages ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mtime", "received"),
    [
        ("500.M1P1.host:2,", 400.0, 500.0),
        ("500.M1P1.host", 600.0, 600.0),
        ("name without a number", 600.0, 600.0),
        ("-500.host", 600.0, 600.0),
        ("\N{ARABIC-INDIC DIGIT NINE}99999999.host", 600.0, 600.0),
        ("9" * 200 + ".host", 600.0, 600.0),
        # Microseconds, which would be a time in 53 million years.
        ("1700000000123456.M1P1.host", 600.0, 600.0),
        ("500.M1P1.host", 1e12, 253_402_300_799.0),
        ("500.M1P1.host", -1e12, 500.0),
        ("name without a number", -1e12, 0.0),
    ],
)
def test_a_message_is_as_young_as_its_name_or_its_file_says(
    name: str, mtime: float, received: float
) -> None:
    kept = as_delivered("7", name, status(mtime=mtime, ctime=900))
    assert kept == StoredMessage(received, "7", 5, None)


@pytest.mark.parametrize(
    ("flags", "ctime", "read"),
    [
        (":2,S", 700.0, 700.0),
        (":2,FRSTa", 700.0, 700.0),
        (":2,S", 100.0, 500.0),
        (":2,", 700.0, None),
        (":2,FTs", 700.0, None),
        (":1,S", 700.0, None),
        ("", 700.0, None),
    ],
)
def test_it_was_read_when_its_file_last_changed_and_never_before_it_came(
    flags: str, ctime: float, read: float | None
) -> None:
    assert as_delivered("7", f"500.host{flags}", status(mtime=1, ctime=ctime)).read == read


@given(
    seconds=st.integers(0, LATEST),
    mtime=st.floats(0, 2**40),
    ctime=st.floats(0, 2**40),
    later=st.floats(0, 2**40),
    seen=st.booleans(),
)
def test_a_copy_and_a_touch_only_ever_keep_mail_longer(
    seconds: int, mtime: float, ctime: float, later: float, seen: bool
) -> None:
    name = f"{seconds}.host:2,{'S' * seen}"
    before = as_delivered("7", name, status(mtime=mtime, ctime=ctime))
    for after in (
        status(mtime=mtime, ctime=max(ctime, later)),  # rsync -t
        status(mtime=max(mtime, later), ctime=max(ctime, later)),  # cp, touch
        status(mtime=0, ctime=max(ctime, later)),  # touch -d 1970-01-01
    ):
        kept = as_delivered("7", name, after)
        assert kept.received >= seconds
        if after.st_mtime >= mtime:
            assert kept.received >= before.received
        if before.read is not None:
            assert kept.read is not None
            assert kept.read >= min(before.read, max(ctime, later))


def test_what_is_hidden_counts_from_the_change_of_its_file() -> None:
    kept = as_hidden("7", "500.host,U=7:2,", status(mtime=600, ctime=700))
    assert kept.received == 700


def test_marking_as_read_begins_the_time_since_it_was_read(box: Box) -> None:
    path = box.put("cur/500.M1P1.host:2,")
    os.utime(path, (600, 600))
    box.write_list("1 :500.M1P1.host")
    before = time.time()
    path.rename(box.path / "cur/500.M1P1.host:2,S")
    (kept,) = box.ask("scan")
    assert kept.received == 600
    assert kept.read >= before - 1


# -- scans --------------------------------------------------------------------


def test_a_scan_tells_ids_as_pop3_shows_them(box: Box) -> None:
    for number in range(1, 6):
        box.put(f"cur/{number}.host:2,", b"%d\r\n" % number)
    box.write_list("1 P!old+1 :1.host", "2 :2.host", "3 P2 :3.host", "4 :4.host", "7 :5.host")
    scanned = {kept.uid for kept in box.ask("scan")}
    assert scanned == {"!old+1", "2", "2.3", "4", "7"}
    assert scanned == set(box.shown())


def test_a_readonly_scan_sees_what_a_scan_does_and_writes_nothing(box: Box) -> None:
    box.put("cur/1.host:2,S")
    box.put("new/2.host", b"two...\r\n")
    box.write_list("7 :1.host")
    before = state_of(box.root)
    seen = box.ask("scan_readonly")
    assert state_of(box.root) == before
    assert [kept.uid for kept in seen] == ["7", "2.host"]
    assert [kept[2:] for kept in seen] == [kept[2:] for kept in box.ask("scan")]


@pytest.mark.parametrize("part", ["new", "cur"])
def test_a_glance_makes_no_part_of_a_maildir(box: Box, part: str) -> None:
    (box.path / part).rmdir()
    with pytest.raises(StoreDown, match=part):
        box.ask("scan_readonly")
    assert not (box.path / part).exists()


def test_a_scan_reads_no_message_that_has_an_id(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")
    opened: list[str] = []
    really_open = os.open

    def note(path: Any, *args: Any, **more: Any) -> int:
        file = really_open(path, *args, **more)
        if stat.S_ISREG(os.fstat(file).st_mode):
            opened.append(str(path))
        return file

    monkeypatch.setattr(os, "open", note)
    assert [kept.uid for kept in box.ask("scan")] == ["1"]
    assert opened == [str(box.path / NAME)]


def test_a_link_in_a_mailbox_is_no_message_and_gets_no_id(box: Box) -> None:
    box.put("cur/1.host:2,")
    (box.path / "cur/2.host:2,").symlink_to("1.host:2,")
    box.write_list("1 :1.host")
    assert [kept.uid for kept in box.ask("scan")] == ["1"]
    assert (box.path / NAME).read_text().count("\n") == 2


def test_a_mailbox_that_the_next_login_would_make_is_empty_and_is_not_made(tmp_path: Path) -> None:
    store = MaildirStore(str(tmp_path), "{name}", run_now)
    assert result(store.scan(ALICE)) == []
    assert result(store.list_hidden(ALICE)) == []
    assert result(store.remove(ALICE, ["1"], RULE)) == 0
    assert result(store.hide(ALICE, ["1"], RULE)) == 0
    assert result(store.restore(ALICE, ["1"])) == 0
    assert not list(tmp_path.iterdir())


def test_a_maildir_that_lacks_a_part_is_made_whole(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.put("cur/1.host:2,")
    (box.path / "new").rmdir()
    store = MaildirStore(str(tmp_path), "{name}", run_now)
    assert len(result(store.scan(ALICE))) == 1


def test_a_name_that_is_no_directory_is_refused(box: Box) -> None:
    bad = Account(name="x", mailbox="../elsewhere")
    with pytest.raises(BadMailboxName):
        result(box.store.scan(bad))
    with pytest.raises(BadMailboxName):
        result(box.store.hide(bad, ["1"], RULE))


# -- removing -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["remove", "hide"])
def test_a_message_is_found_wherever_another_program_moves_it_meanwhile(
    box: Box, what: str
) -> None:
    new = box.put("new/1.host,S=5")
    box.put("cur/2.host:2,", b"two\r\n")
    (box.path / "maildirsize").write_text("1000S\n10 2\n")
    box.write_list("1 :1.host,S=5", "2 :2.host")

    def moving(removed: Any) -> None:
        list(removed)
        new.rename(box.path / "cur/1.host,S=5:2,S")

    store = MaildirStore(str(box.root), "{name}", run_now, audit=moving)
    assert result(getattr(store, what)(ALICE, ["1"], RULE)) == 1
    assert box.files()[-1] == "cur/2.host:2,"
    assert (box.path / "maildirsize").read_text() == "1000S\n10 2\n-5 -1\n"
    if what == "hide":
        assert box.files()[0] == ".Expired/cur/1.host,S=5,U=1:2,S"


@pytest.mark.parametrize("what", ["remove", "hide", "purge"])
def test_two_processes_never_remove_in_one_mailbox_at_once(box: Box, what: str) -> None:
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")
    if what == "purge":
        box.ask("hide", ["1"], RULE)
    held = os.open(box.path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(StoreDown, match="held by another"):
        box.ask(what, ["1"], RULE)
    os.close(held)

    def looking(removed: Any) -> None:
        list(removed)
        other = os.open(box.path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)

    store = MaildirStore(str(box.root), "{name}", run_now, audit=looking)
    assert result(getattr(store, what)(ALICE, ["1"], RULE)) == 1


def test_what_cannot_be_removed_is_reported(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")

    def failing(path: str, **_: object) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(StoreDown, match="1 of 1"):
        box.ask("remove", ["1"], RULE)


def test_where_no_file_is_shared_what_one_loses_makes_no_others_mail_younger(box: Box) -> None:
    for folder in ("tmp", "new", "cur"):
        (box.root / BOB.mailbox / folder).mkdir(parents=True)
    store = MaildirStore(str(box.root), "{name}", run_now, share=False)
    incoming = result(store.receive(ALICE))
    result(incoming.write(b"to both\r\n"))
    for account in (ALICE, BOB):
        result(incoming.commit(account, Limits()))
        result(result(store.open(account, None))[0].finish(set(), {0}))
    result(incoming.close())
    (before,) = result(store.scan(BOB))
    assert before.read is not None
    (kept,) = result(store.scan(ALICE))
    assert result(store.remove(ALICE, [kept.uid], RULE)) == 1
    assert result(store.scan(BOB)) == [before]


# -- hiding -------------------------------------------------------------------


def test_the_folder_is_the_maildirs_owners_and_of_its_mode(box: Box) -> None:
    box.path.chmod(0o770)
    os.chown(box.path, 1234, 2345)
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")
    assert box.ask("hide", ["1"], RULE) == 1
    folder = box.path / ".Expired"
    for part, mode in ((".", 0o770), ("cur", 0o770), ("tmp", 0o770), ("maildirfolder", 0o660)):
        found = (folder / part).stat()
        assert (found.st_uid, found.st_gid) == (1234, 2345), part
        assert stat.S_IMODE(found.st_mode) == mode, part


def test_the_first_hidden_message_that_is_copied_is_the_maildirs_owners(box: Box) -> None:
    box.path.chmod(0o770)
    for part in ("", "tmp", "new", "cur"):
        os.chown(box.path / part, 1234, 2345)
    transfer = MaildirTransfer(str(box.path), ALICE.mailbox, MaildirOptions(), Limits())
    transfer.mark_away("copied")
    for uid in ("5", "6"):
        copied = message(uid, hidden=1_700_000_100.0)
        draft = transfer.draft(copied)
        draft.take(b"one\r\n")
        transfer.take("copied", copied, draft)
        draft.discard()
    found = [path.stat() for path in (box.path / ".Expired/cur").iterdir()]
    assert [(one.st_uid, one.st_gid, one.st_mode & 0o777) for one in found] == [
        (1234, 2345, 0o660)
    ] * 2


def test_a_folder_of_which_a_part_is_missing_is_made_whole(box: Box) -> None:
    for number in (1, 2):
        box.put(f"cur/{number}.host:2,", b"%d\r\n" % number)
    box.write_list("1 :1.host", "2 :2.host")
    box.ask("hide", ["1"], RULE)
    (box.path / ".Expired/new").rmdir()
    assert box.ask("hide", ["2"], RULE) == 1
    assert box.ask("restore", ["1", "2"]) == 2


@pytest.mark.parametrize("part", [".Expired", ".Expired/cur"])
def test_a_link_in_the_folders_place_leads_nowhere(box: Box, tmp_path: Path, part: str) -> None:
    (tmp_path / "elsewhere/cur").mkdir(parents=True)
    (box.path / part).parent.mkdir(exist_ok=True)
    (box.path / part).symlink_to(tmp_path / "elsewhere")
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")
    with pytest.raises(MailboxUnusable, match="not a directory"):
        box.ask("hide", ["1"], RULE)
    assert box.files() == ["cur/1.host:2,"]


def counted(box: Box) -> Path:
    """A ``maildirsize`` beside two messages, of 5 and 8 octets."""
    box.put("cur/1.host,S=5:2,")
    box.put("new/2.host", b"two...\r\n")
    box.write_list("1 :1.host,S=5", "2 :2.host")
    size = box.path / "maildirsize"
    size.write_text("1000S\n13 2\n")
    return size


def test_what_is_hidden_is_not_counted_in_the_quota(box: Box) -> None:
    size = counted(box)
    box.ask("hide", ["1", "2"], RULE)
    assert size.read_text() == "1000S\n13 2\n-13 -2\n"
    box.ask("restore", ["2"])
    assert size.read_text() == "1000S\n13 2\n-13 -2\n8 1\n"
    box.ask("purge", ["1"], RULE)
    assert size.read_text() == "1000S\n13 2\n-13 -2\n8 1\n"
    box.ask("hide", ["2"], RULE)
    size.unlink()
    assert box.ask("usage") == Usage(0, 0)


def test_where_it_is_set_what_is_hidden_counts_until_it_is_gone(box: Box) -> None:
    box.count_hidden = True
    size = counted(box)
    box.ask("hide", ["1", "2"], RULE)
    box.ask("restore", ["2"])
    assert size.read_text() == "1000S\n13 2\n"
    box.ask("purge", ["1"], RULE)
    assert size.read_text() == "1000S\n13 2\n-5 -1\n"
    box.ask("hide", ["2"], RULE)
    size.unlink()
    assert box.ask("usage") == Usage(8, 1)


@given(
    base=st.text(st.characters(codec="utf-8", exclude_characters="/:\0\r\n"), min_size=1),
    uid=st.text(ALL, min_size=1, max_size=70),
    flags=st.sampled_from(["", ":2,", ":2,FS"]),
)
def test_any_id_travels_in_a_name(base: str, uid: str, flags: str) -> None:
    name = hidden_name(base + flags, uid)
    assert "/" not in name
    assert name.count(":") == 1
    hidden = hidden_of(f"cur/{name}")
    assert hidden is not None
    assert (hidden.name, hidden.uid) == (base + (flags or ":2,"), uid)


def test_a_line_end_in_a_name_does_not_come_back() -> None:
    hidden = hidden_of("cur/a\r\nb,U=7:2,S")
    assert hidden is not None
    assert (hidden.name, hidden.uid) == ("a__b:2,S", "7")


@pytest.mark.parametrize(
    "name",
    [
        "1.host:2,",
        "1.host,U=:2,",
        "1.host,U=a%0Ab:2,",
        "1.host,U=a%20b:2,",
        ",U=1:2,",
        f"1.host,U={'x' * 71}:2,",
    ],
)
def test_a_name_that_carries_no_id_is_not_one_of_ours(box: Box, name: str) -> None:
    assert hidden_of(f"cur/{name}") is None
    box.put("cur/1.host:2,")
    box.write_list("1 :1.host")
    box.ask("hide", ["1"], RULE)
    box.put(f".Expired/cur/{name}")
    assert [kept.uid for kept in box.ask("list_hidden")] == ["1"]
    assert box.ask("purge", ["1", "", "a\nb", "a b"], RULE) == 1
    assert box.files() == [f".Expired/cur/{name}"]


def test_odd_ids_come_back_as_they_were(box: Box) -> None:
    uids = {ALL[at : at + 40]: b"%d\r\n" % at for at in (0, 40, 80)}
    for number, (uid, content) in enumerate(uids.items(), 1):
        box.put(f"cur/{number}.host:2,", content)
        uids[uid] = content
    box.write_list(*(f"{number} P{uid} :{number}.host" for number, uid in enumerate(uids, 1)))
    assert box.shown() == uids
    assert box.ask("hide", list(uids), RULE) == 3
    assert box.shown() == {}
    assert box.ask("restore", list(uids)) == 3
    assert box.shown() == uids


@pytest.mark.parametrize("lost", [True, False])
def test_an_id_comes_back_when_the_uidlist_has_been_lost_or_rewritten(box: Box, lost: bool) -> None:
    for number in (1, 2, 3):
        box.put(f"cur/{number}.host:2,", b"%d\r\n" % number)
    box.write_list("5 :1.host", "6 Pold :2.host", "7 W5 :3.host")
    before = box.shown()
    box.ask("hide", ["5", "old"], RULE)
    if lost:
        (box.path / NAME).unlink()
    else:
        box.write_list("7 :3.host")
    box.put("new/4.host", b"4\r\n")
    more = set(box.shown()) - {"7"}
    assert box.ask("restore", ["5", "old"]) == 2
    after = box.shown()
    assert (after["5"], after["old"]) == (before["5"], before["old"])
    assert set(after) == {"5", "old", *more, *({"7"} if not lost else ())}
    box.put("new/5.host", b"5\r\n")
    assert len(box.shown()) == len(after) + 1


def test_a_carried_id_that_is_a_number_is_given_to_no_other(box: Box) -> None:
    box.put("cur/1.host:2,")
    box.write_list("11 :1.host")
    box.ask("hide", ["11"], RULE)
    # Another program has begun a new list, and is about to come to 11.
    box.write_list()
    box.ask("restore", ["11"])
    for number in range(2, 7):
        box.put(f"new/{number}.host", b"%d\r\n" % number)
    shown = box.shown()
    assert shown["11"] == b"one\r\n"
    assert len(shown) == 6


def test_what_comes_back_keeps_what_the_uidlist_knew_of_it(box: Box) -> None:
    box.put("cur/1700000000.M1P1.host:2,")
    box.write_list("5 Gguid W5 :1700000000.M1P1.host")
    box.ask("hide", ["5"], RULE)
    box.ask("restore", ["5"])
    assert (box.path / NAME).read_text().splitlines()[-1] == "9 P5 Gguid W5 :1700000000.M1P1.host"


def test_what_comes_back_has_its_flags_and_is_in_cur(box: Box) -> None:
    box.put("cur/1.host:2,FS")
    box.put("new/2.host", b"two\r\n")
    box.write_list("1 :1.host", "2 :2.host")
    box.ask("hide", ["1", "2"], RULE)
    assert box.files() == [".Expired/cur/1.host,U=1:2,FS", ".Expired/cur/2.host,U=2:2,"]
    box.ask("restore", ["1", "2"])
    assert box.files() == ["cur/1.host:2,FS", "cur/2.host:2,"]


def test_a_name_that_would_be_too_long_stays_where_it_is(box: Box) -> None:
    box.put(f"cur/1.{'x' * 240}:2,")
    box.put("cur/2.host:2,", b"two\r\n")
    box.write_list(f"1 P{'y' * 20} :1.{'x' * 240}", "2 :2.host")
    assert box.ask("hide", ["y" * 20, "2"], RULE) == 1
    assert [(line.action, line.uid) for line in box.trail.lines] == [("hide", "2")]
    assert set(box.shown()) == {"y" * 20}


def test_under_a_hold_what_cannot_be_hidden_stays_and_quit_says_so(box: Box) -> None:
    box.put(f"cur/1.{'x' * 240}:2,")
    box.put("cur/2.host:2,", b"two\r\n")
    box.write_list(f"1 P{'y' * 20} :1.{'x' * 240}", "2 :2.host")
    store = MaildirStore(str(box.root), "{name}", run_now)
    maildrop, _ = result(store.open(ALICE, None))
    with pytest.raises(StoreDown, match="1 marked messages could not be hidden"):
        result(maildrop.hide({0, 1}, set()))
    assert set(box.shown()) == {"y" * 20}
    (box.path / "cur").rename(box.path / "moved")
    with pytest.raises(StoreDown):
        result(maildrop.hide({0}, set()))


def test_of_a_copy_and_what_is_hidden_neither_overwrites_the_other(box: Box) -> None:
    box.put("cur/1700000000.M1P1.host:2,", b"hidden\r\n")
    box.write_list("1 :1700000000.M1P1.host")
    box.ask("hide", ["1"], RULE)
    # Somebody puts the mailbox back from a backup.
    box.put("cur/1700000000.M1P1.host:2,S", b"copy\r\n")
    assert box.ask("hide", ["1"], RULE) == 0
    assert box.ask("restore", ["1"]) == 0
    assert box.shown() == {"1": b"copy\r\n"}
    assert box.files() == [
        ".Expired/cur/1700000000.M1P1.host,U=1:2,",
        "cur/1700000000.M1P1.host:2,S",
    ]


def test_two_that_had_one_id_are_told_apart_and_both_come_back(box: Box) -> None:
    box.put("cur/1.host:2,", b"one\r\n")
    box.write_list("5 :1.host")
    box.ask("hide", ["5"], RULE)
    box.put("cur/2.host:2,", b"two\r\n")
    box.write_list("5 :2.host")
    box.ask("hide", ["5"], RULE)
    assert sorted(kept.uid for kept in box.ask("list_hidden")) == ["5", "5.1"]
    assert box.ask("restore", ["5", "5.1"]) == 2
    shown = box.shown()
    assert "5" in shown
    assert sorted(shown.values()) == [b"one\r\n", b"two\r\n"]
    assert len(box.files()) == 2


def test_two_hidden_of_one_name_do_not_come_back_on_top_of_each_other(box: Box) -> None:
    box.put("cur/1.host:2,", b"one\r\n")
    box.write_list("5 :1.host")
    box.ask("hide", ["5"], RULE)
    box.put("cur/1.host:2,", b"two\r\n")
    box.write_list("6 :1.host")
    box.ask("hide", ["6"], RULE)
    assert box.ask("restore", ["5", "6"]) == 1
    assert len(hidden_files(open_place(str(box.path), FOLDERS))) == 1
    assert len(box.files()) == 2


# -- Message-IDs --------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"Message-ID: <a@b>\r\n\r\n", "<a@b>"),
        (b"message-id:<a@b>\n\nbody", "<a@b>"),
        (b"MESSAGE-ID :  <a@b>  \r\n", "<a@b>"),
        (b"Subject: x\r\nMessage-ID:\r\n <a@b>\r\nTo: y\r\n", "<a@b>"),
        (b"Message-ID: <a\r\n\t@b>\r\n\r\n", "<a\t@b>"),
        (b"Message-ID: <first>\nMessage-ID: <second>\n", "<first>"),
        (b"Message-ID: <\xff\0\x1b>\n", "<\ufffd\0\x1b>"),
        (b"Message-ID: <a\rb>\r\n", "<a\rb>"),
        (b"Message-ID: \r\n\r\n", None),
        (b"X-Message-ID: <a@b>\r\n\r\n", None),
        (b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", None),
        (b"\r\nMessage-ID: <a@b>\r\n", None),
        (b"", None),
    ],
)
def test_a_message_id_is_found_in_the_header_only(head: bytes, named: str | None) -> None:
    assert message_id_in(head) == named


@pytest.mark.parametrize(
    ("before", "named"), [(OPENING, "<a@b>"), (60_000, "<a@b>"), (70_000, None)]
)
def test_it_is_looked_for_in_the_first_64_kib(
    tmp_path: Path, before: int, named: str | None
) -> None:
    path = tmp_path / "message"
    filler = b"X-Filler: 12345678\r\n"
    path.write_bytes(filler * (before // len(filler)) + b"Message-ID: <a@b>\r\n\r\n")
    assert message_id(str(path)) == named


def test_a_message_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert message_id(str(tmp_path / "gone")) is None
    assert message_id(str(tmp_path)) is None
