"""Settings as a file of TOML has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Tables = Mapping[str, Mapping[str, Any]]


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str | Path):
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return str(value).lower()


def toml_tables(tables: Tables) -> str:
    """Whole tables; a setting that is None is left out."""
    lines = []
    for name, items in tables.items():
        lines.append(f"[{name}]\n")
        lines += [f"{key} = {toml(value)}\n" for key, value in items.items() if value is not None]
    return "".join(lines)
