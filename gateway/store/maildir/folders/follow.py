"""Find files that other programs rename meanwhile.  Blocks: call it in a thread.

An IMAP server renames a file whenever a flag of its message changes, so a known name
may be gone while the message still exists.  A directory that changes while it is read
may show neither name.  So a message is gone only if a scan without any change does
not find it.
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
"""Seconds after which the search ends if another program keeps renaming."""

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two scans without progress."""


class Followed(NamedTuple, Generic[K]):
    """The keys for which the action failed."""

    gone: list[K]
    """Gone: a complete scan does not find them."""

    restless: list[K]
    """Unknown: they, or the directory, kept changing."""


class Search:
    """Scans of one Maildir, and whether they were complete."""

    def __init__(self, directory: Place, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._seen: list[int] = []
        self._since = 0.0

    def scan(self) -> tuple[dict[str, str], bool]:
        """Base names to files, and whether the scan is complete.

        Raises ``OSError``.
        """
        before = mtimes(self._directory)
        is_quiet = self._is_quiet(before)
        files = names(self._directory)
        return files, is_quiet and self.is_unchanged()

    def is_unchanged(self) -> bool:
        """Whether nothing has changed since the start of the last complete scan."""
        return mtimes(self._directory) == self._seen

    def _is_quiet(self, stamps: list[int]) -> bool:
        """Whether another change would alter these ``mtime`` values, in ns.

        By the clock; if the clock was set, by the time for which they are unchanged.
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
    """Call ``act`` for each file (``new/...`` or ``cur/...``) with its current name.

    ``act`` gets the key and the file.  If it raises ``FileNotFoundError``, it is called again
    with the next name.  Any other error ends the search.  Also raises the ``OSError`` of
    a scan.
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
            # The file exists: something else is missing.
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
    """The keys of missing files, and the last error."""
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
    """The base names with a file, perhaps with others.

    All of them if the directory keeps changing.  Raises ``OSError``.
    """
    search, deadline = Search(directory), time.monotonic() + 1
    while True:
        files, is_complete = search.scan()
        if is_complete:
            return files
        if time.monotonic() >= deadline:
            return {*files, *bases}
        time.sleep(LONGEST_PAUSE / 5)
