"""Very many mailboxes with tiny messages, written by several processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

from bench.setup.maildirs import DOMAIN, Drop, notes, wire_size
from bench.setup.servers import OWNER

WRITERS = 4
"""Processes; more than cores, as they wait for the file system."""

OLD = 90 * 86_400
"""Seconds for which due mail has been there."""

_NOTE = next(notes(1))
_SIZES = f"S={len(_NOTE)},W={wire_size(_NOTE)}"
_number = count(1)


def crowd(mailboxes: int, messages: int) -> list[Drop]:
    """A number of users with equal shares of a number of messages."""
    each = messages // mailboxes
    size = each * wire_size(_NOTE)
    return [Drop(f"user{number:05d}", each, size, 0) for number in range(mailboxes)]


def settle_in(root: Path, drops: Sequence[Drop]) -> None:
    """Make their Maildirs below ``root`` with mail that came just now and was read."""
    _in_processes(partial(_fill, root), drops)


def grow_old(root: Path, drops: Sequence[Drop], each: int) -> None:
    """Add to each Maildir a number of old unread messages."""
    _in_processes(partial(_add, root, each), drops)


def maildir(root: Path, drop: Drop) -> Path:
    """Where the drop's mail is."""
    return root / drop.login / "Maildir"


def _in_processes(work: partial[None], drops: Sequence[Drop]) -> None:
    with ProcessPoolExecutor(WRITERS, get_context("spawn"), _become_owner) as pool:
        list(pool.map(work, [drops[at : at + 100] for at in range(0, len(drops), 100)]))
    os.sync()  # Or what is measured next would wait for it.


def _become_owner() -> None:
    if OWNER is not None:
        os.setgroups([])
        os.setgid(OWNER)
        os.setuid(OWNER)


def _fill(root: Path, drops: Sequence[Drop]) -> None:
    for drop in drops:
        place = maildir(root, drop)
        for folder in ("cur", "new", "tmp"):
            (place / folder).mkdir(parents=True)
        for path in _paths(place, drop.messages, int(time.time()), "S"):
            _write(path)


def _add(root: Path, each: int, drops: Sequence[Drop]) -> None:
    then = int(time.time()) - OLD
    for drop in drops:
        for path in _paths(maildir(root, drop), each, then, ""):
            _write(path)
            os.utime(path, (then, then))


def _paths(place: Path, messages: int, then: int, flags: str) -> Iterator[str]:
    process = os.getpid()
    for _ in range(messages):
        yield f"{place}/cur/{then}.M{next(_number)}P{process}.{DOMAIN},{_SIZES}:2,{flags}"


def _write(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(file, _NOTE)
    os.close(file)
