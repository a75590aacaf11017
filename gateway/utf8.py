"""Paths are UTF-8, whatever the locale of the process.

A mailbox has one directory, by whichever locale a service or a shell was started.
Python names files in the locale's encoding unless it is in its UTF-8 mode
(https://docs.python.org/3/library/os.html#utf8-mode), which only its start can turn on.
"""

from __future__ import annotations

import os
import sys


def on_disk(path: str) -> str:
    """The path that Python's functions need for a file with this name in UTF-8."""
    return path if _is_on() else os.fsdecode(path.encode("utf-8", "surrogateescape"))


def as_text(path: str) -> str:
    """The text of a file's name as Python's functions give it."""
    return path if _is_on() else os.fsencode(path).decode("utf-8", "surrogateescape")


def insist() -> None:
    """Start this program again in UTF-8 mode, if it is not.  For main programs only.

    So that paths in the configuration, arguments and the environment, and what is
    logged and printed, are UTF-8 too.
    """
    if not _is_on() and "utf8" not in sys._xoptions:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _is_on() -> bool:
    return sys.getfilesystemencoding() == "utf-8"
