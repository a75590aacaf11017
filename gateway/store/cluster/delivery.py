"""A message that comes in: its body to S3, then a row for each recipient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import GatewayError
from gateway.interfaces import Admit, IIncoming, Run
from gateway.model import Account, Form, Limits
from gateway.postgresql.database import Cursor, Database
from gateway.s3.connection import Content
from gateway.store.audited import END_OF_HEADER
from gateway.store.cluster.bodies.blobs import LONGEST_HEAD, Blobs
from gateway.store.cluster.sql import changes
from gateway.store.cluster.sql.delivery_rows import New, deliver, delivery_alone, is_delivered
from gateway.store.cluster.sql.rows import Box
from gateway.wire.body import Canonical, Measure


class Delivery:
    """What all messages that come in work with."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        run: Run,
        admit: Admit,
        find_prepared: Callable[[str], Box | None],
        *,
        count_hidden: bool,
        convert_cr: bool,
    ) -> None:
        """``find_prepared``: a mailbox as it was lately.  ``count_hidden`` messages for quotas."""
        self.blobs = blobs
        self.run = run
        self.find_prepared = find_prepared
        self.convert_cr = convert_cr
        self._database = database
        self._admit = admit
        self._count_hidden = count_hidden

    def deliver(
        self,
        name: str,
        prepared: Box | None,
        limits: Limits,
        new: New,
        committing: Callable[[], object],
    ) -> None:
        """Add a message to a mailbox, once.  Blocks; raises as ``IIncoming.commit`` fails.

        ``prepared``: the mailbox as it was lately, if it is known.  ``committing`` is called
        once there is a row, or may be.
        """

        def work(cursor: Cursor, again: bool) -> None:
            # The mailbox may have another name by now.
            if again and is_delivered(cursor, new):
                return
            box = changes.lock(cursor, name)
            # An attempt that was not answered may have held the lock until now.
            if again and is_delivered(cursor, new):
                return
            held = box.contents.total if self._count_hidden else box.contents.shown
            self._admit(held, new.octets, limits)
            deliver(cursor, box, new, again=again)
            committing()

        room = limits.room(new.octets)
        if prepared is None or room.octets < 0 or room.messages < 0:
            self._database.transact(work)
            return
        statement, values = delivery_alone(
            prepared, name, new, room, count_hidden=self._count_hidden
        )
        self._database.change(statement, values, work, committing)


@implementer(IIncoming)
class Incoming:
    """A message that is being delivered.

    What is stored are the octets that RETR sends: CRLF line ends, the last one included.
    """

    def __init__(self, means: Delivery, *, is_copy: bool = False) -> None:
        """``is_copy``: what is written is stored, however a lone CR is treated."""
        self._means = means
        self._text = Canonical(convert_cr=means.convert_cr and not is_copy)
        self._measure = Measure()
        self._head = b""
        self._pieces: list[bytes] = []
        self._digest = hashlib.sha256()
        self._held = 0
        self._upload = means.blobs.new()
        self._stored: Deferred[None] | None = None
        """Fires when the body is in S3; None: not all of it is sent yet."""
        self._waiting: list[Deferred[None]] = []
        self._copies = 0
        self._sent = False
        self._has_rows = False
        """Whether there is a row that needs the body, or may be one."""

    def write(self, data: bytes) -> Deferred[None]:
        """Keep it, or send a part."""
        self._take(self._text.feed(data))
        if self._held < self._means.blobs.part:
            return succeed(None)
        self._sent = True
        return self._upload.part(self._content())

    def _take(self, text: bytes) -> None:
        if not text:
            return
        if len(self._head) < LONGEST_HEAD:
            self._head += text[: LONGEST_HEAD - len(self._head)]
        self._measure.feed(text)
        self._digest.update(text)
        self._pieces.append(text)
        self._held += len(text)

    def _content(self) -> Content:
        """What is held, to be sent."""
        content = Content(self._pieces, self._digest.hexdigest())
        self._pieces, self._digest, self._held = [], hashlib.sha256(), 0
        return content

    def commit(self, account: Account, limits: Limits) -> Deferred[None]:
        """Store the body, and then add a row."""
        self._copies += 1
        return Deferred.fromCoroutine(self._commit(account.mailbox, limits, self._copies))

    async def _commit(self, name: str, limits: Limits, copy: int) -> None:
        new = await self.stored(copy)
        means = self._means
        prepared = means.find_prepared(name)
        await means.run(partial(means.deliver, name, prepared, limits, new, self.keep))

    async def stored(self, copy: int) -> New:
        """What a recipient's row has, once the body is in S3; ``copy``: which recipient."""
        await self._store()
        form = Form.CANONICAL if self._measure.form is Form.CANONICAL else Form.CLEAN
        return New(self._upload.key, copy, self._measure.length, form, header_of(self._head))

    def keep(self) -> None:
        """There is a row that needs the body, or may be one."""
        self._has_rows = True

    def _store(self) -> Deferred[None]:
        """Fires when the body is in S3: all recipients wait for the same."""
        answer: Deferred[None] = Deferred()
        self._waiting.append(answer)
        if self._stored is None:
            self._take(self._text.finish())
            self._sent = bool(self._measure.length)
            # RETR reads nothing of an empty message: it needs no body.
            self._stored = self._upload.finish(self._content()) if self._sent else succeed(None)
            self._stored.addBoth(self._tell)
        elif self._stored.called:
            self._tell(self._stored.result)
        return answer

    def _tell(self, result: object) -> object:
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if isinstance(result, Failure):
                answer.errback(Failure(result.value))
            else:
                answer.callback(None)
        return result

    def close(self) -> Deferred[None]:
        """Remove the body, unless a mailbox has it."""
        self._pieces.clear()
        if self._stored is not None:
            self._stored.addErrback(lambda failure: failure.trap(GatewayError))
        if self._sent and not self._has_rows:
            return self._upload.drop()
        return succeed(None)


def header_of(head: bytes) -> bytes:
    """The header in the first octets of a message, with the empty line after it."""
    match = END_OF_HEADER.search(head)
    return head if match is None else head[: match.end()]
