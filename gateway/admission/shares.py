"""Counted limits over several processes: each worker has a share of each limit.

A limit counts by key, such as an address.  Each of ``workers`` processes may count up to its
share, ``limit // workers`` of each key, without asking.  Beyond that it asks the parent, which
moves shares: it grants what nobody holds, and first takes back what others do not use.  So the
sum of all counts never exceeds the limit, nobody is refused while it is below the limit, and
what a worker holds is valid while the parent is away.

A share differs from the usual one by an offset.  Both sides keep the offsets that are not 0 and
tell each other changes of them, never sums, so messages in flight make no difference.  Messages
of each direction must arrive in order, each once.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from attrs import define, field


class Key(NamedTuple):
    """What is counted."""

    limit: str
    """The name of the limit."""

    of: str
    """An address or a mailbox; empty for a limit on everything."""


Decided = Callable[[bool], None]
"""Takes whether a place was counted."""


class WorkerShares:
    """A worker's side.  ``tell(name, body)`` sends to the parent."""

    def __init__(
        self, limits: Mapping[str, int], workers: int, tell: Callable[[str, object], object]
    ) -> None:
        """``limits``: the most of each, by name."""
        self._workers = workers
        self._tell = tell
        self._used: Counter[Key] = Counter()
        self._offsets: Counter[Key] = Counter()
        self._wanted: dict[int, tuple[Key, Decided]] = {}
        self._numbers = 0
        self.limits = limits

    def _base(self, key: Key) -> int:
        """The usual share."""
        return self.limits[key.limit] // self._workers

    def _held(self, key: Key) -> int:
        return self._base(key) + self._offsets.get(key, 0)

    def take(self, key: Key) -> bool:
        """Count one place within the share; False: the share is used up, and nothing is counted."""
        used = self._used[key]
        if used >= self._held(key):
            return False
        self._used[key] = used + 1
        return True

    def used(self, limit: str) -> dict[str, int]:
        """The counts of this process for a limit, by what is counted."""
        return {key.of: count for key, count in self._used.items() if key.limit == limit}

    def want(self, key: Key, decided: Decided) -> int:
        """Ask the parent for a place; ``decided`` is called once.

        Returns a number for ``give_up``.
        """
        self._numbers += 1
        self._wanted[self._numbers] = key, decided
        self._tell("want", [*key, self._numbers])
        return self._numbers

    def give_up(self, number: int) -> None:
        """Decide without the parent: it does not answer."""
        if number in self._wanted:
            key, decided = self._wanted.pop(number)
            decided(self.take(key))

    def leave(self, key: Key) -> None:
        """Give one place back."""
        self._used[key] -= 1
        if not self._used[key]:
            del self._used[key]
        self._return_surplus(key)

    def _return_surplus(self, key: Key) -> None:
        surplus = self._offsets[key]
        # Not at once, or a count that goes up and down would send two messages each time.
        if surplus > 0 and self._used[key] <= self._base(key) // 2:
            self._change(key, -surplus)
            self._tell("share", [*key, surplus, None])

    def _change(self, key: Key, by: int) -> None:
        self._offsets[key] += by
        if not self._offsets[key]:
            del self._offsets[key]

    def take_share(self, body: list[object]) -> None:
        """The parent's message ``share``: it moved the share, or answers ``want``, or both."""
        key, change, number = _share(body)
        self._change(key, change)
        if number is not None:
            self.give_up(number)
        # The answer may have come too late.
        self._return_surplus(key)

    def take_spare(self, body: list[object]) -> None:
        """The parent's message ``spare``: give back what is unused."""
        key, _, number = _share(body)
        spare = max(0, self._held(key) - self._used[key])
        self._change(key, -spare)
        self._tell("share", [*key, spare, number])


@define
class _Contest:
    """A key of which workers have other shares than the usual ones, or want to."""

    offsets: Counter[int] = field(factory=Counter)
    waiting: deque[tuple[int, int]] = field(factory=deque)
    """Worker and number of each ``want`` that no round has begun for."""

    serving: list[tuple[int, int]] = field(factory=list)
    """The same, for the running round."""

    asked: set[int] = field(factory=set)
    """Workers that have not answered in the running round."""

    round: int = 0


class ParentShares:
    """The parent's side.  ``tell(worker, name, body)`` sends to a worker."""

    def __init__(
        self,
        limits: Mapping[str, int],
        workers: int,
        tell: Callable[[int, str, object], object],
        began: Callable[[Key, int], object] = lambda _, __: None,
    ) -> None:
        """``began(key, round)``: call ``end_round`` with both, should nobody answer in time."""
        self._workers = workers
        self._tell = tell
        self._began = began
        self._joined: set[int] = set()
        self._contests: defaultdict[Key, _Contest] = defaultdict(_Contest)
        self._rounds = 0
        self.limits = limits

    @property
    def contested(self) -> Iterable[Key]:
        """The keys with unusual shares."""
        return self._contests.keys()

    def _base(self, key: Key) -> int:
        return self.limits[key.limit] // self._workers

    def _free(self, key: Key) -> int:
        """What nobody holds."""
        held = len(self._joined) * self._base(key) + sum(self._contests[key].offsets.values())
        return self.limits[key.limit] - held

    def join(self, worker: int) -> list[list[object]]:
        """A worker begins; returns the shares that it does not have as usual.

        It must get them before it counts anything.
        """
        shares: list[list[object]] = []
        for key, contest in self._contests.items():
            # What is free for a key of which this worker holds nothing yet.
            if change := min(self._free(key) - self._base(key), 0):
                contest.offsets[worker] = change
                shares.append([*key, change, None])
        self._joined.add(worker)
        return shares

    def leave(self, worker: int) -> None:
        """A worker has ended, and holds nothing any more."""
        self._joined.discard(worker)
        for key, contest in list(self._contests.items()):
            del contest.offsets[worker]
            contest.waiting = deque(one for one in contest.waiting if one[0] != worker)
            contest.serving = [one for one in contest.serving if one[0] != worker]
            self._answered(key, worker)

    def take_want(self, worker: int, body: list[object]) -> None:
        """A worker's message ``want``: its share of a key is used up."""
        limit, of, number = body
        key = Key(str(limit), str(of))
        assert isinstance(number, int)
        contest = self._contests[key]
        contest.waiting.append((worker, number))
        if not contest.asked:
            self._begin(key)

    def take_share(self, worker: int, body: list[object]) -> None:
        """A worker's message ``share``: it gave back a part, perhaps as it was asked to."""
        key, change, number = _share(body)
        contest = self._contests[key]
        contest.offsets[worker] -= change
        if number == contest.round:
            self._answered(key, worker)
        else:
            self._settle(key)

    def _begin(self, key: Key) -> None:
        """Serve all that wait, perhaps after a round of questions."""
        contest = self._contests[key]
        contest.serving, contest.waiting = [*contest.waiting], deque()
        wanting = {worker for worker, _ in contest.serving}
        if self._free(key) < len(contest.serving):
            base, offsets = self._base(key), contest.offsets
            alone = wanting if len(wanting) == 1 else set()
            contest.asked = {one for one in self._joined - alone if base + offsets[one] > 0}
        if not contest.asked:
            self._serve(key)
            return
        self._rounds += 1
        contest.round = self._rounds
        for worker in contest.asked:
            self._tell(worker, "spare", [*key, 0, contest.round])
        self._began(key, contest.round)

    def _answered(self, key: Key, worker: int) -> None:
        contest = self._contests[key]
        if worker in contest.asked:
            contest.asked.discard(worker)
            if not contest.asked:
                self._serve(key)
                return
        self._settle(key)

    def end_round(self, key: Key, number: int) -> None:
        """Wait no longer for workers that have not answered in this round."""
        contest = self._contests.get(key)
        if contest is not None and contest.round == number and contest.asked:
            contest.asked = set()
            self._serve(key)

    def _serve(self, key: Key) -> None:
        contest = self._contests[key]
        serving, contest.serving = contest.serving, []
        for left, (worker, number) in zip(range(len(serving), 0, -1), serving, strict=True):
            free = self._free(key)
            # More than one, so that a count that goes on rising need not ask each time.
            granted = min(free, 1 + max(0, free - left) // (2 * self._workers)) if free > 0 else 0
            contest.offsets[worker] += granted
            self._tell(worker, "share", [*key, granted, number])
        if contest.waiting:
            self._begin(key)
        else:
            self._settle(key)

    def _settle(self, key: Key) -> None:
        """Return to the usual shares once no worker has more."""
        contest = self._contests[key]
        if contest.asked or contest.waiting or contest.serving:
            return
        if all(offset <= 0 for offset in contest.offsets.values()):
            for worker in self._joined:
                self._move(key, worker, min(-contest.offsets[worker], self._free(key)))
        if not any(contest.offsets.values()):
            del self._contests[key]

    def _move(self, key: Key, worker: int, change: int) -> None:
        if change:
            self._contests[key].offsets[worker] += change
            self._tell(worker, "share", [*key, change, None])


def _share(body: list[object]) -> tuple[Key, int, int | None]:
    limit, of, change, number = body
    assert isinstance(change, int)
    assert number is None or isinstance(number, int)
    return Key(str(limit), str(of)), change, number
