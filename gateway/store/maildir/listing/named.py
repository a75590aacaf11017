"""Names that tell the size of a message, so that nobody has to look at its file.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.store.maildir.listing.compressed import MOST

_SIZES = r"[^:,\r\n]*,S=([0-9]{1,18}),W=([0-9]{1,18})"
_NAMED = re.compile(_SIZES).fullmatch
_USUAL = re.compile(rf"[a-z]{{3}}/[0-9]{{10}}\.{_SIZES}(?::2,[A-Za-z]*)?").fullmatch


def named_size(base: str) -> int | None:
    """``W=`` of a base name, if it is likely to be true: it has ``S=`` too, and they agree.

    Dovecot believes such a name too.
    """
    match = _NAMED(base)
    if match is None:
        return None
    stored, octets = int(match[1]), int(match[2])
    return octets if stored <= octets <= 2 * stored + 2 and octets <= MOST else None


def usual_sizes(files: Mapping[str, str]) -> dict[str, int]:
    """The ``named_size`` of messages with names as delivery programs make them.

    These begin with ten digits of seconds, and are plain (``duplicates.is_plain``): one look
    at each name of 100,000, for all that is asked of it.  ``files``: base name to file.
    """
    found = {}
    for base, file in files.items():
        match = _USUAL(file)
        if match is not None:
            stored, octets = int(match[1]), int(match[2])
            if stored <= octets <= 2 * stored + 2 and octets <= MOST:
                found[base] = octets
    return found
