"""A configuration to a server, or to the faults that it has."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.task import Clock
from twisted.logger import Logger

from gateway.app.assembly import Assembly
from gateway.app.faults import faults_of, ledger_faults
from gateway.app.first_start import User, file_faults, prepare, reserve
from gateway.app.hard_links import hard_links_remark
from gateway.app.parent import Handed, Parent, PassOn, make_parent
from gateway.app.server.reload import Source
from gateway.app.server.runtime import Role
from gateway.app.server.service import Server
from gateway.config.load import load_document
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from gateway.operations.server.configuration import Checked
from gateway.operations.server.configuration import check as check_configuration

log = Logger()


def assemble(
    reactor: Any,
    path: str | None,
    environ: Mapping[str, str],
    passwords: Sequence[ICredentialsChecker] = (),
    user: User | None = None,
    *,
    auth: Sequence[str] = (),
    pass_on: PassOn = sys.stdout.buffer.write,
) -> Server | Parent:
    """The server of a configuration.  Raises ``ConfigError``.

    ``passwords``: a checker in place of ``[directory]``, which ``auth`` describes to workers;
    ``user``: the user that the process changes to after binding its ports; ``pass_on`` takes
    lines of the log of workers.
    """
    # The working directory may change.
    path = os.path.abspath(path) if path else None
    settings, document = load_document(path, environ)
    prepare(settings, user)
    directory = not passwords
    if problems := file_faults(settings, user, directory=directory):
        raise ConfigError(problems)
    reserve(settings, user)
    if remark := hard_links_remark(settings, user):
        log.warn("{remark}", remark=remark)
    source = Source(path, environ, directory)
    if settings.processes.count == 1:
        if problems := ledger_faults(settings):
            raise ConfigError(problems)
        return Assembly(reactor, settings, passwords).server(source)
    parts = Assembly(Clock(), settings, passwords, Role(observers=()))
    if problems := faults_of(parts, settings, directory=directory, accounts=False):
        raise ConfigError(problems)
    return make_parent(reactor, settings, Handed(document, source, auth), environ, pass_on)


def check(
    path: str | None,
    environ: Mapping[str, str],
    passwords: Sequence[ICredentialsChecker] = (),
    user: User | None = None,
) -> Checked:
    """Check a configuration for ``assemble``.

    Builds the same parts without creating files, binding ports or asking servers.
    """

    def faults(settings: Settings) -> list[str]:
        directory = not passwords
        problems = file_faults(settings, user, directory=directory)
        try:
            parts = Assembly(Clock(), settings, passwords)
        except ConfigError as error:
            return problems + error.problems
        found = faults_of(parts, settings, directory=directory)
        return problems + [one for one in found if one not in problems]

    return check_configuration(path, environ, faults)
