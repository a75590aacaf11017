"""Where a setting comes from: a line of the file, an environment variable, or its default."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT = "default"
"""The origin of a setting that neither the file nor the environment sets."""


class Places:
    """The origins of all settings of a configuration."""

    def __init__(
        self, path: str | None, text: str, variables: Mapping[str, str], table: Mapping[str, Any]
    ) -> None:
        """``variables``: key to environment variable; ``table``: what file and environment set."""
        self._path = path
        self._lines = text.split("\n")
        self._variables = variables
        self.table = table

    def __call__(self, key: str) -> str:
        """The beginning of an error line about this key: its origin and the key."""
        if key in self._variables:
            return f"{self._variables[key]}: {key}: "
        return f"{self._file(key)}: {key}: " if self._path else f"{key}: "

    def origin(self, key: Sequence[str]) -> str:
        """The variable, ``FILE:LINE`` or ``default``; ``FILE`` if the line cannot be found.

        ``key``: the names of the sections and of the setting.
        """
        dotted = ".".join(key)
        # Variables are in capitals; names of listeners and domains may be in any case.
        if variable := self._variables.get(dotted.lower()):
            return variable
        return self._file(dotted) if self._path and self._is_set(key) else DEFAULT

    def _is_set(self, key: Sequence[str]) -> bool:
        value: Any = self.table
        for name in key:
            if isinstance(value, list):
                # Tables of a list are counted from 1.
                value = dict(zip(map(str, range(1, len(value) + 1)), value, strict=True))
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return True

    def _file(self, key: str) -> str:
        number = self._line(key)
        return f"{self._path}:{number}" if number else f"{self._path}"

    def _line(self, key: str) -> int:
        """The number of the line that sets the key or opens its table; 0: not found."""
        table, counted = "", Counter[str]()
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[(\[?)([^\[\]]+)\]", line):
                table = header[2].strip().replace('"', "")
                if header[1]:
                    counted[table] += 1
                    table = f"{table}.{counted[table]}"
                name = table
            elif item := re.match(r"\s*([A-Za-z0-9_.-]+)\s*=", line):
                name = f"{table}.{item[1]}" if table else item[1]
            else:
                continue
            if name == key:
                return number
        return 0
