"""Check the parts of a server without starting anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from gateway.app.needed_files import directory_files, has_ledger
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import GatewayError, LedgerUnusable, StoreDown
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.state.ledger import Ledger
from gateway.state.ledger_file import NAME as LEDGER

if TYPE_CHECKING:
    from gateway.app.assembly import Assembly


def faults_of(
    parts: Assembly, settings: Settings, *, directory: bool, accounts: bool = True
) -> list[str]:
    """Errors that a start would find in its parts, or that it would not find.

    ``directory``: whether ``[directory]`` is used at all; ``accounts``: report errors of single
    accounts too, which prevent no start.
    """
    problems: list[str] = []
    made: list[IDirectory] = []

    def attempt(build: Callable[[], object]) -> None:
        try:
            build()
        except GatewayError as error:
            problems.extend(getattr(error, "problems", [str(error)]))

    if not directory or all(map(os.path.isfile, directory_files(settings))):
        attempt(lambda: made.append(parts.directory()))
    if directory and accounts:
        problems += [one for one in _faults_of_accounts(settings) if one not in problems]
    directory_there = next(iter(made), MemoryDirectory({}))
    attempt(lambda: parts.logins(directory_there))
    attempt(lambda: parts.retention_service(directory_there))
    problems += ledger_faults(settings)
    attempt(lambda: parts.check_services(directory_there, attempt))
    for name in settings.listeners:
        attempt(partial(parts.certificates.check, name))
        attempt(partial(parts.endpoint, name))
    return problems


def _faults_of_accounts(settings: Settings) -> Iterable[str]:
    """Errors of single accounts, which do not prevent a start; one line each."""
    kind = settings.directory_kind

    def check_mailbox(account: Account) -> None:
        if not account.is_elsewhere(settings.directory.here):
            settings.store_kind.check_account(settings.store, settings.state_dir, account)

    return kind.account_faults(settings.of(kind), settings, check_mailbox)


def ledger_faults(settings: Settings) -> list[str]:
    """Why the ledger cannot be used, with the cure; empty: it can, or none is needed or there."""
    state = settings.state_dir
    if not has_ledger(settings) or not os.path.lexists(os.path.join(state, LEDGER)):
        return []
    # A full disk, for example, is no fault of it: users can make room while the server runs.
    with suppress(StoreDown):
        try:
            Ledger(state, only_look=True).close()
        except LedgerUnusable as error:
            return [str(error)]
    return []
