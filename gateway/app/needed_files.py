"""Files that a configuration needs, and files that a start creates."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping

from gateway.config.listeners import CertificateFiles, Tls
from gateway.config.settings import Settings
from gateway.state import leader, ledger_file

_NOT_MADE = " (one is made only where neither path is set and neither file is there)"
ANOTHER = "set another one (POP3GW_STATE_DIR)"
IN_THE_WAY = f"move away what is in its place, or {ANOTHER}"
"""The cure if the state directory cannot be created."""

_MISSING = "no such file"
_NO_FILE = "expected a file, found a directory or a device"


def makes_certificate(settings: Settings) -> bool:
    """Whether a start creates a self-signed certificate.

    Only if no path of a certificate is set: a configured path without a file is an
    error.
    """
    default, tls = Tls(), settings.tls
    wanted = any(
        listener.tls != "none" and settings.certificates_of(name) == settings.tls_certificates
        for name, listener in settings.listeners.items()
    ) or (settings.lmtp.endpoint != "" and settings.lmtp.tls != "none")
    http = settings.http
    if http.endpoint and http.tls != "none":
        wanted = wanted or settings.http_certificates == settings.tls_certificates
    return (
        wanted
        and tls.self_signed
        and not tls.certificates
        and (tls.certificate, tls.key) == (default.certificate, default.key)
        and not any(os.path.lexists(settings.path_of(path)) for path in (tls.certificate, tls.key))
    )


def missing_files(
    settings: Settings, *, directory: bool = True, certificates: bool = True
) -> list[str]:
    """Missing files that a start needs, one line each.

    ``directory``: whether ``[directory]`` is used at all.  ``certificates``: whether those are
    needed too; a reload keeps the old ones.
    """
    place = existing(settings.state_dir)
    if not os.path.isdir(place):
        return [f"{place}: expected a directory: state_dir; {IN_THE_WAY}"]
    wanted = _files_of_certificates(settings) if certificates else {}
    wanted |= files_of_logins(settings, directory=directory)
    found = ((path, purpose, _fault(path)) for path, purpose in wanted.items())
    problems = [
        # How to create it helps only if it is missing.
        f"{path}: {fault}: {purpose if fault == _MISSING else purpose.partition(' (')[0]}"
        for path, purpose, fault in found
        if fault
    ]
    return problems + _places_of_files(settings, wanted)


def _places_of_files(settings: Settings, others: Collection[str]) -> list[str]:
    """Faults of the places where the server writes files; ``others``: files that it reads."""
    path, problems = settings.audit_path, []
    taken = {
        *others,
        *(os.path.join(settings.state_dir, name) for name in (ledger_file.NAME, leader.NAME)),
    }
    place = os.path.dirname(path)
    # The start creates a missing state directory.
    if path and place != settings.state_dir and not os.path.isdir(place):
        problems.append(f"{place}: no such directory: audit.path")
    elif path and os.path.realpath(path) in map(os.path.realpath, taken):
        problems.append(f"{path}: expected a file that has no other use: audit.path")
    elif path and (fault := _fault(path)) not in ("", _MISSING):
        problems.append(f"{path}: {fault}: audit.path")
    return problems + [
        f"{place}: expected a directory: {key}"
        for place, key in settings.store_kind.places(settings.store, settings.state_dir).items()
        if os.path.lexists(place) and not os.path.isdir(place)
    ]


def _files_of_certificates(settings: Settings) -> dict[str, str]:
    """The files of all certificates that clients get: path to setting."""
    tls, made = settings.tls_certificates, makes_certificate(settings)
    wanted: dict[str, str] = {}
    note = _NOT_MADE if settings.tls.self_signed and not settings.tls.certificates else ""
    shared = {path: setting + note for setting, path in _by_setting(tls)}
    for name, listener in settings.listeners.items():
        files = settings.certificates_of(name)
        if listener.tls != "none" and not (made and files == tls):
            wanted |= {path: shared.get(path, setting) for setting, path in _by_setting(files)}
    if settings.lmtp.endpoint and settings.lmtp.tls != "none" and not made:
        wanted = {path: f"{setting} (for lmtp)" for setting, path in _by_setting(tls)} | wanted
    if settings.http.endpoint and settings.http.tls != "none":
        files = settings.http_certificates
        if not (made and files == tls):
            wanted = {
                path: f"{setting} (for http)" for setting, path in _by_setting(files)
            } | wanted
    return wanted


def _by_setting(certificates: Mapping[str, CertificateFiles]) -> Iterator[tuple[str, str]]:
    """The setting and the path of each file."""
    for section, files in certificates.items():
        yield f"{section}.certificate", files.certificate
        yield f"{section}.key", files.key


def _fault(path: str) -> str:
    """Why the path is no readable file, ignoring its mode; empty: it is one."""
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    except PermissionError as error:
        return f"{error.strerror} (let the user that runs pop3gw enter the directories above)"
    except OSError as error:
        return f"{error.strerror}, expected another path"
    return "" if is_file else _NO_FILE


def existing(path: str) -> str:
    """The path, or the nearest directory above it that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def has_ledger(settings: Settings) -> bool:
    """Whether state and leader are in the state directory: no other servers share them."""
    return settings.store_kind.make_state is None


def files_of_state(settings: Settings) -> list[str]:
    """The files that the server writes in the state directory, beside mail and the audit log.

    Not those of the control socket: the server runs as well without it.
    """
    if not has_ledger(settings):
        return []
    names = *(f"{ledger_file.NAME}{end}" for end in ("", "-wal", "-shm")), leader.NAME
    return [os.path.join(settings.state_dir, name) for name in names]


def files_of_logins(settings: Settings, *, directory: bool = True) -> dict[str, str]:
    """The files that each login reads: path to setting.

    ``directory``: whether ``[directory]`` is used at all.
    """
    return directory_files(settings) if directory and not settings.demo else {}


def files_of_workers(settings: Settings) -> dict[str, str]:
    """The files that worker processes read, beside those of logins: path to setting.

    A single process has read them before it gives up the rights of root.
    """
    if settings.processes.count == 1:
        return {}
    return _files_of_certificates(settings) | settings.secret_files


def directory_files(settings: Settings) -> dict[str, str]:
    """The files of the directory, and of the demo account."""
    kind = settings.directory_kind
    return dict(kind.files(settings.of(kind), settings))
