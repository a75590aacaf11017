"""``python -m gateway.cli.passwd``: entries of a passwd-file."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence

from gateway.config.load import load_settings
from gateway.directory.schemes import SCHEMES, make
from gateway.errors import BadMailboxName, GatewayError
from gateway.model import Account
from gateway.sasl import md4
from gateway.saslprep import login_name, saslprep
from gateway.store.maildir.folders.paths import mailbox_path
from gateway.utf8 import insist


def entry(
    name: str,
    password: bytes,
    scheme: str = "ARGON2ID",
    *,
    nt_hash: bool | None = None,
    old: str = "",
) -> str:
    """A passwd-file's line; raises ``ValueError`` for a name or password that cannot be.

    Of the line ``old`` all but name and password is kept.  ``nt_hash``: whether
    it has what NTLM needs; None: as it was, but of this password.
    """
    canonical = check_name(name)
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


def check_name(name: str) -> str:
    """Its canonical form; raises ``ValueError`` where no account or mailbox can have it."""
    try:
        canonical = login_name(name.encode("utf-8"))
    except UnicodeError:
        raise ValueError("expected a name in UTF-8") from None
    if ":" in canonical or canonical.startswith("#"):
        raise ValueError("a name has no colon, and no # at its beginning")
    try:
        # Wherever mail is, one of these is in the path.
        parts = "{local}/{domain}" if "@" in canonical else "{name}"
        mailbox_path(parts, "/", Account(name=canonical, mailbox=canonical))
    except BadMailboxName as error:
        raise ValueError(str(error)) from None
    return canonical


def _extra(old: str, password: str, with_hash: bool | None) -> str:
    """The extra fields, none of which may let a former password in."""
    fields = [word.partition("=") for word in old.split()]
    kept = ["".join(field) for field in fields if field[0] != "nt_hash"]
    had = any(value for key, _, value in fields if key == "nt_hash")
    if had if with_hash is None else with_hash:
        # Of the password as it was typed: NTLM clients prepare nothing.
        kept.append(f"nt_hash={md4.nt_hash(password).hex()}")
    return " ".join(kept)


def put(
    path: str,
    name: str,
    password: bytes,
    scheme: str = "ARGON2ID",
    *,
    nt_hash: bool | None = None,
) -> None:
    """Add the account to the file, or give it another password and leave the rest."""
    _replace(path, name, lambda old: entry(name, password, scheme, nt_hash=nt_hash, old=old))


def delete(path: str, name: str) -> bool:
    """Take the account out of the file; False when it was not there."""
    return _replace(path, name, None)


def _replace(path: str, name: str, make_line: Callable[[str], str] | None) -> bool:
    """Write the file anew and rename it into place, all other lines as they were.

    ``make_line`` is given the former line, or nothing; the answer is whether
    there was one.
    """
    canonical = login_name(name.encode("utf-8"))
    # A link to the file stays one.
    path = os.path.realpath(path)
    lines = _lines(path)
    former = [at for at, line in enumerate(lines) if _is_of(line, canonical)]
    first = former[0] if former else len(lines)
    new = [make_line("".join(lines[first : first + 1]))] if make_line else []
    kept = [line for at, line in enumerate(lines) if at not in former]
    _write(path, [*kept[:first], *new, *kept[first:]])
    return bool(former)


def _lines(path: str) -> list[str]:
    if not os.path.lexists(path):
        return []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        # Not splitlines: to the directory only a newline ends a line.
        text = file.read()
    return text.removesuffix("\n").split("\n") if text else []


def _write(path: str, lines: list[str]) -> None:
    """All of it or nothing, with owner and mode of the file that was there."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o750, exist_ok=True)
    made, written = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
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
    """Of a new file, the directory's: what root makes there is for the server to read."""
    there = os.path.exists(path)
    said, now = os.stat(path if there else os.path.dirname(path)), os.fstat(file)
    if (said.st_uid, said.st_gid) != (now.st_uid, now.st_gid) and (there or not os.geteuid()):
        try:
            os.chown(file, said.st_uid, said.st_gid)
        except PermissionError:
            raise ValueError(
                f"{path} belongs to user {said.st_uid}, group {said.st_gid}: run this as that"
                " user, or as root"
            ) from None
    os.chmod(file, stat.S_IMODE(said.st_mode) if there else 0o640)


def _is_of(line: str, canonical: str) -> bool:
    if line.startswith("#"):
        return False
    try:
        return login_name(line.partition(":")[0].encode("utf-8", "surrogateescape")) == canonical
    except ValueError:
        return False


def _asked(from_stdin: bool) -> bytes:
    """The password: typed twice, or where there is no terminal one line."""
    if from_stdin or sys.stdin is None or not sys.stdin.isatty():
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise ValueError("expected a password on standard input (docker run needs -i)")
        return line.removesuffix("\n").removesuffix("\r").encode("utf-8", "surrogateescape")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        raise ValueError("no password was typed") from None
    if again != password:
        raise ValueError("the two passwords differ")
    return password.encode("utf-8", "surrogateescape")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.cli.passwd", description=__doc__)
    parser.add_argument("name", help="the login name, for example alice@example.org")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--file", help="add or replace the entry in FILE instead of printing it")
    place.add_argument("--config", help="the same in the file that this configuration names")
    parser.add_argument("--delete", action="store_true", help="remove the entry from the file")
    parser.add_argument("--scheme", choices=list(SCHEMES), default="ARGON2ID")
    parser.add_argument(
        "--nt-hash",
        action=argparse.BooleanOptionalAction,
        help="store an NT hash too, for NTLM (or no longer); without this, as the entry has it",
    )
    parser.add_argument(
        "--stdin", action="store_true", help="read the password from one line, even at a terminal"
    )
    return parser


def _file_of(path: str, name: str) -> str:
    """The passwd-file of a configuration in which ``name`` could have a mailbox."""
    settings = load_settings(path, os.environ)
    if settings.directory.kind != "passwd-file":
        raise ValueError(f"{path}: directory.kind is {settings.directory.kind!r}")
    if not settings.store.in_homes:
        login = login_name(name.encode("utf-8"))
        mailbox_path(settings.store.path, settings.state_dir, Account(name=login, mailbox=login))
    return settings.path_of(settings.directory.file)


def _perform(options: argparse.Namespace) -> None:
    file = options.file
    if options.config:
        file = _file_of(options.config, options.name)
    if options.delete:
        if not delete(file, options.name):
            raise ValueError(f"{options.name} is not in {file}")
        return
    check_name(options.name)
    password = _asked(options.stdin)
    if file:
        put(file, options.name, password, options.scheme, nt_hash=options.nt_hash)
    else:
        print(entry(options.name, password, options.scheme, nt_hash=options.nt_hash))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when done, 1 when it says why not."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.delete and not (options.file or options.config):
        parser.error("--delete needs --file or --config")
    try:
        _perform(options)
    except (ValueError, OSError, GatewayError) as error:
        print(f"pop3gw passwd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    insist()
    sys.exit(main())
