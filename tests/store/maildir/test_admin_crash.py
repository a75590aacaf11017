"""A process is killed at every step of a rename or a deletion: nothing is lost without a line.

As ``test_crash`` does it.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from answers import result
from doomed import Death, Doomed, serve
from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.model import Account, LastScan, Reason
from gateway.operations.mail import mailboxes
from gateway.operations.mail.mailboxes import SESSIONS_IN
from gateway.operations.tools import Tools
from gateway.state.audit import Audit
from gateway.state.ledger import LedgerState
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, run_now
from survival import LOCK_TIMEOUT, Mailbox, Shown, shown_by

pytestmark = pytest.mark.usefixtures("no_sync", "reached")

CAROL = Account(name="carol@example.org", mailbox="carol@example.org")
DESK = Reason(operator="token desk")
HIDDEN = 2
"""Of five messages."""


def store_in(root: str) -> MaildirStore:
    """A store as after a restart, with an audit beside the mail."""
    reading = MaildirOptions(create=False, lock_timeout=LOCK_TIMEOUT)
    audit = Audit(f"{root}/audit.log", max_octets=10**6, keep=1)
    return MaildirStore(root, "{name}", run_now, reading=reading, audit=audit)


def act(what: str, argument: Any) -> Callable[..., None]:
    def run(death: Death, root: str, _: Callable[[Any], None], **__: bool) -> None:
        death.arm()
        result(getattr(store_in(root), what)(ALICE, argument))

    return run


def tools_in(root: str) -> Tools:
    """What an operator's operations work with, as after a restart."""
    questions = Questions()
    questions.answer(SESSIONS_IN, lambda _: 0)
    settings = Settings()
    return tools_of(
        settings,
        MemoryDirectory({}),
        store_in(root),
        LedgerState(root, run_now),
        policies=policies_of(settings.retention),
        processes=SingleProcess(questions),
        run=run_now,
    )


def rename_in(root: str) -> bool:
    """Rename Alice's mailbox as an operator does; whether that ended an earlier run."""
    asked = mailboxes.rename(tools_in(root), mailbox=ALICE.mailbox, target=CAROL.mailbox)
    resumed: bool = result(Deferred.fromCoroutine(asked)).resumed
    return resumed


def operate(death: Death, root: str, _: Callable[[Any], None], **__: bool) -> None:
    """The whole operation, with the state."""
    death.arm()
    rename_in(root)


ACTS = {
    "rename": act("rename", CAROL),
    "delete": act("delete", DESK),
    "operator renames": operate,
}


class Administered(Mailbox):
    """A mailbox of five with ids, two of them hidden, and one message in another folder."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 5, listed=5)
        folder = self.maildir / ".Sent"
        for kind in ("tmp", "new", "cur"):
            (folder / kind).mkdir(parents=True)
        (folder / "cur" / "1700000000.M1P1.host:2,S").write_bytes(b"Subject: sent\r\n\r\n")
        self.ids = sorted(self.seen.values(), key=int)
        hidden = self.ask("hide", self.ids[:HIDDEN], DESK)
        assert hidden == HIDDEN

    def ask(self, what: str, *arguments: Any, of: Account = ALICE) -> Any:
        return result(getattr(store_in(str(self.root)), what)(of, *arguments))

    def names(self) -> list[str]:
        return result(store_in(str(self.root)).names())

    def shown_to(self, account: Account) -> Shown:
        maildrop, give_back = result(store_in(str(self.root)).open(account, None))
        try:
            return shown_by(maildrop)
        finally:
            give_back()

    def audited(self, *actions: str) -> list[str]:
        """Unique-ids of the lines with one of these actions."""
        text = (self.root / "audit.log").read_text()
        # Who died while it wrote has left half a line.
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [line["uid"] for line in lines if line["action"] in actions]


def test_a_death_during_a_rename_leaves_all_mail_under_one_of_the_names(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed, where = 0, True, set()
    while killed:
        step += 1
        mailbox = Administered(tmp_path / "mail")
        before = mailbox.shown_to(ALICE)
        killed, _ = doomed.live(mailbox.root, "rename", step)
        there = set(mailbox.names()) & {ALICE.mailbox, CAROL.mailbox}
        assert len(there) == 1
        where |= there
        if ALICE.mailbox in there:
            mailbox.ask("rename", CAROL)
        assert mailbox.shown_to(CAROL) == before
        assert mailbox.ask("contents", of=CAROL).hidden.messages == HIDDEN
        assert mailbox.ask("restore", mailbox.ids[:HIDDEN], of=CAROL) == HIDDEN
        assert mailbox.ask("contents", of=CAROL).folders.messages == 1
    assert where == {ALICE.mailbox, CAROL.mailbox}
    assert step > 3


def test_a_second_run_ends_the_rename_of_an_operator_wherever_the_first_one_died(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed, resumed = 0, True, set()
    while killed:
        step += 1
        mailbox = Administered(tmp_path / "mail")
        root = str(mailbox.root)
        before = mailbox.shown_to(ALICE)
        scan = LastScan("any 1d", due=9.0, looked=5.0, messages=5)
        result(tools_in(root).state.keep_scan(ALICE.mailbox, scan))
        killed, _ = doomed.live(mailbox.root, "operator renames", step)
        if killed:
            resumed.add(rename_in(root))
        assert mailbox.shown_to(CAROL) == before
        assert mailbox.names() == [CAROL.mailbox]
        assert result(tools_in(root).state.last_scans("", 99)) == {CAROL.mailbox: scan}
        assert result(tools_in(root).state.find_rename(ALICE.mailbox)) is None
    assert resumed == {False, True}


def test_a_death_during_a_deletion_takes_only_what_has_a_line_and_the_next_one_ends_it(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed, left = 0, True, set()
    while killed:
        step += 1
        mailbox = Administered(tmp_path / "mail")
        killed, _ = doomed.live(mailbox.root, "delete", step, cuts=8)
        there = set()
        # Its ``new`` goes after all mail has gone.
        if (mailbox.maildir / "new").exists():
            there = set(mailbox.shown_to(ALICE).values())
            there |= {kept.uid for kept in mailbox.ask("list_hidden")}
        left.add(len(there))
        assert set(mailbox.ids) - there <= set(mailbox.audited("discard", "purge"))
        if mailbox.maildir.exists():
            mailbox.ask("delete", DESK)
        assert not mailbox.maildir.exists()
        assert set(mailbox.audited("discard", "purge")) == {
            *mailbox.ids,
            ".Sent/1700000000.M1P1.host",
        }
    assert left == {0, 1, 2, 3, 4, 5}
    assert step > 20


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, ACTS)
