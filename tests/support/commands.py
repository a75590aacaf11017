"""The command ``pop3gw``, in this process or in one of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from click.testing import CliRunner

from gateway.cli.main import pop3gw

PROGRAM = (sys.executable, str(Path(sys.executable).with_name("pop3gw")))
"""The console script, run by this interpreter."""


def run_here(*arguments: str, stdin: str | bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output and standard error; for commands that need no reactor."""
    result = CliRunner().invoke(pop3gw, arguments, input=stdin, prog_name="pop3gw")
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
