"""Where the mail of a gateway under test is: the same tests run over each kind of store."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

DAY = 86_400


class Mail(ABC):
    """The mailboxes of a store, as those who look after its files or rows see them."""

    settings: str
    """The section ``[store]``."""

    bad_names: tuple[str, ...]
    """Some that no mailbox can have."""

    restored_come_last: bool
    """Whether a message that was hidden is listed as if it came when it was restored."""

    @abstractmethod
    def put(self, mailbox: str, messages: Iterable[bytes], *, days: float = 0) -> None:
        """Messages as they are, which came so many days ago, into a mailbox that may be new."""

    @abstractmethod
    def names(self) -> list[str]:
        """All mailboxes, sorted."""

    @abstractmethod
    def heads(self, mailbox: str) -> list[bytes]:
        """The headers of all messages that POP3 shows, in no order."""

    @abstractmethod
    def miscount(self, mailbox: str, messages: int) -> None:
        """Have the quota's counters say so many messages, whatever there is."""

    @abstractmethod
    def audited(self) -> list[Mapping[str, str]]:
        """The entries of the audit, the oldest first."""


class MaildirMail(Mail):
    """Maildirs in a directory of the gateway."""

    settings = 'path = "mail/{name}"'
    bad_names = ("", "../x", "a/b", "a\0b", "x" * 300)
    restored_come_last = True

    def __init__(self, directory: Path) -> None:
        self._root = directory / "mail"
        self._audit = directory / "audit.log"
        self._number = 0

    def put(self, mailbox: str, messages: Iterable[bytes], *, days: float = 0) -> None:
        """Into ``new``, where an MDA puts them."""
        then = time.time() - days * DAY
        for folder in ("tmp", "new", "cur"):
            (self._root / mailbox / folder).mkdir(parents=True, exist_ok=True)
        for content in messages:
            self._number += 1
            file = self._root / mailbox / "new" / f"{int(then)}.M{self._number:06}P1.test"
            file.write_bytes(content)
            os.utime(file, (then, then))

    def names(self) -> list[str]:
        """The directories."""
        return sorted(os.listdir(self._root)) if self._root.exists() else []

    def heads(self, mailbox: str) -> list[bytes]:
        """From the files."""
        files = (self._root / mailbox).glob("[nc]*/*")
        return [file.read_bytes().partition(b"\r\n\r\n")[0] for file in files]

    def miscount(self, mailbox: str, messages: int) -> None:
        """In ``maildirsize``."""
        (self._root / mailbox / "maildirsize").write_text(f"1048576S\n77777 {messages}\n")

    def audited(self) -> list[Mapping[str, str]]:
        """The lines of the audit log."""
        if not self._audit.exists():
            return []
        # The last line may be under way.
        return [json.loads(line) for line in self._audit.read_bytes().split(b"\n")[:-1]]
