"""The realm: from a proven name to its open maildrop."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from gateway.auth.delegates import AnothersMailbox
from gateway.errors import BadCredentials, BadMailboxName, HomedElsewhere
from gateway.interfaces import IDirectory, IMaildrop, IStore
from gateway.model import Account, Terms

__all__ = ["MaildropRealm"]


@implementer(IRealm)
class MaildropRealm:
    """Finds the account in a directory and opens its mailbox in a store."""

    def __init__(
        self,
        directory: IDirectory,
        store: IStore,
        hosts: Collection[str] = frozenset(),
        *,
        terms: Callable[[Account], Terms] = lambda _: Terms(),
        admit: Callable[[str, Terms], None] = lambda *_: None,
    ) -> None:
        """``hosts``: the names of this server, in lower case; empty: every account is at home.

        ``terms``: what CAPA tells the account's user; ``admit`` is asked before
        a mailbox is opened, by its name, and raises what the login fails with.
        """
        self._directory = directory
        self._store = store
        self._hosts = hosts
        self._terms = terms
        self._admit = admit

    def requestAvatar(
        self,
        avatarId: bytes | str | tuple[()],
        mind: object,
        *interfaces: type[Interface],
    ) -> Deferred[tuple[type[Interface], Any, Callable[[], None]]]:
        """The account's ``IMaildrop``; fails with ``BadCredentials`` or a store's errors."""
        if IMaildrop not in interfaces:
            raise NotImplementedError("this realm has maildrops only")
        login = _login(avatarId)

        def open_mailbox(account: Account | None) -> Any:
            if account is None:
                raise BadCredentials(f"{login} is no longer in the directory")
            if not account.may_log_in and not isinstance(avatarId, AnothersMailbox):
                raise BadCredentials(f"{login} may not log in")
            if account.is_elsewhere(self._hosts):
                # Never [AUTH]: the password is right, and clients would drop it.
                raise HomedElsewhere(f"the mailbox of {login} is on {account.host}")
            terms = self._terms(account)
            self._admit(account.mailbox, terms)
            return self._store.open(account, mind).addCallback(answer, terms)

        def answer(opened: tuple[Any, Callable[[], None]], terms: Terms) -> Any:
            maildrop, give_back = opened
            maildrop.terms = terms
            return IMaildrop, maildrop, give_back

        return self._directory.find(login).addCallback(open_mailbox)


def _login(avatar_id: bytes | str | tuple[()]) -> str:
    if avatar_id == ANONYMOUS:
        raise BadCredentials("nobody in particular has no mailbox")
    try:
        # Twisted's own checkers answer with either.
        return avatar_id if isinstance(avatar_id, str) else bytes(avatar_id).decode()
    except UnicodeDecodeError:
        raise BadMailboxName(f"the checker's name {avatar_id!r} is not UTF-8") from None
