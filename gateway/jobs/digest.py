"""The digest: a list of full and nearly full mailboxes, for an administrator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import GatewayError
from gateway.events import Emit, QuotaCheckFailed, QuotaDigestFailed, QuotaDigestSent, problem_of
from gateway.interfaces import IDelivery, IState
from gateway.jobs.notices import post
from gateway.jobs.turns import in_turns
from gateway.mailboxes.owners import Owners
from gateway.mailboxes.recipients import Recipients
from gateway.model import Level
from gateway.observe.failures import meets_all, problem_in
from gateway.observe.log import emit_to_log
from gateway.quota.notice import Row

log = Logger()

ComposeDigest = Callable[[Sequence[Row]], bytes]
"""The message to the administrator."""


class Digest:
    """A message into the administrator's mailbox, once in an interval, if a mailbox is full."""

    def __init__(
        self,
        recipients: Recipients,
        owners: Owners,
        store: IDelivery,
        state: IState,
        compose: ComposeDigest,
        *,
        to: str,
        interval: float,
        clock: IReactorTime,
        now: Callable[[], float],
        emit: Emit = emit_to_log,
    ) -> None:
        """``to`` is an address with a mailbox here; times in seconds."""
        self._recipients = recipients
        self._owners = owners
        self._store = store
        self._state = state
        self._compose = compose
        self._to = to
        self._interval = interval
        self._clock = clock
        self._now = now
        self._emit = emit

    def send(self) -> Deferred[None]:
        """Send the digest, if one is due; fires when it is in the mailbox, and never fails."""
        return Deferred.fromCoroutine(self._send()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        problem = problem_in(failure, log, "internal error: digest to={to}", to=self._to)
        self._emit(QuotaDigestFailed(self._to, problem))

    async def _send(self) -> None:
        rows = await self._rows()
        if not rows:
            return
        account = await self._recipients.account(self._to)
        message = self._compose(rows)
        now = self._now()
        claim = await self._state.take_digest(self._to, now, self._interval)
        if claim is None:
            return  # Another process was quicker.
        try:
            await post(self._store, account, message)
        except BaseException:
            await self._state.return_digest(self._to, claim)
            raise
        self._emit(QuotaDigestSent(self._to, len(rows)))

    async def _rows(self) -> list[Row]:
        """A row for each mailbox that was last found nearly full or full, if a digest is due."""
        if not await self._state.is_digest_due(self._to, self._now(), self._interval):
            return []
        rows = []
        states = await self._state.warning_states(Level.WARN)
        async for mailbox, state in in_turns(states.items(), self._clock):
            try:
                account = await self._owners.owner(mailbox)
                if account is not None:
                    usage = await self._recipients.usage(account)
                    limits = self._recipients.limits(account)
                    rows.append(Row(account.name, state.level, usage, limits))
            except GatewayError as error:
                if meets_all(error):
                    # A digest without most of the mailboxes would mislead.
                    raise
                self._emit(QuotaCheckFailed(mailbox, problem_of(error)))
        return rows
