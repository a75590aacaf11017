"""A stored message as retention and the audit see it.  Blocks: for a worker."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator

from gateway.model import Cause, Kept, Removed
from gateway.store.files import open_message
from gateway.store.scan import delivery_order, scan
from gateway.store.uidlist import base_of

OPENING = 4096
"""Octets in which mostly all of a header is."""

HEADER = 64 * 1024
"""Octets in which a Message-ID is looked for."""

_END = re.compile(rb"(?:^|\n)\r?\n")
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:((?:[^\r\n]|\r(?!\n)|\r?\n[ \t])*)", re.I | re.M)
_FOLD = re.compile(rb"\r?\n")

See = Callable[[str, str, os.stat_result], Kept]
"""What a message's unique-id, name and file say of it."""


def as_delivered(uid: str, name: str, status: os.stat_result) -> Kept:
    """Its age is the least that its name and its file say.

    So a copy, and one that somebody has touched, is kept for longer.  A
    rename that adds the flag S sets the time of the last change; whatever
    else sets it lets the reading seem later than it was.
    """
    base, _, info = name.partition(":")
    received = max(float(delivery_order(base)[0]), status.st_mtime)
    is_read = info.startswith("2,") and "S" in info
    read = max(received, status.st_ctime) if is_read else None
    return Kept(received, uid, status.st_size, read)


def as_hidden(uid: str, name: str, status: os.stat_result) -> Kept:
    """Its age is counted from the rename that has hidden it."""
    return as_delivered(uid, name, status)._replace(received=status.st_ctime)


def look_at(
    maildir: str, wanted: Iterable[tuple[str, str]], see: See = as_delivered
) -> Iterator[tuple[Kept, str]]:
    """What is known of each unique-id and file, and the file's name as it is now.

    One that is no longer there, or is no regular file, is left out.
    """
    moved: dict[str, str] | None = None
    for uid, file in wanted:
        found = _looked(maildir, uid, file, see)
        if found is None:
            if moved is None:
                moved = scan(maildir)
            now = moved.get(base_of(file.partition("/")[2]), file)
            found = None if now == file else _looked(maildir, uid, now, see)
        if found is not None:
            yield found


def _looked(maildir: str, uid: str, file: str, see: See) -> tuple[Kept, str] | None:
    try:
        status = os.lstat(f"{maildir}/{file}")
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return see(uid, file.partition("/")[2], status), file


def entries(
    action: str, maildir: str, mailbox: str, found: Iterable[tuple[Kept, str]], cause: Cause
) -> Iterator[Removed]:
    """What the audit says of messages that were looked at."""
    for kept, file in found:
        yield entry(action, mailbox, kept, message_id(f"{maildir}/{file}"), cause)


def entry(action: str, mailbox: str, kept: Kept, named: str | None, cause: Cause) -> Removed:
    """What the audit says of one message; ``named`` is its Message-ID."""
    return Removed(
        action=action,
        mailbox=mailbox,
        uid=kept.uid,
        message_id=named,
        size=kept.octets,
        received=kept.received,
        read=kept.read,
        cause=cause,
    )


def message_id(path: str) -> str | None:
    """The Message-ID in a message's header; None where there is none to be had."""
    try:
        return message_id_in(_head(path))
    except OSError:
        return None


def message_id_in(head: bytes) -> str | None:
    """The Message-ID of a message that begins so; None where there is none."""
    match = _MESSAGE_ID.search(_END.split(head, 1)[0])
    if match is None:
        return None
    return _FOLD.sub(b"", match[1]).strip().decode("utf-8", "replace") or None


def _head(path: str) -> bytes:
    file, _ = open_message(path)
    try:
        head = os.pread(file, OPENING, 0)
        if len(head) == OPENING and not _END.search(head):
            head += os.pread(file, HEADER - OPENING, OPENING)
        return head
    finally:
        os.close(file)
