"""What is wrong with single accounts of a passwd-file, which a start leaves to their logins."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gateway.config.settings import Settings
from gateway.directory.passwd import entry, lines_of, read
from gateway.directory.schemes import whole
from gateway.errors import BadMailboxName, DirectoryMisconfigured, RetentionMalformed
from gateway.model import Account
from gateway.retention.text import parse
from gateway.store.maildir.folders.paths import mailbox_path


def faults_of_accounts(settings: Settings) -> list[str]:
    """A line for each, with the number of the account's."""
    path = settings.path_of(settings.directory.file)
    try:
        # A device could be read for ever.
        lines = lines_of(read(path) if os.path.isfile(path) else "")
    except OSError:
        return []
    return [f"{path}:{number}: {fault}" for number, line in lines for fault in _of(line, settings)]


def _of(line: str, settings: Settings) -> Iterator[str]:
    try:
        account = entry(line)
    except (ValueError, DirectoryMisconfigured) as error:
        yield str(error)
        return
    try:
        if account.secret:
            whole(account.secret)
    except DirectoryMisconfigured as error:
        yield f"{account.name}: {error}; make another with pop3gw passwd --file"
    try:
        _check_mailbox(account, settings)
    except BadMailboxName as error:
        yield f"{error}; the place is store.path = {settings.store.path!r}"
    try:
        if account.retention:
            parse(account.retention)
    except RetentionMalformed as error:
        yield f"{account.name}: retention: {error}"


def _check_mailbox(account: Account, settings: Settings) -> None:
    here = settings.directory.here
    if not account.is_elsewhere(here):
        mailbox_path(settings.store.path, settings.state_dir, account)
