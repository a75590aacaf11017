"""Settings that had another meaning in an earlier version."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gateway.config.settings import DomainQuota, Quota, Settings
from gateway.directory.passwd import lines_of, read
from gateway.units import parse_size

_ZERO = 'a quota of 0 is no limit; it used to refuse all mail. "unlimited" says the same'


def changed_meanings(settings: Settings) -> list[str]:
    """A line for each; none of them is wrong."""
    return [f"{place}: {_ZERO}" for place in _zero_quotas(settings)]


def _zero_quotas(settings: Settings) -> Iterator[str]:
    yield from _zeros("quota", settings.quota)
    for name, domain in settings.quota.domains.items():
        yield from _zeros(f"quota.domains.{name}", domain)
    if settings.directory.kind == "passwd-file":
        yield from _zeros_of_accounts(settings.path_of(settings.directory.file))


def _zeros(place: str, said: Quota | DomainQuota) -> Iterator[str]:
    sizes = {"octets": said.octets, "warn_octets": said.warn_octets}
    yield from (f"{place}.{name}" for name, text in sizes.items() if text and not parse_size(text))
    if said.messages == 0:
        yield f"{place}.messages"


def _zeros_of_accounts(path: str) -> Iterator[str]:
    try:
        # A device could be read for ever.
        lines = lines_of(read(path) if os.path.isfile(path) else "")
    except OSError:
        return
    for number, line in lines:
        for word in "".join(line.split(":", 7)[7:]).split():
            if word.lower().startswith("quota=") and _is_zero(word[6:]):
                yield f"{path}:{number}"


def _is_zero(text: str) -> bool:
    try:
        return parse_size(text) == 0
    except ValueError:
        return False
