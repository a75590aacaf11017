"""The processes of a server: which there are, what memory they use, and the end of all at once."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_KIB = 1024


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def kill(pid: int) -> None:
    """End a process, unless it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def until_ended(pid: int, seconds: float = 30) -> Iterator[None]:
    """A block that ends once a process, and all that it had started before, have ended.

    Raises ``TimeoutError``.
    """
    with ExitStack() as opened:
        ends = []
        for one in [pid, *descendants(pid)]:
            with suppress(ProcessLookupError):
                ends.append(os.pidfd_open(one))
                opened.callback(os.close, ends[-1])
        yield
        for end in ends:
            poll = select.poll()
            poll.register(end)
            if not poll.poll(seconds * 1000):
                raise TimeoutError(f"a process that {pid} has started does not end")


def kill_all(pid: int) -> None:
    """End a process and all that it has started, as a loss of power does."""
    # Who stands still starts no process anew.
    os.kill(pid, signal.SIGSTOP)
    with until_ended(pid):
        for one in [*descendants(pid)]:
            kill(one)
        kill(pid)


def memory(pid: int) -> int:
    """The octets of physical memory that a process uses; 0: it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * _KIB
    return 0
