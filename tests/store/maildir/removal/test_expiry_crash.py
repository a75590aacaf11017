"""Retention is killed at every step: what was to stay is there, nothing is there twice.

As ``test_crash`` does it.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from answers import result
from doomed import Death, Doomed, serve
from gateway.model import StoredMessage, Usage
from gateway.state.audit import Audit
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.uidlist import NAME
from gateway.testing.retention_store_contract import RULE
from gateway.testing.store_contract import ALICE, run_now
from survival import FIRST_ID, LOCK_TIMEOUT, Mailbox, Shown, as_sent, content_of, files_in

pytestmark = pytest.mark.usefixtures("no_sync", "reached")

DUE = (2, 3, 6)
"""Numbers of the messages that are to go, of seven."""

UIDS = tuple(str(FIRST_ID + number) for number in DUE)
CONTENTS = frozenset(as_sent(content_of(number)) for number in DUE)


def store_in(root: str) -> MaildirStore:
    """A store as after a restart, with an audit beside the mail."""
    reading = MaildirOptions(create=False, lock_timeout=LOCK_TIMEOUT)
    audit = Audit(f"{root}/audit.log", max_octets=10**6, keep=1)
    return MaildirStore(root, "{name}", run_now, reading=reading, audit=audit)


def act(what: str, *arguments: Any) -> Callable[..., None]:
    def run(death: Death, root: str, _: Callable[[Any], None], **__: bool) -> None:
        death.arm()
        assert result(getattr(store_in(root), what)(ALICE, UIDS, *arguments)) == len(UIDS)

    return run


ACTS = {
    "remove": act("remove", RULE),
    "hide": act("hide", RULE),
    "restore": act("restore"),
    "purge": act("purge", RULE),
}


class Retained(Mailbox):
    """A mailbox of seven with ids and a ``maildirsize``, some hidden if so wanted."""

    def __init__(self, directory: Path, *, hidden: bool) -> None:
        super().__init__(directory, 7, listed=7)
        octets = sum(path.stat().st_size for path in files_in(self.maildir))
        (self.maildir / "maildirsize").write_text(f"1000000S\n{octets} 7\n")
        if hidden:
            assert self.ask("hide", UIDS, RULE) == len(UIDS)

    def ask(self, what: str, *arguments: Any) -> Any:
        return result(getattr(store_in(str(self.root)), what)(ALICE, *arguments))

    def shown(self) -> Shown:
        """What a client sees; ids as before, each message once."""
        visible = {path.read_bytes() for path in files_in(self.maildir)}
        kept, self.stored = self.stored, visible
        shown = self.shows(store_in(str(self.root)), seen=self.seen)
        self.stored = kept
        return shown

    def hidden(self) -> dict[str, StoredMessage]:
        return {kept.uid: kept for kept in self.ask("list_hidden")}

    def audited(self) -> str:
        path = self.root / "audit.log"
        return path.read_text() if path.exists() else ""

    def check(self) -> tuple[Shown, dict[str, StoredMessage]]:
        """What was to stay is there, and nothing in two places."""
        shown, hidden = self.shown(), self.hidden()
        assert set(self.seen.values()) - set(UIDS) <= set(shown.values())
        assert set(hidden) <= set(UIDS)
        assert set(hidden).isdisjoint(shown.values())
        return shown, hidden

    def check_usage(self) -> None:
        """Nothing that is there is left uncounted, and a count finds what is shown."""
        held = [path.stat().st_size for path in files_in(self.maildir)]
        usage = self.ask("usage")
        assert usage.octets >= sum(held)
        assert usage.messages >= len(held)
        (self.maildir / "maildirsize").unlink(missing_ok=True)
        assert self.ask("usage") == Usage(sum(held), len(held))


@pytest.mark.parametrize(
    ("what", "action", "marks"), [("remove", "discard", False), ("purge", "purge", True)]
)
def test_a_death_while_removing_takes_what_was_due_only_and_only_what_was_audited(
    doomed: Doomed, tmp_path: Path, what: str, action: str, marks: bool
) -> None:
    step, killed, left = 0, True, set()
    while killed:
        step += 1
        mailbox = Retained(tmp_path / "mail", hidden=marks)
        killed, _ = doomed.live(mailbox.root, what, step, cuts=8)
        shown, hidden = mailbox.check()
        there = set(hidden) if marks else set(UIDS) & set(shown.values())
        gone = set(UIDS) - there
        for uid in gone:
            assert f'"action": "{action}", "mailbox": "alice@example.org", "uid": "{uid}"' in (
                mailbox.audited()
            )
        left.add(len(there))
        assert mailbox.ask(what, UIDS, RULE) == len(there)
        assert mailbox.hidden() == {}
        assert not CONTENTS & set(mailbox.shown())
        mailbox.check_usage()
        mailbox.survived(mailbox.seen, maybe_gone=frozenset(content_of(one) for one in DUE))
    assert left == {3, 2, 1, 0}
    assert step > 8


def test_a_death_while_hiding_leaves_each_in_one_place_and_all_come_back(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed, put_away = 0, True, set()
    while killed:
        step += 1
        mailbox = Retained(tmp_path / "mail", hidden=False)
        before = mailbox.seen
        killed, _ = doomed.live(mailbox.root, "hide", step, cuts=4)
        shown, hidden = mailbox.check()
        assert set(hidden) | set(shown.values()) == set(before.values())
        put_away.add(len(hidden))
        for uid in hidden:
            assert f'"uid": "{uid}"' in mailbox.audited()
        # The next process goes on, and it can all be undone.
        assert mailbox.ask("hide", UIDS, RULE) == len(UIDS) - len(hidden)
        assert set(mailbox.check()[1]) == set(UIDS)
        mailbox.check_usage()
        assert mailbox.ask("restore", UIDS) == len(UIDS)
        assert mailbox.check() == (before, {})
        mailbox.survived(before)
    assert put_away == {0, 1, 2, 3}
    assert step > 20


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_death_while_bringing_back_leaves_each_in_one_place_under_its_id(
    doomed: Doomed, tmp_path: Path, rewritten: bool
) -> None:
    step, killed, back = 0, True, set()
    while killed:
        step += 1
        mailbox = Retained(tmp_path / "mail", hidden=True)
        before = mailbox.seen
        if rewritten:
            lines = (mailbox.maildir / NAME).read_text().splitlines(keepends=True)
            stay = [line for line in lines if line.split(" ")[0] not in UIDS]
            (mailbox.maildir / NAME).write_text("".join(stay) + "torn")
        killed, _ = doomed.live(mailbox.root, "restore", step, cuts=30)
        mailbox.check_usage()
        shown, hidden = mailbox.check()
        assert set(hidden) | set(shown.values()) == set(before.values())
        back.add(len(UIDS) - len(hidden))
        assert mailbox.ask("restore", UIDS) == len(hidden)
        assert mailbox.check() == (before, {})
        mailbox.check_usage()
        mailbox.survived(before)
    assert back == {0, 1, 2, 3}
    assert step > 20


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, ACTS)
