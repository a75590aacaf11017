"""Exclusive sessions, and mailboxes that are held: rows that expire if their process dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError, MaildropBusy
from gateway.interfaces import Run
from gateway.observe.failures import complain
from gateway.postgresql.database import Database
from gateway.store.cluster.sql import copied, lease_rows

log = Logger()

RENEW = lease_rows.LEASE / 3
"""Seconds between two renewals."""

MOST = 10_000
"""Leases in doubt that are known; an older one has to expire."""


class LeaseRows(NamedTuple):
    """Where leases are; all block."""

    take: Callable[[Database, int, UUID], bool]
    """Gives a mailbox to a holder; False: another has it."""

    renew: Callable[[Database, Mapping[UUID, int]], None]
    """Extends what holders have: each its mailbox."""

    end: Callable[[Database, int, UUID], None]
    busy: str
    """Why a mailbox cannot be had."""


SESSIONS = LeaseRows(
    lease_rows.take_lease, lease_rows.renew_leases, lease_rows.end_lease, "a session has it open"
)

HOLDS = LeaseRows(
    copied.take_hold,
    copied.renew_holds,
    copied.end_hold,
    "an exclusive session has it open, or another process copies it",
)


class Leases:
    """The mailboxes that sessions of this process have for themselves, or that it holds.

    While the database is away for longer than a lease, a session goes on, and another may begin.
    """

    def __init__(
        self,
        reactor: Any,
        database: Database,
        run: Run,
        patient: Run,
        rows: LeaseRows = SESSIONS,
    ) -> None:
        """``run`` takes leases; ``patient`` renews them and gives them back, however late."""
        self._rows = rows
        self._reactor = reactor
        self._database = database
        self._run = run
        self._patient = patient
        self._held: dict[UUID, int] = {}
        self._ending: dict[int, Deferred[None]] = {}
        """By mailbox: a lease that is being given back."""
        self._doubtful: dict[int, UUID] = {}
        """By mailbox: who may have a lease, or get it yet, though no answer said so in time."""
        self._timer: Any = None

    async def take(self, mailbox: int) -> Callable[[], None]:
        """Have a mailbox alone; returns what gives it back.  Raises ``MaildropBusy``."""
        # The client of a session that has just ended may log in again at once.
        await self._ended(mailbox)
        holder = self._doubtful.pop(mailbox, None) or uuid4()
        try:
            is_taken = await self._run(lambda: self._rows.take(self._database, mailbox, holder))
        except GatewayError:
            # The user would be kept out by a lease that nobody has: the next one to ask takes it.
            self._doubtful[mailbox] = holder
            if len(self._doubtful) > MOST:
                del self._doubtful[next(iter(self._doubtful))]
            raise
        if not is_taken:
            raise MaildropBusy(f"mailbox {mailbox}: {self._rows.busy}")
        self._held[holder] = mailbox
        self._renew_later()
        return lambda: self._give_back(holder)

    def _ended(self, mailbox: int) -> Deferred[None]:
        ending = self._ending.get(mailbox)
        if ending is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        ending.addCallback(lambda _: ended.callback(None))
        return ended

    def _give_back(self, holder: UUID) -> None:
        mailbox = self._held.pop(holder, None)
        if mailbox is None:
            return

        def ended(result: object) -> None:
            self._ending.pop(mailbox, None)
            if isinstance(result, Failure):
                # It expires.
                result.trap(GatewayError)

        ending = self._patient(lambda: self._rows.end(self._database, mailbox, holder))
        self._ending[mailbox] = done = Deferred[None]()
        ending.addBoth(ended).addBoth(lambda _: done.callback(None))

    def _renew_later(self) -> None:
        if self._timer is None and self._held:
            self._timer = self._reactor.callLater(RENEW, self._renew)

    def _renew(self) -> None:
        self._timer = None
        held = dict(self._held)
        if not held:
            return

        renewed = self._patient(lambda: self._rows.renew(self._database, held))
        renewed.addErrback(lambda failure: complain(log, "leases of mailboxes", failure))
        renewed.addCallback(lambda _: self._renew_later())

    def close(self) -> None:
        """Begin no more sessions; those that are open go on, and their leases with them."""
        if self._timer is not None and not self._held:
            self._timer.cancel()
            self._timer = None
