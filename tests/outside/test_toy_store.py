"""A store and a directory of somebody else's, tested by what the installed package brings.

Nothing but ``gateway`` is imported here: ``tests/interop/test_installed.py`` runs this file
outside the source tree, too.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from gateway.errors import BadCredentials, MessageGone, NoSuchMailbox
from gateway.interfaces import IBody, IDirectory, IMaildrop, IStore
from gateway.model import Account, Form, Listing, Terms
from gateway.testing.directory_contract import directory_tests
from gateway.testing.store_contract import ALICE, store_tests
from gateway.wire.body import Canonical


@implementer(IBody)
class ToyBody:
    """A message in one piece."""

    form = Form.CANONICAL

    def __init__(self, content: bytes) -> None:
        self._rest = [content]

    def read_now(self) -> bytes:
        return self._rest.pop() if self._rest else b""

    def read(self) -> Deferred[bytes]:
        return succeed(self.read_now())

    def close(self) -> None:
        self._rest.clear()


@implementer(IMaildrop)
class ToyMaildrop:
    """A session's view of a dictionary."""

    def __init__(self, name: str, box: ToyBox) -> None:
        self.name = name
        self.terms = Terms()
        self._box = box
        self._uids = list(box.messages)

    def listing(self) -> Deferred[Listing]:
        sizes = [len(_sent(self._box.messages[uid])) for uid in self._uids]
        return succeed(Listing(sizes, [str(uid) for uid in self._uids]))

    def retrieve(self, index: int) -> Deferred[ToyBody]:
        content = self._box.messages.get(self._uids[index])
        return fail(MessageGone()) if content is None else succeed(ToyBody(_sent(content)))

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        for index in removed:
            self._box.messages.pop(self._uids[index], None)
        return self.abandon(retrieved)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        self._box.read |= {self._uids[index] for index in retrieved}
        return succeed(None)


def _sent(content: bytes) -> bytes:
    lines = Canonical()
    return lines.feed(content) + lines.finish()


class ToyBox:
    """A mailbox."""

    def __init__(self) -> None:
        self.messages: dict[int, bytes] = {}
        self.read: set[int] = set()
        self.last = 0


@implementer(IStore)
class ToyStore:
    """Mailboxes in a dictionary."""

    def __init__(self) -> None:
        self.boxes = {ALICE.mailbox: ToyBox()}

    def open(self, account: Account, mind: object) -> Deferred[tuple[object, Callable[[], None]]]:
        del mind
        box = self.boxes.get(account.mailbox)
        if box is None:
            return fail(NoSuchMailbox(account.mailbox))
        return succeed((ToyMaildrop(account.mailbox, box), lambda: None))


class ToyBench:
    """The world around the store."""

    def __init__(self, _: SynchronousTestCase) -> None:
        self.store = ToyStore()
        self._box = self.store.boxes[ALICE.mailbox]

    def deliver(self, content: bytes) -> None:
        self._box.last += 1
        self._box.messages[self._box.last] = content

    def expunge_first(self) -> None:
        del self._box.messages[min(self._box.messages)]

    def contents(self) -> list[bytes]:
        return list(self._box.messages.values())

    def read_count(self) -> int:
        return len(self._box.read)


@implementer(IDirectory)
class ToyDirectory:
    """Names with passwords."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._passwords = passwords

    def find(self, login: str) -> Deferred[Account | None]:
        return succeed(Account(name=login, mailbox=login) if login in self._passwords else None)

    recipient = owner = find

    def accounts(self) -> Deferred[list[Account]]:
        return succeed([Account(name=name, mailbox=name) for name in self._passwords])

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        def check() -> Account:
            wanted = self._passwords.get(login, "").encode()
            if not (password and hmac.compare_digest(wanted, password)):
                raise BadCredentials(f"no {login} with that password")
            return Account(name=login, mailbox=login)

        return execute(check)


class ToyStoreTests(store_tests(ToyBench)):  # type: ignore[misc]
    pass


class ToyDirectoryTests(directory_tests(lambda _, passwords: ToyDirectory(passwords))):  # type: ignore[misc]
    pass
