"""What the log says of faults that many messages of a mailbox may have."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

log = Logger()


def complain(place: object, fault: str, found: Sequence[str]) -> None:
    """Log, if anything was ``found``, how many it is and the first of it: one line for all."""
    if found:
        log.warn(
            "{place}: {count} {fault}, the first is {first}",
            place=place,
            count=len(found),
            fault=fault,
            first=found[0],
        )
