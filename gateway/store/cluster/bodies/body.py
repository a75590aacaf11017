"""The body of a message on its way from S3 to a client, no faster than the client reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.errors import GatewayError, MessageUnreadable, StoreDown
from gateway.interfaces import IBody
from gateway.model import Form
from gateway.s3.answers import Lost, Response
from gateway.s3.requests import Missing
from gateway.s3.time_limit import TimeLimit
from gateway.store.cluster.bodies.blobs import Blobs
from gateway.store.cluster.bodies.body_cache import BodyCache
from gateway.store.cluster.bodies.keys import Where
from gateway.store.cluster.bodies.whole import WholeBody

HELD = 256 * 1024
"""Octets in memory at which a body is read no further."""

TRIES = 3
"""Connections that may break in one body without a new octet."""

Open = Callable[[int], Deferred[Response]]
"""Opens the body at an offset."""

Missed = Callable[[], Deferred[Any]]
"""Is called where S3 does not have a body, and fails with the error for that."""


class Bodies:
    """Bodies to read: from the local disk, or from S3."""

    def __init__(
        self, reactor: Any, blobs: Blobs, timeout: float, cache: BodyCache | None = None
    ) -> None:
        """``timeout``: seconds to wait for the next octets."""
        self._reactor = reactor
        self._blobs = blobs
        self._timeout = timeout
        self._cache = cache

    def close(self) -> None:
        """Nothing is read any more."""
        if self._cache is not None:
            self._cache.close()

    def is_on_disk(self, where: Where) -> bool:
        """Whether a body needs no request to S3."""
        return self._cache is not None and self._cache.has(where.body)

    def read_now(self, where: Where) -> WholeBody | None:
        """A body that is on the disk, if it can be read without waiting."""
        if self._cache is None:
            return None
        text = self._cache.read_now(where.body, where.octets)
        return None if text is None else WholeBody(text, where.form)

    def open(self, where: Where, missing: Missed) -> Deferred[IBody]:
        """Open a body.  Fails as ``Blobs.read``, and as ``missing`` does if S3 has no such body."""
        if not where.octets:
            return succeed(WholeBody(b"", where.form))
        if self._cache is not None and self._cache.has(where.body):
            return Deferred.fromCoroutine(self._from_disk(self._cache, where, missing))
        return self._from_s3(where, missing)

    async def _from_disk(self, cache: BodyCache, where: Where, missing: Missed) -> IBody:
        found = await cache.find(where.body, where.octets)
        if found is not None:
            return WholeBody(found, where.form)
        return await self._from_s3(where, missing)

    def _from_s3(self, where: Where, missing: Missed) -> Deferred[IBody]:
        read: Deferred[Any] = self._blobs.read(where.body, 0, where.octets)
        return read.addCallbacks(
            self._opened,
            _unless_missing,
            callbackArgs=(where, missing),
            errbackArgs=(missing,),
        )

    def _opened(self, response: Response, where: Where, missing: Missed) -> IBody:
        (key, length, form), cache, keep = where, self._cache, None
        if cache is not None and cache.wants(length):
            keep = partial(cache.keep, key)
        if response.whole is not None:
            if keep is not None:
                keep(response.whole)
            return WholeBody(response.whole, form)

        def open_at(start: int) -> Deferred[Response]:
            return self._blobs.read(key, start, length).addErrback(_unless_missing, missing)

        return StreamedBody(response, open_at, length, form, self._reactor, self._timeout, keep)


def body_missing(named: str, key: UUID) -> StoreDown:
    """The error for the body of a message, ``named``, that S3 does not have."""
    return StoreDown(f"{named}: body {key.hex} is missing in S3")


def _unless_missing(failure: Failure, missing: Missed) -> Deferred[Any]:
    return missing() if failure.check(Missing) else fail(failure)


@implementer(IBody)
class StreamedBody:
    """A body that arrives."""

    def __init__(
        self,
        response: Response,
        open_at: Open,
        length: int,
        form: Form,
        reactor: Any,
        timeout: float,
        keep: Callable[[bytes], object] | None = None,
    ) -> None:
        """``response``: that of offset 0; ``timeout``: seconds to wait for the next octets.

        ``keep`` takes the whole body once it is here.
        """
        self.form = form
        self._open_at = open_at
        self._length = length
        self._timeout = timeout
        self._limit = TimeLimit(reactor)
        self._pieces: deque[bytes] = deque()
        self._held = self._received = 0
        self._waiting: Deferred[bytes] | None = None
        self._tries = 0
        self._broken: GatewayError | None = None
        self._closed = False
        self._keep = keep
        self._whole: list[bytes] = []
        """What ``keep`` takes."""
        self._response = response
        response.deliver(self)

    # -- the session's side ----------------------------------------------------

    @property
    def is_broken(self) -> bool:
        """Whether it cannot be read to its end."""
        return self._broken is not None

    def read_now(self) -> bytes | None:
        """What has arrived."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            self._response.resume()
            return data
        if self._received == self._length:
            return b""
        if self._broken is not None:
            raise self._broken
        return None

    def read(self) -> Deferred[bytes]:
        """What arrives next."""
        try:
            data = self.read_now()
        except GatewayError as error:
            return fail(error)
        if data is not None:
            return succeed(data)
        self._waiting = Deferred()
        self._limit.begin(self._timeout, self._stalled)
        return self._waiting

    def close(self) -> None:
        """Close it.  What is still to come of a small rest comes: a new connection costs more."""
        self._closed = True
        self._limit.stop()
        self._pieces.clear()
        rest = self._length - self._received
        if rest > HELD:
            self._response.stop()
        elif self._broken is None and (rest or self._response.length < 0):
            # An answer that does not say its length has its end still to come.
            self._limit.begin(self._timeout, self._give_up)
            self._response.resume()

    def _give_up(self) -> None:
        self._response.stop()

    # -- the server's side -----------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Octets have come."""
        self._tries = 0
        self._received += len(data)
        if self._received > self._length:
            self._fail(MessageUnreadable(f"expected {self._length} octets, found more"))
            return
        if self._keep is not None:
            self._whole.append(data)
            if self._received == self._length:
                self._keep(b"".join(self._whole))
                self._keep = None
        if self._closed:
            return
        if self._waiting is not None:
            self._answer().callback(data)
            return
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= HELD:
            self._response.pause()

    def ended(self, lost: Lost | None) -> None:
        """The connection gives no more."""
        if self._closed:
            self._limit.stop()
        if self._closed or self._broken is not None or self._received == self._length:
            return
        self._tries += 1
        if self._tries == TRIES:
            self._fail(
                StoreDown(f"S3: a body broke after {self._received} octets: {lost or 'it ended'}")
            )
            return
        self._open_at(self._received).addCallbacks(self._go_on, self._failed)

    def _go_on(self, response: Response) -> None:
        self._response = response
        if self._closed or self._broken is not None:
            response.stop()
        else:
            response.deliver(self)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, GatewayError):
            self._fail(failure.value)
        else:
            self._fail(StoreDown(f"S3: internal error: {failure.value}"))

    def _fail(self, error: GatewayError) -> None:
        self._broken = error
        self._response.stop()
        if self._waiting is not None:
            self._answer().errback(error)

    def _stalled(self) -> None:
        if self._waiting is not None:
            self._fail(StoreDown(f"S3: no octets for {self._timeout:g} seconds"))

    def _answer(self) -> Deferred[bytes]:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        return waiting
