"""What retention would remove from a mailbox now."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from gateway.model import StoredMessage
from gateway.retention.due import next_look, over
from gateway.retention.removal_guard import Guard, objection
from gateway.retention.rules import Expired, Policy, doomed


@frozen
class Preview:
    """The preview of a mailbox at one time."""

    mailbox: str
    policy: str
    messages: int
    gone: Sequence[Expired]
    purged: Sequence[StoredMessage]
    """Hidden messages that would be purged."""

    hidden: int
    """All hidden messages."""

    overdue: int
    """How many of ``purged`` were not expected to go now: the removal guard counts these."""

    next_look: float | None
    """Time of the next scan, in Unix seconds; None: never."""

    stops: str | None
    """Why the removal guard would stop the run; empty: it would not."""

    @property
    def octets(self) -> int:
        """Octets of all messages that would be removed."""
        return sum(one.message.octets for one in self.gone)


def preview(
    mailbox: str,
    text: str,
    policy: Policy,
    kept: Sequence[StoredMessage],
    hidden: Sequence[StoredMessage],
    guard: Guard,
    now: float,
    expected_after: float,
) -> Preview:
    """What ``policy``, written ``text``, would do where ``kept`` is shown and ``hidden`` is not.

    ``expected_after``: as of ``removal_guard.py``.
    """
    gone, purges = doomed(kept, policy, now), over(hidden, policy, now)
    purged = [one.message for one in purges]
    overdue = sum(one.due <= expected_after for one in purges)
    going = {one.message.uid for one in gone}
    left = [one for one in kept if one.uid not in going]
    for_good = {one.uid for one in purged}
    still_hidden = [one for one in hidden if one.uid not in for_good]
    stops = objection(guard, len(gone), len(kept), f"mailbox {mailbox}") or objection(
        guard, overdue, len(hidden), f"the hidden mail of mailbox {mailbox}"
    )
    then = next_look(left, still_hidden, policy, now)
    return Preview(mailbox, text, len(kept), gone, purged, len(hidden), overdue, then, stops)
