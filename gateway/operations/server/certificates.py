"""The certificates of the listeners."""

from __future__ import annotations

from attrs import evolve, frozen

from gateway.operations.tools import Tools

_DAY = 86_400.0


@frozen
class CertificateRow:
    """A certificate that clients get."""

    path: str
    names: tuple[str, ...] = ()
    """The host names and addresses that it is for."""

    issuer: str = ""
    not_before: float | None = None
    """Since when it and its chain are valid, in Unix seconds; null: it cannot be read."""

    not_after: float | None = None
    """Until when it and its chain are valid, in Unix seconds."""

    days_left: float | None = None
    """Until ``not_after``; less than 0: it has expired."""

    listeners: tuple[str, ...] = ()
    """The listeners that use it, by the sections of their settings."""

    problems: tuple[str, ...] = ()
    """What is wrong with it, one line each."""


@frozen
class Certificates:
    """All certificates of the server."""

    certificates: tuple[CertificateRow, ...]


async def list_certificates(tools: Tools) -> Certificates:
    """List the certificates of all listeners, the first to expire first, with their problems."""
    answers = await tools.processes.ask_each("certificates")
    # All processes have the same.
    rows = [_row(one, tools.now()) for one in (answers[0] if answers else ())]
    return Certificates(tuple(sorted(rows, key=lambda row: row.not_after or 0.0)))


def _row(said: dict[str, object], now: float) -> CertificateRow:
    values = {name: tuple(one) if isinstance(one, list) else one for name, one in said.items()}
    row = CertificateRow(**values)  # type: ignore[arg-type]
    if row.not_after is None:
        return row
    return evolve(row, days_left=round((row.not_after - now) / _DAY, 2))
