"""Homes that belong to their users: no link and no folder of theirs leads into another's mail."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from test_store_contract import MaildirBench
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import GatewayError, MailboxUnusable
from gateway.model import Account, Limits, Reason, Removed
from gateway.store.maildir.folders.place import ALL, open_place
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.mailbox_admin_contract import mailbox_admin_tests
from gateway.testing.retention_store_contract import Trail, keeping_tests
from gateway.testing.store_contract import delivery_tests, run_now, store_tests
from support.calls import system_calls_of

MALLORY, VICTIM = 12345, 12346
MAIL = "1700000000.M1P1.host"
"""The name of the victim's one message, and of Mallory's."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


class TheirOwnBench(MaildirBench):
    """Maildirs that belong to another user than the one that serves them."""

    def __init__(self, test: SynchronousTestCase, **reading: Any) -> None:
        super().__init__(test, **reading)
        for directory, _, _ in os.walk(self.root):
            os.chown(directory, MALLORY, MALLORY)


class StoreTests(store_tests(TheirOwnBench)):  # type: ignore[misc]
    pass


class DeliveryTests(delivery_tests(TheirOwnBench)):  # type: ignore[misc]
    pass


class KeepingTests(keeping_tests(TheirOwnBench)):  # type: ignore[misc]
    pass


class AdminTests(mailbox_admin_tests(TheirOwnBench)):  # type: ignore[misc]
    pass


class Homes:
    """``/home`` with Mallory's home and the victim's, each with a Maildir and one message."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trail = Trail()
        self.store = self.make_store(self.trail)
        self.victim = self.make("victim", VICTIM, b"secret\r\n")
        self.mine = self.make("mallory", MALLORY, b"mine\r\n")

    def make_store(self, audit: Callable[[Iterable[Removed]], None]) -> MaildirStore:
        return MaildirStore(
            str(self.root), "{home}/Maildir", run_now, audit=audit, reading=MaildirOptions()
        )

    def make(self, name: str, owner: int, content: bytes) -> Path:
        maildir = self.root / name / "Maildir"
        for folder in ("new", "tmp", "cur"):
            (maildir / folder).mkdir(parents=True)
        (maildir / "cur" / f"{MAIL}:2,").write_bytes(content)
        give(self.root / name, owner)
        return maildir

    @property
    def account(self) -> Account:
        return Account(name="mallory", mailbox="mallory", home=str(self.root / "mallory"))

    def link(self, place: Path, target: Path, owner: int) -> None:
        """Put a link of somebody's in the place of a directory, which is kept beside it."""
        place.rename(place.with_name(f"{place.name}.kept"))
        place.symlink_to(target)
        os.lchown(place, owner, owner)

    def mail_of_victim(self) -> list[bytes]:
        files = [*self.victim.glob("cur/*"), *self.victim.glob("new/*")]
        return [file.read_bytes() for file in files]


def give(tree: Path, owner: int) -> None:
    for path in (tree, *tree.rglob("*")):
        os.lchown(path, owner, owner)


def outcome(done: Deferred[Any]) -> Any:
    """What it came to; raises what it failed with."""
    results: list[Any] = []
    done.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


def listed(homes: Homes, account: Account) -> list[int]:
    drop, _ = outcome(homes.store.open(account, None))
    return list(outcome(drop.listing()).sizes)


def deliver(homes: Homes, account: Account) -> None:
    incoming = outcome(homes.store.receive(account))
    try:
        outcome(incoming.write(b"hello\r\n"))
        outcome(incoming.commit(account, Limits(octets=10**6)))
    finally:
        outcome(incoming.close())


WAYS: dict[str, Callable[[Homes, Account], Any]] = {
    "a login": listed,
    "a delivery": deliver,
    "RCPT": lambda homes, account: outcome(homes.store.prepare(account)),
    "a quota": lambda homes, account: outcome(homes.store.usage(account)),
    "a scan": lambda homes, account: outcome(homes.store.scan(account)),
    "a preview": lambda homes, account: outcome(homes.store.scan_readonly(account)),
    "removing": lambda homes, account: outcome(homes.store.remove(account, ["1"], Reason())),
    "hiding": lambda homes, account: outcome(homes.store.hide(account, ["1"], Reason())),
    "what is hidden": lambda homes, account: outcome(homes.store.list_hidden(account)),
    "bringing back": lambda homes, account: outcome(homes.store.restore(account, ["1"])),
    "purging": lambda homes, account: outcome(homes.store.purge(account, ["1"], Reason())),
}


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", ["", "/cur", "/new"])
def test_a_link_that_a_user_has_made_leads_nobody_into_anothers_mail(
    homes: Homes, way: str, part: str
) -> None:
    homes.link(Path(f"{homes.mine}{part}"), Path(f"{homes.victim}{part}"), MALLORY)
    before = sorted(homes.victim.rglob("*"))
    with pytest.raises(MailboxUnusable, match="is a link that user 12345 could have made"):
        WAYS[way](homes, homes.account)
    assert sorted(homes.victim.rglob("*")) == before
    assert homes.trail.lines == []


# RCPT and the quota look at nothing: they have asked lately.
@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"RCPT", "a quota"}))
@pytest.mark.parametrize("part", ["", "/cur", "/new"])
def test_a_link_in_a_home_that_its_user_was_given_while_the_server_ran_is_refused(
    homes: Homes, way: str, part: str
) -> None:
    give(homes.mine.parent, 0)
    for _ in range(2):
        deliver(homes, homes.account)
        assert listed(homes, homes.account)
    give(homes.mine.parent, MALLORY)
    homes.link(Path(f"{homes.mine}{part}"), Path(f"{homes.victim}{part}"), MALLORY)
    before = sorted(homes.victim.rglob("*"))
    with pytest.raises(MailboxUnusable, match="12345"):
        WAYS[way](homes, homes.account)
    assert sorted(homes.victim.rglob("*")) == before


def test_a_session_that_is_open_when_a_home_is_given_away_removes_and_marks_nothing_elsewhere(
    homes: Homes,
) -> None:
    give(homes.mine.parent, 0)
    for end in ([0], []), ([], [0]):
        drop, _ = outcome(homes.store.open(homes.account, None))
        give(homes.mine.parent, MALLORY)
        homes.link(homes.mine, homes.victim, MALLORY)
        with contextlib.suppress(GatewayError):
            outcome(drop.finish(*end))
        assert [file.name for file in homes.victim.glob("cur/*")] == [f"{MAIL}:2,"]
        homes.mine.unlink()
        homes.mine.with_name("Maildir.kept").rename(homes.mine)
        give(homes.mine.parent, 0)


def test_a_session_that_has_read_when_a_home_is_given_away_counts_and_marks_nothing_elsewhere(
    homes: Homes,
) -> None:
    for maildir in (homes.mine, homes.victim):
        maildir.joinpath("maildirsize").write_text("1000S\n100 1\n")
    for end in ([], [0]), ([0], []):
        # As a home of sftp's chroot, in which the user has only directories.
        os.chown(homes.mine.parent, 0, 0)
        drop, give_back = outcome(homes.store.open(homes.account, None))
        outcome(drop.retrieve(0)).close()
        os.chown(homes.mine.parent, MALLORY, MALLORY)
        homes.link(homes.mine, homes.victim, MALLORY)
        with contextlib.suppress(GatewayError):
            outcome(drop.finish(*end))
        give_back()
        assert [file.name for file in homes.victim.glob("cur/*")] == [f"{MAIL}:2,"]
        assert homes.victim.joinpath("maildirsize").read_text() == "1000S\n100 1\n"
        homes.mine.unlink()
        homes.mine.with_name("Maildir.kept").rename(homes.mine)


def test_quit_ends_in_the_folders_that_retr_has_looked_at_and_closes_them(homes: Homes) -> None:
    drop, give_back = outcome(homes.store.open(homes.account, None))
    before = len(os.listdir("/proc/self/fd"))
    outcome(drop.retrieve(0)).close()
    calls = system_calls_of(lambda: outcome(drop.finish([], [0])))
    assert calls["open"] <= 1
    assert len(os.listdir("/proc/self/fd")) == before
    assert [file.name for file in homes.mine.glob("cur/*")] == [f"{MAIL}:2,S"]
    give_back()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", ["", "/cur", "/new"])
def test_a_folder_of_somebody_else_is_refused(homes: Homes, way: str, part: str) -> None:
    give(Path(f"{homes.mine}{part}"), VICTIM)
    if not part:
        assert homes.mine.stat().st_uid == VICTIM
    with pytest.raises(MailboxUnusable, match="belongs to user 12346"):
        WAYS[way](homes, homes.account)


@pytest.mark.parametrize("way", ["a delivery", "RCPT", "a quota"])
def test_a_link_for_tmp_is_refused_where_mail_comes_in(homes: Homes, way: str) -> None:
    homes.link(homes.mine / "tmp", homes.victim / "tmp", MALLORY)
    with pytest.raises(MailboxUnusable):
        WAYS[way](homes, homes.account)
    assert list(homes.victim.glob("tmp/*")) == []


def test_a_link_of_roots_that_lies_in_a_users_directory_may_have_been_moved_there(
    homes: Homes,
) -> None:
    homes.link(homes.mine, homes.victim, 0)
    with pytest.raises(MailboxUnusable):
        listed(homes, homes.account)


def test_a_chain_of_links_is_looked_at_link_by_link(homes: Homes) -> None:
    homes.link(homes.root / "mallory", homes.root / "other", 0)
    os.symlink(homes.victim.parent, homes.root / "other")
    os.lchown(homes.root / "other", MALLORY, MALLORY)
    with pytest.raises(MailboxUnusable):
        listed(homes, homes.account)


def test_links_that_go_in_a_circle_are_the_administrators_to_mend(homes: Homes) -> None:
    homes.link(homes.root / "mallory", homes.root / "mallory", 0)
    with pytest.raises(MailboxUnusable):
        listed(homes, homes.account)


@pytest.mark.parametrize("target", ["{disk}", "../disk"])
def test_an_administrators_link_to_another_disk_goes_on_working(homes: Homes, target: str) -> None:
    disk = homes.root.parent / f"{homes.root.name}-disk"
    (homes.root / "disk").symlink_to(disk)
    (homes.root / "mallory").rename(disk)
    (homes.root / "mallory").symlink_to(
        disk if target == "{disk}" else Path("..") / homes.root.name / "disk"
    )
    assert listed(homes, homes.account) == [6]
    deliver(homes, homes.account)
    assert listed(homes, homes.account) == [6, 7]


def test_an_administrators_link_in_a_maildir_of_the_services_goes_on_working(
    homes: Homes,
) -> None:
    give(homes.root, 0)
    fast = homes.root / "fast"
    fast.mkdir()
    for folder in ("cur", "new"):
        (homes.mine / folder).rename(fast / folder)
        (homes.mine / folder).symlink_to(fast / folder)
    deliver(homes, homes.account)
    assert sorted(listed(homes, homes.account)) == [6, 7]
    assert outcome(homes.store.hide(homes.account, ["1"], Reason())) in (0, 1)


def test_an_administrators_link_into_a_users_directory_is_looked_at_each_time(
    homes: Homes,
) -> None:
    give(homes.root / "mallory", 0)
    theirs = homes.root / "theirs"
    theirs.mkdir()
    (homes.mine / "cur").rename(theirs / "cur")
    (homes.mine / "cur").symlink_to(theirs / "cur")
    give(theirs, MALLORY)
    drop, close = outcome(homes.store.open(homes.account, None))
    body = outcome(drop.retrieve(0))
    assert body.read_now() == b"mine\r\n"
    body.close()
    close()
    again, _ = outcome(homes.store.open(homes.account, None))
    homes.link(theirs / "cur", homes.victim / "cur", MALLORY)
    with pytest.raises(MailboxUnusable):
        outcome(again.retrieve(0))


def swap(homes: Homes, part: str = "cur") -> None:
    homes.link(homes.mine / part, homes.victim / part, MALLORY)


@pytest.mark.parametrize("part", ["", "cur"])
def test_what_is_swapped_after_the_login_is_not_read(homes: Homes, part: str) -> None:
    drop, _ = outcome(homes.store.open(homes.account, None))
    swap(homes, part)
    with pytest.raises(MailboxUnusable):
        outcome(drop.retrieve(0))


@pytest.mark.parametrize("part", ["", "cur"])
def test_a_session_reads_on_in_the_folder_that_it_has_looked_at(homes: Homes, part: str) -> None:
    drop, _ = outcome(homes.store.open(homes.account, None))
    for _ in range(2):
        body = outcome(drop.retrieve(0))
        assert body.read_now() == b"mine\r\n"
        body.close()
        if not (homes.mine / part).is_symlink():
            swap(homes, part)


def test_reading_leaves_no_descriptor_open(homes: Homes) -> None:
    before = os.listdir("/proc/self/fd")
    drop, close = outcome(homes.store.open(homes.account, None))
    for _ in range(2):
        outcome(drop.retrieve(0)).close()
    close()
    assert os.listdir("/proc/self/fd") == before


def test_what_is_swapped_before_quit_is_not_removed_nor_marked(homes: Homes) -> None:
    drop, _ = outcome(homes.store.open(homes.account, None))
    swap(homes)
    with pytest.raises(GatewayError):
        outcome(drop.finish([0], [0]))
    outcome(drop.abandon([0]))
    assert homes.mail_of_victim() == [b"secret\r\n"]
    assert os.listdir(homes.victim / "cur") == [f"{MAIL}:2,"]


@pytest.mark.parametrize("doing", ["remove", "hide"])
def test_what_is_swapped_at_the_last_moment_leaves_the_folder_that_was_looked_at(
    homes: Homes, doing: str
) -> None:
    store = homes.make_store(lambda removed: swap(homes) if list(removed) else None)
    (kept,) = outcome(store.scan(homes.account))
    assert outcome(getattr(store, doing)(homes.account, [kept.uid], Reason())) == 1
    assert homes.mail_of_victim() == [b"secret\r\n"]
    assert os.listdir(homes.mine / "cur.kept") == []


def test_a_message_of_which_a_part_has_come_goes_where_it_began(homes: Homes) -> None:
    incoming = outcome(homes.store.receive(homes.account))
    outcome(incoming.write(b"x" * 300_000))
    homes.link(homes.mine / "tmp", homes.victim / "tmp", MALLORY)
    with pytest.raises(MailboxUnusable):
        outcome(incoming.commit(homes.account, Limits()))
    outcome(incoming.close())
    assert list(homes.victim.glob("tmp/*")) == list(homes.mine.glob("tmp.kept/*")) == []


@pytest.mark.parametrize("name", ["maildirsize", "dovecot-uidlist.lock.pop3gw"])
def test_a_link_in_the_place_of_our_files_gives_nothing_of_its_target_away(
    homes: Homes, name: str
) -> None:
    precious = homes.root / "precious"
    precious.write_bytes(b"secret\n")
    os.chmod(precious, 0o666)
    os.chown(precious, 54321, 54321)
    (homes.mine / name).symlink_to(precious)
    deliver(homes, homes.account)
    listed(homes, homes.account)
    status = (homes.mine / name).lstat()
    assert stat.S_ISREG(status.st_mode)
    assert status.st_uid != 54321
    if name == "maildirsize":
        assert stat.S_IMODE(status.st_mode) == stat.S_IMODE(homes.mine.stat().st_mode) & 0o666
    assert precious.read_bytes() == b"secret\n"


@pytest.mark.parametrize("name", ["dovecot-uidlist", "dovecot-uidlist.lock"])
def test_a_link_in_the_place_of_what_is_shared_with_dovecot_is_refused(
    homes: Homes, name: str
) -> None:
    (homes.mine / name).symlink_to(homes.victim / "cur" / f"{MAIL}:2,")
    with pytest.raises(MailboxUnusable):
        listed(homes, homes.account)
    assert homes.mail_of_victim() == [b"secret\r\n"]


def test_a_new_maildir_in_a_users_home_is_made_his_and_nowhere_else(homes: Homes) -> None:
    homes.mine.rename(homes.root / "mallory" / "old")
    deliver(homes, homes.account)
    for path in (homes.mine, *homes.mine.iterdir()):
        if path.is_dir():
            assert path.stat().st_uid == MALLORY
    homes.link(homes.mine, homes.root / "elsewhere", MALLORY)
    with pytest.raises(MailboxUnusable):
        deliver(homes, homes.account)
    assert not (homes.root / "elsewhere").exists()


def deleting(homes: Homes) -> None:
    outcome(homes.store.delete(homes.account, Reason()))


def test_a_deletion_removes_no_directory_that_a_link_of_its_owner_leads_to(homes: Homes) -> None:
    outside = homes.root / "outside"
    outside.mkdir()
    really = os.rmdir

    def swapping(path: str, **more: Any) -> None:
        really(path, **more)
        if path.endswith("/cur"):
            # All but the Maildir itself is gone.
            homes.link(homes.mine, outside, MALLORY)

    with mock.patch.object(os, "rmdir", swapping), pytest.raises(GatewayError):
        deleting(homes)
    assert outside.is_dir()
    homes.mine.unlink()
    homes.mine.with_name("Maildir.kept").rename(homes.mine)
    with contextlib.suppress(GatewayError):
        deleting(homes)
    assert not homes.mine.exists()


def test_a_directory_that_a_deletion_left_is_removed_in_its_users_home_only(homes: Homes) -> None:
    homes.store = MaildirStore(str(homes.root), "{home}/mail/Maildir", run_now)
    outside, mail = homes.root / "outside", homes.root / "mallory" / "mail"
    (outside / "Maildir").mkdir(parents=True)
    (mail / "Maildir").mkdir(parents=True)
    give(mail, MALLORY)
    homes.link(mail, outside, MALLORY)
    with pytest.raises(MailboxUnusable):
        deleting(homes)
    assert (outside / "Maildir").is_dir()
    mail.unlink()
    mail.with_name("mail.kept").rename(mail)
    deleting(homes)
    assert not (mail / "Maildir").exists()


def test_a_link_of_an_administrator_goes_with_the_maildir_that_it_leads_to(homes: Homes) -> None:
    give(homes.mine.parent, 0)
    disk = homes.root / "disk"
    homes.mine.rename(disk)
    homes.mine.symlink_to(disk)
    deleting(homes)
    assert not disk.exists()
    assert not homes.mine.is_symlink()


def test_errors_name_the_path_that_an_administrator_knows(homes: Homes) -> None:
    (homes.mine / "dovecot-uidlist").write_text("nonsense\n")
    os.chown(homes.mine / "dovecot-uidlist", MALLORY, MALLORY)
    with pytest.raises(MailboxUnusable, match=f"^{homes.mine}/dovecot-uidlist: line 1"):
        listed(homes, homes.account)


def test_no_descriptor_is_left_open(homes: Homes) -> None:
    before = os.listdir("/proc/self/fd")
    for way in WAYS.values():
        way(homes, homes.account)
    swap(homes)
    for way in ("a login", "a delivery", "a quota", "a scan", "hiding"):
        with pytest.raises(MailboxUnusable):
            WAYS[way](homes, homes.account)
    assert os.listdir("/proc/self/fd") == before


def test_a_maildir_of_ours_is_found_again_by_one_look_at_each_directory(tmp_path: Path) -> None:
    path = f"{tmp_path}/ours/Maildir"
    first = open_place(path, ALL, make=True)
    assert first.stays
    with mock.patch("os.open", side_effect=AssertionError("a directory is opened")):
        again = open_place(path, ALL, trusted=first.trusted)
    assert [again.at(f"{name}/x") for name in ALL] == [f"{path}/{name}/x" for name in ALL]
    assert again.stays


@pytest.mark.parametrize("mode", [0o770, 0o707], ids=["its group", "everybody"])
def test_folders_that_others_may_replace_meanwhile_are_opened(tmp_path: Path, mode: int) -> None:
    path = f"{tmp_path}/ours/Maildir"
    first = open_place(path, ALL, make=True)
    os.chmod(path, mode)
    again = open_place(path, ALL, trusted=first.trusted)
    assert not again.stays
    again.close()


def test_another_directory_at_the_path_is_looked_at_as_at_the_first_time(tmp_path: Path) -> None:
    path = tmp_path / "ours" / "Maildir"
    first = open_place(str(path), ALL, make=True)
    path.rename(path.with_name("old"))
    for name in ALL:
        (path / name).mkdir(parents=True)
    os.chown(path / "cur", MALLORY, MALLORY)
    again = open_place(str(path), (), trusted=first.trusted)
    assert again.status.st_ino == path.stat().st_ino
    assert again.trusted != first.trusted
    give(path, VICTIM)
    os.chown(path / "cur", MALLORY, MALLORY)
    with pytest.raises(MailboxUnusable):
        open_place(str(path), ALL, trusted=again.trusted)
