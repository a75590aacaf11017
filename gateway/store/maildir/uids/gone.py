"""Uidlist lines of removed messages under names that another message may get.  Blocks.

Programs that make Maildir names give none twice, so the line of a removed message may stay
until the uidlist is rewritten, and a copy that comes back from a backup has its old unique-id.
``cp report.eml new/`` gives the same name to each report: if the line of the first were still
there, the next would be shown under its unique-id, and no client would fetch it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twisted.logger import Logger

from gateway.errors import GatewayError
from gateway.store.maildir.folders.dotlock import lock_file
from gateway.store.maildir.folders.place import Place
from gateway.store.maildir.uids.uidlist import NAME, Keep, UidList

log = Logger()

_GIVEN_ONCE = re.compile(r"[0-9]{9,10}[._].*[._]").match
"""A Maildir name: seconds since 1970, a number, the host (cr.yp.to/proto/maildir.html)."""


def may_come_again(base: str) -> bool:
    """Whether another message may get this base name."""
    return _GIVEN_ONCE(base) is None


def any_may_come_again(bases: Iterable[str]) -> bool:
    """Whether another message may get one of these base names."""
    # A loop of Python: ``map`` would keep the reactor's thread waiting for all of them.
    return any(_GIVEN_ONCE(base) is None for base in bases)


def drop_lines(maildir: Place, uidlist: UidList, keep: Keep, *, timeout: float) -> bool:
    """Rewrite the uidlist with the lines of the base names that ``keep`` returns.

    The caller holds the Maildir's ``flock``.  Waits for the list's lock for at most ``timeout``
    seconds.  Returns False, and logs why, if the list cannot be rewritten now; ``uidlist`` is
    of no use then.
    """
    try:
        with lock_file(maildir, NAME, timeout=timeout):
            uidlist.refresh()
            if uidlist.uids:
                uidlist.move_ahead(0, keep)
    except (GatewayError, OSError) as error:
        log.warn(
            "{path}: lines of removed messages stay for now: {error}",
            path=uidlist.name,
            error=error,
        )
        return False
    return True
