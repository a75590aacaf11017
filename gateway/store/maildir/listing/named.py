"""Names that tell the size of a message, so that nobody has to look at its file.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.store.maildir.listing.compressed import MOST

_USUAL = re.compile(
    r"[a-z]{3}/[0-9]{10}\.[^:,\r\n]*,S=([0-9]{1,18}),W=([0-9]{1,18})(?::2,[A-Za-z]*)?"
).fullmatch


def usual_sizes(files: Mapping[str, str]) -> dict[str, int]:
    """Base name to ``W=`` of the messages with names as delivery programs make them.

    These begin with ten digits of seconds, end with ``S=`` and ``W=``, which agree, and are
    plain (``duplicates.is_plain``): one look at each name of 100,000, for all that is asked
    of it.  ``files``: base name to file.
    """
    found = {}
    for base, file in files.items():
        match = _USUAL(file)
        if match is not None:
            stored, octets = int(match[1]), int(match[2])
            if stored <= octets <= 2 * stored + 2 and octets <= MOST:
                found[base] = octets
    return found
