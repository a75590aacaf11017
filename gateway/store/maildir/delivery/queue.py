"""The delivery queue: the reactor's side of delivery, with blocking work in threads.

A message up to ``HELD`` octets needs one call in a thread, which writes and delivers
it.  Messages for a mailbox with a running delivery write their files meanwhile, so that
syncs overlap, and are then delivered together: under one lock, with one sync of
``new``.  So a mailbox uses more than one thread only while files are written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import BadMailboxName
from gateway.interfaces import Admit, IIncoming, Run
from gateway.model import Account, Limits, Usage
from gateway.store.maildir.delivery.inbox import Inbox, Put
from gateway.store.maildir.delivery.incoming import HELD, Draft
from gateway.store.maildir.listing.snapshot import MaildirOptions

REMEMBERED = 10_000
"""Mailboxes with cached state for faster deliveries; about 2 KB each."""


class Queue:
    """The queue of one mailbox, which one thread at a time delivers."""

    def __init__(self, inbox: Inbox, run: Run) -> None:
        self.inbox = inbox
        self.run = run
        self._waiting: list[tuple[Put, Deferred[None]]] = []
        self.is_idle = True
        """Whether no delivery is pending."""

    def put(self, put: Put) -> Deferred[None]:
        """Fires when it is delivered; fails with the reason."""
        done: Deferred[None] = Deferred()
        self._waiting.append((put, done))
        if self.is_idle:
            self.is_idle = False
            self._next()
        return done

    def _next(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self.is_idle = True
            return
        puts = [put for put, _ in batch]

        def done(result: Any) -> None:
            # Before any Deferred fires, so that what its callback adds finds its place.
            self._next()
            for put, waiting in batch:
                if isinstance(result, Failure):
                    waiting.errback(result)
                elif put.error is not None:
                    waiting.errback(Failure(put.error))
                else:
                    waiting.callback(None)

        self.run(lambda: self.inbox.deliver(puts)).addBoth(done)


@implementer(IIncoming)
class Incoming:
    """A message that is being delivered into Maildirs."""

    def __init__(self, first: Queue, queue_of: Callable[[Account], Queue], draft: Draft) -> None:
        """``first``: the mailbox that provides ``tmp`` for the message."""
        self._first = first
        self._queue_of = queue_of
        self._draft = draft
        self._busy = False
        """A thread is writing the draft."""
        self._waiting: list[Deferred[None]] = []
        """Fires when it is done."""

    def write(self, data: bytes) -> Deferred[None]:
        """Keep the octets in memory, or write them to the file with those kept before."""
        draft, inbox = self._draft, self._first.inbox
        draft.take(data)
        if draft.held < HELD:
            return succeed(None)
        self._busy = True
        return self._first.run(lambda: inbox.spill(draft)).addBoth(self._written)

    def commit(self, account: Account, limits: Limits) -> Deferred[None]:
        """Deliver the message into a mailbox; the first call syncs it for all."""
        try:
            queue = self._queue_of(account)
        except BadMailboxName as error:
            return fail(error)
        return self._at_rest(lambda: self._put(queue, Put(self._draft, limits)))

    def _at_rest(self, work: Callable[[], Deferred[None]]) -> Deferred[None]:
        """Do ``work`` when no thread is writing the draft."""
        if not self._busy:
            return work()
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting.addCallback(lambda _: self._at_rest(work))

    def _put(self, queue: Queue, put: Put) -> Deferred[None]:
        if self._draft.is_settled:
            return queue.put(put)
        self._busy = True
        if queue.is_idle:
            return queue.put(put).addBoth(self._written)
        return (
            queue.run(lambda: queue.inbox.complete(put))
            .addBoth(self._written)
            .addCallback(lambda _: queue.put(put))
        )

    def _written(self, result: Any) -> Any:
        self._busy = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
        return result

    def close(self) -> Deferred[None]:
        """Remove the file in ``tmp``, after a pending write of a lost connection."""
        return self._at_rest(self._discard)

    def _discard(self) -> Deferred[None]:
        draft = self._draft
        if not draft.is_pending:
            draft.discard()
            return succeed(None)
        # If the queue of the pool is full, do it here: the file must go.
        return self._first.run(draft.discard).addErrback(lambda _: draft.discard())


class Delivery:
    """Delivery for a Maildir store."""

    def __init__(
        self,
        path_of: Callable[[Account], str],
        run: Run,
        reading: MaildirOptions,
        admit: Admit,
        now_ns: Callable[[], int],
        *,
        share: bool,
    ) -> None:
        """``path_of``: the Maildir of an account; raises ``BadMailboxName``.

        ``share``: whether recipients of a message share one file.
        """
        self._path_of = path_of
        self._run = run
        self._reading = reading
        self._admit = admit
        self._now_ns = now_ns
        self._share = share
        self._queues: OrderedDict[str, Queue] = OrderedDict()

    def prepare(self, account: Account) -> Deferred[None]:
        """Check that the Maildir exists, unless it is known to."""
        try:
            queue = self._queue(account)
        except BadMailboxName as error:
            return fail(error)
        return self._prepared(queue)

    def _prepared(self, queue: Queue) -> Deferred[None]:
        inbox = queue.inbox
        return succeed(None) if inbox.is_there else self._run(inbox.prepare)

    def receive(self, account: Account) -> Deferred[IIncoming]:
        """Begin a message; the Maildir must exist."""
        try:
            queue = self._queue(account)
        except BadMailboxName as error:
            return fail(error)

        def begin(_: None) -> IIncoming:
            convert_cr = self._reading.convert_cr
            draft = Draft(self._now_ns(), convert_cr=convert_cr, share=self._share)
            return Incoming(queue, self._queue, draft)

        return self._prepared(queue).addCallback(begin)

    def usage(self, account: Account) -> Deferred[Usage]:
        """Usage of the mailbox; writes the directory's quota into maildirsize if it has none."""
        try:
            inbox = self._queue(account).inbox
        except BadMailboxName as error:
            return fail(error)
        if (known := inbox.known_usage()) is not None:
            return succeed(known)
        limits = Limits(octets=account.quota.octets, messages=account.quota.messages)
        return self._run(lambda: inbox.usage(limits))

    def _queue(self, account: Account) -> Queue:
        path = self._path_of(account)
        queue = self._queues.get(path)
        if queue is None:
            inbox = Inbox(path, self._reading, self._admit, now_ns=self._now_ns)
            queue = self._queues[path] = Queue(inbox, self._run)
            while len(self._queues) > REMEMBERED:
                # Forgetting a busy one is safe: the locks are on disk.
                self._queues.popitem(last=False)
        self._queues.move_to_end(path)
        return queue
