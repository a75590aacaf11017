"""Sessions per user and LOGIN-DELAY, counted together with other machines.

All changes that come while a question is under way are told with the next one.  So a login costs
one question at most, and logins that come together share it.  While nobody answers, logins go on,
and others learn later what began meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.admission.limits import Counted
from gateway.errors import GatewayError, LoginTooSoon, TooManySessions
from gateway.interfaces import ISharedLimits, Leave, Run
from gateway.model import Entrance, SessionChange
from gateway.observe.outage import Outage

log = Logger()

ANSWER_WITHIN = 3.0
"""Seconds after which a login goes on without an answer."""

MOST = 500
"""Mailboxes in one question."""

LATE = 100_000
"""Logins of an outage that are remembered for LOGIN-DELAY."""


@define(eq=False)
class _Session:
    """A session, or a login that waits to become one."""

    number: int
    mailbox: str
    delay: float
    at: float
    answer: Deferred[bool] | None = field(factory=Deferred)
    """Fires with whether others have counted it; None: decided."""

    before: float | None = None
    """When the login before was, if others do not know of that either."""

    timer: Any = None
    is_open: bool = True

    def decide(self, result: bool | Failure) -> None:
        """Let the login go on; only once."""
        answer, self.answer = self.answer, None
        if answer is not None:
            if self.timer.active():
                self.timer.cancel()
            answer.callback(result)


class ClusterSessions:
    """The sessions of this process, and what others know of them."""

    def __init__(
        self,
        limits: ISharedLimits,
        run: Run,
        clock: IReactorTime,
        outage: Outage,
        *,
        per_user: int,
    ) -> None:
        """``per_user``: the most sessions of a mailbox; 0: others do not count them."""
        self.per_user = per_user
        self.member = 0
        self._limits = limits
        self._run = run
        self._clock = clock
        self._outage = outage
        self._numbers = count(1)
        self.is_away = False
        """The others did not answer; logins ask them again when they do."""

        self._asking = self._is_stopped = False
        self._joined = self._until = 0.0
        """When the term began, and when this process takes it for over, which is before it is."""
        self._open: dict[int, _Session] = {}
        self._unknown: OrderedDict[int, _Session] = OrderedDict()
        """Open sessions that others do not know of."""
        self._waiting: deque[_Session] = deque()
        self._entering: dict[str, _Session] = {}
        """By mailbox: logins that are being asked for."""

        self._ended: OrderedDict[int, str] = OrderedDict()
        self._undone: OrderedDict[int, str] = OrderedDict()
        self._late: OrderedDict[str, float] = OrderedDict()
        """When somebody last logged in that others do not know of."""

    def enter(self, mailbox: str, delay: float) -> Deferred[tuple[Leave, Leave]]:
        """Count a session; returns what ends it, and what makes it undone.

        Fails with ``TooManySessions`` or ``LoginTooSoon``.
        """
        now = self._clock.seconds()
        session = _Session(next(self._numbers), mailbox, delay, now)

        def entered(is_known: bool) -> tuple[Leave, Leave]:
            if self.per_user:
                self._open[session.number] = session
            if not is_known:
                self._remember(session)
            return Counted(self._leave, session), Counted(self._undo, session)

        if self.is_away:
            return succeed(entered(False))
        answer = session.answer
        assert answer is not None
        session.timer = self._clock.callLater(ANSWER_WITHIN, self._too_late, session)
        self._waiting.append(session)
        self._go_on()
        return answer.addCallback(entered)

    def _remember(self, session: _Session) -> None:
        if self.per_user and session.is_open:
            self._unknown[session.number] = session
        if session.delay:
            session.before = self._late.get(session.mailbox)
            self._late[session.mailbox] = session.at
            self._late.move_to_end(session.mailbox)
            while len(self._late) > LATE:
                self._late.popitem(last=False)

    def _leave(self, session: _Session) -> None:
        session.is_open = False
        if self._open.pop(session.number, None) is not None:
            self._unknown.pop(session.number, None)
            # After an outage this process begins anew, and what it told before is void.
            if self._asking or not self.is_away:
                self._ended[session.number] = session.mailbox
            self._go_on()

    def _undo(self, session: _Session) -> None:
        """It failed after it was counted."""
        if self._late.get(session.mailbox) == session.at:
            del self._late[session.mailbox]
            if session.before is not None:
                self._late[session.mailbox] = session.before
        if session.delay and (self._asking or not self.is_away):
            self._undone[session.number] = session.mailbox
        self._leave(session)
        self._go_on()

    def _too_late(self, session: _Session) -> None:
        assert session.answer is not None
        self._went_away("no answer in time")

    def _went_away(self, reason: object) -> None:
        self.is_away = True
        if not getattr(reason, "logged", False):
            self._outage.failed(f"{reason}; each gateway counts by itself")
        waiting = [*self._entering.values(), *self._waiting]
        self._waiting.clear()
        for one in waiting:
            one.decide(False)

    # -- questions -------------------------------------------------------------

    def tick(self) -> None:
        """Call it each second: renews the term, and asks whether somebody answers again."""
        if not self._asking:
            self._go_on(is_tick=True)

    def join(self) -> None:
        """Begin a term, so that no login waits for that; call it once at the start."""
        self._ask(partial(self._limits.join, self.member), self._has_joined)

    def stop(self) -> None:
        """Ask no more."""
        self._is_stopped = True

    def _go_on(self, *, is_tick: bool = False) -> None:
        if self._asking or self._is_stopped or (self.is_away and not is_tick):
            return
        now = self._clock.seconds()
        has_news = bool(self._waiting or self._ended or self._undone or self._unknown or self._late)
        if not self.member or self.is_away or now >= self._until:
            if self.member or has_news or self.is_away:
                self.join()
        elif now >= self._joined + self._limits.lease / 4:
            self._ask(partial(self._limits.renew, self.member), self._has_renewed)
        elif has_news:
            self._count()

    def _ask(self, work: Callable[[], Any], answered: Callable[[float, Any], None]) -> None:
        begun = self._clock.seconds()
        self._asking = True

        def done(result: Any) -> None:
            self._asking = False
            self.is_away = False
            self._outage.answered()
            answered(begun, result)
            self._go_on()

        def failed(failure: Failure) -> None:
            self._asking = False
            if not failure.check(GatewayError):
                log.failure("shared limits", failure)
            self._went_away(failure.value)
            self._entering = {}

        self._run(work).addCallbacks(done, failed)

    def _began(self, begun: float) -> None:
        self._joined = begun
        # Earlier than by the other clock: a question may take a while.
        self._until = begun + self._limits.lease * 0.75

    def _has_joined(self, begun: float, member: int) -> None:
        self.member = member
        self._began(begun)
        # What the member before has counted is void.
        self._ended.clear()
        self._undone.clear()
        self._unknown = OrderedDict(self._open)

    def _has_renewed(self, begun: float, is_ours: bool) -> None:
        if is_ours:
            self._began(begun)
        else:
            self._until = 0.0

    def _count(self) -> None:
        self._entering, changes = self._changes()
        known = [self._unknown[one] for change in changes for one in change.known]
        ended = [one for change in changes for one in change.ended]
        undone = [one for change in changes for one in change.undone]
        late = {one.mailbox: self._late[one.mailbox] for one in changes if one.ago is not None}

        def counted(_: float, found: Mapping[str, Entrance]) -> None:
            entering, self._entering = self._entering, {}
            if not found:
                self._until = 0.0
                self._waiting.extendleft(one for one in entering.values() if one.answer)
                return
            for one in known:
                if self._unknown.get(one.number) is one:
                    del self._unknown[one.number]
            for number in ended:
                self._ended.pop(number, None)
            for number in undone:
                self._undone.pop(number, None)
            for mailbox, at in late.items():
                if self._late.get(mailbox) == at:
                    del self._late[mailbox]
            for one in entering.values():
                self._entered(one, found[one.mailbox])

        work = partial(self._limits.count, self.member, self.per_user, changes)
        self._ask(work, counted)

    def _entered(self, session: _Session, found: Entrance) -> None:
        if session.answer is None:
            # It went on without the answer, which came too late.
            if found == Entrance():
                self._unknown.pop(session.number, None)
        elif found.since is not None:
            text = f"{session.mailbox} logged in {found.since:.1f} s ago"
            session.decide(Failure(LoginTooSoon(text)))
        elif found.sessions:
            text = f"{session.mailbox} has {found.sessions} sessions in all gateways"
            session.decide(Failure(TooManySessions(text)))
        else:
            session.decide(True)

    def _changes(self) -> tuple[dict[str, _Session], list[SessionChange]]:
        """What to tell next: one login of a mailbox at a time, and ``MOST`` mailboxes."""
        changes: dict[str, SessionChange] = {}

        def add(mailbox: str, **more: Any) -> bool:
            if mailbox not in changes and len(changes) >= MOST:
                return False
            change = changes.get(mailbox) or SessionChange(mailbox)
            for name, value in more.items():
                if isinstance(value, tuple):
                    value = getattr(change, name) + value
                change = change._replace(**{name: value})
            changes[mailbox] = change
            return True

        for number, mailbox in self._ended.items():
            if not add(mailbox, ended=(number,)):
                break
        for number, mailbox in self._undone.items():
            if not add(mailbox, undone=(number,)):
                break
        for number, session in self._unknown.items():
            if not add(session.mailbox, known=(number,)):
                break
        now = self._clock.seconds()
        for mailbox, at in self._late.items():
            if not add(mailbox, ago=max(now - at, 0.0)):
                break
        entering: dict[str, _Session] = {}
        left: deque[_Session] = deque()
        for one in self._waiting:
            if one.mailbox in entering or not add(one.mailbox, new=one.number, delay=one.delay):
                left.append(one)
            else:
                entering[one.mailbox] = one
        self._waiting = left
        return entering, [*changes.values()]
