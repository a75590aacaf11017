"""Remove files from a Maildir.  Blocks: call it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from twisted.logger import Logger

from gateway.errors import NoRoom, StoreDown
from gateway.store.maildir.delivery import maildirsize
from gateway.store.maildir.folders.dotlock import flocked
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.place import Place

log = Logger()

T = TypeVar("T")


@contextmanager
def flocked_if_free(maildir: Place, *, timeout: float) -> Iterator[bool]:
    """``flocked`` within ``timeout`` seconds, else unlocked; yields whether it is locked."""
    with ExitStack() as held:
        is_flocked = False
        try:
            held.enter_context(flocked(maildir, timeout=timeout))
            is_flocked = True
        except (OSError, StoreDown) as error:
            # Remove what the user deleted, even while another program counts.
            log.warn("{maildir}: {error}; removing all the same", maildir=maildir, error=error)
        yield is_flocked


def in_parts(
    found: Sequence[T], audit: Callable[[Sequence[T]], None], take: Callable[[Sequence[T]], int]
) -> int:
    """Remove messages after the audit lines; returns how many were removed.

    On a disk without room for all lines, remove one half first, which makes room for the
    lines of the other.  Raises as both do.
    """
    try:
        audit(found)
    except NoRoom:
        half = len(found) // 2
        if not half:
            raise
        return sum(in_parts(part, audit, take) for part in (found[:half], found[half:]))
    return take(found) if found else 0


def take_out(
    directory: Place,
    files: Sequence[str],
    leave: Callable[[str], None] | None = None,
    *,
    counted_in: Place | None,
) -> int:
    """Unlink ``new/...`` and ``cur/...``, even if another program renamed them.

    Updates ``maildirsize`` of the Maildir ``counted_in``, where there is
    one, which is why the caller has that ``flocked``; None: they count nowhere.
    The answer is how many were there.  ``leave`` makes one of them leave
    the directory in another way; it raises ``OSError``.  Raises ``StoreDown``
    when something is still there, or may be since others rename it all the while.
    """
    removal = _Removal(directory, leave or directory.unlink, counted_in)
    try:
        removal.remove(files)
    finally:
        removal.account()
    return removal.messages


class _Removal:
    """Removes files, and counts them."""

    def __init__(
        self, directory: Place, leave: Callable[[str], None], counted_in: Place | None
    ) -> None:
        self.messages = 0
        self._counted_in = counted_in if counted_in and maildirsize.exists(counted_in) else None
        self._directory = directory
        self._leave = leave
        self._octets = 0

    def remove(self, files: Sequence[str]) -> None:
        """Remove the files; raises ``StoreDown`` if one is still there."""
        failed: list[str] = []

        def take(_: str, file: str) -> None:
            try:
                self._take(file)
            except FileNotFoundError:
                raise
            except OSError as error:
                failed.append(f"{file} ({error.strerror})")

        failed += follow(self._directory, [(file, file) for file in files], take).restless
        if failed:
            raise StoreDown(
                f"{self._directory}: {len(failed)} of {len(files)} marked messages"
                f" are still there, the first is {failed[0]}"
            )

    def _take(self, file: str) -> None:
        octets = maildirsize.size_on_disk(self._directory.at(file)) if self._counted_in else 0
        self._leave(file)
        self._octets += octets
        self.messages += 1

    def account(self) -> None:
        """Say what is gone."""
        if self._counted_in and self.messages:
            maildirsize.append(self._counted_in, -self._octets, -self.messages)
