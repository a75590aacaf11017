"""Operations that fail half-way: the problem on the wire says how much was done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import count
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gateway.app.parts.operators import http_site
from gateway.config.retention import Retention
from gateway.config.services import Http, HttpToken
from gateway.config.settings import Settings
from gateway.errors import BadMailboxName, LedgerUnusable, NoRoom
from gateway.model import Account, Connection, LastScan, Removed, RetentionOrder
from gateway.operations.mail.mailboxes import SESSIONS_IN
from gateway.state.memory import MemoryState
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import run_now
from memory_tools import OperationCase

TOKEN, NAME = "t0ken-t0ken-t0ken", "alice"
MAIL = b"Subject: x\r\n\r\n"


class FullDisk:
    """An audit log on a disk with room for so many more lines."""

    room: float = float("inf")

    def __call__(self, removed: Iterable[Removed]) -> None:
        lines = len(list(removed))
        if lines > self.room:
            raise NoRoom("audit.log: No space left on device")
        self.room -= lines


class FullState(MemoryState):
    """A state on a disk with room for so many more changes."""

    room: float = float("inf")

    def _full(self) -> Deferred[None] | None:
        self.room -= 1
        return fail(LedgerUnusable("ledger.sqlite3: disk is full")) if self.room < 0 else None

    def add_order(self, mailbox: str, order: RetentionOrder) -> Deferred[None]:
        """Fails where there is no room."""
        return self._full() or super().add_order(mailbox, order)

    def finish_rename(self, mailbox: str) -> Deferred[None]:
        """Fails where there is no room."""
        return self._full() or super().finish_rename(mailbox)

    def forget_mailbox(self, mailbox: str) -> Deferred[None]:
        """Fails where there is no room."""
        return self._full() or super().forget_mailbox(mailbox)


def broken_disk(name: str) -> Any:
    """While this is entered, a function of ``os`` fails for all messages but the first two."""
    whole, messages = getattr(os, name), count()

    def call(path: Any, *more: Any, **named: Any) -> None:
        if ".host" in str(path) and next(messages) >= 2:
            raise OSError(5, "Input/output error", path)
        whole(path, *more, **named)

    return mock.patch.object(os, name, call)


class HalfDoneTests(OperationCase):
    settings = Settings(
        http=Http(tokens={"desk": HttpToken(("operate",), TOKEN)}),
        retention=Retention(enabled=True),
    )

    def setUp(self) -> None:
        super().setUp()
        self.audit = FullDisk()
        self.state: FullState = FullState()
        self.accounts[NAME] = Account(name=NAME, mailbox=NAME)
        self.questions.answer(SESSIONS_IN, lambda _: 0)
        reading = MaildirOptions(high_water=self.state.high_water)
        root = self.mktemp()
        self.store: Any = MaildirStore(root, "{name}", run_now, reading=reading, audit=self.audit)
        for kind in ("tmp", "new", "cur"):
            os.makedirs(f"{root}/{NAME}/{kind}")
        for number in range(5):
            path = f"{root}/{NAME}/new/{1_700_000_000 + number}.M{number}P1.host"
            with open(path, "wb") as message:
                message.write(MAIL)
        _, listed = self.post(f"mailboxes/{NAME}/messages", "GET")
        self.uids = [row["uid"] for row in listed["items"]]

    def post(self, path: str, method: str = "POST", **arguments: Any) -> tuple[int, Any]:
        """Status and JSON of what an operation answers."""
        site = http_site(
            Clock(),
            self.settings,
            lambda: self.tools,
            lambda _: None,
            lambda *_: fail(BadMailboxName()),
        )
        channel, line = site.buildProtocol(Connection("7f", "192.0.2.1")), StringTransport()
        channel.makeConnection(line)
        body = b"" if method == "GET" else json.dumps(arguments).encode()
        head = f"{method} /v1/{path} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n"
        channel.dataReceived(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head, _, answer = line.value().decode().partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(answer)

    def done(self, path: str, method: str = "POST", **arguments: Any) -> Any:
        """What the problem of an operation that fails says was done; None: it does not say."""
        status, problem = self.post(path, method, **arguments)
        self.assertEqual(status, 503, problem)
        return problem.get("done")

    def change(self, what: str, *uids: str) -> Any:
        """As ``done``, of messages of the mailbox."""
        return self.done(f"mailboxes/{NAME}/{what}", uids=uids)

    def test_of_messages_those_count_that_are_hidden_or_removed(self) -> None:
        self.audit.room = 1
        self.assertEqual(self.change("hide", *self.uids), {"messages": 1})
        self.audit.room = 2
        self.assertEqual(self.change("remove", *self.uids[1:]), {"messages": 2})

    def test_shown_and_hidden_messages_that_are_removed_count_together(self) -> None:
        self.post(f"mailboxes/{NAME}/hide", uids=self.uids[:3])
        self.audit.room = 3
        self.assertEqual(self.change("remove", *self.uids), {"messages": 3})

    def test_messages_count_that_were_restored_before_an_error_of_the_disk(self) -> None:
        self.post(f"mailboxes/{NAME}/hide", uids=self.uids)
        with broken_disk("utime"):
            self.assertEqual(self.change("restore", *self.uids), {"messages": 2})

    def test_of_a_mailbox_the_mail_counts_that_is_deleted(self) -> None:
        self.audit.room = 2
        octets = 2 * len(MAIL)
        done = self.done(f"mailboxes/{NAME}", "DELETE", confirm=NAME)
        self.assertEqual(done, {"messages": 2, "octets": octets})

    def test_each_message_counts_that_went_before_an_error_of_the_disk(self) -> None:
        with broken_disk("unlink"):
            done = self.done(f"mailboxes/{NAME}", "DELETE", confirm=NAME)
        self.assertEqual(done, {"messages": 2, "octets": 2 * len(MAIL)})

    def test_a_mailbox_counts_that_is_deleted_or_renamed_without_its_state(self) -> None:
        self.state.room = 0
        self.assertEqual(self.done(f"mailboxes/{NAME}/rename", target="bob"), {"mailboxes": 1})
        self.state.room = 2
        self.assertEqual(self.post(f"mailboxes/{NAME}/rename", target="bob")[0], 200)
        done = self.done("mailboxes/bob", "DELETE", confirm="bob")
        self.assertEqual(done, {"mailboxes": 1, "messages": 5, "octets": 5 * len(MAIL)})

    def test_mailboxes_count_that_have_their_order_to_retention(self) -> None:
        for name in ("a", "b", "c"):
            self.state.keep_scan(name, LastScan("any 1d", 9.0, 5.0, 2, stopped="too much"))
        for operation in ("run", "release"):
            self.state.room = 2
            self.assertEqual(self.done(f"retention/{operation}"), {"mailboxes": 2})

    def test_where_nothing_was_done_nothing_is_said(self) -> None:
        self.audit.room = self.state.room = 0
        self.assertIsNone(self.change("hide", *self.uids))
        self.assertIsNone(self.change("remove", *self.uids))
        self.assertIsNone(self.done(f"mailboxes/{NAME}", "DELETE", confirm=NAME))
        self.state.keep_scan("a", LastScan("any 1d", 9.0, 5.0, 2))
        self.assertIsNone(self.done("retention/run"))
