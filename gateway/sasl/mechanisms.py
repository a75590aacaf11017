"""The mechanisms that exist, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.interfaces import IMechanism
from gateway.sasl.login import Login
from gateway.sasl.plain import Plain

MECHANISMS: Mapping[str, Callable[[], IMechanism]] = {"PLAIN": Plain, "LOGIN": Login}
"""Name to a maker; an exchange takes a new one each time."""
