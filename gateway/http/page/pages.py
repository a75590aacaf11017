"""What a page is made of: a view returns what its template shows, an act what was done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from attrs import field, frozen

from gateway.errors import GatewayError
from gateway.http.page.access import Operator
from gateway.http.page.exchange import Asked
from gateway.http.page.words import Words
from gateway.operations.tools import Tools

PER_PAGE = 50
"""Rows of a list."""


@frozen
class At:
    """A request of an operator for a page."""

    asked: Asked
    tools: Tools
    words: Words
    operator: Operator

    def page(self) -> int:
        """The number of a list's page that the query names; anything else is the first."""
        text = self.asked.one("page")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0

    @staticmethod
    def to(path: str, **query: str) -> str:
        """A link."""
        return f"{path}?{urlencode(query)}"

    def choice(self, name: str, *known: str) -> str:
        """A field that has one of the ``known`` values; anything else is the first."""
        value = self.asked.one(name)
        return value if value in known else known[0]


@frozen
class Shown:
    """A template, and what it shows."""

    template: str
    values: Mapping[str, Any] = field(factory=dict)
    status: int = 200


@frozen
class Done:
    """Something was done: go to a page that says so."""

    what: str
    """A key of ``DONE``."""

    count: int
    to: str
    """The path of the page."""

    query: Mapping[str, str] = field(factory=dict)


@frozen
class Part:
    """A part of a page that may fail by itself."""

    problem: str
    value: Any = None


async def part(work: Awaitable[Any]) -> Part:
    """The part, or why there is none."""
    try:
        return Part("", await work)
    except GatewayError as error:
        return Part(str(error) or type(error).__name__)


class Path(NamedTuple):
    """A row of the table of pages."""

    method: str
    path: str
    make: Callable[[At], Awaitable[Shown | Done]]

    @property
    def is_change(self) -> bool:
        """Whether only operators with the scope operate may ask for it."""
        return self.method == "POST"
