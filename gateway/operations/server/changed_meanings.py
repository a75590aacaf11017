"""Settings that had another meaning in an earlier version."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.quota import ZERO_REMARK, DomainQuota, Quota
from gateway.config.settings import Settings
from gateway.units import parse_size


def changed_meanings(settings: Settings) -> list[str]:
    """A line for each; none of them is wrong."""
    kind = settings.directory_kind
    remarks = [f"{place}: {ZERO_REMARK}" for place in _zero_quotas(settings)]
    return [*remarks, *kind.remarks(settings.of(kind), settings)]


def _zero_quotas(settings: Settings) -> Iterator[str]:
    yield from _zeros("quota", settings.quota)
    for name, domain in settings.quota.domains.items():
        yield from _zeros(f"quota.domains.{name}", domain)


def _zeros(place: str, said: Quota | DomainQuota) -> Iterator[str]:
    sizes = {"octets": said.octets, "warn_octets": said.warn_octets}
    yield from (f"{place}.{name}" for name, text in sizes.items() if text and not parse_size(text))
    if said.messages == 0:
        yield f"{place}.messages"
