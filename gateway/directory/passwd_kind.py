"""The row of ``directory.kind = "passwd-file"``, and checks of a passwd-file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from gateway.config.quota import ZERO_REMARK
from gateway.config.settings import DirectorySettings
from gateway.directory import passwd_entries
from gateway.directory.passwd import PasswdFile, entry, lines_of, read
from gateway.directory.schemes import whole as check_secret
from gateway.errors import BadMailboxName, DirectoryMisconfigured, RetentionMalformed
from gateway.kinds import DirectoryKind, DirectoryParts, Whole
from gateway.model import Account
from gateway.retention.text import parse
from gateway.units import parse_size


def _make(own: DirectorySettings, parts: DirectoryParts) -> PasswdFile:
    path = parts.whole.path_of(own.file)
    return PasswdFile(path, parts.run, read_file=parts.list_all, emit=parts.emit)


def _files(own: DirectorySettings, whole: Whole) -> Mapping[str, str]:
    cure = "(make it with pop3gw passwd --file)"
    return {whole.path_of(own.file): f"directory.file {cure}"}


def _add_account(own: DirectorySettings, whole: Whole, name: str, password: str) -> None:
    path = whole.path_of(own.file)
    if not any(line.partition(":")[0] == name for _, line in _lines(path)):
        passwd_entries.put(path, name, password.encode())


def _lines(path: str) -> list[tuple[int, str]]:
    """The lines of the file with their numbers; none if it cannot be read."""
    try:
        # A device may have no end.
        return list(lines_of(read(path) if os.path.isfile(path) else ""))
    except OSError:
        return []


def _remarks(own: DirectorySettings, whole: Whole) -> Iterator[str]:
    path = whole.path_of(own.file)
    for number, line in _lines(path):
        for word in "".join(line.split(":", 7)[7:]).split():
            if word.lower().startswith("quota=") and _is_zero(word[6:]):
                yield f"{path}:{number}: {ZERO_REMARK}"


def _is_zero(text: str) -> bool:
    try:
        return parse_size(text) == 0
    except ValueError:
        return False


def _account_faults(
    own: DirectorySettings, whole: Whole, check_mailbox: Callable[[Account], object]
) -> Iterator[str]:
    path = whole.path_of(own.file)
    for number, line in _lines(path):
        for fault in _of_account(line, check_mailbox):
            yield f"{path}:{number}: {fault}"


def _of_account(line: str, check_mailbox: Callable[[Account], object]) -> Iterator[str]:
    try:
        account = entry(line)
    except (ValueError, DirectoryMisconfigured) as error:
        yield str(error)
        return
    try:
        if account.secret:
            check_secret(account.secret)
    except DirectoryMisconfigured as error:
        yield f"{account.name}: {error}; make another with pop3gw passwd --file"
    try:
        check_mailbox(account)
    except BadMailboxName as error:
        yield str(error)
    try:
        if account.retention:
            parse(account.retention)
    except RetentionMalformed as error:
        yield f"{account.name}: retention: {error}"


PASSWD_FILE = DirectoryKind(
    settings=DirectorySettings,
    make=_make,
    files=_files,
    remarks=_remarks,
    account_faults=_account_faults,
    add_account=_add_account,
    hashes=True,
)
