"""What mailboxes have to show, from what clients were answered.

Pure data: it knows no server, no clock and no thread.  Times are seconds of one monotonic clock,
and may be given in any order.  Whoever calls it from several threads holds a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from math import inf
from typing import NamedTuple

from attrs import define, field

SETTLED = 60.0
"""Seconds after which an unanswered removal can no longer happen: above every time limit."""


class Rule(Enum):
    """What must hold."""

    LOST = "an acknowledged message is missing"
    RETURNED = "a removed message is there again"
    CHANGED = "the unique-id of a message has changed"
    REUSED = "a unique-id was given to another message"
    TWICE = "a message is there twice"
    UNKNOWN = "nobody has sent this message"
    OCTETS = "the octets of a message are wrong"
    COUNTER = "the counters of a mailbox are wrong"
    QUOTA = "a mailbox is larger than its quota"
    AUTH = "a right password was refused"
    SILENT = "a reply did not come"
    REPLY = "a reply is wrong"
    MEMORY = "a process uses too much memory"
    LOG = "the log of a gateway has a traceback"


AFTER_LOSS = frozenset(Rule) - {Rule.LOST, Rule.RETURNED, Rule.CHANGED}
"""What holds even if the database has lost commits that were answered.

A commit without an answer that was lost is repeated: then a message has a second unique-id.
"""


class Violation(Exception):
    """A rule that does not hold, and the history of the message."""

    def __init__(self, rule: Rule, mailbox: str, text: str, history: Sequence[str] = ()) -> None:
        super().__init__(f"{rule.value}: {mailbox}: {text}")
        self.rule = rule
        self.history = tuple(history)


@define
class _Removal:
    """A QUIT that removes a message."""

    sent: float
    ended: float | None = None
    """When it failed, or its connection ended; None: it is under way, or was answered +OK."""


@define
class _Message:
    """What is known of a message."""

    sent: float
    stored: float = inf
    """Since when it is there for certain: it was acknowledged, or somebody saw it."""

    gone: float = inf
    """Since when it is gone for certain."""

    shown: float = -inf
    """The begin of the last session that saw it."""

    is_unanswered: bool = False
    """Whether nobody knows how its delivery ended."""

    unique_id: str = ""
    digest: str = ""
    removals: list[_Removal] = field(factory=list)
    history: list[str] = field(factory=list)


class Listing(NamedTuple):
    """What a session has shown."""

    begin: float
    """Before it logged in."""

    end: float
    """After it was told the unique-ids."""

    messages: Mapping[str, str]
    """Unique-id to the name of the message, in the order of the listing."""

    complete: bool = True
    """Whether there are no other messages, of which the name is not known."""


class MailboxModel:
    """One mailbox."""

    def __init__(
        self,
        name: str,
        rules: Collection[Rule] = frozenset(Rule),
        *,
        removed_after: float = inf,
        may_count_removed: bool = False,
    ) -> None:
        """``removed_after``: the age in seconds from which retention removes a message.

        ``may_count_removed``: a kill between the removal of messages and its line in
        ``maildirsize``, or between the line of a delivery and its message, leaves them counted,
        until somebody counts again.
        """
        self.name = name
        self._rules = rules
        self._removed_after = removed_after
        self._may_count_removed = may_count_removed
        self._messages: dict[str, _Message] = {}
        self._names: dict[str, str] = {}
        """Each unique-id that was ever shown, to its message."""
        self.present: set[str] = set()
        """What is there, as far as is known; no rule looks at it."""
        self.expired = 0
        """How many messages went, and nobody but retention can have removed them."""
        self.ignored: Counter[Rule] = Counter()
        """How often each rule that need not hold did not."""

    # -- what clients do -------------------------------------------------------

    def send(self, at: float, message: str, to: str = "") -> None:
        """A client begins to deliver a message; each has a name of its own."""
        self._messages[message] = _Message(at)
        self._note(message, at, f"sent{to and ' to '}{to}")

    def acknowledge(self, at: float, message: str) -> None:
        """LMTP has answered 250."""
        one = self._messages[message]
        one.stored = min(one.stored, at)
        self._note(message, at, "acknowledged")
        if one.gone == inf and not one.removals:
            self.present.add(message)

    def doubt(self, at: float, message: str, reason: str, *, answered: bool = False) -> None:
        """A delivery has another answer, or none: the message may be there or not."""
        self._messages[message].is_unanswered = not answered
        self._note(message, at, f"in doubt: {reason}")

    def mark(self, at: float, messages: Collection[str], to: str = "") -> None:
        """A client is about to send QUIT, which removes these messages."""
        for message in messages:
            self._messages[message].removals.append(_Removal(at))
            self._note(message, at, f"QUIT sent{to and ' to '}{to}")
        self.present.difference_update(messages)

    def remove(self, at: float, messages: Collection[str]) -> None:
        """This QUIT was answered +OK.  Raises ``Violation``."""
        for message in messages:
            self._note(message, at, "QUIT answered +OK")
            self._is_gone(message, at)

    def keep(self, at: float, messages: Collection[str], reason: str) -> None:
        """This QUIT has another answer, or none: the messages may be there or not."""
        for message in messages:
            open_ones = [one for one in self._messages[message].removals if one.ended is None]
            if open_ones:
                open_ones[0].ended = at
            self._note(message, at, f"QUIT in doubt: {reason}")

    # -- what clients see ------------------------------------------------------

    def name_of(self, unique_id: str) -> str | None:
        """The message that had this unique-id; None: it was never shown."""
        return self._names.get(unique_id)

    def may_be_gone(self, message: str, at: float) -> bool:
        """Whether somebody, or retention, may have removed it by then."""
        one = self._messages[message]
        is_asked = any(removal.sent <= at for removal in one.removals)
        return is_asked or at >= one.sent + self._removed_after

    def show(self, listing: Listing) -> None:
        """A session has shown this.  Raises ``Violation``."""
        for message, times in Counter(listing.messages.values()).items():
            if times > 1:
                self._violate(Rule.TWICE, message, f"{times} times in a listing")
        for unique_id, message in listing.messages.items():
            self.identify(listing.end, unique_id, message)
            self._is_shown(message, listing)
        if listing.complete:
            for message in self._messages.keys() - set(listing.messages.values()):
                self._is_missing(message, listing)

    def identify(self, at: float, unique_id: str, message: str) -> None:
        """A message was shown under this unique-id.  Raises ``Violation``."""
        one = self._messages.get(message)
        if one is None:
            raise Violation(Rule.UNKNOWN, self.name, f"{message} under unique-id {unique_id}")
        if (known := self._names.setdefault(unique_id, message)) != message:
            text = f"{unique_id} was of {known}, and is of {message}"
            self._note(message, at, f"shown under {unique_id}")
            self._violate(Rule.REUSED, known, text, message)
        if one.unique_id != unique_id:
            self._note(message, at, f"shown under {unique_id}")
            if one.unique_id:
                self._violate(Rule.CHANGED, message, f"from {one.unique_id} to {unique_id}")
            one.unique_id = unique_id

    def miss(self, at: float, message: str) -> None:
        """RETR says that the message was removed.  Raises ``Violation``."""
        self._note(message, at, "RETR refused: it was removed")
        if not self.may_be_gone(message, at):
            self._violate(Rule.LOST, message, f"{message}: RETR says that it was removed")

    def read(self, at: float, message: str, digest: str) -> None:
        """RETR has sent these octets.  Raises ``Violation``."""
        one = self._messages[message]
        if not one.digest:
            self._note(message, at, f"read: SHA-256 {digest}")
            one.digest = digest
        elif one.digest != digest:
            self._violate(Rule.OCTETS, message, f"SHA-256 {digest}, before {one.digest}")

    def count(self, sizes: Sequence[int], messages: int, octets: int) -> None:
        """The counters, and the sizes of all messages at that moment.  Raises ``Violation``."""
        there = len(sizes), sum(sizes)
        surplus = messages - there[0]
        if self._may_count_removed and octets > there[1] and 0 < surplus <= self._unsure():
            return
        if (messages, octets) != there:
            text = "{} messages and {} octets counted, {} and {} there"
            raise Violation(Rule.COUNTER, self.name, text.format(messages, octets, *there))

    def _unsure(self) -> int:
        """How many messages may have gone, or not have come, without an answer to their client."""
        in_doubt = (
            any(removal.ended is not None for removal in one.removals)
            for one in self._messages.values()
        )
        never_seen = (one.is_unanswered and one.stored == inf for one in self._messages.values())
        return sum(in_doubt) + sum(never_seen) + self.expired

    def history(self, message: str) -> tuple[str, ...]:
        """What happened to a message, in the order of reports."""
        return tuple(self._messages[message].history)

    # -- the rules -------------------------------------------------------------

    def _is_shown(self, message: str, listing: Listing) -> None:
        one = self._messages[message]
        if one.stored == inf:
            self._note(message, listing.end, "seen")
        one.stored = min(one.stored, listing.end)
        one.shown = max(one.shown, listing.begin)
        one.removals = [
            removal
            for removal in one.removals
            if removal.ended is None or removal.ended + SETTLED >= listing.begin
        ]
        if one.gone == inf and not one.removals:
            self.present.add(message)
        self._check_returned(message)

    def _is_missing(self, message: str, listing: Listing) -> None:
        one = self._messages[message]
        if one.stored >= listing.begin or one.gone <= listing.end:
            return
        self._note(message, listing.end, f"missing in a session since {listing.begin:.3f}")
        if not self.may_be_gone(message, listing.end):
            self._violate(Rule.LOST, message, f"{message} in {len(listing.messages)} messages")
        elif not one.removals:
            self.expired += 1
        self._is_gone(message, listing.end)

    def _is_gone(self, message: str, at: float) -> None:
        one = self._messages[message]
        one.gone = min(one.gone, at)
        self.present.discard(message)
        self._check_returned(message)

    def _check_returned(self, message: str) -> None:
        one = self._messages[message]
        if one.shown > one.gone:
            text = f"{message}: gone at {one.gone:.3f}, seen by a session since {one.shown:.3f}"
            self._violate(Rule.RETURNED, message, text)

    def _note(self, message: str, at: float, text: str) -> None:
        self._messages[message].history.append(f"{at:10.3f}  {message}: {text}")

    def _violate(self, rule: Rule, message: str, text: str, *others: str) -> None:
        if rule in self._rules:
            history = sorted(line for one in (message, *others) for line in self.history(one))
            raise Violation(rule, self.name, text, history)
        self.ignored[rule] += 1
