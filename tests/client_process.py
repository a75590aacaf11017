"""Programs that fetch mail, each run once, with no settings but those it is given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run(home: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A client's process, which sees no settings but those in its home and ``env``."""
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C", **env},
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
