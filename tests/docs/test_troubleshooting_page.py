"""docs/troubleshooting.md explains every reason that the server gives, in its own words."""

from __future__ import annotations

import re

from gateway import errors
from gateway.observe.labels import reason_of
from pages import DOCS

OTHER = {"other"}
"""Reasons that no login and no delivery has."""


def test_each_reason_is_a_row_of_the_table_and_no_other_is() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    table = text[text.index("## Reasons") :]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    explained = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
    kinds = [getattr(errors, name) for name in errors.__all__]
    given = {reason_of(kind).replace("_", " ") for kind in (*kinds, ZeroDivisionError)}
    assert sorted(explained) == sorted(given - OTHER)
