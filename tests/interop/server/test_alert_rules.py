"""The alert rules, as promtool reads and tries them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from programs import need

pytestmark = pytest.mark.interop

RULES = Path(__file__).parents[3] / "etc/prometheus/pop3gw.rules.yml"


def promtool(*arguments: str, given: bytes = b"") -> str:
    """What promtool prints; it has to be content."""
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, timeout=60, check=False
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def test_promtool_finds_no_fault_with_the_alert_rules() -> None:
    need("promtool")
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    need("promtool")
    text = Path(__file__).with_name("alert_rules_test.yml").read_text()
    (tmp_path / "test.yml").write_text(text.replace("RULES", str(RULES)))
    promtool("test", "rules", str(tmp_path / "test.yml"))
