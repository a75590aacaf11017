"""Bodies in S3: put, read, remove, list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred

from gateway.errors import GatewayError, MessageUnreadable, StoreDown
from gateway.s3.answers import Response
from gateway.s3.connection import Content
from gateway.s3.requests import Answer, Missing, Requests
from gateway.store.cluster.bodies.keys import find_key, new_key, object_name

LONGEST_HEAD = 64 * 1024
"""Octets of a header that the database keeps beside a body."""

PART = 5 * 1024 * 1024
"""Octets above which a body goes in parts: the least that S3 takes, but for the last part.

A delivery holds as many in memory.
"""

PAGE = 1000
"""Objects in one answer: S3 lists no more at once."""

_ENCODED = {"encoding-type": "url"}
"""Of a list: other objects may have names that XML has no characters for."""


class Listed(NamedTuple):
    """Some of the objects of a bucket."""

    keys: list[UUID]
    sizes: list[int]
    """In octets, of each."""

    after: str
    """Where to go on; empty: that was all."""


class Unfinished(NamedTuple):
    """A body of which parts were sent, and that was not finished."""

    body: UUID
    id: str
    """Of the multipart upload."""


class Marker(NamedTuple):
    """Where a list of uploads goes on."""

    name: str
    id: str


BEGIN = Marker("", "")
"""The begin of the list; after a page: that was all."""


class Uploads(NamedTuple):
    """Some of the unfinished uploads of a bucket."""

    found: list[Unfinished]
    after: Marker


class Blobs:
    """The bodies in a bucket."""

    def __init__(
        self,
        requests: Requests,
        *,
        part: int = PART,
        page: int = PAGE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.part = part
        self._page = str(page)
        self._requests = requests
        self.has_room = requests.has_room
        """As of ``Connections``."""
        self._now = now

    def close(self) -> None:
        """Nothing is asked any more."""
        self._requests.close()

    def new(self) -> Upload:
        """A new body, of which nothing was sent yet."""
        return Upload(self, self._requests, new_key(self._now()))

    def read(self, key: UUID, start: int, length: int) -> Deferred[Response]:
        """The octets from ``start`` of a body of ``length`` octets in all.

        Whoever reads an answer that does not say its length must count.  Fails with ``Missing``,
        ``MessageUnreadable`` if it has another length, ``StoreDown`` or ``MailboxUnusable``.
        """
        headers = {"range": f"bytes={start}-{length - 1}"} if start else {}
        asked = self._requests.open("GET", object_name(key), headers=headers)
        return asked.addCallback(_of_length, start, length, key)

    def remove(self, key: UUID) -> Deferred[None]:
        """Remove a body; one that does not exist is removed."""
        removed = self._requests.ask("DELETE", object_name(key))
        return removed.addErrback(lambda failure: failure.trap(Missing)).addCallback(lambda _: None)

    def check(self, key: UUID, length: int) -> Deferred[None]:
        """Whether a body can be read: fails as ``read`` does."""
        # Not by HEAD: only with its text does an answer say that this object is missing,
        # and not the bucket, or the server behind a proxy.
        return self.head(key, length, 0).addCallback(lambda _: None)

    def head(self, key: UUID, length: int, most: int = LONGEST_HEAD) -> Deferred[bytes]:
        """The first octets of a body of ``length`` octets in all.  Fails as ``read`` does."""

        async def head() -> bytes:
            response = await self.read(key, 0, length)
            # To read the rest of a small body costs less than a new connection.
            is_enough = length > LONGEST_HEAD and response.length >= 0
            limit = most if is_enough else length + 1
            text = await self._requests.text(response, object_name(key), limit)
            if not is_enough:
                _check_count(len(text), length, key)
            return text[:most]

        return Deferred.fromCoroutine(head())

    def list(self, after: str = "") -> Deferred[Listed]:
        """A page of bodies with names after ``after``, in the order of their names."""
        query = {**_ENCODED, "list-type": "2", "max-keys": self._page}
        query.update({"start-after": after} if after else {})

        def listed(answer: Any) -> Listed:
            names = _names(answer, "Key")
            is_all = answer.values("IsTruncated") != ["true"]
            found = zip(map(find_key, names), answer.values("Size"), strict=True)
            ours = [(key, int(size)) for key, size in found if key is not None]
            return Listed(
                [key for key, _ in ours],
                [size for _, size in ours],
                "" if is_all or not names else names[-1],
            )

        return self._requests.ask("GET", "", query).addCallback(listed)

    def uploads(self, after: Marker = BEGIN) -> Deferred[Uploads]:
        """A page of uploads that were begun and not finished."""
        query = {**_ENCODED, "uploads": "", "max-uploads": self._page}
        query.update({"key-marker": after.name} if after.name else {})
        query.update({"upload-id-marker": after.id} if after.id else {})

        def listed(answer: Any) -> Uploads:
            names = zip(_names(answer, "Key"), answer.values("UploadId"), strict=True)
            found = [
                Unfinished(key, id_) for name, id_ in names if (key := find_key(name)) is not None
            ]
            if answer.values("IsTruncated") != ["true"]:
                return Uploads(found, BEGIN)
            (name,), ids = _names(answer, "NextKeyMarker"), answer.values("NextUploadIdMarker")
            return Uploads(found, Marker(name, ids[0] if ids else ""))

        return self._requests.ask("GET", "", query).addCallback(listed)

    def abort(self, upload: Unfinished) -> Deferred[None]:
        """Remove what was sent of a body; one that does not exist is removed."""
        query = {"uploadId": upload.id}
        removed = self._requests.ask("DELETE", object_name(upload.body), query)
        return removed.addErrback(lambda failure: failure.trap(Missing)).addCallback(lambda _: None)


class Upload:
    """A body on its way: whole at its end, or in parts."""

    def __init__(self, blobs: Blobs, requests: Requests, key: UUID) -> None:
        self.key = key
        self._blobs = blobs
        self._requests = requests
        self._name = object_name(key)
        self._id = ""
        """Of the multipart upload; empty: there is none."""
        self._tags: list[str] = []
        self._length = 0
        """Octets of its parts."""
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
        self._tags.append(sent.headers.get(b"etag", b"").decode("latin-1"))
        self._length += content.length

    def finish(self, content: Content) -> Deferred[None]:
        """Send the rest; fires when the body is stored."""
        return Deferred.fromCoroutine(self._finish(content))

    async def _finish(self, content: Content) -> None:
        if not self._id:
            sent = await self._requests.ask("PUT", self._name, content=content)
            if b"etag" not in sent.headers:
                await self._confirm(content.length)
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
            ended = await self._requests.ask("POST", self._name, query, Content([xml.encode()]))
        except Missing:
            # There is no such upload: an attempt that was not answered has ended it.
            await self._confirm(self._length)
        else:
            # 200 is sent before the parts are joined: only this says that they are.
            if ended.kind != "CompleteMultipartUploadResult":
                await self._confirm(self._length)

    async def _confirm(self, length: int) -> None:
        """Ask for the body: only an answer of S3 itself says that it is stored."""
        try:
            await self._blobs.check(self.key, length)
        except MessageUnreadable as error:
            raise StoreDown(f"S3: not stored: {error}") from error

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


def _of_length(response: Response, start: int, length: int, key: UUID) -> Response:
    wanted = length - start
    if start and response.status != 206:
        response.stop()
        raise StoreDown(f"S3: body {key.hex}: status {response.status} for a part of it")
    if 0 <= response.length != wanted:
        response.stop()
        raise _damaged(response.length, wanted, key)
    if response.whole is not None:
        _check_count(len(response.whole), wanted, key)
    return response


def _check_count(found: int, wanted: int, key: UUID) -> None:
    """Raise for a body of another length: a proxy may have cut a short one."""
    if found < wanted:
        raise StoreDown(f"S3: body {key.hex}: ended after {found} of {wanted} octets")
    if found > wanted:
        raise _damaged("more", wanted, key)


def _damaged(found: object, wanted: int, key: UUID) -> MessageUnreadable:
    return MessageUnreadable(f"body {key.hex}: expected {wanted} octets, found {found}")


def _names(answer: Answer, element: str) -> list[str]:
    """The names of a list that was asked for as ``_ENCODED``."""
    names = answer.values(element)
    # Not all servers encode them.  In a list of uploads Ceph says nothing, and encodes the keys
    # but no marker: no key of ours has anything to encode.
    is_encoded = answer.values("EncodingType") == ["url"]
    return [unquote_plus(name) for name in names] if is_encoded else names


def _only(values: Sequence[str]) -> str:
    if len(values) != 1:
        raise StoreDown(f"S3: expected one UploadId, found {len(values)}")
    return values[0]
