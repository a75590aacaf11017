"""The programs that tests may run: those of ``packages.txt``, and no other.

``scripts/debian-packages`` installs what that table names. So a test that passes on one machine
passes on a new one: what is installed here by chance is not on the ``PATH`` of the tests.
"""

from __future__ import annotations

import atexit
import glob
import os
import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

TABLE = Path(__file__).with_name("packages.txt")
PACKAGES = dict(line.split() for line in TABLE.read_text().splitlines() if line and line[0] != "#")
"""Name of a program, or pattern of a file's path, to the Debian package that has it."""

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def find(name: str) -> str | None:
    """Where a program or file of the table is; one that is not in the table is a ``KeyError``."""
    if name not in PACKAGES:
        raise KeyError(f"{name} has no line in {TABLE}")
    if "/" in name:
        return next(iter(glob.glob(name)), None)
    return shutil.which(name, path=_PATH)


SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""For a program of the table that runs further ones, those of packages that its own needs."""


def need(*names: str, root: bool = False) -> None:
    """Skip, loudly, where a program is missing or root is not there to start it; in CI fail."""
    if missing := [name for name in names if find(name) is None]:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in missing))
        unavailable(f"needs {', '.join(missing)}: apt-get install {packages}")
    if root and os.geteuid() != 0:
        unavailable(f"needs root for {', '.join(names)}")


def unavailable(reason: str) -> NoReturn:
    """Skip the test; in CI, where nothing is skipped, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI {reason}")
    pytest.skip(reason)


def use_no_other() -> None:
    """Make ``PATH`` a directory of the table's programs and nothing else, for us and children."""
    directory = Path(tempfile.mkdtemp(prefix="pop3gw-programs-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)  # some tests run clients as another user
    for name in PACKAGES:
        if "/" not in name and (program := find(name)):
            (directory / name).symlink_to(program)
    os.environ["PATH"] = str(directory)
