"""When which mailbox is to be looked at: one heap of due times for all of them."""

from __future__ import annotations

from hashlib import blake2b
from heapq import heapify, heappop, heappush

_SLACK = 64
"""Number of superseded entries up to which dropping them costs more than it saves."""


class Schedule:
    """Mailboxes by the time at which something is due in them, in Unix seconds.

    A mailbox with nothing due is not there and costs nothing.  An entry that is
    superseded stays in the heap until its time has come or such entries are the
    most, so that every call takes time logarithmic in the number of mailboxes,
    and the memory stays in proportion to them.
    """

    def __init__(self) -> None:
        self._dues: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """How many mailboxes are there."""
        return len(self._dues)

    def put(self, mailbox: str, due: float | None) -> None:
        """Have ``mailbox`` there at ``due`` and at no other time; None: not at all."""
        if due is None:
            self._dues.pop(mailbox, None)
        elif self._dues.get(mailbox) != due:
            self._dues[mailbox] = due
            heappush(self._heap, (due, mailbox))
        self._compact()

    def take(self, now: float, most: int) -> list[str]:
        """Up to ``most`` of the mailboxes that are due at ``now``, the first due first.

        They are no longer there afterwards.
        """
        taken: list[str] = []
        while len(taken) < most and (due := self.next_due()) is not None and due <= now:
            mailbox = heappop(self._heap)[1]
            del self._dues[mailbox]
            taken.append(mailbox)
        self._compact()
        return taken

    def next_due(self) -> float | None:
        """When the first mailbox is due; None: there is none."""
        while self._heap and self._dues.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._dues) + _SLACK:
            self._heap = [(due, mailbox) for mailbox, due in self._dues.items()]
            heapify(self._heap)


def jitter(mailbox: str, spread: float) -> float:
    """Seconds from 0 to ``spread``, the same for a mailbox in every process and after every start.

    To be added to a due time, so that mailboxes that fall due together are not
    all looked at in the same second.
    """
    digest = blake2b(mailbox.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48 * spread
