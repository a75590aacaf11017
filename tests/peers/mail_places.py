"""Where the mail of a gateway under test is: the same tests run over each kind of store."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
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

    has_state_files: bool
    """Whether the state and the leader's lock are files of the state directory."""

    stores_what_is_sent: bool
    """Whether a message takes as many octets as RETR sends, whatever its line ends were."""

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
    def give_ids(self, mailbox: str) -> None:
        """Give each message its unique-id, as it has it after a migration."""

    @abstractmethod
    def back_up(self, mailbox: str) -> Callable[[], None]:
        """Save all that knows of unique-ids; what restores it, without the mail since."""

    @abstractmethod
    def end_terms(self) -> None:
        """Let the time pass for which a leader that was killed still leads."""

    @abstractmethod
    def without_audit(self) -> AbstractContextManager[None]:
        """During a ``with`` no entry can be written, so that no message can be removed."""

    @abstractmethod
    def audited(self) -> list[Mapping[str, str]]:
        """The entries of the audit, the oldest first."""


class MaildirMail(Mail):
    """Maildirs in a directory of the gateway."""

    bad_names = ("", "../x", "a/b", "x" * 300)
    restored_come_last = True
    has_state_files = True
    stores_what_is_sent = False

    def __init__(self, directory: Path) -> None:
        self._state = directory
        self._root = directory / "mail"
        # Absolute, as administrators write it; the default is relative, and other tests have it.
        self.settings = f'path = "{self._root}/{{name}}"'
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
        """From the files, which may be removed meanwhile."""
        found = []
        for file in (self._root / mailbox).glob("[nc]*/*"):
            with suppress(FileNotFoundError):
                found.append(file.read_bytes().partition(b"\r\n\r\n")[0])
        return found

    def miscount(self, mailbox: str, messages: int) -> None:
        """In ``maildirsize``."""
        (self._root / mailbox / "maildirsize").write_text(f"1048576S\n77777 {messages}\n")

    def give_ids(self, mailbox: str) -> None:
        """By a uidlist."""
        names = sorted(file.name for file in (self._root / mailbox / "new").iterdir())
        lines = "".join(f"{uid} :{name}\n" for uid, name in enumerate(names, 1))
        uidlist = self._root / mailbox / "dovecot-uidlist"
        uidlist.write_text(f"3 V1 N{len(names) + 1}\n{lines}")

    def back_up(self, mailbox: str) -> Callable[[], None]:
        """The uidlist and the ledger."""
        box = self._root / mailbox
        saved = (box / "dovecot-uidlist", *self._state.glob("ledger.sqlite3*"))
        backup = {path: path.read_bytes() for path in saved}
        before = {file.name for file in box.glob("[nc]*/*")}

        def restore() -> None:
            for file in box.glob("[nc]*/*"):
                if file.name not in before:
                    file.unlink()
            for path, content in backup.items():
                path.write_bytes(content)

        return restore

    def end_terms(self) -> None:
        """The lock has ended with its process."""

    @contextmanager
    def without_audit(self) -> Iterator[None]:
        """A directory has the log's name."""
        path = self._state / "audit.log"
        kept = path.rename(self._state / "audit.kept")
        path.mkdir()
        try:
            yield
        finally:
            path.rmdir()
            kept.rename(path)

    def audited(self) -> list[Mapping[str, str]]:
        """The lines of the audit log."""
        path = self._state / "audit.log"
        if not path.exists():
            return []
        # The last line may be under way.
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


MailOf = Callable[[Path], Mail]
"""Makes the place of mail, without any, for the gateway in a directory."""
