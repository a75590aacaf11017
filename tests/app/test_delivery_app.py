"""What the parts that take mail in share."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from pathlib import Path

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from gateway.app.parts.delivery import MailServices, composer
from gateway.config.quota import Quota, Text, Texts
from gateway.config.services import Lmtp
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.events import Event, MessageDelivered
from gateway.model import Account, Level, Limits, Usage
from gateway.net.timeouts import Timeouts
from gateway.state.memory import MemoryLeader, MemoryState
from gateway.store.memory import MemoryStore
from harness import Line


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


def test_subscribers_get_deliveries_with_the_account(tmp_path: Path) -> None:
    settings = Settings(state_dir=str(tmp_path), lmtp=Lmtp(endpoint="tcp:24"))
    directory, store, told = MemoryDirectory({"a@a.example": "x"}), MemoryStore(), list[Event]()
    store.add("a@a.example")
    room = MailServices(
        Clock(),
        settings,
        directory,
        store,
        MemoryState(),
        MemoryLeader(),
        run=maybeDeferred,
        timeouts=Timeouts(),
        emit=told.append,
    )
    (listener,) = room.listeners(lambda: None)
    line = Line("127.0.0.1")
    protocol = listener.wire.buildProtocol(line.getPeer())
    protocol.makeConnection(line)
    protocol.dataReceived(
        b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@a.example>\r\nDATA\r\nSubject: x\r\n.\r\nQUIT\r\n"
    )
    delivered = [event for event in told if isinstance(event, MessageDelivered)]
    assert [event.account.name for event in delivered] == ["a@a.example"]
    room.stop()
