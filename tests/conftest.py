"""What every test runs under."""

from __future__ import annotations

from pathlib import Path

import pytest

import programs

pytest_plugins = ["conformance", "shared_fixtures"]

programs.use_no_other()


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trial's ``mktemp`` makes its directories below the working directory."""
    monkeypatch.chdir(tmp_path)
