"""``POP3Factory(portal)`` in an application that knows nothing of pop3gw."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.mail.pop3 import IMailbox, Mailbox
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harness import ALICE, SECRET, Wire


class ListMailbox(Mailbox):
    """A classic mailbox, with twisted.mail's own base class."""

    def __init__(self, messages: list[bytes]) -> None:
        self.messages: list[bytes | None] = list(messages)
        self.kept = list(self.messages)
        self.synced = 0

    def listMessages(self, index: int | None = None) -> Any:
        """Sizes; 0 for what is deleted."""
        sizes = [len(message or b"") for message in self.messages]
        return sizes if index is None else sizes[index]

    def getMessage(self, index: int) -> BytesIO:
        """A file."""
        message = self.messages[index]
        assert message is not None
        return BytesIO(message)

    def getUidl(self, index: int) -> bytes:
        """An id."""
        return b"id-%d" % index

    def deleteMessage(self, index: int) -> None:
        """Mark."""
        self.messages[index] = None

    def undeleteMessages(self) -> None:
        """Unmark."""
        self.messages = list(self.kept)

    def sync(self) -> None:
        """Remove."""
        self.synced += 1


@implementer(IRealm)
class ClassicRealm:
    """A realm as the Twisted documentation has it."""

    def __init__(self, mailbox: object) -> None:
        self.mailbox = mailbox
        self.logouts = 0

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: Any) -> Any:
        """The mailbox, for whoever asks for one."""
        assert IMailbox in interfaces, (avatarId, mind)
        return IMailbox, self.mailbox, self.logout

    def logout(self) -> None:
        """Called once a session."""
        self.logouts += 1


class ClassicTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mailbox = ListMailbox([b"a: 1\r\n\r\none\r\n", b"a: 2\r\n\r\n.two\r\n"])
        self.realm = ClassicRealm(self.mailbox)
        checker = InMemoryUsernamePasswordDatabaseDontUse(**{ALICE: SECRET.encode()})
        checker.users = {ALICE.encode(): SECRET.encode()}
        self.wire = Wire(portal=Portal(self.realm, [checker]), store=object())

    def test_a_classic_mailbox_is_served_unchanged(self) -> None:
        client = self.wire.login()
        self.assertEqual(client.send(b"STAT"), b"+OK 2 27\r\n")
        self.assertEqual(client.lines(b"UIDL"), [b"1 id-0", b"2 id-1"])
        self.assertEqual(client.message(b"RETR 2"), b"a: 2\r\n\r\n.two\r\n")
        self.assertEqual(client.message(b"TOP 1 0"), b"a: 1\r\n\r\n")

    def test_quit_deletes_and_syncs_and_logs_out(self) -> None:
        client = self.wire.login()
        client.send(b"DELE 1")
        self.assertEqual(self.mailbox.messages, self.mailbox.kept)
        self.assertTrue(client.send(b"QUIT").startswith(b"+OK "))
        self.assertEqual([m is None for m in self.mailbox.messages], [True, False])
        self.assertEqual((self.mailbox.synced, self.realm.logouts), (1, 1))

    def test_a_dropped_line_syncs_nothing_and_logs_out(self) -> None:
        client = self.wire.login()
        client.send(b"DELE 1")
        client.hang_up()
        self.assertEqual((self.mailbox.synced, self.realm.logouts), (0, 1))

    def test_a_wrong_password_of_a_classic_checker_is_auth(self) -> None:
        client = self.wire.connect()
        self.assertTrue(client.log_in(password="wrong").startswith(b"-ERR [AUTH] "))

    def test_an_avatar_that_is_no_mailbox_is_refused_and_logged_out(self) -> None:
        self.realm.mailbox = object()
        answer = self.wire.connect().log_in()
        self.assertRegex(answer, rb"\A-ERR \[SYS/PERM\] [^\r\n]+\r\n\Z")
        self.assertEqual(self.realm.logouts, 1)
