"""What is released: a source distribution that is the whole tree, and the wheel made of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from test_installed import ROOT, run

import gateway
from commands import PROGRAM

pytestmark = pytest.mark.interop

SAMPLES = {
    "pop3gw.toml": "etc/pop3gw.toml",
    "pop3gw.service": "etc/pop3gw.service",
    "pop3gw.socket": "etc/pop3gw.socket",
    "pop3gw.schema": "etc/ldap/pop3gw.schema",
    "pop3gw.ldif": "etc/ldap/pop3gw.ldif",
    "pop3gw.rules.yml": "etc/prometheus/pop3gw.rules.yml",
    "pop3gw.json": "etc/grafana/pop3gw.json",
}
NOT_OURS = shutil.ignore_patterns(
    *(".git", ".venv*", "var", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache"),
    *(".*_cache", ".hypothesis", ".coverage*", "_trial_temp*"),
)
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
VERSION = gateway.__version__


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the distributions are made."""
    return tmp_path_factory.mktemp("distributions")


@pytest.fixture(scope="module")
def sdist(place: Path) -> Path:
    """The source distribution of this tree, unpacked; the tree itself is left alone."""
    shutil.copytree(ROOT, place / "tree", ignore=NOT_OURS)
    venv.create(place / "builder", symlinks=True)
    builder = place / "builder" / "bin" / "python"
    run(*PIP, "--python", builder, "install", "setuptools >= 70", cwd=place)
    make = f"from setuptools import build_meta; build_meta.build_sdist({str(place)!r})"
    run(builder, "-c", make, cwd=place / "tree")
    with tarfile.open(place / f"pop3gw-{VERSION}.tar.gz") as archive:
        archive.extractall(place)
    return place / f"pop3gw-{VERSION}"


@pytest.fixture(scope="module")
def wheel(place: Path, sdist: Path) -> zipfile.ZipFile:
    """The wheel that is built of the source distribution."""
    run(*PIP, "wheel", "--no-deps", "--wheel-dir", place, sdist, cwd=place)
    return zipfile.ZipFile(place / f"pop3gw-{VERSION}-py3-none-any.whl")


def files(tree: Path) -> set[str]:
    """All that is in a tree and is ours."""
    return {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and not NOT_OURS("", path.relative_to(tree).parts)
    }


def test_the_source_distribution_is_the_whole_tree(sdist: Path, place: Path) -> None:
    assert files(place / "tree") - files(sdist) == set()


def test_the_wheel_carries_the_sample_configuration_and_the_schema(wheel: zipfile.ZipFile) -> None:
    for name, original in SAMPLES.items():
        assert wheel.read(f"gateway/samples/{name}") == (ROOT / original).read_bytes()


def test_the_metadata_names_licence_author_and_addresses(wheel: zipfile.ZipFile) -> None:
    about = f"pop3gw-{VERSION}.dist-info"
    fields = Parser().parsestr(wheel.read(f"{about}/METADATA").decode())
    assert fields["License"] == "MIT"
    assert fields["Author"]
    assert fields["Home-page"] or fields.get_all("Project-URL")
    (licence,) = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_command_prints_each_sample(name: str, tmp_path: Path) -> None:
    said = run(*PROGRAM, "samples", name, cwd=tmp_path)
    assert said == (ROOT / SAMPLES[name]).read_text()


def test_twistd_pop3gw_tells_the_version_of_pop3gw(tmp_path: Path) -> None:
    twistd = Path(sys.executable).with_name("twistd")
    done = subprocess.run(
        [sys.executable, twistd, "pop3gw", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"pop3gw {VERSION}\n")
