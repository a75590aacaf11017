"""The process is killed at every step it takes on the disk: no message is lost, no id changes.

The parent, a test, prepares a mailbox.  A child opens it with the real store and dies.  Then the
parent opens what is there.
"""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from answers import result
from doomed import Death, Doomed, serve
from gateway.store.maildir.uids.uidlist import NAME
from gateway.testing.store_contract import ALICE
from survival import (
    FIRST_ID,
    Mailbox,
    Shown,
    as_sent,
    base_of,
    content_of,
    files_in,
    open_store,
    shown_by,
)

pytestmark = pytest.mark.usefixtures("no_sync", "reached")

MARKED, READ = frozenset({1, 3, 6, 7}), frozenset({0, 2, 3, 5})
"""Indexes into a mailbox of eight."""


def act_open(death: Death, root: str, _: Callable[[Shown], None], **options: bool) -> None:
    """Log in."""
    death.arm()
    result(open_store(root, **options).open(ALICE, None))


def act_quit(death: Death, root: str, tell: Callable[[Shown], None], **options: bool) -> None:
    """Log in, look around, mark some messages, read some, QUIT."""
    maildrop, give_back = result(open_store(root, **options).open(ALICE, None))
    tell(shown_by(maildrop))
    death.arm()
    result(maildrop.finish(MARKED, READ))
    give_back()


def act_quit_after_moves(
    death: Death, root: str, tell: Callable[[Shown], None], **options: bool
) -> None:
    """As ``act_quit``, but meanwhile another program has given all messages other names."""
    maildrop, _ = result(open_store(root, **options).open(ALICE, None))
    tell(shown_by(maildrop))
    for path in files_in(f"{root}/{ALICE.mailbox}"):
        base = path.name.partition(":")[0]
        path.rename(path.parent.parent / "cur" / f"{base}:2,F")
    death.arm()
    result(maildrop.finish(MARKED, READ))


ACTS = {"open": act_open, "quit": act_quit, "quit after moves": act_quit_after_moves}

Prepare = Callable[[Path], Mailbox]


def not_listed(directory: Path) -> Mailbox:
    return Mailbox(directory, 5)


def grown(directory: Path) -> Mailbox:
    return Mailbox(directory, 7, listed=4)


def torn(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 7, listed=4)
    mailbox.write_list(tail=f"{FIRST_ID + 5} W57 :{base_of(5)[:9]}")
    return mailbox


def torn_to_a_whole_name(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 7, listed=4)
    mailbox.write_list(tail=f"{FIRST_ID + 50} :{base_of(5)}")
    return mailbox


def of_version_1(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    mailbox.write_list(head="1 1600000000 130\n", form="{uid} {base}:2,S\n")
    return mailbox


def carried_over(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    mailbox.write_list(form="{uid} P!old-{number}+id W1 :{base}\n", tail="torn")
    for number in mailbox.listed:
        size = len(as_sent(content_of(number)))
        text = (mailbox.maildir / NAME).read_text()
        line = f"P!old-{number}+id W"
        (mailbox.maildir / NAME).write_text(text.replace(f"{line}1 ", f"{line}{size} "))
        mailbox.seen[as_sent(content_of(number))] = f"!old-{number}+id"
    return mailbox


def mostly_gone(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    gone = "".join(f"{uid} :1600000000.M{uid}P1.host\n" for uid in range(200, 1300))
    mailbox.write_list(tail=gone)
    mailbox.seen[b"one of those that are gone"] = "1299"
    return mailbox


def eight(directory: Path) -> Mailbox:
    return Mailbox(directory, 8, listed=8)


@pytest.mark.conformance("X-C0007", "X-C0008", "X-C0009", "O-C0039", "O-C0040", "O-C0041", "P-20")
@pytest.mark.parametrize(
    "prepare",
    [not_listed, grown, torn, torn_to_a_whole_name, of_version_1, carried_over, mostly_gone],
)
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_death_at_any_step_of_a_login_changes_no_id_and_leaves_no_lock(
    doomed: Doomed, tmp_path: Path, prepare: Prepare, exclusive: bool
) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = prepare(tmp_path / "mail")
        # What is appended is there octet by octet; what is rewritten takes its name when whole.
        cuts = 200 if prepare is grown and not exclusive else 8
        killed, _ = doomed.live(mailbox.root, "open", step, cuts=cuts, exclusive=exclusive)
        mailbox.survived(mailbox.seen, exclusive=exclusive)
    assert step > 10


@pytest.mark.conformance("X-V0006", "X-C0008", "O-C0040")
@pytest.mark.parametrize(("act", "steps"), [("quit", 8), ("quit after moves", 10)])
def test_a_death_at_any_step_of_quit_takes_marked_messages_only(
    doomed: Doomed, tmp_path: Path, act: str, steps: int
) -> None:
    marked = frozenset(content_of(index + 1) for index in MARKED)
    step, killed, left = 0, True, set()
    while killed:
        step += 1
        mailbox = eight(tmp_path / "mail")
        killed, seen = doomed.live(mailbox.root, act, step)
        assert seen == mailbox.seen
        left.add(len(files_in(mailbox.maildir)))
        mailbox.survived(seen, maybe_gone=marked)
    assert step >= steps
    assert left == {8, 7, 6, 5, 4}


def test_a_death_at_any_step_of_making_a_maildir_leaves_one_that_can_be_used(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = Mailbox(tmp_path / "mail", 0)
        shutil.rmtree(mailbox.maildir)
        killed, _ = doomed.live(mailbox.root, "open", step, create=True)
        if killed:
            result(open_store(str(mailbox.root), create=True).open(ALICE, None))
        mailbox.survived({}, create=True)
    assert step > 3


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_a_second_death_while_the_first_is_cleared_up_changes_nothing(
    doomed: Doomed, tmp_path: Path
) -> None:
    first, killed_first = 0, True
    while killed_first:
        first += 1
        second, killed = 0, True
        while killed:
            second += 1
            mailbox = Mailbox(tmp_path / "mail", 3, listed=2)
            killed_first, _ = doomed.live(mailbox.root, "open", first, cuts=2)
            killed, _ = doomed.live(mailbox.root, "open", second, cuts=2)
            try:
                mailbox.survived(mailbox.seen)
            except Exception as error:
                error.add_note(f"first death at step {first}, second at step {second}")
                raise


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_a_process_that_lives_on_goes_on_where_another_died(doomed: Doomed, tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = Mailbox(tmp_path / "mail", 3, listed=3)
        veteran = open_store(str(mailbox.root))
        seen = mailbox.shows(veteran, seen=mailbox.seen)
        for number in (4, 5):
            mailbox.deliver(number)
        killed, _ = doomed.live(mailbox.root, "open", step, cuts=20)
        seen = mailbox.shows(veteran, seen=seen)
        assert len(seen) == 5
        mailbox.survived(seen)
        mailbox.shows(veteran, seen=seen)


@pytest.mark.conformance("X-C0008", "X-C0009", "O-C0040")
def test_a_mailbox_bears_one_death_after_the_other(doomed: Doomed, tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail", 2, listed=2)
    seen = mailbox.seen
    for step in range(1, 61):
        mailbox.deliver(2 + step)
        doomed.live(mailbox.root, "open", step, cuts=10)
        if step % 3 == 0:
            before = max(map(int, seen.values()))
            now = mailbox.shows(open_store(str(mailbox.root)), seen=seen)
            assert all(int(uid) > before for content, uid in now.items() if content not in seen)
            seen = now
    assert len(seen) == 62


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, ACTS)
