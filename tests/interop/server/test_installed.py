"""What the wheel brings, in a virtual environment that knows nothing of the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]


def run(*command: object, cwd: Path) -> str:
    """What a program says; it must succeed."""
    # Neither the tree nor what this run sets for its own tests.
    keep = {name: text for name, text in os.environ.items() if not name.startswith("PY")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=keep, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that the wheel is installed in."""
    place = tmp_path_factory.mktemp("installed")
    tree = place / "tree"
    # A build writes into the tree, and other tests run there meanwhile.
    tree.mkdir()
    for name in ("etc", "gateway", "twisted"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    pip = sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"
    run(*pip, "wheel", "--no-deps", "--wheel-dir", place, tree, cwd=place)
    (wheel,) = place.glob("pop3gw-*.whl")
    venv.create(place / "venv", symlinks=True)
    fresh = place / "venv" / "bin" / "python"
    run(*pip, "--python", fresh, "install", "--no-deps", wheel, cwd=place)
    # What the wheel needs is here already; what is nearer on the path comes first.
    packages = run(fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place)
    Path(packages.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return fresh


@pytest.mark.parametrize(
    "runner", [("pytest", "test_toy_store.py"), ("twisted.trial", "test_toy_store")]
)
def test_a_store_from_outside_runs_the_suites_that_the_wheel_brings(
    python: Path, tmp_path: Path, runner: tuple[str, str]
) -> None:
    shutil.copy(ROOT / "tests" / "outside" / "test_toy_store.py", tmp_path)
    where = "import gateway.testing.store_contract as suite; print(suite.__file__)"
    assert run(python, "-c", where, cwd=tmp_path).startswith(str(python.parent.parent))
    said = run(python, "-m", *runner, cwd=tmp_path)
    assert "passed" in said or "PASSED" in said, said


def test_the_command_that_the_wheel_brings_makes_a_configuration_that_is_fine(
    python: Path, tmp_path: Path
) -> None:
    command = python.with_name("pop3gw")
    config = tmp_path / "pop3gw.toml"
    sample = run(command, "samples", "pop3gw.toml", cwd=tmp_path)
    config.write_text(sample.replace("/var/lib/pop3gw", str(tmp_path / "state")))
    done = subprocess.run(
        [command, "passwd", "--config", config, "bob@example.org"],
        cwd="/",
        input=b"secret\n",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    said = run(command, "check-config", "--config", config, cwd=Path("/"))
    assert said == "The configuration is fine.\n"
    shown = run(command, "config", "show", "--config", config, "state_dir", cwd=Path("/"))
    assert shown.startswith(f'state_dir = "{tmp_path}/state"  # {config}:')
    assert run(command, "--version", cwd=tmp_path).startswith("pop3gw ")


def test_the_wheel_puts_the_manual_page_where_man_looks_beside_the_command(python: Path) -> None:
    page = python.parent.parent / "share" / "man" / "man1" / "pop3gw.1"
    assert page.read_text() == (ROOT / "etc" / "pop3gw.1").read_text()


def test_the_wheel_brings_the_templates_the_languages_and_the_style_of_the_page(
    python: Path, tmp_path: Path
) -> None:
    program = (
        "from gateway.http.page.render import render, static_files; "
        "from gateway.http.page.words import languages; "
        "values = {'problem': '', 'to': '/', 'by_account': True, 'by_token': True}; "
        "print(render('login.html', languages()['de'], path='/', query={}, form_token='x', "
        "**values)); print(sorted(static_files()))"
    )
    said = run(python, "-c", program, cwd=tmp_path)
    assert "Passwort" in said
    assert "['mark.svg', 'page.css', 'page.js']" in said
