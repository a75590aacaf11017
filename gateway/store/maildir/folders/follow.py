"""Files that other programs rename while we work with them.  Blocks: for a worker.

An IMAP server renames a file whenever a flag of its message changes, so a name
that was read a moment ago may not be there any more though the message is.
And a directory that changes while it is read may show such a file under no
name at all.  So only a scan during which nothing changed says that a message
is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Generic, NamedTuple, TypeVar

from gateway.store.maildir.folders.files import NotRegular
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.folders.scan import mtimes, names, tick
from gateway.store.maildir.uids.uidlist import base_of

K = TypeVar("K")

PATIENCE = 10.0
"""Seconds after which we give up while another program goes on renaming."""

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two scans that brought us no further."""


class Followed(NamedTuple, Generic[K]):
    """What could not be done, by the caller's keys."""

    gone: list[K]
    """A complete scan shows these nowhere."""

    restless: list[K]
    """These were renamed all the while, or the directory changed all the while."""


class Search:
    """Scans of one Maildir, and whether they were complete."""

    def __init__(self, directory: Place, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._seen: list[int] = []
        self._since = 0.0

    def scan(self) -> tuple[dict[str, str], bool]:
        """Base names and files, and whether nothing can have been missed.

        Raises ``OSError``.
        """
        before = mtimes(self._directory)
        is_quiet = self._is_quiet(before)
        files = names(self._directory)
        return files, is_quiet and self.is_unchanged()

    def is_unchanged(self) -> bool:
        """Whether nothing has changed since the last scan began, if that was complete."""
        return mtimes(self._directory) == self._seen

    def _is_quiet(self, stamps: list[int]) -> bool:
        """Whether another change would show in these ``mtime`` values, in ns.

        By the clock, or where that was set by the time for which we have seen them.
        """
        if stamps != self._seen:
            self._seen, self._since = stamps, self._now()
        watched, now = (self._now() - self._since) * 1e9, time.time_ns()
        return all(now - stamp >= tick(stamp) or watched >= tick(stamp) for stamp in stamps)


def follow(
    directory: Place,
    files: Iterable[tuple[K, str]],
    act: Callable[[K, str], object],
    *,
    timeout: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Followed[K]:
    """Do ``act`` to each file (``new/...`` or ``cur/...``) by whatever name it has now.

    ``act`` gets the key and the file.  It raises ``FileNotFoundError`` if there
    is none of that name, and is then called again with the next one.  Any other
    error ends the search.  Raises ``OSError`` of a scan, too.
    """
    search, deadline, pause = Search(directory, now), now() + timeout, FIRST_PAUSE
    gone: list[K] = []
    left, _ = _missed(files, act, gone)
    while left:
        there, is_complete = search.scan()
        moved = [(key, there[base]) for key, file in left if (base := _base(file)) in there]
        absent = [(key, file) for key, file in left if _base(file) not in there]
        missed, error = _missed(moved, act, gone)
        if error is not None and is_complete and search.is_unchanged():
            # The file has its name: something else is missing.
            raise error
        if is_complete:
            gone += [key for key, _ in absent]
            absent = []
        before, left = len(left), missed + absent
        if left and now() >= deadline:
            break
        if len(left) == before:
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    return Followed(gone, [key for key, _ in left])


def _missed(
    files: Iterable[tuple[K, str]], act: Callable[[K, str], object], gone: list[K]
) -> tuple[list[tuple[K, str]], FileNotFoundError | None]:
    """Those that are not there under their names, and the last error that said so."""
    missed: list[tuple[K, str]] = []
    last = None
    for key, file in files:
        try:
            act(key, file)
        except NotRegular:
            gone.append(key)
        except FileNotFoundError as error:
            missed.append((key, file))
            last = error
    return missed, last


def _base(file: str) -> str:
    return base_of(file.partition("/")[2])


def may_be_there(directory: Place, bases: Collection[str]) -> Collection[str]:
    """Of these base names at least those that have a file.

    All of them, where the directory changed too often to tell.  Raises ``OSError``.
    """
    search, deadline = Search(directory), time.monotonic() + 1
    while True:
        files, is_complete = search.scan()
        if is_complete:
            return files
        if time.monotonic() >= deadline:
            return {*files, *bases}
        time.sleep(LONGEST_PAUSE / 5)
