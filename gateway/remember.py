"""Remember results for texts that anybody may send."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

Text = TypeVar("Text", str, bytes)
T = TypeVar("T")

SHORT = 255
"""Characters or octets of a text that is remembered: a SASL response may have much longer ones."""


def remember_short(count: int) -> Callable[[Callable[[Text], T]], Callable[[Text], T]]:
    """As ``lru_cache``, for ``count`` texts, none of which is longer than ``SHORT``."""

    def decorate(function: Callable[[Text], T]) -> Callable[[Text], T]:
        remembered = lru_cache(maxsize=count)(function)

        @wraps(function)
        def call(text: Text) -> T:
            return remembered(text) if len(text) <= SHORT else function(text)

        return call

    return decorate
