"""Files that the first start creates for the server's user."""

from __future__ import annotations

import errno
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import frozen

import gateway
from gateway.app import demo
from gateway.app.needed_files import (
    ANOTHER,
    IN_THE_WAY,
    directory_files,
    existing,
    files_of_logins,
    files_of_state,
    files_of_workers,
    has_ledger,
    makes_certificate,
    missing_files,
)
from gateway.config.settings import Settings
from gateway.errors import ConfigError, GatewayError
from gateway.net.tls.certificates import make_certificate
from gateway.state.audit import Audit

_ENTER, _WRITE = os.X_OK, os.W_OK | os.X_OK
_WORDS = {_ENTER: "entered", _WRITE: "written"}

_CURES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "let its owner have more room on its disk",
    errno.EROFS: f"mount its disk to be written, for systemd by ReadWritePaths=, or {ANOTHER}",
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.EISDIR: IN_THE_WAY,
    errno.ENAMETOOLONG: ANOTHER,
    errno.ELOOP: ANOTHER,
}
"""The cure for an error of the state directory; default: its ownership."""


@frozen
class User:
    """The user that the process changes to after binding its ports."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def user_of(uid: int | None, gid: int | None) -> User | None:
    """The user of ``twistd --uid --gid``; None: no change.

    Raises ``ConfigError`` for a user id without a name, which twistd does not accept.
    """
    if os.geteuid() != 0 or not uid:
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigError([f"--uid {uid}: there is no user with this number"]) from None
    group = entry.pw_gid if gid is None else gid
    return User(uid, group, tuple(os.getgrouplist(entry.pw_name, group)))


def prepare(settings: Settings, user: User | None) -> None:
    """Create the state directory and, if configured, the demo account and a certificate.

    All belong to ``user``.  Raises ``ConfigError``, also if that user cannot use existing
    files.
    """
    # Checked as root, who can see all files.
    certificate = makes_certificate(settings)
    try:
        _make_state(settings.state_dir, user)
        with _acting(user):
            if settings.demo:
                demo.make_demo(settings)
            if certificate:
                tls = settings.tls
                make_certificate(settings.path_of(tls.certificate), settings.path_of(tls.key))
    except GatewayError as error:
        raise ConfigError([f"demo: {error}"]) from error
    except OSError as error:
        path = error.filename or settings.state_dir
        cure = _CURES.get(error.errno or 0) or _ownership(settings.state_dir, user)
        raise ConfigError([f"{path}: {error.strerror}: state_dir; {cure}"]) from error


def reserve(settings: Settings, user: User | None) -> None:
    """Reserve room for the audit log at the first start, if the start can proceed."""
    path, said = settings.audit_path, settings.audit
    # On a full disk there is none; ``foreseen`` reports other errors.
    with _acting(user), suppress(OSError):
        if path:
            Audit(path, max_octets=said.max_octets, keep=said.keep).reserve()


def file_faults(
    settings: Settings, user: User | None, *, directory: bool = True, certificates: bool = True
) -> list[str]:
    """Files that are missing; if none is, what ``foreseen`` finds.

    ``directory``: whether ``[directory]`` is used at all; ``certificates``: look at theirs too.
    """
    missing = missing_files(settings, directory=directory, certificates=certificates)
    return missing or foreseen(settings, user, directory=directory)


def foreseen(settings: Settings, user: User | None, *, directory: bool = True) -> list[str]:
    """What ``prepare`` could not create, and what the server could not use; changes nothing.

    ``directory``: whether ``[directory]`` is used at all.
    """
    state = settings.state_dir
    places = settings.store_kind.places(settings.store, state)
    keeps_mail = any(os.path.commonpath((place, state)) == state for place in places)
    if not os.path.lexists(state):
        user, needed = None, [(existing(state), _WRITE)]
    else:
        mode = _WRITE if has_ledger(settings) else _ENTER
        needed = [(state, mode)] if keeps_mail or has_ledger(settings) else []
        if makes_certificate(settings):
            needed.append((existing(settings.path_of(settings.tls.key)), _WRITE))
        if settings.demo:
            accounts = directory_files(settings)
            needed += [(existing(one), _WRITE) for one in accounts if not os.path.lexists(one)]
    # Opening a missing file reports it.
    there = {
        path: key
        for kind in settings.mechanism_kinds.values()
        for path, key in kind.files(settings.of(kind), settings).items()
        if os.path.exists(path)
    }
    with _acting(user):
        problems = [
            f"{place}: may not be {_WORDS[mode]}: state_dir; {_ownership(state, user)}"
            if os.path.isdir(place)
            else f"{place}: expected a directory: state_dir; {IN_THE_WAY}"
            for place, mode in needed
            if not (os.path.isdir(place) and os.access(place, mode, effective_ids=True))
        ]
        problems = list(dict.fromkeys(problems))
        if os.path.lexists(state) and not problems:
            problems += _unwritable(settings, user)
        if user is not None:
            read = files_of_logins(settings, directory=directory) | there
            read |= files_of_workers(settings)
            problems += [
                f"{path}: user {user.uid} may not read it: {purpose.partition(' ')[0]};"
                " chgrp it to that user's group, and chmod 640"
                for path, purpose in read.items()
                if not os.access(path, os.R_OK, effective_ids=True)
            ]
            problems += _not_for_workers(settings, user)
    return problems


def _not_for_workers(settings: Settings, user: User) -> list[str]:
    """Why the current user cannot start worker processes; empty: it can."""
    programs = (sys.executable, os.__file__, gateway.__file__)
    return [
        f"{path}: user {user.uid} may not read it: processes.workers; install Python and pop3gw"
        " where that user may read them"
        for path in programs
        if settings.processes.count > 1 and not os.access(path, os.R_OK, effective_ids=True)
    ][:1]


def _unwritable(settings: Settings, user: User | None) -> list[str]:
    """The state and the audit log, as far as the current user cannot write them."""
    path = settings.audit_path
    who = "may not be written" if user is None else f"user {user.uid} may not write it"
    # Rotation writes to the directory.
    needed = [(os.path.dirname(path), _WRITE), (path, os.R_OK | os.W_OK)]
    problems = [
        f"{place}: {who}: state_dir; {_ownership(settings.state_dir, user)}"
        for place in files_of_state(settings)
        if os.path.exists(place) and not os.access(place, os.R_OK | os.W_OK, effective_ids=True)
    ]
    return problems + [
        f"{place}: {who}: audit.path"
        for place, mode in needed
        if path and os.path.exists(place) and not os.access(place, mode, effective_ids=True)
    ]


def _ownership(path: str, user: User | None) -> str:
    who = "the user that runs pop3gw" if user is None else f"user {user.uid}"
    command = f"chown -R {os.geteuid() if user is None else user.uid} {path}"
    return f"let {path} and what is in it belong to {who} ({command}), or {ANOTHER}"


def _make_state(path: str, user: User | None) -> None:
    try:
        with _acting(user):
            os.makedirs(path, mode=0o750, exist_ok=True)
            return
    except PermissionError:
        if user is None or os.path.isdir(path):
            raise
    # As root, from the end of the path: nobody else can change the directories above yet.
    made, there = [], existing(path)
    place = path
    while place != there:
        made.append(place)
        place = os.path.dirname(place)
    os.makedirs(path, mode=0o750)
    for place in made:
        os.chown(place, user.uid, user.gid, follow_symlinks=False)


@contextmanager
def _acting(user: User | None) -> Iterator[None]:
    """Access files as that user; None: no change."""
    if user is None:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    try:
        os.setgroups(user.groups)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)
