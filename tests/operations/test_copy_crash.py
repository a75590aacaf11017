"""A copy is killed at every step that it takes on the disk: both ends read, a second run ends it.

As ``test_crash`` of the Maildir store does it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from answers import result
from copy_suite import Near, tools_of
from doomed import Death, Doomed, doomed_children, serve
from gateway.interfaces import IBody
from gateway.model import Reason
from gateway.operations.mail.copy import copy_mailbox
from gateway.operations.tools import Tools
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, read_all, run_now

pytestmark = pytest.mark.usefixtures("no_sync")

COUNT = 3


def place(root: str, name: str) -> Tools:
    """A place, as after a restart."""
    reading = MaildirOptions(lock_timeout=1)
    return tools_of(MaildirStore(f"{root}/{name}", "{name}", run_now, reading=reading), name)


def copy(root: str) -> None:
    """Copy Alice's mailbox."""
    old, new = place(root, "old"), place(root, "new")
    result(Deferred.fromCoroutine(copy_mailbox(old, new, mailbox=ALICE.mailbox)))


def copied(death: Death, root: str, _: Callable[[Any], None], **__: bool) -> None:
    """Copy it, and die meanwhile."""
    death.arm()
    copy(root)


ACTS = {"copy": copied}


@pytest.fixture(scope="module")
def children() -> Iterator[Doomed]:
    """Children that copy."""
    yield from doomed_children(__file__)


def fill(root: Path) -> None:
    """Alice's mailbox: one message is read and has an id that is no number, one is hidden."""
    maildir = root / "old" / ALICE.mailbox
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(parents=True)
    lines = []
    for number in range(COUNT):
        name = f"{1_600_000_000 + number}.M{number}P1.host"
        file = maildir / ("cur" if number == 1 else "new") / (name + ":2,S" * (number == 1))
        file.write_bytes(b"Subject: %d\r\n\r\n" % number)
        os.utime(file, (1_600_000_000 + number,) * 2)
        lines.append(f"{number + 1} {'Podd' * (number == 1)} :{name}".replace("  ", " "))
    (maildir / "dovecot-uidlist").write_text("3 V1 N4\n" + "\n".join(lines) + "\n")
    store = place(str(root), "old").store
    assert result(store.hide(ALICE, ["3"], Reason(operator="desk"))) == 1  # type: ignore[attr-defined]


def mail(tools: Tools) -> list[tuple[Any, ...]]:
    """All of it."""
    store: Any = tools.store
    test = SynchronousTestCase()
    found = []
    for one in result(store.inspect(ALICE)).messages:
        body: IBody = result(store.open_message(ALICE, one))
        hidden = None if one.hidden is None else Near(one.hidden)
        text = read_all(test, body)
        found.append((one.uid, text, Near(one.received), one.read is None, hidden))
    return found


def is_made(root: Path) -> bool:
    """Whether there is a new Maildir."""
    return (root / "new" / ALICE.mailbox / "cur").is_dir()


def test_a_copy_that_is_killed_at_any_step_is_ended_by_a_second_run(
    tmp_path: Path, children: Doomed
) -> None:
    step, killed_while_closed = 0, 0
    while True:
        step += 1
        root = tmp_path / str(step)
        fill(root)
        before = mail(place(str(root), "old"))
        assert len(before) == COUNT
        end = children.live(root, "copy", step, cuts=2)
        old, new = place(str(root), "old"), place(str(root), "new")
        if end.killed:
            assert mail(old) == before, f"step {step}"
            image = result(old.store.inspect(ALICE))  # type: ignore[attr-defined]
            if image.away:
                killed_while_closed += 1
            else:
                # The hold of a process that is dead closes nothing.
                result(old.store.open(ALICE, None))[1]()
                there = {one[0]: one for one in mail(new)} if is_made(root) else {}
                # Each message that is there is there as a whole.
                assert all(there[one[0]][:2] == one[:2] for one in before if one[0] in there)
            # The last step opens the new mailbox.
            if not image.away or result(new.store.inspect(ALICE)).away:  # type: ignore[attr-defined]
                copy(str(root))
        assert mail(new) == before, f"step {step}"
        assert result(result(new.store.open(ALICE, None))[0].listing()).uids == ["1", "odd"]
        if not end.killed:
            break
    assert step > 100
    assert killed_while_closed


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), ACTS)
