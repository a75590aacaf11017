"""Recipients: the account of an address, and whether its mailbox has room."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from gateway.errors import (
    HomedElsewhere,
    LargerThanQuota,
    OverQuota,
    RecipientBarred,
    UnknownRecipient,
)
from gateway.events import Emit, QuotaDecided, QuotaExceeded
from gateway.interfaces import IDelivery, IDirectory
from gateway.lmtp.envelope import forms, without_detail
from gateway.model import Account, Limits, Usage
from gateway.observe.log import emit_to_log
from gateway.quota.verdict import Verdict, verdict
from gateway.saslprep import login_name

__all__ = ["Recipients", "admit"]


class Recipients:
    """Finds accounts by address, and their limits and usage."""

    def __init__(
        self,
        directory: IDirectory,
        store: IDelivery,
        limits: Callable[[Account], Limits],
        *,
        hosts: Collection[str] = frozenset(),
        delimiter: str = "+",
        emit: Emit = emit_to_log,
    ) -> None:
        """``hosts``: this server's names; empty: every mailbox is here.

        ``delimiter`` (Postfix's ``recipient_delimiter``) begins an address extension; empty: none.
        ``emit`` takes ``QuotaExceeded``.
        """
        self._directory = directory
        self._store = store
        self.limits = limits
        self._hosts = hosts
        self._delimiter = delimiter
        self._emit = emit

    def account(self, address: str) -> Deferred[Account]:
        """The account that mail to ``address`` is for.

        Fails with ``UnknownRecipient``, ``RecipientBarred``, ``HomedElsewhere``
        and a directory's errors.
        """
        try:
            names = self._spellings(login_name(address.encode("utf-8")))
        except ValueError:
            return fail(UnknownRecipient(f"{address!r} is no valid address"))
        return self._first(names, address)

    def _spellings(self, address: str) -> Iterator[str]:
        """The address, and what else the directory may have it as."""
        yield address
        # Mostly it is found at once, and the others are not made.
        yield from forms(address)[1:]
        user = without_detail(address, self._delimiter)
        if user is not None:
            yield from forms(user)

    def _first(self, names: Iterator[str], address: str) -> Deferred[Account]:
        name = next(names, None)
        if name is None:
            return fail(UnknownRecipient(f"nobody has {address}"))

        def found(account: Account | None) -> Account | Deferred[Account]:
            if account is None:
                return self._first(names, address)
            if not account.gets_mail:
                raise RecipientBarred(f"{account.name} takes no mail")
            if account.is_elsewhere(self._hosts):
                raise HomedElsewhere(f"the mailbox of {account.name} is on {account.host}")
            return account

        return self._directory.recipient(name).addCallback(found)

    def usage(self, account: Account) -> Deferred[Usage]:
        """The usage of the mailbox; fails as a store does."""
        return self._store.usage(account)

    def make_room(self, account: Account, size: int) -> Deferred[Account]:
        """The account, if its mailbox has room for ``size`` octets; 0: unknown size.

        Fails with ``OverQuota``, ``LargerThanQuota`` and a store's errors.
        """
        limits = self.limits(account)
        # What is refused only later is refused for all recipients of the message.
        prepared = self._store.prepare(account)
        if limits.is_none:
            # Without a limit usage need not be counted.
            return prepared.addCallback(lambda _: account)

        def decide(usage: Usage) -> Account:
            self.decided("lmtp", verdict(usage, size, limits))
            try:
                admit(usage, size, limits)
            except OverQuota as error:
                self.not_taken(account, error)
                raise
            return account

        # Both at once: a cluster then asks its database once.
        usage = self.usage(account)

        def unprepared(failure: Failure) -> Failure:
            usage.addErrback(lambda _: None)
            return failure

        ready = prepared.addErrback(unprepared).addCallback(lambda _: usage)
        return ready.addCallback(decide)

    def decided(self, service: str, said: Verdict) -> None:
        """Emit what a service was told: ``lmtp``, ``policy`` or ``http``."""
        self._emit(QuotaDecided(service, said.name))

    def not_taken(self, account: Account, error: BaseException) -> None:
        """Emit ``QuotaExceeded`` if that is why a message was not delivered."""
        if isinstance(error, OverQuota) and not isinstance(error, LargerThanQuota):
            self.over_quota(account, error.size)

    def over_quota(self, account: Account, octets: int) -> None:
        """Emit that the mailbox had no room for a message of this size (0: unknown)."""
        self._emit(QuotaExceeded(account, octets))


def admit(usage: Usage, size: int, limits: Limits) -> None:
    """Raise the error of a negative verdict; a store calls this before delivery."""
    said = verdict(usage, size, limits)
    if said is Verdict.OVER:
        raise OverQuota(f"no room: the mailbox has {_filled(usage, limits)}", size=size)
    if said is Verdict.LARGER_THAN_QUOTA:
        raise LargerThanQuota("the message is larger than the mailbox may be", size=size)


def _filled(usage: Usage, limits: Limits) -> str:
    """Usage beside each limit, for the log."""
    pairs = (
        (usage.octets, limits.octets, "octets"),
        (usage.messages, limits.messages, "messages"),
    )
    return ", ".join(f"{used} of {most} {unit}" for used, most, unit in pairs if most is not None)
