"""System calls of a server while a row is measured, counted by strace."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.setup import processes
from bench.setup.servers import NotAvailable, Server

MOST_NAMES = 6
"""How many calls are told by name, the most frequent first."""


@contextlib.contextmanager
def counted(server: Server) -> Iterator[dict[str, int]]:
    """The dictionary has, after the block, how often the server made each system call.

    Tracing slows the server down: measure nothing else meanwhile.

    Raises ``NotAvailable``.
    """
    if shutil.which("strace") is None:
        raise NotAvailable("system calls are not counted: apt-get install strace")
    table = server.directory / "calls"
    pids = ",".join(map(str, processes.tree(server.pid)))
    command = ["strace", "-c", "-f", "-qq", "-o", str(table), "-p", pids]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    found: dict[str, int] = {}
    try:
        _attached(server.pid, tracer)
        yield found
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=20)
    found.update(parse(table.read_text()))


def _attached(pid: int, tracer: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 10
    while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > end:
            raise NotAvailable(f"strace may not trace the server: {_said(tracer)}")
        time.sleep(0.02)
    time.sleep(0.2)  # Until all of its processes are attached too.


def _said(tracer: subprocess.Popen[str]) -> str:
    tracer.kill()
    return " ".join(tracer.communicate()[1].split())


def parse(table: str) -> dict[str, int]:
    """Calls by name, of the table that ``strace -c`` prints."""
    found: dict[str, int] = {}
    for line in table.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            found[fields[-1]] = found.get(fields[-1], 0) + int(fields[3])
    return found


def figures(found: dict[str, int], units: float) -> dict[str, float]:
    """Calls of each unit: all of them as ``calls``, the most frequent as ``call NAME``."""
    frequent = sorted(found.items(), key=lambda item: -item[1])[:MOST_NAMES]
    return {
        "calls": sum(found.values()) / units,
        **{f"call {name}": count / units for name, count in frequent},
    }
