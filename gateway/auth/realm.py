"""The realm: opens the maildrop of an authenticated login name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from twisted.cred.checkers import ANONYMOUS
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from gateway.auth.delegates import AnothersMailbox
from gateway.errors import (
    BadCredentials,
    BadMailboxName,
    GatewayError,
    HomedElsewhere,
    LoginDisabled,
    StoreDown,
    UnknownLogin,
)
from gateway.interfaces import (
    IAdmission,
    IBody,
    IDirectory,
    IHeaderMaildrop,
    IHidingMaildrop,
    IMaildrop,
    IQuickMaildrop,
    IStore,
)
from gateway.model import Account, Form, Terms

__all__ = ["MaildropRealm"]

_Avatar = tuple[type[Interface], object, Callable[[], None]]


@implementer(IQuickMaildrop)
class _MayBeHeld:
    """A maildrop that may be on hold: QUIT then hides messages in place of removing them."""

    __slots__ = ("_ask", "_maildrop", "listing", "name", "small_message", "terms")

    def __init__(self, maildrop: IMaildrop, ask: Callable[[], Deferred[bool]]) -> None:
        """``ask`` tells whether there is a hold now."""
        self.name = maildrop.name
        self.terms = maildrop.terms
        self._ask = ask
        self._maildrop = maildrop
        self.listing = maildrop.listing
        quick: IQuickMaildrop | None = IQuickMaildrop(maildrop, None)
        self.small_message = _never_at_hand if quick is None else quick.small_message

    def retrieve(self, index: int) -> Deferred[IBody]:
        """As ``IMaildrop.retrieve`` of the maildrop."""
        return self._maildrop.retrieve(index)

    def finish(self, removed: Collection[int], retrieved: Collection[int]) -> Deferred[None]:
        """Remove or hide.  Fails with ``StoreDown`` on hold if the store cannot hide."""
        if not removed:
            return self._maildrop.finish(removed, retrieved)
        return self._ask().addCallback(self._finish, removed, retrieved)

    def _finish(
        self, is_held: bool, removed: Collection[int], retrieved: Collection[int]
    ) -> Deferred[None]:
        if not is_held:
            return self._maildrop.finish(removed, retrieved)
        hiding = IHidingMaildrop(self._maildrop, None)
        if hiding is not None:
            done: Deferred[None] = hiding.hide(removed, retrieved)
            return done
        failed: Deferred[None] = fail(
            StoreDown(f"{self.name}: kept what DELE marked: the store cannot hide it under a hold")
        )
        return self._maildrop.abandon(retrieved).addCallback(lambda _: failed)

    def abandon(self, retrieved: Collection[int]) -> Deferred[None]:
        """As ``IMaildrop.abandon`` of the maildrop."""
        return self._maildrop.abandon(retrieved)


@implementer(IHeaderMaildrop)
class _WithHeaders(_MayBeHeld):
    """One of a store that reads headers without the rest."""

    __slots__ = ()

    def retrieve_header(self, index: int) -> Deferred[IBody]:
        """As ``IHeaderMaildrop.retrieve_header`` of the maildrop."""
        opened: Deferred[IBody] = IHeaderMaildrop(self._maildrop).retrieve_header(index)
        return opened


def _never_at_hand(_: int) -> tuple[bytes, Form] | None:
    """As ``IQuickMaildrop.small_message``, where the maildrop has none."""
    return None


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
        admission: IAdmission | None = None,
        is_held: Callable[[Account], bool] | None = None,
    ) -> None:
        """``hosts``: the names of this server, in lower case; empty: every account is here.

        ``terms``: EXPIRE and LOGIN-DELAY of CAPA for the account.  ``admission`` checks
        LOGIN-DELAY before a mailbox is opened; without it only the session does, later.
        ``is_held`` is called at QUIT with the account, which is looked up again: whether its
        mailbox is on hold, so that marked messages are hidden and not removed; None: there are
        no holds.
        """
        self._directory = directory
        self._store = store
        self._hosts = hosts
        self._terms = terms
        self._admission = admission
        self._is_held = is_held

    def requestAvatar(
        self,
        avatarId: bytes | str | tuple[()],
        mind: object,
        *interfaces: type[Interface],
    ) -> Deferred[_Avatar]:
        """The account's ``IMaildrop``; fails with ``BadCredentials`` or a store's errors."""
        if IMaildrop not in interfaces:
            raise NotImplementedError("this realm has maildrops only")
        login = _login(avatarId)

        def open_mailbox(account: Account | None) -> Deferred[_Avatar]:
            if account is None:
                raise UnknownLogin(f"{login} is no longer in the directory")
            if not account.may_log_in and not isinstance(avatarId, AnothersMailbox):
                raise LoginDisabled(f"{login} may not log in")
            if account.is_elsewhere(self._hosts):
                # Not [AUTH]: the password is right, and clients would drop it.
                raise HomedElsewhere(f"the mailbox of {login} is on {account.host}")
            terms = self._terms(account)
            if self._admission is None:
                return open_admitted(None, account, terms)
            checked = self._admission.check(account.mailbox, terms)
            if checked.called and checked.result is None:
                # As within one process.  A callback would cost more.
                return open_admitted(None, account, terms)
            return checked.addCallback(open_admitted, account, terms)

        def open_admitted(_: None, account: Account, terms: Terms) -> Deferred[_Avatar]:
            opening = self._store.open(account, mind)
            if opening.called and not opening.paused and type(opening.result) is tuple:
                # As with a mailbox that has not changed.
                return succeed(answer(opening.result, account, terms))
            return opening.addCallback(answer, account, terms)

        def answer(
            opened: tuple[IMaildrop, Callable[[], None]], account: Account, terms: Terms
        ) -> _Avatar:
            maildrop, give_back = opened
            if self._is_held is not None:
                has_headers = IHeaderMaildrop.providedBy(maildrop)
                kind = _WithHeaders if has_headers else _MayBeHeld
                maildrop = kind(maildrop, partial(self._is_held_now, login, account))
            maildrop.terms = terms
            return IMaildrop, maildrop, give_back

        found = self._directory.find(login)
        if found.called and isinstance(found.result, Account):
            # As with a file of accounts.  A callback would cost more.
            try:
                return open_mailbox(found.result)
            except GatewayError as error:
                return fail(error)
        return found.addCallback(open_mailbox)

    def _is_held_now(self, login: str, before: Account) -> Deferred[bool]:
        """Whether the mailbox is on hold; ``before``: the account as it was at the login.

        That one would not do: a session may last longer than a hold is old.  Where the directory
        does not answer, it decides, and has a hold if it has a policy of its own: what is hidden
        can be restored, and what is removed cannot.
        """
        is_held = self._is_held or _is_never_held

        def answer(account: Account | None) -> bool:
            return account is None or account.mailbox != before.mailbox or is_held(account)

        def no_answer(failure: Failure) -> bool:
            failure.trap(GatewayError)
            return bool(before.retention) or is_held(before)

        return self._directory.find(login).addCallbacks(answer, no_answer)


def _is_never_held(_: Account) -> bool:
    return False


def _login(avatar_id: bytes | str | tuple[()]) -> str:
    if avatar_id == ANONYMOUS:
        raise BadCredentials("anonymous login has no mailbox")
    try:
        # Twisted's checkers return bytes or str.
        return avatar_id if isinstance(avatar_id, str) else bytes(avatar_id).decode()
    except UnicodeDecodeError:
        raise BadMailboxName(f"the checker's name {avatar_id!r} is not UTF-8") from None
