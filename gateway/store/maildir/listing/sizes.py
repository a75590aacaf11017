"""Sizes of messages: claimed ones, and their verification by counting.  Blocks."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from twisted.logger import Logger

from gateway.store.maildir.folders.files import (
    NotRegular,
    complain,
    store_error,
    version_of,
)
from gateway.store.maildir.folders.follow import follow
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.folders.scan import stored_size, wire_size
from gateway.store.maildir.listing.compressed import MOST, is_packed
from gateway.store.maildir.listing.measuring import measure, size_of
from gateway.store.maildir.listing.named import usual_sizes
from gateway.store.maildir.listing.snapshot import (
    UNKNOWN,
    UNREADABLE,
    Correction,
    Known,
    MaildirOptions,
    Size,
    Snapshot,
)
from gateway.store.maildir.uids.uidlines import decimal
from gateway.store.maildir.uids.uidlist import UidList, base_of

log = Logger()

YOUNG = 30.0
"""Seconds without a change after which a file counts as complete.

Programs should write into ``tmp``, but ``cp`` and ``scp`` write directly into ``cur``.
"""

OPENING = 16 * 1024
"""The cost of opening a file, in octets of reading."""

_NOT_ITS_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that do not concern a single file."""


class Sizes:
    """Sizes of messages, by base name."""

    def __init__(self, before: Snapshot | None, corrections: Iterable[Correction] = ()) -> None:
        """``before``: the sizes of an earlier reading; ``corrections``: of these, in order."""
        known = before.known() if before else Known({}, {}, {}, set(), set())
        self.octets = known.octets
        """All known sizes in octets, measured or claimed."""
        self.forms = known.forms
        """Forms, as in ``Snapshot.forms``."""
        self.versions = known.versions
        """``version_of`` the file, if it was examined."""
        self.young = known.young
        """Messages that may still be written."""
        self.doubted = known.doubted
        """Messages to measure regardless of their names."""
        self.measured: dict[str, Size] = {}
        """Messages that were measured in this reading."""
        self.unreadable: dict[str, str] = {}
        """Unreadable messages with the reason; their sizes are guesses."""
        self.usual: dict[str, int] = {}
        """Messages that have their size from their name alone; see ``usual_sizes``."""
        self._known = known
        for base, size in corrections:
            if size is None:
                known.forget(base)
            elif base in known.octets or base in known.doubted:
                self.take(base, size)

    def read_names(self, files: Mapping[str, str], listed: Container[str]) -> None:
        """Take sizes from the ``usual`` names.

        ``listed``: messages with fields in the uidlist, which may have another size.
        """
        known, doubted = self.octets, self.doubted
        if known or doubted or listed:
            files = {
                base: file
                for base, file in files.items()
                if base not in known and base not in doubted and base not in listed
            }
        self.usual = usual_sizes(files)
        known.update(self.usual)

    def forget_written(self, maildir: Place, files: Mapping[str, str]) -> None:
        """Forget messages with changed files; raises ``OSError``."""
        for base in list(self.young):
            try:
                status = maildir.lstat(files[base])
            except (KeyError, FileNotFoundError):
                # Gone, or being renamed.
                self._known.forget(base)
                continue
            if version_of(status) != self.versions[base]:
                self._known.forget(base)
            elif not is_recent(status.st_ctime_ns):
                self.young.discard(base)

    def forget(self, base: str) -> None:
        """Forget a name that another message has now."""
        self._known.forget(base)

    def take(self, base: str, size: Size) -> None:
        """Record an examined file."""
        self.octets[base] = size.octets
        self.forms[base] = size.form
        self.versions[base] = size.version
        if is_young(base, size):
            self.young.add(base)

    def guess(self, base: str, octets: int, reason: str) -> None:
        """Record an unreadable file."""
        self.octets[base] = octets
        self.forms[base] = UNREADABLE
        self.unreadable[base] = reason


def is_young(base: str, size: Size) -> bool:
    """Whether a program may still be writing the file.

    A file with the size in its name is complete.
    """
    return is_recent(size.changed) and stored_size(base) != size.stored


def is_recent(changed: int) -> bool:
    """Whether a file's last change, in ns since 1970, was less than ``YOUNG`` ago."""
    # A time in the future tells nothing.
    return abs(time.time_ns() - changed) < YOUNG * 1e9


def is_as_seen(maildir: str, snapshot: Snapshot) -> bool:
    """Whether nobody has written to the messages that were young; raises ``OSError``.

    Such writing does not show in the stamp.
    """
    for index in list(snapshot.young):
        try:
            status = os.lstat(f"{maildir}/{snapshot.files[index]}")
        except FileNotFoundError:
            return False
        if not snapshot.is_version(index, version_of(status)):
            return False
        if not is_recent(status.st_ctime_ns):
            snapshot.young.discard(index)
    return True


def is_refuted(octets: int, stored: int, named: int | None) -> bool:
    """Whether a file of ``stored`` octets shows that RETR cannot send ``octets``.

    Each octet is sent unchanged or, if it ends a line, as CRLF; the last line may get an
    end.  ``named``: ``S=`` of the name; if that is wrong, so is the rest of the name.
    """
    return named not in (None, stored) or not stored <= octets <= 2 * stored + 2


def _may_be(claimed: int, stored: int, named: int | None, path: str) -> bool:
    """Whether a file of ``stored`` octets may be a message of ``claimed`` octets."""
    if not is_refuted(claimed, stored, named):
        return True
    # Of a compressed message the name has the decompressed sizes.
    return claimed <= MOST and is_packed(path)


class Sizer:
    """Finds the sizes of the messages of a Maildir."""

    def __init__(self, maildir: str, reading: MaildirOptions) -> None:
        self._maildir = maildir
        self._reading = reading
        self._told: set[str] = set()
        """Base names of unreadable messages that were logged."""
        self._damaged: dict[str, tuple[int, str]] = {}
        """Messages that cannot be decompressed: ``version_of`` the file, and the reason."""

    def find(
        self,
        place: Place,
        bases: Sequence[str],
        files: dict[str, str],
        uidlist: UidList,
        sizes: Sizes,
    ) -> None:
        """Fill in ``sizes`` of ``bases``, oldest first; remove missing messages from ``files``.

        A name with ``S=`` and ``W=`` that agree is trusted; so a first reading need not look at
        each file.  Another size in a name or in the uidlist is trusted only if the size of the
        file allows it.  Both are verified by reading the file within the budget, newest first,
        since clients fetch new messages.  Dovecot's sizes lack the line end that RETR adds to
        an incomplete last line.
        """
        left = self._reading.verify_octets if self._reading.exact else 0
        claim = self._claims(uidlist)

        def to_examine() -> Iterator[tuple[str, str]]:
            """What can be verified within the budget, and what has no size yet."""
            octets, usual, rest = sizes.octets, sizes.usual, reversed(bases)
            for base in rest:
                if base not in octets or (base in usual and octets[base] + OPENING <= left):
                    yield base, files[base]
                if left < OPENING:
                    break
            yield from ((base, files[base]) for base in rest if base not in octets)

        def look(base: str, file: str) -> None:
            nonlocal left
            believed, claimed = None, sizes.usual.get(base)
            if claimed is not None:
                left -= claimed + OPENING
            else:
                claimed = claim(base)
                if base not in sizes.doubted:
                    # Reading the file reports an error.
                    with suppress(OSError):
                        believed = self._believed(base, claimed, place, file)
            if believed is not None:
                cost = max(believed.stored, believed.octets) + OPENING
                if cost > left:
                    # An older one may be smaller.
                    sizes.take(base, believed)
                    files[base] = file
                    return
                left -= cost
            self._look(place, base, claimed, file, sizes)
            files[base] = file

        lost = follow(place, to_examine(), look)
        for base in lost.gone:
            del files[base]
        for base in lost.restless:
            reason = f"{files[base]}: another program goes on renaming it"
            sizes.guess(base, claim(base) or 0, reason)
        self._tell(sizes.unreadable)

    def _believed(self, base: str, claimed: int | None, place: Place, file: str) -> Size | None:
        """The trusted size of a message without reading it; raises ``OSError``."""
        if claimed is None and self._reading.exact:
            return None
        status, path = place.lstat(file), place.at(file)
        stored = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return None
        named = stored_size(base)
        if not self._reading.exact:
            claimed = named if named and named != stored and is_packed(path) else stored
        elif claimed is None or not _may_be(claimed, stored, named, path):
            return None
        return size_of(claimed, status)

    def _look(self, place: Place, base: str, claimed: int | None, file: str, sizes: Sizes) -> None:
        """Measure a message; raises ``FileNotFoundError`` if it was renamed."""
        try:
            size = self.measured(place, file)
        except NotRegular as error:
            log.warn("left out {error}", error=error)
            raise
        except FileNotFoundError:
            raise
        except OSError as error:
            sizes.guess(base, self._guess(place.at(file), claimed, error), str(store_error(error)))
            return
        sizes.take(base, size)
        sizes.measured[base] = size
        if claimed not in (None, size.octets):
            self._warn(base, claimed, size.octets)

    def _guess(self, path: str, claimed: int | None, error: OSError) -> int:
        """A guessed size for an unreadable message, so that the others can be served.

        Raises ``error`` if it does not concern this message alone.
        """
        if error.errno in _NOT_ITS_OWN:
            raise error
        try:
            stored = os.lstat(path).st_size
        except PermissionError:  # of the folder
            raise error from None
        except OSError:
            stored = 0
        return stored if claimed is None else claimed

    def _tell(self, unreadable: dict[str, str]) -> None:
        """Log unreadable messages, each once until it can be read."""
        new = [reason for base, reason in unreadable.items() if base not in self._told]
        self._told = set(unreadable)
        complain(self._maildir, "messages cannot be read", new)

    def _claims(self, uidlist: UidList) -> Callable[[str], int | None]:
        """The size in the uidlist or in the name; the list has corrections."""
        if not self._reading.exact:
            return lambda _: None
        if not uidlist.fields:
            return wire_size

        def claim(base: str) -> int | None:
            listed = uidlist.field(base, "W")
            octets = decimal(listed) if listed else None
            return wire_size(base) if octets is None else octets

        return claim

    def measured(self, place: Place, file: str) -> Size:
        """The size by reading the file; raises ``OSError``."""
        if self._damaged:
            self._check_undamaged(place, file)
        reading = self._reading
        try:
            return measure(place, file, exact=reading.exact, convert_cr=reading.convert_cr)
        except OSError as error:
            if error.errno == errno.EBADMSG:
                version = version_of(place.lstat(file))
                self._damaged[_base(file)] = version, str(error.strerror)
            raise

    def _check_undamaged(self, place: Place, file: str) -> None:
        """Raise ``OSError`` for a damaged message: decompressing it again could take seconds."""
        version, reason = self._damaged.get(_base(file), (UNKNOWN, ""))
        if reason and version_of(place.lstat(file)) == version:
            raise OSError(errno.EBADMSG, reason, place.at(file))

    def _warn(self, base: str, claimed: int | None, octets: int) -> None:
        log.warn(
            "{maildir}: {base} claims {claimed} octets but RETR sends {octets}",
            maildir=self._maildir,
            base=base,
            claimed=claimed,
            octets=octets,
        )

    def field(self, base: str, size: Size) -> str:
        """The ``W`` field of the uidlist for a message without a right one in its name.

        If the name has none, Dovecot uses the field too, and does not count the line end that
        RETR adds to an incomplete last line.  None for a file that may be incomplete.
        """
        if not self._reading.exact or is_young(base, size):
            return ""
        named = wire_size(base)
        wanted = size.whole if named is None else named != size.octets
        return f"W{size.octets}" if wanted else ""


def _base(file: str) -> str:
    return base_of(file.partition("/")[2])
