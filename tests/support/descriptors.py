"""A process that has few descriptors left."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Only so many descriptors are free meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_ones = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
    for one in next_ones:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_ones[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
