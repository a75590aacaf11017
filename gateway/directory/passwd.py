"""Accounts from a passwd-file in Dovecot's format."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.directory import schemes
from gateway.directory.entry_map import named
from gateway.errors import (
    DirectoryDown,
    DirectoryMisconfigured,
    LoginDisabled,
    UnknownLogin,
    WrongPassword,
)
from gateway.events import AccountsKept, Emit
from gateway.interfaces import IDirectory, IOwnRetention, Run
from gateway.model import Account, Quota
from gateway.observe.log import emit_to_log
from gateway.observe.outage import Outage
from gateway.saslprep import login_name, saslprep
from gateway.units import limit_of, parse_size

__all__ = ["PasswdFile"]

T = TypeVar("T")

AGAIN_AFTER = 1.0
"""Seconds after which a changed file that the system did not let us read is tried again."""

Stamp = tuple[int, int, int]
"""Inode, mtime in ns, and size of the file."""

_ANY = ""
_NONE: Mapping[str, Account] = {}
_NO = frozenset({"no", "n", "false", "0"})
_FORM = re.compile(r"(?P<domain>[^\\/]*)[\\/](?P<user>[^\\/]+)")


class Entries(Mapping[str, Account]):
    """The accounts of a file, by canonical name."""

    def __init__(self, accounts: dict[str, Account], lines: Mapping[str, Account]) -> None:
        """``lines``: the account of each line, as the line has it."""
        self._accounts = accounts
        self.lines = lines
        self.addresses = {
            address: account for account in accounts.values() for address in account.addresses
        }
        secrets = {account.secret for account in accounts.values()}
        self.decoy = schemes.decoy(secrets - {""})

        self._users = self._by_local_part()
        self._resolve_delegates()
        self.with_retention = [account for account in accounts.values() if account.retention]

    def _resolve_delegates(self) -> None:
        """Resolve delegates that are listed with a domain before the name."""
        for account in [one for one in self._accounts.values() if one.delegates]:
            forms = [one for one in account.delegates if _FORM.fullmatch(one)]
            found = {one.name for form in forms if (one := self.named(form))}
            if found:
                account = evolve(account, delegates=account.delegates | found)
                self._accounts[account.name] = account
                self.addresses |= dict.fromkeys(account.addresses, account)

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._accounts)

    def __len__(self) -> int:
        return len(self._accounts)

    def named(self, login: str) -> Account | None:
        """The account of a login name: a name, an address, or a name with a domain before it."""
        account = self.addresses.get(login)
        form = None if account else _FORM.fullmatch(login)
        return self._of_domain(form["user"], form["domain"]) if form else account

    def _of_domain(self, user: str, domain: str) -> Account | None:
        """The only ``user`` of a mail domain, or of a Windows domain, which has no dots.

        A Windows domain may have any name: unless it is the first label of a mail
        domain, it is ignored.
        """
        if "@" in user:
            return self.addresses.get(user)
        users = self._users.get(user, {})
        place = domain if domain in users or "." in domain else _ANY
        return self._accounts.get(users.get(place) or user)

    def _by_local_part(self) -> dict[str, dict[str, str]]:
        """Names of accounts by local part, and by domain, its first label and ``_ANY``.

        For logins with a domain; an empty name: there are several.
        """
        users: dict[str, dict[str, str]] = {}
        for address, account in self.addresses.items():
            local, at, domain = address.rpartition("@")
            there = users.setdefault(local if at else address, {})
            for place in {domain, domain.partition(".")[0], _ANY} if at else (_ANY,):
                if there.setdefault(place, account.name) != account.name:
                    there[place] = ""
        return users


def parse(text: str, path: str, known: Mapping[str, Account] = _NONE) -> Entries:
    """``name:{SCHEME}hash:uid:gid:gecos:home:shell:extra`` lines.

    ``known``: the ``lines`` of the file before it changed: most lines stay, and reading one again
    costs as much as all else.  Raises ``DirectoryMisconfigured`` that names file, line and cure.
    """
    accounts: dict[str, Account] = {}
    read: dict[str, Account] = {}
    lines: dict[str, int] = {}
    owners: dict[str, str] = {}
    for number, line in lines_of(text):
        try:
            account = known.get(line) or entry(line)
            if account.name in accounts:
                raise ValueError(f"the same name as line {lines[account.name]}; remove one")
            if taken := owners.keys() & set(account.addresses):
                raise ValueError(f"{taken.pop()} is an address of another line too; remove one")
        except (ValueError, DirectoryMisconfigured) as error:
            raise DirectoryMisconfigured(f"{path}:{number}: {error}") from None
        accounts[account.name] = read[line] = account
        lines[account.name] = number
        owners |= dict.fromkeys(account.addresses, account.name)
    return Entries(accounts, read)


def read(path: str) -> str:
    """The text of a passwd-file; keeps octets that are not UTF-8.  Raises ``OSError``."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.read()


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is neither empty nor a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.strip() and not line.startswith("#"):
            yield number, line


def entry(line: str) -> Account:
    """The account of a line.  Raises ``ValueError`` or ``DirectoryMisconfigured``."""
    name, *fields = line.split(":", 7)
    if not fields:
        raise ValueError("expected name:{SCHEME}hash")
    fields += [""] * (7 - len(fields))
    secret, home, extra = fields[0], fields[4], fields[6]
    if home and not os.path.isabs(home):
        raise ValueError("the home (sixth field) must begin with a slash")
    try:
        canonical = login_name(name.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ValueError(f"no valid name: {error}") from None
    pairs = (word.partition("=")[::2] for word in extra.split())
    said = {name.lower(): value for name, value in pairs}
    may_log_in = not _flag(said, "nologin")
    try:
        schemes.scheme_of(secret)
    except DirectoryMisconfigured:
        if may_log_in:
            raise
        # A shared mailbox, for example: there is no password.
        secret = ""
    nt_hash = said.get("nt_hash", "")
    if not re.fullmatch(r"([0-9A-Fa-f]{32})?", nt_hash):
        raise ValueError("nt_hash needs 32 hexadecimal digits")
    return Account(
        name=canonical,
        mailbox=canonical,
        home=home or None,
        secret=secret,
        nt_hash=bytes.fromhex(nt_hash),
        may_log_in=may_log_in,
        gets_mail=not _flag(said, "nomail"),
        host=said.get("host", "").lower(),
        addresses=(canonical, *map(_address, filter(None, said.get("aliases", "").split(",")))),
        quota=Quota(octets=limit_of(parse_size(said["quota"]))) if "quota" in said else Quota(),
        delegates=frozenset(map(named, filter(None, said.get("delegates", "").split(",")))),
        # Spaces separate extra fields, so policies have _ for spaces.
        retention=said.get("retention", "").replace("_", " "),
        languages=tuple(filter(None, said.get("language", "").lower().split(","))),
    )


def _address(alias: str) -> str:
    try:
        return login_name(alias.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ValueError(f"no valid alias: {error}") from None


def _flag(said: Mapping[str, str], name: str) -> bool:
    return name in said and said[name].lower() not in _NO


@implementer(IDirectory, IOwnRetention)
class PasswdFile:
    """An ``IDirectory`` on a passwd-file, read again when it has changed."""

    def __init__(
        self,
        path: str,
        run: Run,
        *,
        read_file: Run | None = None,
        emit: Emit = emit_to_log,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``read_file`` reads the changed file, ``run`` computes slow hashes; ``now`` in seconds.

        Raises ``DirectoryMisconfigured`` if the file cannot be read or parsed.
        """
        self._path = path
        self._run = run
        self._read_file = read_file or run
        self._emit = emit
        self._now = now
        self._again = math.inf
        """When the file with the stamp ``_bad`` is read again; never if its content is at fault."""
        self._problem = ""
        """Of that file."""
        self._outage = Outage(f"accounts file {path}", emit=emit)
        self._waiting: dict[Stamp, list[Deferred[Entries]]] = {}
        """Who waits for the file with this stamp to be read."""
        try:
            self._stamp = self._bad = self._stamped()
            self._entries = self._read()
        except OSError as error:
            raise DirectoryMisconfigured(
                f"{path}: {error.strerror}: directory.file; {_cure(error, path)}"
            ) from error

    def _stamped(self) -> Stamp:
        status = os.stat(self._path)
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self, *, again: bool = False) -> Entries:
        text = read(self._path)
        if again and not text.endswith("\n"):
            # A program that writes it in place is not done yet, or the disk is full.
            raise DirectoryMisconfigured(f"{self._path}: empty, or its last line has no end")
        return parse(text, self._path, self._entries.lines if again else _NONE)

    def _current(self) -> Deferred[Entries]:
        return self._ask(lambda entries: entries)

    def _ask(self, question: Callable[[Entries], T]) -> Deferred[T]:
        """The answer of the current accounts; while the file is faulty, of the last good ones."""
        try:
            stamp = self._stamped()
        except OSError as error:
            self._outage.failed(error.strerror)
            return fail(DirectoryDown(f"{self._path}: {error.strerror}", logged=True))
        self._outage.answered()
        if stamp == self._stamp or (stamp == self._bad and self._now() < self._again):
            return succeed(question(self._entries))
        return self._changed(stamp).addCallback(question)

    def _changed(self, stamp: Stamp) -> Deferred[Entries]:
        """Read the file in a thread, once for all who found this stamp."""
        answer = Deferred[Entries]()
        waiting = self._waiting.setdefault(stamp, [])
        waiting.append(answer)
        if len(waiting) == 1:
            reading = self._read_file(lambda: self._read(again=True))
            reading.addCallbacks(
                self._good, self._faulty, callbackArgs=(stamp,), errbackArgs=(stamp,)
            )
            reading.addBoth(self._answer, stamp)
        return answer

    def _good(self, entries: Entries, stamp: Stamp) -> None:
        self._entries, self._stamp = entries, stamp

    def _faulty(self, failure: Failure, stamp: Stamp) -> None:
        failure.trap(OSError, DirectoryMisconfigured)
        problem, before = failure.getErrorMessage(), (self._bad, self._problem)
        self._bad, self._problem = stamp, problem
        # What keeps the system from it may end without a change of the file.
        self._again = self._now() + AGAIN_AFTER if failure.check(OSError) else math.inf
        if (stamp, problem) != before:
            self._emit(AccountsKept(problem))

    def _answer(self, result: Failure | None, stamp: Stamp) -> None:
        for waiting in self._waiting.pop(stamp):
            waiting.callback(self._entries if result is None else result)

    def find(self, login: str) -> Deferred[Account | None]:
        """The account of that name, address, or name in a domain."""
        return self._ask(lambda entries: entries.named(login))

    def recipient(self, address: str) -> Deferred[Account | None]:
        """The account of that name, or with that alias."""
        return self._ask(lambda entries: entries.addresses.get(address))

    def owner(self, mailbox: str) -> Deferred[Account | None]:
        """The account of that name."""
        return self._ask(lambda entries: entries.get(mailbox))

    def accounts(self) -> Deferred[list[Account]]:
        """All accounts, one per line."""
        return self._current().addCallback(
            lambda entries: self._read_file(lambda: list(entries.values()))
        )

    def with_retention(self) -> Deferred[list[Account]]:
        """The accounts with a retention policy of their own."""
        return self._ask(lambda entries: entries.with_retention)

    def verify(self, login: str, password: bytes) -> Deferred[Account]:
        """The account, if the password is right; a thread computes a slow hash."""
        return self._current().addCallback(self._verify, login, password)

    def _verify(self, entries: Entries, login: str, password: bytes) -> Deferred[Account]:
        account = entries.named(login)
        secret = (account.secret if account else "") or entries.decoy

        def checked(right: bool) -> Account:
            # Clients get the same reply for each reason, after the same work.
            if account is None:
                raise UnknownLogin(f"{login} is not in {self._path}")
            if not right or not password:
                raise WrongPassword(f"wrong password for {login}", account=account.name)
            if not account.may_log_in:
                raise LoginDisabled(f"{login} may not log in")
            return account

        def damaged(failure: Failure) -> Failure:
            failure.trap(DirectoryMisconfigured)
            raise DirectoryMisconfigured(f"{self._path}: {login}: {failure.value}")

        run = execute if schemes.is_quick(secret) else self._run
        asked = run(lambda: _matches(secret, password))
        return asked.addCallbacks(checked, damaged)


def _cure(error: OSError, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return f"make it with pop3gw passwd --file {path} NAME"
    if isinstance(error, PermissionError):
        return "let the user that runs pop3gw read it: chgrp, and chmod 640"
    return "expected a file of accounts"


def _matches(secret: str, password: bytes) -> bool:
    return any(schemes.verify(secret, form) for form in _forms(password))


def _forms(password: bytes) -> list[bytes]:
    """The password as sent, and in SASLprep form (RFC 4013) if that differs."""
    forms = [password]
    if not password.isascii():
        try:
            prepared = saslprep(password.decode("utf-8")).encode("utf-8")
        except ValueError:
            return forms
        if prepared != password:
            forms.append(prepared)
    return forms
