"""Processes that are killed before one of the steps that they take on the disk.

A child performs an act of the program that it is, and kills itself with SIGKILL before its
first step, in the next round before its second, and so on until it lives; a write is also cut
short after each of its octets.  Children are forked by a file of tests run as a program, so
that each costs a fork only.
"""

from __future__ import annotations

import builtins
import gc
import io
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

Told = dict[bytes, str]
"""What a child tells its parent while it lives, each thing by its name."""

# -- the child: dies ----------------------------------------------------------

# Not how often a directory is read: that depends on when it changed last, and changes nothing.
AUDITED = frozenset(
    {
        *("open", "fcntl.flock", "os.truncate"),
        *("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "os.chown"),
    }
)

OPENED = "/proc/self/fd/"

# By event: which arguments are the open directories that its relative paths begin at.
STARTS: dict[str, tuple[int, ...]] = {
    "os.rename": (2, 3),
    "os.link": (2, 3),
    "os.remove": (1,),
    "os.rmdir": (1,),
    "os.mkdir": (2,),
    "os.chmod": (2,),
    "os.chown": (3,),
}


class Death:
    """Counts the steps that this process takes in a directory, and ends it before one of them."""

    def __init__(self, directory: str, step: int, cuts: int) -> None:
        """``cuts`` is at how many places a write is cut short."""
        self._directory = directory
        self._left = step
        self._cuts = cuts

    def arm(self) -> None:
        """Count from here on."""
        really_write, really_open, really_open_at = os.write, builtins.open, os.open

        def write(file: int, data: Any) -> int:
            for cut in range(0, len(data), max(1, len(data) // self._cuts)):
                if self._is_due():
                    really_write(file, data[:cut])
                    self._die()
            return really_write(file, data)

        def sync(_: int) -> None:
            # Whoever is killed leaves what it wrote with the kernel, synced or not.
            self.step()

        class Unbuffered(io.FileIO):
            def write(self, data: Any) -> int:
                return write(self.fileno(), data)

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
            if "b" in mode and set(mode) & set("wax") and self._is_ours(path):
                file = Unbuffered(path, mode)
                self.step()
                return file  # type: ignore[return-value]
            return really_open(path, mode, *args, **kwargs)

        def opened_at(path: Any, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            # The audit event does not tell where a relative path begins.
            is_step = dir_fd is not None and not flags & os.O_PATH
            if is_step and self._is_ours(path, dir_fd):
                self.step()
            return really_open_at(path, flags, *mode, dir_fd=dir_fd)

        os.open = opened_at  # type: ignore[assignment]
        os.write, os.fsync, builtins.open = write, sync, opened  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in AUDITED:
            return
        # A link's second name may be ours where its first is not.
        starts = [args[at] for at in STARTS.get(event, ())] or [-1]
        if isinstance(args[0], int) or any(map(self._is_ours, args, starts)):
            self.step()

    def _is_ours(self, path: Any, start: int | None = -1) -> bool:
        """Whether a path, a relative one of the open directory ``start``, is in the directory."""
        if not isinstance(path, str):
            return False
        if start is not None and start >= 0:
            path = os.path.join(f"{OPENED}{start}", path)
        if path.startswith(OPENED):
            number, _, rest = path.removeprefix(OPENED).partition("/")
            path = f"{os.readlink(f'{OPENED}{number}')}/{rest}"
        return path.startswith(self._directory)

    def _is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def step(self) -> None:
        """A step that is not taken on the disk, such as a question to a server."""
        if self._is_due():
            self._die()

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


Acts = dict[str, Callable[..., None]]


def child(order: dict[str, Any], pipe: int, acts: Acts) -> None:
    """One child's life."""
    really_write = os.write

    def tell(told: Told) -> None:
        text = json.dumps({name.decode("latin-1"): value for name, value in told.items()})
        really_write(pipe, text.encode() + b"\n")

    root = order["root"]
    death = Death(root, order["step"], order["cuts"])
    acts[order["act"]](death, root, tell, **order["options"])


def serve(channel: socket.socket, acts: Acts) -> None:
    """Fork a child for each order, and say how it ended and what it had told."""
    gc.freeze()
    for line in channel.makefile("rb"):
        order = json.loads(line)
        ours, its = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(order, its, acts)
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        os.close(its)
        with open(ours, "rb") as pipe:
            told = {key: value for line in pipe for key, value in json.loads(line).items()}
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        channel.sendall(json.dumps([status, told]).encode() + b"\n")


# -- the parent ---------------------------------------------------------------


class End(NamedTuple):
    """How a child ended."""

    killed: bool
    told: Told


class Doomed:
    """Children that die when told to."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._replies = channel.makefile("rb")

    def live(self, root: Path, act: str, step: int, *, cuts: int = 400, **options: bool) -> End:
        """Have a child perform ``act`` and die before its ``step``-th step, if it has so many."""
        order = {"root": str(root), "act": act, "step": step, "cuts": cuts, "options": options}
        self._channel.sendall(json.dumps(order).encode() + b"\n")
        status, told = json.loads(self._replies.readline())
        assert status in (0, -signal.SIGKILL), f"the child failed at step {step}"
        return End(status != 0, {text.encode("latin-1"): value for text, value in told.items()})


def doomed_children(program: str) -> Iterator[Doomed]:
    """Children of a file of tests, which run as a program calls ``serve``."""
    ours, its = socket.socketpair()
    ours.settimeout(60)
    command = [sys.executable, program, str(its.fileno())]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with its, ours, subprocess.Popen(command, pass_fds=[its.fileno()], env=environ) as process:
        its.close()
        yield Doomed(ours)
        ours.shutdown(socket.SHUT_RDWR)
        try:
            process.wait(30)
        finally:
            process.kill()
