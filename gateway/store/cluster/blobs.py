"""Bodies in S3: put, read, remove, list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred
from twisted.web.iweb import IResponse

from gateway.errors import GatewayError, MessageUnreadable, StoreDown
from gateway.store.cluster.keys import find_key, new_key, object_name
from gateway.store.cluster.requests import Missing, Requests
from gateway.store.cluster.transport import Content

LONGEST_HEAD = 64 * 1024
"""Octets of a header that the database keeps beside a body."""

PART = 5 * 1024 * 1024
"""Octets above which a body goes in parts: the least that S3 takes, but for the last part.

A delivery holds as many in memory.
"""


class Listed(NamedTuple):
    """Some of the objects of a bucket."""

    keys: list[UUID]
    after: str
    """Where to go on; empty: that was all."""


class Blobs:
    """The bodies in a bucket."""

    def __init__(
        self, requests: Requests, *, part: int = PART, now: Callable[[], float] = time.time
    ) -> None:
        self.part = part
        self._requests = requests
        self._now = now

    def new(self) -> Upload:
        """A new body, of which nothing was sent yet."""
        return Upload(self._requests, new_key(self._now()))

    def read(self, key: UUID, start: int, length: int) -> Deferred[IResponse]:
        """The octets from ``start`` of a body of ``length`` octets in all.

        Fails with ``Missing``, ``MessageUnreadable`` if it has another length, ``StoreDown``
        or ``MailboxUnusable``.
        """
        headers = {"Range": f"bytes={start}-{length - 1}"} if start else {}

        def check(response: IResponse) -> IResponse:
            found: Any = response.length
            if found != length - start:
                response.deliverBody(_Abort())
                raise MessageUnreadable(
                    f"body {key.hex}: expected {length - start} octets, found {found}"
                )
            return response

        return self._requests.open("GET", object_name(key), headers=headers).addCallback(check)

    def remove(self, key: UUID) -> Deferred[None]:
        """Remove a body; one that does not exist is removed."""
        removed = self._requests.ask("DELETE", object_name(key))
        return removed.addErrback(lambda failure: failure.trap(Missing)).addCallback(lambda _: None)

    def check(self, key: UUID) -> Deferred[None]:
        """Whether a body is there: fails with ``Missing`` if not."""
        return self._requests.ask("HEAD", object_name(key)).addCallback(lambda _: None)

    def list(self, prefix: str = "", after: str = "") -> Deferred[Listed]:
        """Up to 1000 bodies with names after ``after``, in the order of their names."""
        query = {"list-type": "2"}
        query.update({"prefix": prefix} if prefix else {})
        query.update({"start-after": after} if after else {})

        def listed(answer: Any) -> Listed:
            names = answer.values("Key")
            is_all = answer.values("IsTruncated") != ["true"]
            keys = [key for key in map(find_key, names) if key is not None]
            return Listed(keys, "" if is_all or not names else names[-1])

        return self._requests.ask("GET", "", query).addCallback(listed)


class _Abort:
    """Reads nothing: closes the connection."""

    def makeConnection(self, transport: Any) -> None:
        """Close it."""
        transport.stopProducing()

    def dataReceived(self, data: bytes) -> None:
        """Too late."""

    def connectionLost(self, reason: Any) -> None:
        """Closed."""


class Upload:
    """A body on its way: whole at its end, or in parts."""

    def __init__(self, requests: Requests, key: UUID) -> None:
        self.key = key
        self._requests = requests
        self._name = object_name(key)
        self._id = ""
        """Of the multipart upload; empty: there is none."""
        self._tags: list[str] = []
        self._stored = False

    def part(self, content: Content) -> Deferred[None]:
        """Send a part, of at least 5 MiB.  One at a time."""
        return Deferred.fromCoroutine(self._part(content))

    async def _part(self, content: Content) -> None:
        if not self._id:
            begun = await self._requests.ask("POST", self._name, {"uploads": ""})
            self._id = _only(begun.values("UploadId"))
        query = {"partNumber": str(len(self._tags) + 1), "uploadId": self._id}
        sent = await self._requests.ask("PUT", self._name, query, content)
        self._tags.append((sent.headers.getRawHeaders("ETag") or [""])[0])

    def finish(self, content: Content) -> Deferred[None]:
        """Send the rest; fires when the body is stored."""
        return Deferred.fromCoroutine(self._finish(content))

    async def _finish(self, content: Content) -> None:
        if not self._id:
            await self._requests.ask("PUT", self._name, content=content)
        else:
            if content.length:
                await self._part(content)
            await self._complete()
        self._stored = True

    async def _complete(self) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(self._tags, 1)
        )
        xml = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        query = {"uploadId": self._id}
        try:
            await self._requests.ask("POST", self._name, query, Content([xml.encode()]))
        except Missing:
            # There is no such upload: an attempt that was not answered has ended it.
            await self._requests.ask("HEAD", self._name)

    def drop(self) -> Deferred[None]:
        """Remove what was sent; never fails: what is left is collected."""
        return Deferred.fromCoroutine(self._drop())

    async def _drop(self) -> None:
        try:
            if self._stored or not self._id:
                await self._requests.ask("DELETE", self._name)
            else:
                await self._requests.ask("DELETE", self._name, {"uploadId": self._id})
        except GatewayError:
            pass


def _only(values: Sequence[str]) -> str:
    if len(values) != 1:
        raise StoreDown(f"S3: expected one UploadId, found {len(values)}")
    return values[0]
