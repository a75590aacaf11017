"""What every test runs under."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import programs

pytest_plugins = ["conformance", "shared_fixtures"]

programs.use_no_other()

# A shell has what it starts with ``&`` ignore SIGINT, and each program of a test would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("pop3gw", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pop3gw")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial's ``mktemp`` makes its directories below the working directory."""
    monkeypatch.chdir(tmp_path)
