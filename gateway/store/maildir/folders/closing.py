"""Closed Maildirs: nobody logs in, and nothing is delivered or removed.  Blocks.

The file ``pop3gw.closed`` closes a Maildir: while it has content, which is the mark of
``IMailboxClosing``, or while somebody holds its ``flock``, which ends with its process.
Whoever changes a Maildir looks for it under the Maildir's ``flock``.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gateway.errors import GatewayError, MaildropBusy
from gateway.flock import locked
from gateway.store.copy_marks import held
from gateway.store.maildir.folders.dotlock import flocked
from gateway.store.maildir.folders.files import replace
from gateway.store.maildir.folders.place import Place, opened

NAME = "pop3gw.closed"

LONGEST = 200
"""Octets of a mark."""

TRIES = 100
"""Attempts to hold the file, for whoever looks at it holds it for a moment."""

PAUSE = 0.02


def may_be_closed(maildir: str) -> bool:
    """Whether to call ``check_open``; costs one look at a name."""
    # Where there is none, this raises no error inside, which would cost more than the look.
    return os.access(f"{maildir}/{NAME}", os.F_OK)


def check_open(maildir: Place) -> None:
    """Raise ``MaildropBusy`` if it is closed, or ``OSError``."""
    if not maildir.exists(NAME):
        return
    with _looked_at(maildir) as file:
        if _mark_in(file):
            raise MaildropBusy(f"{maildir}: another place serves this mailbox, or will: see {NAME}")
        if _is_held(file):
            raise MaildropBusy(f"{maildir}: is being copied to another place")


def check_not_held(maildir: Place, mailbox: str) -> None:
    """Raise ``MaildropBusy`` while a copy holds it, or ``OSError``."""
    with _looked_at(maildir) as file:
        if _is_held(file):
            raise held(mailbox)


def mark_of(maildir: Place) -> str:
    """The mark; empty: there is none."""
    with _looked_at(maildir) as file:
        return _mark_in(file).decode("utf-8", "replace")


@contextmanager
def _looked_at(maildir: Place) -> Iterator[int | None]:
    """The file that closes it, to be read; None: there is none."""
    try:
        file = maildir.open(NAME, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _mark_in(file: int | None) -> bytes:
    return b"" if file is None else os.read(file, LONGEST)


def _is_held(file: int | None) -> bool:
    if file is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def mark(maildir: Place, text: str) -> None:
    """Close it with a mark, or open it; the caller has it ``flocked``."""
    if text:
        replace(maildir.at(NAME), text.encode(), sync=True)
    else:
        with suppress(FileNotFoundError):
            maildir.unlink(NAME)
    maildir.sync()


def hold(maildir: Place, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Close it until the descriptor that this returns is closed, by ``release`` or the kernel.

    The caller has the Maildir ``flocked``.  Raises ``MaildropBusy`` or ``OSError``.
    """
    for _ in range(TRIES):
        file = locked(maildir.open(NAME, os.O_RDWR | os.O_CREAT))
        if file is not None:
            try:
                if maildir.has(NAME, os.fstat(file)):
                    return file
            except BaseException:
                os.close(file)
                raise
            # It was removed meanwhile, or replaced: others look at another one.
            os.close(file)
        sleep(PAUSE)
    raise MaildropBusy(f"{maildir}: another process copies it to another place")


def release(maildir: str, file: int) -> None:
    """Open it again, unless it has a mark.

    The file stays where the Maildir's ``flock`` is not to be had at once: empty it closes nothing.
    """
    try:
        with (
            suppress(OSError, GatewayError),
            opened(maildir, folders=()) as place,
            # A mark that comes meanwhile must not go.
            flocked(place, timeout=0),
        ):
            # Another one may have its name by now.
            status = os.fstat(file)
            if not status.st_size and place.has(NAME, status):
                place.unlink(NAME)
    finally:
        os.close(file)
