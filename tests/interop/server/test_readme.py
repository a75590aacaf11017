"""What the README and docs/install.md say to type: it fits the unit, the image and the samples."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

import pytest

from gateway.samples import text

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]


def commands(page: str) -> list[str]:
    """The lines of a page's blocks of commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    return [line.partition("   #")[0] for block in blocks for line in block.splitlines()]


def unit() -> dict[str, str]:
    """The service of the unit."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text("pop3gw.service"))
    return dict(parser["Service"])


def test_the_unit_the_sample_and_the_readme_name_the_same_places() -> None:
    service, typed = unit(), "\n".join(commands("docs/install.md"))
    state = tomllib.loads(text("pop3gw.toml"))["state_dir"]
    assert state == f"/var/lib/{service['StateDirectory']}"
    assert f"install -d -o {service['User']} -g {service['Group']} -m 750 {state}" in typed
    assert f"--home-dir {state} " in typed
    assert typed.splitlines()[0].endswith(service["User"])
    program, config = re.fullmatch(r"(\S+) .* --config (\S+)", service["ExecStart"]).groups()  # type: ignore[union-attr]
    command = Path(program).with_name("pop3gw")
    assert f"{command} check-config --user {service['User']} --config {config}" in typed
    assert f"passwd --config {config} " in typed
    assert f"pop3gw.toml > {config}" in typed
    dockerfile = (ROOT / "Dockerfile").read_text()
    (inside,) = (line for line in commands("README.md") if "pop3gw passwd" in line)
    image = re.search(r"POP3GW_CONFIG=(\S+)", dockerfile)[1]  # type: ignore[index]
    assert f"--config {image} " in inside
    assert f"-v pop3gw:{state} " in inside
    assert f"POP3GW_STATE_DIR={state}" in dockerfile
