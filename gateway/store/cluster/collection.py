"""Removal of bodies that no message has any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from gateway.errors import StoreDown
from gateway.interfaces import Run
from gateway.postgresql.database import Database
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.sql import changes, rows
from gateway.store.cluster.sql.rows import Gone

AT_ONCE = 8
"""Requests to S3 at a time: mail that comes and goes has precedence."""

LONGEST = 20.0
"""Seconds after which a step asks S3 no more: it may be slow, and the leader's term ends."""


class _Failed(NamedTuple):
    """Where bodies could not be removed."""

    until: datetime
    """The time of the last loss that was tried."""

    failure: Failure


class BodyCollection:
    """Collects what removals have left in ``gone``.

    A body goes before its row in ``gone``: after a crash it goes again, which S3 allows.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        run: Run,
        age: float,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """``age``: seconds since the removal, more than any session takes; ``seconds``: a clock."""
        self._database = database
        self._blobs = blobs
        self._run = run
        self._age = age
        self._seconds = seconds
        self._failed: _Failed | None = None
        """Younger bodies come next, and all again after them."""

    def collect(self, most: int) -> Deferred[int]:
        """Finish up to ``most`` bodies; fires with how many, and 0 if no more are due.

        Fails where some could not go; the next call goes on with younger ones, and the one
        after the youngest fails once more.
        """
        return Deferred.fromCoroutine(self._collect(most))

    async def _collect(self, most: int) -> int:
        before, self._failed = self._failed, None
        after = before and before.until
        found = await self._run(partial(rows.find_gone, self._database, self._age, most, after))
        if before is not None and not found:
            before.failure.raiseException()
        end, done = self._seconds() + LONGEST, 0
        failures: list[Failure] = []
        while done < len(found) and self._seconds() < end:
            some = found[done : done + AT_ONCE]
            failed = await self._finish(some)
            done += len(some)
            failures += failed
            if _is_away(some, failed):
                break
        known = failures if before is None else [*failures, before.failure]
        if known:
            # One that S3 will not remove is in nobody's way.
            self._failed = _Failed(found[done - 1].at, known[0])
        if failures:
            failures[0].raiseException()
        return done

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


def _is_away(some: Sequence[Gone], failed: Sequence[Failure]) -> bool:
    """Whether S3 has removed none of these, and is to be asked again later."""
    unused = sum(not one.is_used for one in some)
    return 0 < unused == len(failed) and all(one.check(StoreDown) for one in failed)
