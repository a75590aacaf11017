"""When to send a quota warning: by the level of the mailbox, not by its changes.

So a lowered limit warns as well as a delivery, and a missed check is made good by
the next one.
"""

from __future__ import annotations

from attrs import evolve

from gateway.model import Level, WarningState

UNKNOWN = WarningState()
"""The state of a mailbox without a record."""


def step(
    state: WarningState, level: Level, now: float, interval: float
) -> tuple[WarningState, Level | None]:
    """The new state of a mailbox at ``level``, and the warning to send, if any.

    Call it after every change of usage or limits, and periodically.  Each kind of
    warning is sent at most once in ``interval`` seconds; the higher level is sent at
    once, and the lower one not after it.  A time in the future, from a wrong clock,
    counts as ``now``.
    """
    warned, over = (None if time is None else min(time, now) for time in (state.warned, state.over))
    state = WarningState(level, warned, over)
    recent = [time is not None and now - time < interval for time in (warned, over)]
    if level is Level.OVER and not recent[1]:
        return evolve(state, over=now), Level.OVER
    if level is Level.WARN and not any(recent):
        return evolve(state, warned=now), Level.WARN
    if level is Level.NORMAL and not any(recent):
        return UNKNOWN, None
    return state, None
