"""Removal of bodies that no message has any more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from gateway.interfaces import Run
from gateway.postgresql.database import Database
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.sql import changes, rows
from gateway.store.cluster.sql.rows import Gone

AT_ONCE = 8
"""Requests to S3 at a time: mail that comes and goes has precedence."""


class BodyCollection:
    """Collects what removals have left in ``gone``.

    A body goes before its row in ``gone``: after a crash it goes again, which S3 allows.
    """

    def __init__(self, database: Database, blobs: Blobs, run: Run, age: float) -> None:
        """``age``: seconds since the removal, more than any session takes."""
        self._database = database
        self._blobs = blobs
        self._run = run
        self._age = age

    def collect(self, most: int) -> Deferred[int]:
        """Finish up to ``most`` bodies; fires with how many.  Fails where some could not go."""
        return Deferred.fromCoroutine(self._collect(most))

    async def _collect(self, most: int) -> int:
        found = await self._run(partial(rows.find_gone, self._database, self._age, most))
        failures: list[Failure] = []
        for start in range(0, len(found), AT_ONCE):
            failures += await self._finish(found[start : start + AT_ONCE])
        if failures:
            # All others are done: one that S3 will not remove is in nobody's way.
            failures[0].raiseException()
        return len(found)

    async def _finish(self, some: Sequence[Gone]) -> list[Failure]:
        unused = [one.body for one in some if not one.is_used]
        results = await DeferredList(
            [self._blobs.remove(body) for body in unused], consumeErrors=True
        )
        failed = {body for body, (done, _) in zip(unused, results, strict=True) if not done}
        await self._run(partial(self._forget, [one for one in some if one.body not in failed]))
        return [result for done, result in results if not done]  # type: ignore[misc]

    def _forget(self, some: Sequence[Gone]) -> None:
        self._database.transact(lambda cursor, _: changes.forget_gone(cursor, some))
