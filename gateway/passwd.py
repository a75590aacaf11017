"""``python -m gateway.passwd``: entries of a passwd-file."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence

from gateway.directory.schemes import SCHEMES, make
from gateway.errors import GatewayError
from gateway.sasl import md4
from gateway.saslprep import login_name, saslprep


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
    canonical = login_name(name.encode("utf-8"))
    if ":" in canonical or canonical.startswith("#"):
        raise ValueError("a name has no colon, and no # at its beginning")
    text = password.decode("utf-8")
    prepared = saslprep(text, stored=True).encode("utf-8")
    if b":" in prepared and scheme == "PLAIN":
        raise ValueError("a PLAIN password has no colon; take another scheme")
    secret = make(scheme, prepared)
    *middle, extra = (old.split(":", 7) + [""] * 8)[2:8]
    extra = _extra(extra, text, nt_hash)
    return ":".join([canonical, secret, *middle, extra])


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
    mode, lines = 0o640, []
    if os.path.exists(path):
        mode = os.stat(path).st_mode & 0o777
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            # Not splitlines: to the directory only a newline ends a line.
            text = file.read()
        lines = text.removesuffix("\n").split("\n") if text else []
    former = [at for at, line in enumerate(lines) if _is_of(line, canonical)]
    first = former[0] if former else len(lines)
    new = [make_line("".join(lines[first : first + 1]))] if make_line else []
    kept = [line for at, line in enumerate(lines) if at not in former]
    written = f"{path}.new"
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o750, exist_ok=True)
    made = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{line}\n" for line in [*kept[:first], *new, *kept[first:]])
        file.flush()
        os.fsync(made)
    os.rename(written, path)
    return bool(former)


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
    parser.add_argument(
        "--nt-hash",
        action=argparse.BooleanOptionalAction,
        help="store an NT hash too, for NTLM (or no longer); without this, as the entry has it",
    )
    parser.add_argument("--stdin", action="store_true", help="read the password from one line")
    options = parser.parse_args(arguments)
    if options.delete and not options.file:
        parser.error("--delete needs --file")
    try:
        if options.delete:
            if not delete(options.file, options.name):
                raise ValueError(f"{options.name} is not in {options.file}")
        elif options.file:
            password = _asked(options.stdin)
            put(options.file, options.name, password, options.scheme, nt_hash=options.nt_hash)
        else:
            password = _asked(options.stdin)
            print(entry(options.name, password, options.scheme, nt_hash=options.nt_hash))
    except (ValueError, OSError, GatewayError) as error:
        print(f"pop3gw passwd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
