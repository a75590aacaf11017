"""A Maildir that has to survive, and what clients have seen of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from answers import result
from gateway.model import Form
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.uids.uidlist import NAME
from gateway.testing.store_contract import ALICE, run_now
from gateway.wire.body import Canonical

FIRST_ID = 100
LOCK_TIMEOUT = 10.0
"""Far below the age at which anybody's lock file is stale."""

Shown = dict[bytes, str]
"""What RETR sends to what UIDL shows."""


def open_store(root: str, *, create: bool = False, exclusive: bool = False) -> MaildirStore:
    """A store as after a restart, which remembers nothing."""
    reading = MaildirOptions(create=create, lock_timeout=LOCK_TIMEOUT)
    return MaildirStore(root, "{name}", run_now, reading=reading, exclusive=exclusive)


def sent_by(maildrop: Any, index: int) -> bytes:
    """A message as RETR sends it."""
    body = result(maildrop.retrieve(index))
    steps = Canonical() if body.form is Form.STORED else None
    data = b""
    while (chunk := body.read_now()) != b"":
        if chunk is None:
            chunk = result(body.read())
        data += steps.feed(chunk) if steps else chunk
    body.close()
    return data + (steps.finish() if steps else b"")


def shown_by(maildrop: Any) -> Shown:
    """All that a client can see, each id once and each message once."""
    listing = result(maildrop.listing())
    uids = list(listing.uids)
    contents = [sent_by(maildrop, index) for index in range(len(uids))]
    assert [len(content) for content in contents] == list(listing.sizes)
    assert len(set(uids)) == len(uids), "two messages share an id"
    assert len(set(contents)) == len(contents), "one message is there twice"
    return dict(zip(contents, uids, strict=True))


def base_of(number: int) -> str:
    """A Maildir name; some tell sizes, some do not."""
    base = f"{1_700_000_000 + number}.M{number}P1.host"
    size = len(as_sent(content_of(number)))
    return f"{base},W={size}" if number % 4 == 0 else base


def content_of(number: int) -> bytes:
    """A message, with or without what makes it an effort to send."""
    end = b"\n" if number % 3 == 0 else b"\r\n"
    lines = [b"Subject: %d" % number, b"", b".dot", b"\0\xff" * number, b"last"]
    return end.join(lines) + (end if number % 2 else b"")


def as_sent(content: bytes) -> bytes:
    """Text with CRLF line ends, the last included."""
    text = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def files_in(maildir: str | Path) -> list[Path]:
    """All message files."""
    folders = (Path(maildir, folder) for folder in ("new", "cur"))
    return sorted(path for folder in folders for path in folder.iterdir())


class Mailbox:
    """A Maildir of the messages 1 to ``messages``, of which 1 to ``listed`` have ids."""

    def __init__(self, directory: Path, messages: int, *, listed: int = 0) -> None:
        self.root = directory
        self.maildir = directory / ALICE.mailbox
        if directory.exists():
            shutil.rmtree(directory)
        for folder in ("tmp", "new", "cur"):
            (self.maildir / folder).mkdir(parents=True)
        self.stored: set[bytes] = set()
        for number in range(1, messages + 1):
            self.deliver(number)
        self.listed = {number: FIRST_ID + number for number in range(1, listed + 1)}
        self.seen = {as_sent(content_of(number)): str(uid) for number, uid in self.listed.items()}
        if listed:
            self.write_list()

    def deliver(self, number: int) -> None:
        """Have a message delivered; each second one has been looked at."""
        where = f"cur/{base_of(number)}:2," if number % 2 else f"new/{base_of(number)}"
        (self.maildir / where).write_bytes(content_of(number))
        self.stored.add(content_of(number))

    def write_list(self, *, head: str = "", form: str = "{uid} :{base}\n", tail: str = "") -> None:
        """Write the uidlist as other programs would."""
        lines = [
            form.format(uid=uid, base=base_of(number), number=number)
            for number, uid in self.listed.items()
        ]
        head = head or f"3 V1600000000 N{FIRST_ID + len(lines) + 1} G{'0' * 32}\n"
        (self.maildir / NAME).write_text(head + "".join(lines) + tail)

    def shows(
        self, store: MaildirStore, *, seen: Shown, maybe_gone: frozenset[bytes] = frozenset()
    ) -> Shown:
        """Log in; what is shown agrees with the files and with what was seen earlier."""
        maildrop, give_back = result(store.open(ALICE, None))
        shown = shown_by(maildrop)
        give_back()
        stored = {path.read_bytes() for path in files_in(self.maildir)}
        assert self.stored - maybe_gone <= stored <= self.stored
        assert set(shown) == set(map(as_sent, stored))
        for content, uid in seen.items():
            assert shown.get(content, uid) == uid, "an id has changed"
        return shown

    def survived(self, seen: Shown, *, maybe_gone: frozenset[bytes] = frozenset(), **options: bool):  # type: ignore[no-untyped-def]
        """A new process finds all as it was, goes on, and so does the one after it."""
        after = self.shows(open_store(str(self.root), **options), seen=seen, maybe_gone=maybe_gone)
        number = len(self.stored) + 1
        self.deliver(number)
        store = open_store(str(self.root), **options)
        later = self.shows(store, seen=after, maybe_gone=maybe_gone)
        new = later.pop(as_sent(content_of(number)))
        assert later == after
        used = {*seen.values(), *after.values()}
        assert int(new) > max((int(uid) for uid in used if uid.isdecimal()), default=0)
        assert not list((self.maildir / "tmp").iterdir())
