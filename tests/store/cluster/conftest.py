"""The engines that all tests here share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster_engines import ENGINES, Engines


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """PostgreSQL and an S3, both real; one worker runs all tests that need them."""
    ENGINES.append(Engines(tmp_path_factory.mktemp("engines")))
    yield ENGINES[0]
    ENGINES.pop().stop()
