"""The schedule: one heap with the due time of each mailbox."""

from __future__ import annotations

from hashlib import blake2b
from heapq import heapify, heappop, heappush

_SLACK = 64
"""Superseded entries up to which a cleanup costs more than it saves."""


class Schedule:
    """Mailboxes by due time, in Unix seconds.

    A mailbox with nothing due has no entry.  A superseded entry stays in the heap until
    its time comes or such entries are the majority.  So every call takes time
    logarithmic in the number of mailboxes, and memory is proportional to them.
    """

    def __init__(self) -> None:
        self._dues: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """The number of mailboxes."""
        return len(self._dues)

    def __contains__(self, mailbox: str) -> bool:
        """Whether ``mailbox`` has a due time."""
        return mailbox in self._dues

    def put(self, mailbox: str, due: float | None) -> None:
        """Set the due time of ``mailbox``; None: remove it."""
        if due is None:
            self._dues.pop(mailbox, None)
        elif self._dues.get(mailbox) != due:
            self._dues[mailbox] = due
            heappush(self._heap, (due, mailbox))
        self._compact()

    def take(self, now: float, most: int) -> list[str]:
        """Remove and return up to ``most`` mailboxes that are due at ``now``, first due first."""
        taken: list[str] = []
        while len(taken) < most and (due := self.next_due()) is not None and due <= now:
            mailbox = heappop(self._heap)[1]
            del self._dues[mailbox]
            taken.append(mailbox)
        self._compact()
        return taken

    def next_due(self) -> float | None:
        """The due time of the first mailbox; None: the schedule is empty."""
        while self._heap and self._dues.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def let_go(self) -> tuple[dict[str, float], list[tuple[float, str]]]:
        """Return what it is made of, for a thread to empty; the schedule is of no use then."""
        return self._dues, self._heap

    def count_due(self, now: float, most: int) -> int:
        """How many mailboxes are due at ``now``; ``most``: that many or more.

        Time is proportional to the answer, and to superseded entries that are due.
        """
        found, places = set[str](), [0]
        while places and len(found) < most:
            place = places.pop()
            if place < len(self._heap) and self._heap[place][0] <= now:
                due, mailbox = self._heap[place]
                if self._dues.get(mailbox) == due:
                    found.add(mailbox)
                # The entries below a place in a heap are due later.
                places += (2 * place + 1, 2 * place + 2)
        return len(found)

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._dues) + _SLACK:
            self._heap = [(due, mailbox) for mailbox, due in self._dues.items()]
            heapify(self._heap)


def jitter(mailbox: str, spread: float) -> float:
    """Seconds from 0 to ``spread``; constant for a mailbox across processes and restarts.

    Added to a due time, so that mailboxes that are due together are not all scanned in
    the same second.
    """
    digest = blake2b(mailbox.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48 * spread
