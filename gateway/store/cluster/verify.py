"""Whether database and bucket fit together: after a restore, or when somebody doubts it.

Gateways may serve meanwhile: all is looked at first, and what did not fit is then looked at once
more, by itself, before it is a problem.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList

from gateway.errors import MessageUnreadable
from gateway.interfaces import Run
from gateway.model import Contents, Reason
from gateway.postgresql.database import Cursor, Database
from gateway.s3.requests import Missing
from gateway.store.audited import entry, message_id_in
from gateway.store.cluster.bodies.blobs import BEGIN, Blobs
from gateway.store.cluster.bodies.keys import time_of
from gateway.store.cluster.problems import (
    COUNTERS,
    DAMAGED,
    MISSING,
    UNUSED,
    UPLOAD,
    Problem,
    Summary,
)
from gateway.store.cluster.spools import Object, Spool, objects_spool, rows_spool
from gateway.store.cluster.sql import audit, changes, rows
from gateway.store.cluster.sql.rows import Stored

T = TypeVar("T")

PAGE = 10_000
"""Messages in one question."""

MAILBOXES = 200
"""Mailboxes to count in one question, which takes as long as all of their messages."""

SETTLED = 3_600.0
"""Seconds after which a body without a row is a problem: no delivery takes longer."""

YOUNG = 86_400.0
"""Seconds for which nothing is removed that lacks its row, in case that one does."""

BATCH = 1_000
"""Bodies to look at once more, with one question to the database."""

AT_ONCE = 8
"""Requests to S3 at a time: sessions and deliveries have precedence."""

Tell = Callable[[Problem], object]

Progress = Callable[[int, int], object]
"""Gets how much is done, and of how much."""


def _silent(_done: int, _total: int) -> None:
    """Nobody watches."""


@frozen
class Repair:
    """What to mend, and for whom."""

    audited: bool = True
    """Write an audit entry for each message that is removed."""

    operator: str = ""
    """Who asked for it, for the audit."""

    most: bool = False
    """Remove even if more than half of all messages or bodies are concerned."""


class Verification:
    """One look at all that there is."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        run: Run,
        tell: Tell,
        *,
        repair: Repair | None = None,
        progress: Progress = _silent,
        now: Callable[[], float] = time.time,
        page: int = PAGE,
        mailboxes: int = MAILBOXES,
    ) -> None:
        """``tell`` hears of each problem; ``repair``: how to mend it; None: only look."""
        self._page, self._mailboxes = page, mailboxes
        self._database = database
        self._blobs = blobs
        self._run = run
        self._tell = tell
        self._repair = repair
        self._progress = progress
        self._now = now
        self._summary = Summary()
        self._done = self._total = 0

    async def verify(self) -> Summary:
        """Look at everything.  Raises ``StoreDown`` or ``MailboxUnusable``: then nothing more
        is removed."""
        mailboxes, messages = await self._run(partial(rows.totals, self._database))
        self._total = mailboxes + 2 * messages + 1
        self._advance(0)
        await self._verify_counters()
        with ExitStack() as files:
            place = files.enter_context(tempfile.TemporaryDirectory(prefix="pop3gw-verify-"))
            stored = [rows_spool(files, f"{place}/{number:02x}") for number in range(256)]
            unread = rows_spool(files, f"{place}/unread")
            unknown = objects_spool(files, f"{place}/unknown")
            young = objects_spool(files, f"{place}/young")
            await self._sort(stored)
            await self._compare(stored, unread, unknown, young)
            await self._count_young(young)
            await self._settle(unread, unknown, sum(spool.count for spool in stored))
        await self._verify_uploads()
        self._progress(self._total, self._total)
        return self._summary

    def _advance(self, done: int) -> None:
        # Counters may be off, and mail comes in: the total is only about right.
        self._done = min(self._done + done, self._total - 1)
        self._progress(self._done, self._total)

    def _found(self, problem: Problem) -> None:
        self._summary.count(problem)
        self._tell(problem)

    # -- counters --------------------------------------------------------------

    async def _verify_counters(self) -> None:
        after = 0
        while found := await self._run(
            partial(rows.counted, self._database, after, self._mailboxes)
        ):
            for one in found:
                self._summary.messages += one.contents.total.messages
                if one.counters != one.contents:
                    mended = self._repair is not None and await self._recount(one.mailbox)
                    note = _difference(one.counters, one.contents)
                    self._found(Problem(COUNTERS, one.name, mended=mended, note=note))
            self._summary.mailboxes += len(found)
            self._advance(len(found))
            after = found[-1].mailbox

    async def _recount(self, mailbox: int) -> bool:
        def recount(cursor: Cursor, _: bool) -> Contents | None:
            box = changes.find_box(cursor, mailbox)
            return None if box is None else changes.recount(cursor, box[1])

        await self._run(partial(self._database.transact, recount))
        return True

    # -- what does not fit at first sight --------------------------------------

    async def _sort(self, spools: Sequence[Spool[Stored]]) -> None:
        """Sort all rows by the prefix of their objects."""
        after = Stored(UUID(int=0), 0, 0, 0)
        while page := await self._run(partial(rows.stored, self._database, after, self._page)):
            for one in page:
                spools[one.body.bytes[-1]].add(one)
            self._advance(len(page))
            after = page[-1]

    async def _compare(
        self,
        spools: Sequence[Spool[Stored]],
        unread: Spool[Stored],
        unknown: Spool[Object],
        young: Spool[Object],
    ) -> None:
        """Find rows of which the body is not listed so, and bodies without rows."""
        expected, number = self._rows_by_body(spools[0]), 0
        after = ""
        while True:
            listed = await self._blobs.list(after)
            self._summary.bodies += len(listed.keys)
            for key, octets in zip(listed.keys, listed.sizes, strict=True):
                while number < key.bytes[-1]:
                    _add_all(unread, expected.values())
                    number += 1
                    expected = self._rows_by_body(spools[number])
                messages = expected.pop(key, None)
                if messages is None:
                    is_settled = self._now() - time_of(key) > SETTLED
                    (unknown if is_settled else young).add(Object(key, octets))
                elif messages[0].octets != octets:
                    _add_all(unread, [messages])
            after = listed.after
            if not after:
                break
        _add_all(unread, expected.values())
        for spool in spools[number + 1 :]:
            _add_all(unread, self._rows_by_body(spool).values())

    def _rows_by_body(self, spool: Spool[Stored]) -> dict[UUID, list[Stored]]:
        found: defaultdict[UUID, list[Stored]] = defaultdict(list)
        for batch in spool.batches(PAGE):
            for one in batch:
                found[one.body].append(one)
        self._advance(spool.count)
        return found

    # -- the second look -------------------------------------------------------

    async def _settle(self, unread: Spool[Stored], unknown: Spool[Object], stored: int) -> None:
        may_lose = self._may_mend(
            unread.count,
            stored,
            f"{unread.count:,} of {stored:,} messages have no body in the bucket",
            "is store.bucket the bucket of this database?",
        )
        for batch in unread.batches(BATCH):
            await self._find(batch, partial(self._unread, mend=may_lose))
        bodies = self._summary.bodies
        may_remove = self._may_mend(
            unknown.count,
            bodies,
            f"{unknown.count:,} of {bodies:,} bodies have no message in the database",
            "is store.database the database of this bucket, and not an older one?",
        )
        for objects in unknown.batches(BATCH):
            left = await self._without_rows(objects)
            await self._find(left, partial(self._unused, mend=may_remove))

    async def _count_young(self, young: Spool[Object]) -> None:
        for objects in young.batches(BATCH):
            for one in await self._without_rows(objects):
                self._summary.young += 1
                settled = time_of(one.body) + SETTLED
                self._summary.settled = max(self._summary.settled, settled)

    async def _without_rows(self, objects: Sequence[Object]) -> list[Object]:
        """Those that are in no row still; rows came and went since they were read."""
        keys = [one.body for one in objects]
        known = await self._run(partial(rows.find_known, self._database, keys))
        return [one for one in objects if one.body not in known]

    def _may_mend(self, found: int, total: int, what: str, question: str) -> bool:
        """Whether to mend: a wrong address in the configuration must not remove all mail."""
        if self._repair is None:
            return False
        if 2 * found > total and not self._repair.most:
            self._summary.refused.append(
                f"{what}: {question} None were removed; if it is, add --most"
            )
            return False
        return True

    async def _find(
        self, values: Sequence[T], check: Callable[[T], Coroutine[Any, Any, Problem | None]]
    ) -> None:
        """Look at these, some at a time."""
        for start in range(0, len(values), AT_ONCE):
            some = [Deferred.fromCoroutine(check(one)) for one in values[start : start + AT_ONCE]]
            results: Any = await DeferredList(some, consumeErrors=True)
            for is_done, problem in results:
                if is_done and problem is not None:
                    self._found(problem)
            # After the others: what was mended is reported.
            for is_done, failure in results:
                if not is_done:
                    failure.raiseException()

    async def _unread(self, one: Stored, *, mend: bool) -> Problem | None:
        """The problem of a message; None: its body is there after all."""
        kind, note = MISSING, ""
        try:
            await self._blobs.check(one.body, one.octets)
        except Missing:
            pass
        except MessageUnreadable as error:
            kind, note, mend = DAMAGED, str(error), False
        else:
            return None
        removed: Problem | None = None

        def lose(cursor: Cursor, _: bool) -> Problem | None:
            nonlocal removed
            found = self._lose(one, kind, note, mend, cursor)
            if found is not None and found.mended:
                removed = found
            # A repetition finds nothing if the attempt before has happened.
            return found or removed

        return await self._run(partial(self._database.transact, lose))

    def _lose(
        self, one: Stored, kind: str, note: str, mend: bool, cursor: Cursor
    ) -> Problem | None:
        """The problem of a message without its body; None: it was removed meanwhile."""
        found = changes.find_box(cursor, one.mailbox)
        kept = changes.find_stored(cursor, one)
        if found is None or kept is None:
            return None
        name, box = found
        named = message_id_in(changes.heads(cursor, box, [one.uid]).get(one.uid, b""))
        if mend and self._repair is not None:
            action = "discard" if kept.hidden is None else "purge"
            cause = Reason(operator=self._repair.operator)
            if self._repair.audited:
                audit.write(cursor, [entry(action, name, kept.stored, named, cause)])
            changes.remove(cursor, box, [one.uid])
        made = time_of(one.body)
        return Problem(kind, name, kept.unique_id, one.body.hex, made, named or "", mend, note)

    async def _unused(self, one: Object, *, mend: bool) -> Problem | None:
        """The problem of a body without a message; None: it was collected meanwhile."""
        try:
            head = await self._blobs.head(one.body, one.octets)
        except Missing:
            return None
        made, note = time_of(one.body), ""
        if self._now() - made <= YOUNG:
            mend, note = False, "less than a day old: it is not removed yet"
        if mend:
            await self._blobs.remove(one.body)
        named = message_id_in(head) or ""
        return Problem(UNUSED, "", "", one.body.hex, made, named, mend, note)

    # -- uploads ---------------------------------------------------------------

    async def _verify_uploads(self) -> None:
        after = BEGIN
        while True:
            uploads = await self._blobs.uploads(after)
            for one in uploads.found:
                made = time_of(one.body)
                if self._now() - made > YOUNG:
                    if self._repair is not None:
                        await self._blobs.abort(one)
                    mended = self._repair is not None
                    self._found(Problem(UPLOAD, body=one.body.hex, made=made, mended=mended))
            after = uploads.after
            if after == BEGIN:
                return


def _difference(counters: Contents, contents: Contents) -> str:
    """What is off: as counted so far, and as it is."""
    pairs = {
        "messages": (counters.shown.messages, contents.shown.messages),
        "octets": (counters.shown.octets, contents.shown.octets),
        "hidden messages": (counters.hidden.messages, contents.hidden.messages),
        "hidden octets": (counters.hidden.octets, contents.hidden.octets),
    }
    off = (f"{was:,} {what} for {is_:,}" for what, (was, is_) in pairs.items() if was != is_)
    return ", ".join(off)


def _add_all(spool: Spool[Stored], bodies: Iterable[Sequence[Stored]]) -> None:
    for messages in bodies:
        for one in messages:
            spool.add(one)
