"""A delivery is killed at every step: nothing acknowledged is lost, nothing half is seen.

As ``test_crash`` does it.  A child delivers, and tells its parent of each commit that fired.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from answers import result
from doomed import Death, Doomed, serve
from gateway.model import Account, Limits
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.uidlist import NAME
from gateway.testing.store_contract import ALICE, BOB, run_now
from survival import Mailbox, as_sent, files_in, open_store, shown_by

pytestmark = pytest.mark.usefixtures("no_sync", "reached")

LIMITS = Limits(octets=10**6)
CONTENT = b"Subject: delivered\r\n\r\n" + b"octets\r\n" * 20
LARGE = b"Subject: large\r\n\r\n" + b"0123456\r\n" * 30_000


def tell_of(tell: Callable[[Any], None], account: Account) -> Callable[[None], None]:
    return lambda _: tell({account.name.encode(): "delivered"})


def deliver(store: MaildirStore, tell: Callable[[Any], None], content: bytes) -> None:
    incoming = result(store.receive(ALICE))
    for at in range(0, len(content), 100_000):
        result(incoming.write(content[at : at + 100_000]))
    commits = [
        incoming.commit(account, LIMITS).addCallback(tell_of(tell, account))
        for account in (ALICE, BOB)
    ]
    result(gatherResults(commits, consumeErrors=True))
    result(incoming.close())


def store_in(root: str) -> MaildirStore:
    return MaildirStore(
        root, "{name}", run_now, reading=MaildirOptions(create=True, lock_timeout=10.0)
    )


def act_deliver(death: Death, root: str, tell: Callable[[Any], None], **_: bool) -> None:
    """Deliver to Alice and Bob."""
    death.arm()
    deliver(store_in(root), tell, CONTENT)


def act_deliver_large(death: Death, root: str, tell: Callable[[Any], None], **_: bool) -> None:
    """Deliver what is written to a file before all of it is there."""
    death.arm()
    deliver(store_in(root), tell, LARGE)


def act_two_at_once(death: Death, root: str, tell: Callable[[Any], None], **_: bool) -> None:
    """Deliver two messages that go into the mailbox together."""
    jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(work: Callable[[], Any]) -> Deferred[Any]:
        jobs.append((work, Deferred()))
        return jobs[-1][1]

    store = MaildirStore(root, "{name}", run, reading=MaildirOptions(lock_timeout=10.0))
    death.arm()
    for number in range(3):
        content = b"%d " % number + CONTENT
        store.receive(ALICE).addCallback(put_in, content, tell)
    while jobs:
        work, done = jobs.pop(0)
        done.callback(work())


def put_in(incoming: Any, content: bytes, tell: Callable[[Any], None]) -> None:
    incoming.write(content)
    incoming.commit(ALICE, LIMITS).addCallback(lambda _: tell({content: "delivered"}))


ACTS = {"deliver": act_deliver, "deliver large": act_deliver_large, "two at once": act_two_at_once}


def mailbox_of(directory: Path, *, listed: int = 2, counted: bool = True) -> Mailbox:
    mailbox = Mailbox(directory, 3, listed=listed)
    if counted:
        octets = sum(path.stat().st_size for path in files_in(mailbox.maildir))
        (mailbox.maildir / "maildirsize").write_text(f"1000000S\n{octets} 3\n")
    return mailbox


def bobs(root: Path) -> list[bytes]:
    maildrop, _ = result(store_in(str(root)).open(BOB, None))
    return list(shown_by(maildrop))


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize(("act", "content"), [("deliver", CONTENT), ("deliver large", LARGE)])
def test_a_death_at_any_step_loses_nothing_acknowledged_and_shows_nothing_half(
    doomed: Doomed, tmp_path: Path, act: str, content: bytes, counted: bool
) -> None:
    step, killed, ends = 0, True, set()
    while killed:
        step += 1
        mailbox = mailbox_of(tmp_path / "mail", counted=counted)
        killed, told = doomed.live(mailbox.root, act, step, cuts=12)
        shown = shown_by(result(open_store(str(mailbox.root)).open(ALICE, None))[0])
        others = {as_sent(one) for one in mailbox.stored}
        assert set(shown) - {content} == others
        for one, uid in mailbox.seen.items():
            assert shown[one] == uid
        there = (content in shown, content in bobs(mailbox.root))
        assert set(bobs(mailbox.root)) <= {content}
        assert there >= (b"alice@example.org" in told, b"bob@example.org" in told)
        assert there[1] or b"bob@example.org" not in told
        ends.add((*there, len(told)))
        for path in (mailbox.maildir / "tmp").iterdir():
            path.unlink()
        if content in shown:
            mailbox.stored.add(content)
        check_usage(mailbox)
        mailbox.survived(shown)
    assert step > 40
    assert ends >= {(False, False, 0), (True, False, 0), (True, True, 1), (True, True, 2)}
    assert told == {b"alice@example.org": "delivered", b"bob@example.org": "delivered"}


def check_usage(mailbox: Mailbox) -> None:
    """A death has left one message counted too many at most, and a count finds what is there."""
    size = mailbox.maildir / "maildirsize"
    held = sum(path.stat().st_size for path in files_in(mailbox.maildir))
    usage = result(store_in(str(mailbox.root)).usage(ALICE))
    assert usage.octets - held in (0, len(CONTENT), len(LARGE))
    assert usage.messages - len(list(files_in(mailbox.maildir))) in (0, 1)
    size.unlink(missing_ok=True)
    assert result(store_in(str(mailbox.root)).usage(ALICE)).octets == held


def test_a_death_while_several_go_in_together_loses_none_that_was_acknowledged(
    doomed: Doomed, tmp_path: Path
) -> None:
    contents = {b"%d " % number + CONTENT for number in range(3)}
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = mailbox_of(tmp_path / "mail")
        killed, told = doomed.live(mailbox.root, "two at once", step, cuts=4)
        shown = shown_by(result(open_store(str(mailbox.root)).open(ALICE, None))[0])
        assert set(told) <= set(shown) <= contents | {as_sent(one) for one in mailbox.stored}
        assert mailbox.seen.items() <= shown.items()
    assert set(told) == contents
    # All were given their ids by those who delivered them: the login had nothing to write.
    lines = (mailbox.maildir / NAME).read_text().splitlines()
    assert len(lines) == 1 + 3 + 3


def test_what_the_dead_left_in_tmp_is_no_message_and_goes_in_time(
    doomed: Doomed, tmp_path: Path
) -> None:
    mailbox = mailbox_of(tmp_path / "mail")
    doomed.live(mailbox.root, "deliver", 12, cuts=3)
    assert list((mailbox.maildir / "tmp").iterdir())
    hour = 3600 * 10**9
    clock = [Path(mailbox.maildir).stat().st_mtime_ns + 35 * hour]
    store = MaildirStore(str(mailbox.root), "{name}", run_now, now_ns=lambda: clock[0])
    left = []
    for hours in (0, 2, 0):
        clock[0] += hours * hour
        deliver(store, lambda _: None, CONTENT)
        left.append(len(list((mailbox.maildir / "tmp").iterdir())))
    assert left == [1, 0, 0]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, ACTS)
