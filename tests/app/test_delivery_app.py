"""What the parts that take mail in share."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from gateway.app.delivery import Mailroom, composer
from gateway.config.settings import Lmtp, Quota, Settings, Text, Texts
from gateway.directory.memory import MemoryDirectory
from gateway.model import Account, Level, Limits, Usage
from gateway.net.timeouts import Timeouts
from gateway.state.ledger import NAME, Ledger
from gateway.store.memory import MemoryStore
from harness import Line


class Later:
    """What the workers are to do, done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def run(self, work: Callable[[], Any]) -> Deferred[Any]:
        """As a worker has it."""
        answer: Deferred[Any] = Deferred()
        self.waiting.append(lambda: maybeDeferred(work).chainDeferred(answer))
        return answer

    def go(self) -> int:
        """Do all of it; how much that was."""
        done = 0
        while self.waiting:
            self.waiting.pop(0)()
            done += 1
        return done


def mailroom(state: Path, workers: Later) -> Mailroom:
    """One that nothing is set for."""
    settings = Settings(state_dir=str(state))
    directory, store = MemoryDirectory({}), MemoryStore()
    return Mailroom(Clock(), settings, directory, store, run=workers.run, timeouts=Timeouts())


def test_all_who_want_the_ledger_at_once_get_the_same(tmp_path: Path) -> None:
    workers = Later()
    room, got = mailroom(tmp_path, workers), list[Ledger]()
    for _ in range(3):
        room.ledger.ask(got.append)
    assert workers.go() == 4
    assert got == [room.ledger.made] * 3
    room.stop()


def test_a_ledger_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    workers, state = Later(), tmp_path / "var"
    room, got, failed = mailroom(state, workers), list[Ledger](), list[Any]()
    for _ in range(2):
        room.ledger.ask(got.append).addErrback(failed.append)
    workers.go()
    assert (len(got), len(failed)) == (0, 2)
    state.mkdir()
    room.ledger.ask(got.append)
    workers.go()
    assert len(got) == 1
    room.stop()


def test_a_ledger_that_nobody_wants_is_not_made(tmp_path: Path) -> None:
    room = mailroom(tmp_path, Later())
    room.start()
    room.stop()
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_is_closed_at_the_end(tmp_path: Path) -> None:
    workers, got = Later(), list[Ledger]()
    room = mailroom(tmp_path, workers)
    room.ledger.ask(got.append)
    workers.go()
    assert len(list(tmp_path.iterdir())) > 1
    room.stop()
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_users_read_the_texts_that_are_set_for_the_language_and_the_level() -> None:
    own = Texts(warn=Text(subject="Bald voll: {percent} %"), over=Text(text="Nichts geht mehr."))
    compose = composer(Quota(warn_from="post@a.example", warn_language="de", texts={"de": own}))
    account, limits = Account(name="a@a.example", mailbox="a"), Limits(octets=100)
    warned = compose(account, Usage(90), limits, Level.WARN)
    assert b"Subject: Bald voll: 90 %\r\n" in warned
    over = compose(account, Usage(100), limits, Level.OVER)
    assert b"Subject: Ihr Postfach ist voll\r\n" in over
    assert b"Nichts geht mehr." in over


def test_who_reads_another_language_is_warned_in_it_as_far_as_it_is_known() -> None:
    own = {"fr": Texts(warn=Text(subject="Bientôt plein", text="{name}", html="<p>{name}"))}
    compose = composer(Quota(warn_from="post@a.example", texts=own))
    for languages, subject in {
        ("fr-ca", "de"): "Bientôt plein",
        ("it", "de-at"): "Ihr Postfach ist zu 90 % voll",
        ("it",): "Your mailbox is 90% full",
    }.items():
        account = Account(name="a@a.example", mailbox="a", languages=languages)
        message = compose(account, Usage(90), Limits(octets=100), Level.WARN)
        assert message_from_bytes(message, policy=default)["Subject"] == subject


def test_whoever_wants_to_know_is_told_whose_mail_came(tmp_path: Path) -> None:
    settings = Settings(state_dir=str(tmp_path), lmtp=Lmtp(endpoint="tcp:24"))
    directory, store, told = MemoryDirectory({"a@a.example": "x"}), MemoryStore(), list[Account]()
    store.add("a@a.example")
    room = Mailroom(
        Clock(),
        settings,
        directory,
        store,
        run=maybeDeferred,
        timeouts=Timeouts(),
        delivered=told.append,
    )
    (listener,) = room.listeners(lambda: None)
    line = Line("127.0.0.1")
    protocol = listener.wire.buildProtocol(line.getPeer())
    protocol.makeConnection(line)
    protocol.dataReceived(
        b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@a.example>\r\nDATA\r\nSubject: x\r\n.\r\nQUIT\r\n"
    )
    assert [account.name for account in told] == ["a@a.example"]
    room.stop()
