"""Whose mailbox somebody may open: his own, or another's as its delegate."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from gateway.errors import BadCredentials, NotAdmitted
from gateway.interfaces import IDirectory
from gateway.model import Account
from gateway.saslprep import login_name


def split_login(login: str) -> tuple[str, str]:
    """Who logs in, and whose mailbox he wants; an empty one is his own.

    The four forms of USER in [MS-OXPOP3]: ``domain/delegate/mailbox`` and
    ``delegate@domain/mailbox``, where the mailbox is an alias or a UPN.  A
    ``domain/user`` alone is nobody's delegate.
    """
    who, slash, mailbox = login.rpartition("/")
    if slash and mailbox and ("@" in who or "/" in who.strip("/")):
        return who, mailbox
    return login, ""


class Delegates:
    """The one place where it is decided who gets whose mailbox."""

    def __init__(self, directory: IDirectory, *, allowed: bool = False) -> None:
        """``allowed``: accounts may have delegates at all."""
        self._directory = directory
        self._allowed = allowed

    def parties(self, username: bytes, acts_as: bytes = b"") -> tuple[str, str]:
        """Who logs in and whose mailbox he wants, in canonical form.

        Raises ``BadCredentials`` for names that cannot be.
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
        """The avatar id: the login name whose mailbox is to be opened.

        ``login`` has proven who he is.  Fails with ``NotAdmitted`` where
        the directory does not say that he may, and with a directory's errors.
        """
        if not wanted:
            # Looked up again by the very name that was proven: the name of a
            # mailbox may be somebody else's login.
            return succeed(login.encode())

        def ask_for_mailbox(delegate: Account | None) -> Deferred[bytes | tuple[()]]:
            return self._directory.find(wanted).addCallback(decide, delegate)

        def decide(account: Account | None, delegate: Account | None) -> bytes | tuple[()]:
            if account is None or delegate is None or not delegate.enabled:
                raise NotAdmitted(f"{login} wants the mailbox of {wanted}, which is not there")
            if account.name != delegate.name and not (self._allowed and account.admits(delegate)):
                raise NotAdmitted(f"{login} is no delegate of {wanted}")
            return wanted.encode()

        return self._directory.find(login).addCallback(ask_for_mailbox)
