"""docs/cluster.md says what the settings of the cluster store are, and what they cost."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from gateway.config.services import Lmtp
from gateway.store.cluster.kind import ClusterSettings

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text()


def section(title: str) -> str:
    """The text below a heading of the second level."""
    _, _, rest = PAGE.partition(f"\n## {title}\n")
    assert rest, title
    return rest.partition("\n## ")[0]


def shown(default: object) -> str:
    """A default as TOML has it; empty: there is none."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_its_table_has_each_setting_of_the_store_with_its_default() -> None:
    found = {
        name: default.strip().strip("`")
        for names, default in re.findall(r"^\| (`.*?) \|(.*?)\|", section("Settings"), re.M)
        for name in re.findall(r"`(\w+)`", names)
    }
    wanted = {one.name: shown(one.default) for one in attrs.fields(ClusterSettings)}
    del wanted["kind"]
    assert found == wanted


def test_it_says_how_many_connections_to_postgresql_a_process_has_by_default() -> None:
    (found,) = re.findall(r": (\d+) with the defaults", section("Connections to PostgreSQL"))
    assert int(found) == 3 * ClusterSettings().threads + Lmtp().threads
