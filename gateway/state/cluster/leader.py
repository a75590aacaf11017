"""Leader election among the gateways of a cluster: a row that expires."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from gateway.interfaces import ILeader, Run
from gateway.postgresql.database import Database

TERM = 90.0
"""Seconds for which a leader leads without asking again: more than a turn of its work takes."""

# By the clock of the database alone.  An attempt that fails changes nothing: it extends no term.
_TAKE = """\
INSERT INTO pop3gw.leader (holder, until) VALUES (%s, now() + %s * interval '1 second')
ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, until = excluded.until,
    epoch = greatest(leader.epoch, excluded.epoch)
WHERE leader.until < now() OR leader.holder = excluded.holder
RETURNING true"""

# The row stays: move-ids looks at its epoch.
_RESIGN = "UPDATE pop3gw.leader SET until = '-infinity' WHERE holder = %s"


@implementer(ILeader)
class ClusterLeader:
    """An ``ILeader`` among the processes that use the same database."""

    def __init__(
        self, database: Database, run: Run, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """``run``: does what blocks; ``seconds``: a clock of this process."""
        self._database = database
        self._run = run
        self._seconds = seconds
        self._holder = uuid4()
        self._leads = False
        self._until = 0.0
        """When the term of whoever led at the last question has ended, at the latest."""
        self._resigned = False

    def is_leader(self) -> Deferred[bool]:
        """Whether this process leads; it begins a term where nobody does, but not after ``resign``.

        Fails with ``StoreDown``: whoever led may lead on until the term ends.
        """

        def take() -> bool:
            begun = self._seconds()
            self._leads = bool(self._database.read(_TAKE, (self._holder, TERM)))
            self._until = begun + TERM
            return self._leads

        return succeed(False) if self._resigned else self._run(take)

    @property
    def is_led(self) -> bool:
        """Whether a process of any gateway led when this one last asked, and may lead still."""
        return self._seconds() < self._until

    def resign(self) -> Deferred[None]:
        """Let another process lead at once."""
        self._resigned = True

        def resign() -> None:
            if self._leads:
                self._leads, self._until = False, 0.0
                self._database.write(_RESIGN, (self._holder,))

        return self._run(resign)
