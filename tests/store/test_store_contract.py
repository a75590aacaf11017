"""The shipped stores keep the same promises."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.memory import MemoryStore
from gateway.testing.mailbox_admin_contract import mailbox_admin_tests
from gateway.testing.retention_store_contract import Trail, keeping_tests
from gateway.testing.store_contract import (
    ALICE,
    BOB,
    admit,
    creating_tests,
    delivery_tests,
    run_now,
    store_tests,
)
from gateway.testing.transfer_contract import transfer_tests


class MemoryBench:
    def __init__(self, test: SynchronousTestCase) -> None:  # noqa: ARG002
        self.trail = Trail()
        self.store = MemoryStore(admit=admit, audit=self.trail)
        self._mailbox = self.store.add(ALICE.mailbox)
        self.store.add(BOB.mailbox)

    def deliver(self, content: bytes) -> None:
        self._mailbox.deliver(content)

    def expunge_first(self) -> None:
        del self._mailbox.messages[min(self._mailbox.messages)]

    def contents(self) -> list[bytes]:
        return list(self._mailbox.messages.values())

    def read_count(self) -> int:
        return len(self._mailbox.read)

    def left_over(self) -> list[str]:
        return []


class MaildirBench:
    """A Maildir on a real disk; ``named`` puts true sizes into the names."""

    def __init__(self, test: SynchronousTestCase, **reading: Any) -> None:
        self.root = test.mktemp()
        self.maildir = f"{self.root}/{ALICE.mailbox}"
        for account in (ALICE, BOB):
            for folder in ("tmp", "new", "cur"):
                os.makedirs(f"{self.root}/{account.mailbox}/{folder}")
        self.trail = Trail()
        self.store = MaildirStore(
            self.root,
            "{name}",
            run_now,
            reading=MaildirOptions(**{"create": False, **reading}),
            admit=admit,
            audit=self.trail,
        )
        self._count = 0

    def deliver(self, content: bytes, name: str = "", folder: str = "new") -> str:
        self._count += 1
        name = name or f"{1_700_000_000 + self._count}.M{self._count}P1.host"
        with open(f"{self.maildir}/{folder}/{name}", "wb") as file:
            file.write(content)
        return name

    def files(self) -> list[str]:
        """``new/...`` and ``cur/...`` in the order of delivery."""
        found = [
            f"{folder}/{name}"
            for folder in ("new", "cur")
            for name in os.listdir(f"{self.maildir}/{folder}")
        ]
        return sorted(found, key=lambda file: file.partition("/")[2])

    def expunge_first(self) -> None:
        os.unlink(f"{self.maildir}/{self.files()[0]}")

    def contents(self) -> list[bytes]:
        stored = []
        for name in self.files():
            with open(f"{self.maildir}/{name}", "rb") as file:
                stored.append(file.read())
        return stored

    def read_count(self) -> int:
        return sum("S" in name.partition(":2,")[2] for name in self.files())

    def left_over(self) -> list[str]:
        return [
            f"{account.mailbox}/tmp/{name}"
            for account in (ALICE, BOB)
            for name in os.listdir(f"{self.root}/{account.mailbox}/tmp")
        ]


class MemoryStoreTests(store_tests(MemoryBench)):  # type: ignore[misc]
    pass


class MemoryDeliveryTests(delivery_tests(MemoryBench)):  # type: ignore[misc]
    pass


class MaildirDeliveryTests(delivery_tests(MaildirBench)):  # type: ignore[misc]
    pass


class MaildirCreatingTests(
    creating_tests(lambda test: MaildirBench(test, create=True))  # type: ignore[misc]
):
    pass


class MemoryKeepingTests(keeping_tests(MemoryBench)):  # type: ignore[misc]
    pass


class MaildirKeepingTests(keeping_tests(MaildirBench)):  # type: ignore[misc]
    pass


class MemoryMailboxAdminTests(mailbox_admin_tests(MemoryBench)):  # type: ignore[misc]
    pass


class MaildirMailboxAdminTests(mailbox_admin_tests(MaildirBench)):  # type: ignore[misc]
    pass


class MaildirTransferTests(transfer_tests(MaildirBench)):  # type: ignore[misc]
    pass


class MaildirStoreTests(store_tests(MaildirBench)):  # type: ignore[misc]
    pass


class TrustingMaildirStoreTests(
    store_tests(lambda test: MaildirBench(test, verify_octets=0))  # type: ignore[misc]
):
    pass
