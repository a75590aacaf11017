"""``python -m bench.work.allocated FILE PROGRAM ...``: a program that tells what it has allocated.

At the signal ``ASK`` the program writes the number of octets to FILE: of everything that came from
malloc, OpenSSL's included. So it has to run with PYTHONMALLOC=malloc, which has Python take each
object from there. Unlike resident memory this neither contains what was freed and kept nor rounds
to pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from types import MappingProxyType

from bench.setup.servers import Gateway, NotAvailable

ASK = signal.SIGRTMIN

FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` (mallinfo(3)); glibc sums it over all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def _answer(file: str) -> None:
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    found = mallinfo2()
    Path(f"{file}.new").write_text(str(found.uordblks + found.hblkhd))
    os.replace(f"{file}.new", file)


class TellingGateway(Gateway):
    """The gateway, which says what it has allocated."""

    environment = MappingProxyType({"PYTHONMALLOC": "malloc"})

    def command(self) -> list[str]:
        python, *rest = super().command()
        answer = str(self.directory / "allocated")
        return [python, "-m", "bench.work.allocated", answer, *rest]

    def allocated(self) -> int:
        """Octets, once what ended just now is gone."""
        answer = self.directory / "allocated"
        with contextlib.suppress(FileNotFoundError):
            answer.unlink()
        os.kill(self.pid, ASK)
        end = time.monotonic() + 30
        while not answer.exists():
            if time.monotonic() > end:
                raise NotAvailable(f"{self.name} does not say what it has allocated")
            time.sleep(0.02)
        return int(answer.read_text())


if __name__ == "__main__":
    _, answer, *program = sys.argv
    signal.signal(ASK, lambda *_: _answer(answer))
    sys.argv = program
    runpy.run_path(program[0], run_name="__main__")
