"""What tests of several modules are given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A client's directory, below one that every user may enter."""
    directory = tempfile.mkdtemp(prefix="pop3gw-client-")
    yield Path(directory)
    shutil.rmtree(directory)
