"""How large messages are: what is claimed, held against what is counted.  Blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from twisted.logger import Logger

from gateway.store.complaint import complain
from gateway.store.files import NotRegular, measure, store_error
from gateway.store.follow import follow
from gateway.store.scan import stored_size, wire_size
from gateway.store.snapshot import Reading, Size
from gateway.store.uidlist import UidList

log = Logger()

OPENING = 16 * 1024
"""What opening a file costs, as octets read."""

_NOT_ITS_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What has nothing to do with the file that could not be read."""


class Sizes(NamedTuple):
    """How large messages are, by base name."""

    octets: dict[str, int]
    """All whose size is known, by whatever way."""
    measured: dict[str, Size]
    """Those among them whose file was looked at."""
    unreadable: dict[str, str]
    """Those whose file could not be read, so that their size is a guess; and why not."""


class Sizer:
    """Finds the sizes of one Maildir's messages."""

    def __init__(self, maildir: str, reading: Reading) -> None:
        self._maildir = maildir
        self._reading = reading
        self._told: set[str] = set()
        """Base names of unreadable messages that the log has told of."""

    def find(
        self, unknown: list[str], files: dict[str, str], uidlist: UidList, sizes: Sizes
    ) -> None:
        """Fill in ``sizes``; messages that are not there any more leave ``files``.

        What a name or the uidlist claims is held against the file until the
        budget is spent, the newest first, since they are what a client will
        ask for.  Dovecot's own claims miss the line end that RETR adds to an
        incomplete last line.
        """
        left = self._reading.verify_octets if self._reading.exact else 0
        claim = self._claims(uidlist)

        def look(base: str, file: str) -> None:
            nonlocal left
            claimed = claim(base)
            if claimed is not None:
                left -= claimed + OPENING
                if left < 0:
                    sizes.octets[base] = claimed
                    return
            self._look(base, claimed, file, sizes)
            files[base] = file

        newest_first = [(base, files[base]) for base in reversed(unknown)]
        lost = follow(self._maildir, newest_first, look)
        for base in lost.gone:
            del files[base]
        for base in lost.restless:
            sizes.octets[base] = claim(base) or 0
            sizes.unreadable[base] = f"{files[base]}: another program goes on renaming it"
        self._tell(sizes.unreadable)

    def _look(self, base: str, claimed: int | None, file: str, sizes: Sizes) -> None:
        """Fill in one message; raises ``FileNotFoundError`` if that is not its name."""
        try:
            size = self.measured(file)
        except NotRegular as error:
            log.warn("left out {error}", error=error)
            raise
        except FileNotFoundError:
            raise
        except OSError as error:
            sizes.unreadable[base] = str(store_error(error))
            sizes.octets[base] = self._guess(file, claimed, error)
            return
        sizes.octets[base] = size.octets
        sizes.measured[base] = size
        if claimed not in (None, size.octets):
            self._warn(base, claimed, size.octets)

    def _guess(self, file: str, claimed: int | None, error: OSError) -> int:
        """A size for a message that cannot be read, so that the others can be had.

        Raises ``error`` where it is not about this message alone.
        """
        if error.errno in _NOT_ITS_OWN:
            raise error
        try:
            stored = os.lstat(f"{self._maildir}/{file}").st_size
        except PermissionError:  # of the folder
            raise error from None
        except OSError:
            stored = 0
        return stored if claimed is None else claimed

    def _tell(self, unreadable: dict[str, str]) -> None:
        """Log which messages cannot be read, each once for as long as it cannot."""
        new = [reason for base, reason in unreadable.items() if base not in self._told]
        self._told = set(unreadable)
        complain(self._maildir, "messages cannot be read", new)

    def _claims(self, uidlist: UidList) -> Callable[[str], int | None]:
        """What the uidlist or the name says of a size; the list has corrections."""
        if not self._reading.exact:
            return lambda base: stored_size(base) or wire_size(base)
        if not uidlist.fields:
            return wire_size

        def claim(base: str) -> int | None:
            listed = uidlist.field(base, "W")
            return int(listed) if listed and listed.isdecimal() else wire_size(base)

        return claim

    def measured(self, file: str) -> Size:
        """The size as the file has it; raises ``OSError``."""
        path = f"{self._maildir}/{file}"
        if not self._reading.exact:
            return Size(os.stat(path).st_size)
        counted = measure(path, convert_cr=self._reading.convert_cr)
        return Size(counted.octets, counted.form, counted.whole)

    def _warn(self, base: str, claimed: int | None, octets: int) -> None:
        log.warn(
            "{maildir}: {base} claims {claimed} octets but RETR sends {octets}",
            maildir=self._maildir,
            base=base,
            claimed=claimed,
            octets=octets,
        )

    def field(self, base: str, size: Size) -> str:
        """The uidlist's ``W`` for a message whose name has none, or a wrong one.

        Where the name has none Dovecot goes by it too, and does not count the
        line end that RETR adds to an incomplete last line.
        """
        if not self._reading.exact:
            return ""
        named = wire_size(base)
        wanted = size.whole if named is None else named != size.octets
        return f"W{size.octets}" if wanted else ""
