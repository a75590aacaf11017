"""Delegates: which mailbox a user may open, the user's own or another one."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred, succeed

from gateway.errors import BadCredentials, NotAdmitted
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.saslprep import login_name, split_login

__all__ = ["Delegates"]

_DOMAIN = re.compile(r"[^\\/]+[\\/]")
"""The domain in ``DOMAIN\\user`` and ``domain/user``."""


class AnothersMailbox(bytes):
    """The avatar id of a delegate: the owner of the mailbox, who need not be allowed to log in."""


class Delegates:
    """The one place that decides who may open which mailbox."""

    def __init__(self, directory: IDirectory, *, allowed: bool = False) -> None:
        """``allowed``: the setting ``directory.delegates``."""
        self._directory = directory
        self._allowed = allowed

    def parties(self, username: bytes, acts_as: bytes = b"") -> tuple[str, str]:
        """The user who logs in and the wanted mailbox, in canonical form.

        Raises ``BadCredentials`` for names that SASLprep rejects.
        """
        try:
            login = login_name(username)
            wanted = login_name(acts_as) if acts_as else ""
        except ValueError:
            raise BadCredentials("the name is not valid") from None
        if self._allowed and not wanted:
            login, wanted = split_login(login)
        return login, "" if wanted == login else wanted

    def admit(self, login: str, wanted: str) -> Deferred[bytes | tuple[()]]:
        """The avatar id: the login name of the owner of the mailbox to open.

        ``login`` is authenticated.  Fails with ``NotAdmitted`` unless the
        directory lists it as a delegate, and with a directory's errors.
        """
        if not wanted:
            # Look up the name that was authenticated: the name of a
            # mailbox may be the login name of another account.
            return succeed(login.encode())

        def ask_for_mailbox(delegate: Account | None) -> Deferred[bytes | tuple[()]]:
            if delegate is None or not delegate.may_log_in:
                raise NotAdmitted(f"{login} may not log in")
            return self._open(delegate, *_names(wanted, login, delegate))

        return self._directory.find(login).addCallback(ask_for_mailbox)

    def _open(self, delegate: Account, name: str, *others: str) -> Deferred[bytes | tuple[()]]:
        """The account of the first of these names that exists."""

        def decide(account: Account | None) -> bytes | Deferred[bytes | tuple[()]]:
            if account is None and others:
                return self._open(delegate, *others)
            if account is None:
                raise NotAdmitted(f"{delegate.name} wants the mailbox of {name}: there is none")
            if account.name == delegate.name:
                return name.encode()
            if not (self._allowed and account.admits(delegate)):
                raise NotAdmitted(f"{delegate.name} is no delegate of {name}")
            return AnothersMailbox(name.encode())

        return self._directory.find(name).addCallback(decide)


def _names(wanted: str, login: str, delegate: Account) -> list[str]:
    """The names to try: an alias belongs to the delegate's own domain.

    That is the domain of the delegate's account, or the one given at login.
    """
    if not {"@", "/", "\\"}.isdisjoint(wanted):
        return [wanted]
    names = [wanted]
    for name in (delegate.name, login):
        if "@" in name:
            names.append(f"{wanted}@{name.rpartition('@')[2]}")
        elif domain := _DOMAIN.match(name):
            names.append(domain[0] + wanted)
    return list(dict.fromkeys(names))
