"""Users who come by while something else goes on, in a process of their own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Mapping, Sequence
from itertools import cycle

from bench.setup.maildirs import Drop
from bench.work.load import QUIT, Line, LoadFailed, Step, Talk, converse, login

PACE = 0.003
"""Seconds between two sessions."""

_LISTS = (Step(b"LIST\r\n", lines=True), Step(b"RETR 1\r\n", lines=True), Step(b"NOOP\r\n"))
_NAMES = ("greeting", "USER", "PASS", "LIST", "RETR", "NOOP", "QUIT")

Times = Mapping[str, Sequence[float]]
"""Of each command, how long its replies took, in seconds."""


def visit(port: int, drops: Sequence[Drop], seconds: float) -> Times:
    """Sessions one after the other, of each user in turn, for so long.

    Each user has been there once before the time begins; raises ``LoadFailed``.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_visit, args=(theirs, port, drops, seconds))
    process.start()
    theirs.close()
    try:
        times: Times = ours.recv()
    except EOFError:
        raise LoadFailed("a visitor was not served") from None
    finally:
        process.join()
    return times


def _visit(
    pipe: multiprocessing.connection.Connection, port: int, drops: Sequence[Drop], seconds: float
) -> None:
    for drop in drops:
        _session(port, drop)
    times: dict[str, list[float]] = {name: [] for name in _NAMES}
    end = time.monotonic() + seconds
    for drop in cycle(drops):
        if time.monotonic() > end:
            break
        for name, took in zip(_NAMES, _session(port, drop), strict=True):
            times[name].append(took)
        time.sleep(PACE)
    pipe.send(times)


def _session(port: int, drop: Drop) -> Sequence[float]:
    steps = [*login(drop.login, drop.password), *_LISTS, QUIT]
    return converse(iter([Talk(Line(port, None), steps, ends=True)]), 1).replies
