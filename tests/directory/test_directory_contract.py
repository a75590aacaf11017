"""What every directory promises: memory and passwd-file pass the same suite."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from gateway.directory import passwd_entries
from gateway.directory.memory import MemoryDirectory
from gateway.directory.passwd import PasswdFile
from gateway.interfaces import IDirectory
from gateway.testing.directory_contract import directory_tests
from gateway.testing.store_contract import run_now


def memory(test: SynchronousTestCase, passwords: dict[str, str]) -> IDirectory:  # noqa: ARG001
    """Accounts in memory."""
    return MemoryDirectory(passwords)


def passwd_file(test: SynchronousTestCase, passwords: dict[str, str]) -> IDirectory:
    """Accounts in a file."""
    path = os.path.join(test.mktemp(), "accounts")
    for name, password in passwords.items():
        passwd_entries.put(path, name, password.encode(), "SSHA256")
    return PasswdFile(path, run_now)


class MemoryDirectoryTests(directory_tests(memory)):  # type: ignore[misc]
    pass


class PasswdFileTests(directory_tests(passwd_file)):  # type: ignore[misc]
    pass
