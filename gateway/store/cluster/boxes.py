"""Mailboxes by name, as sessions and deliveries ask for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from gateway.errors import NoSuchMailbox
from gateway.interfaces import Run
from gateway.postgresql.database import Database
from gateway.postgresql.names import is_text
from gateway.store.cluster.batch import Batch
from gateway.store.cluster.sql import changes, rows
from gateway.store.cluster.sql.rows import Box, State, closed

V = TypeVar("V")

LATELY = 10.0
"""Seconds for which a mailbox that was asked for is known: DATA comes soon after RCPT."""

MOST = 10_000
"""Mailboxes after which the older ones of these are forgotten: others are asked for too."""


class Boxes:
    """The mailboxes of the cluster."""

    def __init__(
        self, database: Database, run: Run, now: Callable[[], float], *, create: bool
    ) -> None:
        """``now``: seconds of any clock; ``create`` missing mailboxes."""
        self._database = database
        self._run = run
        self._create = create
        self._states = Batch(run, partial(rows.find_states, database))
        self._boxes = Batch(run, partial(rows.find_boxes, database))
        self._prepared: Lately[Box] = Lately(now, LATELY)

    async def state(self, name: str) -> State:
        """The state of an open mailbox."""
        state = await self._find(self._states, name)
        if state.is_closed:
            raise closed(name)
        return state

    async def box(self, name: str) -> Box | None:
        """A mailbox, open or closed; None: the next login or delivery creates it."""
        box = await self._look(self._boxes, name)
        if box is not None:
            self._keep(name, box)
        return box

    async def prepare(self, name: str) -> None:
        """Check that mail can be delivered."""
        box = await self._find(self._boxes, name)
        if box.is_closed:
            raise closed(name)
        self._keep(name, box)

    def _keep(self, name: str, box: Box) -> None:
        if not box.is_closed:
            self._prepared.keep(name, box)

    def find_prepared(self, name: str) -> Box | None:
        """An open mailbox as it was when it was asked for, at most ``2 * LATELY`` seconds ago."""
        return self._prepared.find(name)

    async def _look(self, asked: Batch[str, V], name: str) -> V | None:
        """What there is of this name; None: the mailbox is missing, and may be created."""
        if not is_text(name):
            raise NoSuchMailbox(name)
        found = await asked.find(name)
        if found is None and not self._create:
            raise NoSuchMailbox(name)
        return found

    async def _find(self, asked: Batch[str, V], name: str) -> V:
        """What there is of this name; a missing mailbox is created where that is allowed."""
        found = await self._look(asked, name)
        if found is None:
            create = partial(self._database.transact, lambda it, _: changes.create(it, name))
            await self._run(create)
            found = await asked.find(name)
        if found is None:
            raise NoSuchMailbox(name)
        return found


class Lately(Generic[V]):
    """Values by name, each for less than ``2 * seconds``, and up to ``2 * MOST`` of them."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self._now = now
        self._seconds = seconds
        self._since = now()
        self._newer: dict[str, V] = {}
        self._older: dict[str, V] = {}

    def keep(self, name: str, value: V) -> None:
        """From now on."""
        self._forget()
        if len(self._newer) >= MOST:
            self._newer, self._older = {}, self._newer
        self._newer[name] = value

    def find(self, name: str) -> V | None:
        """The value, if it is not too old."""
        self._forget()
        return self._newer.get(name, self._older.get(name))

    def _forget(self) -> None:
        passed = self._now() - self._since
        if passed >= 2 * self._seconds:
            self._newer, self._older, self._since = {}, {}, self._now()
        elif passed >= self._seconds:
            self._newer, self._older = {}, self._newer
            self._since += self._seconds
