"""What a tree of processes has cost so far: CPU time and memory, as Linux counts them."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process ``root`` and all that descend from it, those alive now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu(root: int) -> float:
    """User and system seconds of the tree, those of its dead included.

    A dead child's time moves to its parent, so the sum over the living of own
    and children's time never loses any; it is read again when a process came
    or went meanwhile.
    """
    while True:
        before = tree(root)
        spent = [_spent(pid) for pid in before]
        if tree(root) == before and None not in spent:
            return sum(one for one in spent if one is not None)


def memory(root: int) -> int:
    """Octets of memory of the tree; a page shared by n processes counts 1/n in each (PSS)."""
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total * 1024


def status(pid: int, field: str) -> int:
    """A size of /proc/PID/status in KiB, such as VmRSS; 0 for a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0


def settle(root: int, most: float = 0.5) -> float:
    """``cpu`` once the tree has gone quiet, or after ``most`` seconds."""
    end = time.monotonic() + most
    last = cpu(root)
    while True:
        time.sleep(0.03)
        now = cpu(root)
        if now - last < 0.0002 or time.monotonic() > end:
            return now
        last = now


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, ... (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _spent(pid: int) -> float | None:
    fields = _stat(pid)
    if fields is None:
        return None
    try:
        # The process's CPU clock (clock_getcpuclockid(3)): user + system of all its
        # threads in nanoseconds, where /proc/PID/stat rounds to 10 ms.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None
    return own + (int(fields[13]) + int(fields[14])) * TICK
