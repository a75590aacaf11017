"""Which certificates a client gets, by the server name that it asks for (RFC 6066 section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol, TypeVar

T = TypeVar("T")


class Named(Protocol):
    """A certificate, as far as the choice needs it."""

    @property
    def names(self) -> frozenset[str]:
        """Host names in lower case, without a final dot; ``*.example.org`` is a wildcard."""

    @property
    def kind(self) -> str:
        """The kind of its key.  OpenSSL takes one certificate of each, and chooses."""


N = TypeVar("N", bound=Named)


def first_choice(certificates: Sequence[N]) -> tuple[N, ...]:
    """The certificates for clients that name no server, or one that no certificate has.

    The first one, and of each other kind the first that has all of its names.
    """
    first = certificates[0]
    others = [
        one
        for one in certificates[1:]
        if bool(one.names) == bool(first.names) and all(_covers(one, name) for name in first.names)
    ]
    return _one_of_each_kind([first, *others])


def choices(certificates: Sequence[N]) -> dict[str, tuple[N, ...]]:
    """The certificates for each name and each wildcard, one of each kind; exact names go first."""
    # There may be hundreds: each is looked at once for each of its names.
    having: dict[str, list[N]] = {}
    for one in certificates:
        for name in one.names:
            having.setdefault(name, []).append(one)
    return {
        name: _one_of_each_kind([*exact, *having.get(wildcard_of(name), ())])
        for name, exact in having.items()
    }


def unused(certificates: Sequence[N]) -> list[N]:
    """The certificates that no client gets."""
    groups = [first_choice(certificates), *choices(certificates).values()]
    given = set(chain.from_iterable(groups))
    return [one for one in certificates if one not in given]


def find_choice(choices: Mapping[str, T], server_name: bytes | None) -> T | None:
    """The choice for the name that a client sends; None if there is none for it."""
    name = (server_name or b"").decode("ascii", "replace").lower().removesuffix(".")
    found = next((key for key in (name, wildcard_of(name)) if key in choices), None)
    return None if found is None else choices[found]


def wildcard_of(name: str) -> str:
    """The wildcard that stands for this name: its first label replaced (RFC 9525 section 6.3)."""
    return f"*.{name.partition('.')[2]}"


def _covers(certificate: Named, name: str) -> bool:
    return not certificate.names.isdisjoint((name, wildcard_of(name)))


def _one_of_each_kind(certificates: Iterable[N]) -> tuple[N, ...]:
    chosen: dict[str, N] = {}
    for one in certificates:
        chosen.setdefault(one.kind, one)
    return tuple(chosen.values())
