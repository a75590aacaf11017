"""Entries of a passwd-file: make, replace and remove them."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gateway.directory.schemes import make
from gateway.sasl import md4
from gateway.saslprep import login_name, saslprep


def canonical_name(name: str) -> str:
    """The login name as written in the file.

    Raises ``ValueError`` for a name that a line cannot contain.
    """
    try:
        canonical = login_name(name.encode("utf-8"))
    except UnicodeError:
        raise ValueError("expected a name in UTF-8") from None
    if ":" in canonical or canonical.startswith("#"):
        raise ValueError("a name has no colon, and no # at its beginning")
    return canonical


def entry(
    name: str,
    password: bytes,
    scheme: str = "ARGON2ID",
    *,
    nt_hash: bool | None = None,
    old: str = "",
) -> str:
    """A line of a passwd-file: ``old`` with another name and password.

    ``nt_hash``: whether the line has an NT hash, which NTLM needs; None: if
    ``old`` has one.  Raises ``ValueError`` for a name or password that a line cannot contain.
    """
    canonical = canonical_name(name)
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("expected a password in UTF-8") from None
    prepared = saslprep(text, stored=True).encode("utf-8")
    if b":" in prepared and scheme == "PLAIN":
        raise ValueError("a PLAIN password has no colon; take another scheme")
    secret = make(scheme, prepared)
    *middle, extra = (old.split(":", 7) + [""] * 8)[2:8]
    extra = _extra(extra, text, nt_hash)
    return ":".join([canonical, secret, *middle, extra])


def put(
    path: str,
    name: str,
    password: bytes,
    scheme: str = "ARGON2ID",
    *,
    nt_hash: bool | None = None,
) -> bool:
    """Add the account to the file, or change its password; True: it existed.

    Raises ``ValueError`` as ``entry`` does, and ``OSError``.
    """
    return _replace(path, name, lambda old: entry(name, password, scheme, nt_hash=nt_hash, old=old))


def delete(path: str, name: str) -> bool:
    """Remove the account from the file; False: there was none."""
    return _replace(path, name, None)


def _extra(old: str, password: str, with_hash: bool | None) -> str:
    """The extra fields without the NT hash of the old password."""
    fields = [word.partition("=") for word in old.split()]
    kept = ["".join(field) for field in fields if field[0] != "nt_hash"]
    had = any(value for key, _, value in fields if key == "nt_hash")
    if had if with_hash is None else with_hash:
        # The hash of the password as typed: NTLM clients do not apply SASLprep.
        kept.append(f"nt_hash={md4.nt_hash(password).hex()}")
    return " ".join(kept)


def _replace(path: str, name: str, make_line: Callable[[str], str] | None) -> bool:
    """Replace the file by rename, with one line changed.

    ``make_line`` gets the old line, or "".  True: there was one.
    """
    canonical = login_name(name.encode("utf-8"))
    # Keep a symbolic link to the file.
    path = os.path.realpath(path)
    if make_line:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    elif _status_of(path) is None:
        return False
    with _alone_in(os.path.dirname(path)):
        lines = _lines(path)
        former = [at for at, line in enumerate(lines) if _is_of(line, canonical)]
        first = former[0] if former else len(lines)
        new = [make_line("".join(lines[first : first + 1]))] if make_line else []
        kept = [line for at, line in enumerate(lines) if at not in former]
        if new or former:
            _write(path, [*kept[:first], *new, *kept[first:]])
        return bool(former)


@contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Two commands at the same time must not lose one of their changes."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # NFS does not lock a directory.
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _status_of(path: str) -> os.stat_result | None:
    """The status of the file; None: it is missing.  Raises ``OSError`` where nobody can say.

    Else the next change would make a file of one account in place of all.
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lines(path: str) -> list[str]:
    status = _status_of(path)
    if status is None:
        return []
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path}: expected a file, found a device, socket or pipe")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        # Not splitlines: only a newline ends a line of a passwd-file.
        text = file.read()
    return text.removesuffix("\n").split("\n") if text else []


def _write(path: str, lines: list[str]) -> None:
    """Replace the file atomically, with owner and mode of the old one."""
    made, written = tempfile.mkstemp(
        dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}."
    )
    try:
        with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            _keep_owner(made, path)
            os.fsync(made)
        os.rename(written, path)
    except BaseException:
        os.unlink(written)
        raise


def _keep_owner(file: int, path: str) -> None:
    """Give a new file the owner of its directory, so that the server can read it."""
    old = _status_of(path)
    wanted, now = old or os.stat(os.path.dirname(path)), os.fstat(file)
    if (wanted.st_uid, wanted.st_gid) != (now.st_uid, now.st_gid) and (old or not os.geteuid()):
        try:
            os.chown(file, wanted.st_uid, wanted.st_gid)
        except PermissionError:
            raise ValueError(
                f"{path} belongs to user {wanted.st_uid}, group {wanted.st_gid}: run this as that"
                " user, or as root"
            ) from None
    os.chmod(file, stat.S_IMODE(wanted.st_mode) if old else 0o640)


def _is_of(line: str, canonical: str) -> bool:
    if line.startswith("#"):
        return False
    try:
        return login_name(line.partition(":")[0].encode("utf-8", "surrogateescape")) == canonical
    except ValueError:
        return False
