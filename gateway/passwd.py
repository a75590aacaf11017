"""``python -m gateway.passwd``: entries of a passwd-file."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Sequence

from gateway.directory.schemes import SCHEMES, make
from gateway.errors import GatewayError
from gateway.saslprep import login_name, saslprep


def entry(name: str, password: bytes, scheme: str = "ARGON2ID") -> str:
    """A passwd-file's line; raises ``ValueError`` for a name or password that cannot be."""
    if ":" in name:
        raise ValueError("a name has no colon")
    prepared = saslprep(password.decode("utf-8"), stored=True).encode("utf-8")
    if b":" in prepared and scheme == "PLAIN":
        raise ValueError("a PLAIN password has no colon; take another scheme")
    return f"{login_name(name.encode('utf-8'))}:{make(scheme, prepared)}:::::"


def put(path: str, name: str, password: bytes, scheme: str = "ARGON2ID") -> None:
    """Add the account to the file, or give it another password."""
    _replace(path, name, entry(name, password, scheme))


def delete(path: str, name: str) -> bool:
    """Take the account out of the file; False when it was not there."""
    return _replace(path, name, None)


def _replace(path: str, name: str, line: str | None) -> bool:
    """Write the file anew and rename it into place, all other lines as they were."""
    canonical = login_name(name.encode("utf-8"))
    mode, lines = 0o640, []
    if os.path.exists(path):
        mode = os.stat(path).st_mode & 0o777
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    kept = [old for old in lines if not _is_of(old, canonical)]
    written = f"{path}.new"
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o750, exist_ok=True)
    made = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{text}\n" for text in [*kept, *([line] if line else [])])
        file.flush()
        os.fsync(made)
    os.rename(written, path)
    return len(kept) < len(lines)


def _is_of(line: str, canonical: str) -> bool:
    if line.startswith("#"):
        return False
    try:
        return login_name(line.partition(":")[0].encode("utf-8", "surrogateescape")) == canonical
    except ValueError:
        return False


def _asked(from_stdin: bool) -> bytes:
    if from_stdin:
        return sys.stdin.readline().removesuffix("\n").encode("utf-8")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords differ")
    return password.encode("utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when done, 1 when it says why not."""
    parser = argparse.ArgumentParser(prog="python -m gateway.passwd", description=__doc__)
    parser.add_argument("name", help="the login name, for example alice@example.org")
    parser.add_argument("--file", help="add or replace the entry in FILE instead of printing it")
    parser.add_argument("--delete", action="store_true", help="remove the entry from --file")
    parser.add_argument("--scheme", choices=list(SCHEMES), default="ARGON2ID")
    parser.add_argument("--stdin", action="store_true", help="read the password from one line")
    options = parser.parse_args(arguments)
    if options.delete and not options.file:
        parser.error("--delete needs --file")
    try:
        if options.delete:
            if not delete(options.file, options.name):
                raise ValueError(f"{options.name} is not in {options.file}")
        elif options.file:
            put(options.file, options.name, _asked(options.stdin), options.scheme)
        else:
            print(entry(options.name, _asked(options.stdin), options.scheme))
    except (ValueError, OSError, GatewayError) as error:
        print(f"pop3gw passwd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
