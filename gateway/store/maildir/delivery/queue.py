"""Mail into Maildirs: the reactor's side, which hands all that blocks to a worker.

A message up to ``HELD`` octets costs one visit to a worker, which writes it
and delivers it.  What comes into a mailbox while another message is being
delivered there writes its own file meanwhile, so that their syncs overlap,
and goes in together with all others that wait: under one lock, with one line
for each file and one sync of ``new``.  So a mailbox never takes more than one
thread for longer than a file takes to be written.
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
"""Mailboxes of which is remembered what makes the next delivery quick; about 2 KB each."""


class Queue:
    """What waits to come into one mailbox, and never two threads at once."""

    def __init__(self, inbox: Inbox, run: Run) -> None:
        self.inbox = inbox
        self.run = run
        self._waiting: list[tuple[Put, Deferred[None]]] = []
        self.is_idle = True
        """Nothing is on its way in."""

    def put(self, put: Put) -> Deferred[None]:
        """Fires when it is there; fails with why it is not."""
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
    """One message on its way into Maildirs."""

    def __init__(self, first: Queue, queue_of: Callable[[Account], Queue], draft: Draft) -> None:
        """``first``: the mailbox with the ``tmp`` that the message is written to."""
        self._first = first
        self._queue_of = queue_of
        self._draft = draft
        self._busy = False
        """Some thread is writing the draft."""
        self._waiting: list[Deferred[None]] = []
        """Until it is not."""

    def write(self, data: bytes) -> Deferred[None]:
        """Keep it, or with what was kept write it to the file."""
        draft, maildir = self._draft, self._first.inbox.maildir
        draft.take(data)
        if draft.held < HELD:
            return succeed(None)
        self._busy = True
        return self._first.run(lambda: draft.spill(maildir)).addBoth(self._written)

    def commit(self, account: Account, limits: Limits) -> Deferred[None]:
        """Put the message into one mailbox; the first caller waits for the disk, for all."""
        try:
            queue = self._queue_of(account)
        except BadMailboxName as error:
            return fail(error)
        put = Put(self._draft, limits)
        return self._turn().addCallback(lambda _: self._put(queue, put))

    def _turn(self) -> Deferred[None]:
        """Fires when the draft is complete, or is this one's to complete."""
        if not self._busy:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting.addCallback(lambda _: self._turn())

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
        """Remove what is in ``tmp``; a write that a lost line has left alone ends first."""
        return self._turn().addCallback(lambda _: self._discard())

    def _discard(self) -> Deferred[None]:
        draft = self._draft
        if not draft.is_pending:
            draft.discard()
            return succeed(None)
        # If no worker is to be had it is done here: it must not stay.
        return self._first.run(draft.discard).addErrback(lambda _: draft.discard())


class Delivery:
    """What takes mail in for a Maildir store."""

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
        """``path_of`` an account is its Maildir; it raises ``BadMailboxName``.

        ``share``: whether recipients of one message may have one file.
        """
        self._path_of = path_of
        self._run = run
        self._reading = reading
        self._admit = admit
        self._now_ns = now_ns
        self._share = share
        self._queues: OrderedDict[str, Queue] = OrderedDict()

    def prepare(self, account: Account) -> Deferred[None]:
        """See that the Maildir is there, if it was not seen before."""
        return self._prepared(account).addCallback(lambda _: None)

    def receive(self, account: Account) -> Deferred[IIncoming]:
        """A message that is about to come, once the Maildir was seen to be there."""

        def begin(queue: Queue) -> IIncoming:
            convert_cr = self._reading.convert_cr
            draft = Draft(self._now_ns(), convert_cr=convert_cr, share=self._share)
            return Incoming(queue, self._queue, draft)

        return self._prepared(account).addCallback(begin)

    def _prepared(self, account: Account) -> Deferred[Queue]:
        try:
            queue = self._queue(account)
        except BadMailboxName as error:
            return fail(error)
        if queue.inbox.is_there:
            return succeed(queue)
        return self._run(queue.inbox.prepare).addCallback(lambda _: queue)

    def usage(self, account: Account) -> Deferred[Usage]:
        """What the mailbox holds; the directory's quota is noted beside it if none is."""
        try:
            inbox = self._queue(account).inbox
        except BadMailboxName as error:
            return fail(error)
        limits = Limits(octets=account.quota.octets, messages=account.quota.messages)
        return self._run(lambda: inbox.usage(limits))

    def _queue(self, account: Account) -> Queue:
        path = self._path_of(account)
        queue = self._queues.get(path)
        if queue is None:
            inbox = Inbox(path, self._reading, self._admit, now_ns=self._now_ns)
            queue = self._queues[path] = Queue(inbox, self._run)
            while len(self._queues) > REMEMBERED:
                # One that is still at work is missed by nobody: the locks are on disk.
                self._queues.popitem(last=False)
        self._queues.move_to_end(path)
        return queue
