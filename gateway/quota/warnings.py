"""When a user is warned of a full mailbox: by its level, not by the moment it changes.

So a limit that was lowered warns as well as a message that came in, and what
was missed by one look is found by the next.
"""

from __future__ import annotations

from attrs import evolve

from gateway.model import Level, WarningState

UNKNOWN = WarningState()
"""Of a mailbox that nothing is remembered of."""


def step(
    state: WarningState, level: Level, now: float, interval: float
) -> tuple[WarningState, Level | None]:
    """What to remember, and which notice to send, if any, of a mailbox now at ``level``.

    To be called after every change of usage or limits, and now and then.  No
    kind of notice is sent twice within ``interval`` seconds, whatever the level
    does; the worse news is sent at once, and after it not the lesser.  A time
    that has not come yet, since a clock was wrong, is taken for ``now``.
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
