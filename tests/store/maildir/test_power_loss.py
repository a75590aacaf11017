"""What was reported as done survives a loss of power: all directories above mail are synced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Account, Reason
from gateway.store.maildir.store import MaildirStore
from gateway.testing.retention_store_contract import Trail
from gateway.testing.store_contract import ALICE, NO_LIMITS, run_now


class Disk:
    """Knows which directories a loss of power would undo, or give back to their first owner."""

    def __init__(self) -> None:
        self.unnamed: set[str] = set()
        """Directories without a sync of the one they lie in since they were made."""
        self.unowned: set[str] = set()
        """Directories without a sync since their owner changed."""
        self._really = {name: getattr(os, name) for name in ("mkdir", "chown", "fchown", "fsync")}

    @contextmanager
    def watched(self) -> Iterator[None]:
        with mock.patch.multiple(os, **{name: getattr(self, f"_{name}") for name in self._really}):
            yield

    def _mkdir(self, path: str, mode: int, *, dir_fd: int | None = None) -> None:
        self._really["mkdir"](path, mode, dir_fd=dir_fd)
        start = "" if dir_fd is None else _path_of(dir_fd)
        self.unnamed.add(os.path.realpath(os.path.join(start, path)))

    def _chown(self, path: str, *owner: int, **more: Any) -> None:
        self._really["chown"](path, *owner, **more)
        self.unowned.add(os.path.realpath(path))

    def _fchown(self, file: int, *owner: int) -> None:
        self._really["fchown"](file, *owner)
        if os.path.isdir(path := _path_of(file)):
            self.unowned.add(path)

    def _fsync(self, file: int) -> None:
        self._really["fsync"](file)
        synced = _path_of(file)
        self.unowned.discard(synced)
        self.unnamed = {path for path in self.unnamed if os.path.dirname(path) != synced}


def _path_of(file: int) -> str:
    return os.readlink(f"/proc/self/fd/{file}")


class PowerLossTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = Disk()
        path = "mail/{domain}/{local}"
        self.store = MaildirStore(self.mktemp(), path, run_now, audit=Trail())

    def check(self) -> None:
        self.assertEqual((self.disk.unnamed, self.disk.unowned), (set(), set()))

    def deliver(self) -> None:
        incoming = self.successResultOf(self.store.receive(ALICE))
        incoming.write(b"Subject: one\r\n\r\none\r\n")
        self.assertIsNone(self.successResultOf(incoming.commit(ALICE, NO_LIMITS)))
        self.successResultOf(incoming.close())

    def test_the_first_message_of_a_domain_stays_when_its_directories_were_just_made(self) -> None:
        with self.disk.watched():
            self.deliver()
        self.check()

    def test_the_first_hidden_message_stays_when_its_folder_was_just_made(self) -> None:
        self.deliver()
        (kept,) = self.successResultOf(self.store.scan(ALICE))
        with self.disk.watched():
            self.successResultOf(self.store.hide(ALICE, [kept.uid], Reason(rule="age")))
        self.check()

    def test_a_mailbox_stays_that_was_renamed_into_a_new_domain(self) -> None:
        self.deliver()
        other = Account(name="alice@new.example", mailbox="alice@new.example")
        with self.disk.watched():
            self.successResultOf(self.store.rename(ALICE, other))
        self.check()
