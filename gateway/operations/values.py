"""Values that operations take and return."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

T = TypeVar("T")


@frozen
class Bounds:
    """The least and the greatest value of a parameter: ``Annotated[int, Bounds(1, 1000)]``."""

    least: int
    most: int


@frozen
class Text:
    """An answer that is no JSON."""

    content_type: str
    octets: bytes


@frozen
class Page(Generic[T]):
    """A page of a list."""

    items: tuple[T, ...]
    page: int
    """Its number, from 0."""

    per_page: int
    total: int | None = None
    """Items on all pages; None: nobody has counted them."""


def page_of(found: list[T] | tuple[T, ...], page: int, per_page: int) -> Page[T]:
    """A page of a list that is whole."""
    part = found[page * per_page : (page + 1) * per_page]
    return Page(tuple(part), page, per_page, len(found))
