"""One request to S3 after the other: signed, with time limits, repeated where that may help."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from gateway.errors import GatewayError, MailboxUnusable, NoRoom, StoreDown
from gateway.interfaces import WatchFor
from gateway.s3.answers import Collector, Lost, Response
from gateway.s3.connection import Content
from gateway.s3.signing import Signer
from gateway.s3.transport import Connections

ATTEMPTS = 3

PAUSE = 0.1
"""Seconds before the second attempt at most; twice as long before each further one."""

SLOWEST = 256 * 1024
"""Octets in a second, for which a request has more time."""

_LOST = (Lost, ConnectError, ConnectionClosed, DNSLookupError, TimeoutError)

LONGEST = 8 * 1024 * 1024
"""Octets of an answer in XML at most: a list of 1000 objects has less."""

LONGEST_ERROR = 64 * 1024
"""Octets that are read of an error: its code is among the first."""

_TRANSIENT = ("RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch")
"""Codes with status 400 of what was lost or changed on its way."""

_CURE = "check the keys, the bucket and its policy"

_CURES = {
    "RequestTimeTooSkewed": "set the clock of this machine",
    "AuthorizationHeaderMalformed": "check store.bucket_region",
    "PermanentRedirect": "check store.bucket_region",
}
"""Codes of refusals that have another cure."""


@frozen
class Answer:
    """The answer to a request that sends no body of a message."""

    headers: Mapping[bytes, bytes]
    """By their names in lower case."""

    text: bytes

    root: ElementTree.Element | None
    """Of its XML; None: it is none."""

    @property
    def kind(self) -> str:
        """The name of the root element, in whatever namespace; empty: it is no XML."""
        return "" if self.root is None else _local(self.root)

    def values(self, name: str) -> list[str]:
        """The texts of all elements of this name in its XML.  Raises ``StoreDown``."""
        if self.root is None:
            raise StoreDown(f"S3: expected XML, found {self.text[:60]!r}")
        found = (one.text or "" for one in self.root.iter() if _local(one) == name)
        return [text.translate(_STOOD_FOR) for text in found]


class _Tree(ElementTree.TreeBuilder):
    """Elements without a document type: no answer of S3 has one, and entities may expand."""

    def doctype(self, *_: object) -> None:
        """Refuse it."""
        raise ElementTree.ParseError("a document type")


_NO_XML = re.compile(rb"&#x0*(1?[0-9a-f]);|\xef\xbf([\xbe\xbf])", re.IGNORECASE)
"""Characters that XML 1.0 lacks, as Ceph sends them in the names of objects and in markers."""

_STANDS_IN = 0x10FF00
"""The first of the private-use characters that stand in for them while the XML is parsed."""

_STOOD_FOR = {_STANDS_IN + code: code for code in range(32)}
_STOOD_FOR |= {_STANDS_IN + 0xBE: 0xFFFE, _STANDS_IN + 0xBF: 0xFFFF}


def _stand_in(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16) if found[1] else found[2][0]
    return b"&#%d;" % (_STANDS_IN + code)


def _parsed(text: bytes) -> ElementTree.Element | None:
    # Before its XML a server that needs time sends white space, which XML has after the <?xml.
    stripped = text.lstrip()
    if not stripped.startswith(b"<"):
        return None
    xml = _NO_XML.sub(_stand_in, stripped)
    try:
        return ElementTree.fromstring(xml, ElementTree.XMLParser(target=_Tree()))
    except (ElementTree.ParseError, LookupError, ValueError):
        return None


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


class _Request(NamedTuple):
    """What is asked, as it is signed anew for each attempt."""

    method: str
    path: str
    query: str
    content: Content
    headers: Mapping[str, str]
    name: str
    """For errors."""


_NOTHING: Mapping[str, str] = MappingProxyType({})

_EMPTY = Content()


class Missing(StoreDown):
    """The server says by its code that there is no such object: never the answer to HEAD."""


class Requests:
    """Requests to one bucket."""

    def __init__(
        self,
        reactor: Any,
        connections: Connections,
        signer: Signer,
        url: str,
        *,
        timeout: float = 10.0,
        attempts: int = ATTEMPTS,
        watch: WatchFor = lambda _: None,
    ) -> None:
        """``url``: of the bucket; ``timeout``: as ``within`` of ``Connections.ask``.

        A large request has more, as ``SLOWEST`` says.  ``attempts`` at each request;
        ``watch`` hears of outages.
        """
        self._attempts = attempts
        self._watch = watch(f"S3 {url}")
        self._reactor = reactor
        self._connections = connections
        self.has_room = connections.has_room
        """As of ``Connections``."""
        self._signer = signer
        self._host = connections.host
        self._path = urlsplit(url).path.rstrip("/")
        self._timeout = timeout

    def close(self) -> None:
        """Nothing is asked any more."""
        self._connections.close()
        if self._watch is not None:
            self._watch.close()

    def ask(
        self,
        method: str,
        name: str = "",
        query: Mapping[str, str] = _NOTHING,
        content: Content = _EMPTY,
    ) -> Deferred[Answer]:
        """Perform a request.

        ``name``: of the object, as ``object_name`` makes it; empty: the bucket.  Fails with
        ``Missing``, ``StoreDown`` or ``MailboxUnusable``.
        """
        return Deferred.fromCoroutine(self._ask(method, name, query, content))

    async def _ask(
        self, method: str, name: str, query: Mapping[str, str], content: Content
    ) -> Answer:
        response = await self.open(method, name, query, content)
        text = await self.text(response, name, LONGEST + 1)
        if len(text) > LONGEST:
            raise StoreDown(f"S3: {name or 'bucket'}: an answer of more than {LONGEST} octets")
        answer = Answer(response.headers, text, _parsed(text))
        if answer.kind == "Error":
            # The end of a multipart upload may fail after the server has sent 200.
            raise _refusal(response.status, text, name)
        return answer

    async def text(self, response: Response, name: str, most: int) -> bytes:
        """The first octets of an answer: ``most``, or all.  Raises ``StoreDown``."""
        try:
            return await self._text(response, most)
        except _LOST as lost:
            raise StoreDown(f"S3: {name or 'bucket'}: {_reason(lost)}") from lost

    async def _text(self, response: Response, most: int) -> bytes:
        if response.whole is not None:
            return response.whole[:most]
        whole = Collector(response, most).whole
        return await whole.addTimeout(self._timeout, self._reactor, _timed_out)

    def open(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] = _NOTHING,
        content: Content = _EMPTY,
        headers: Mapping[str, str] = _NOTHING,
    ) -> Deferred[Response]:
        """As ``ask``, but the body of a good answer is not read yet."""
        path = f"{self._path}/{name}"
        asked = urlencode(sorted(query.items()), quote_via=quote) if query else ""
        request = _Request(method, path, asked, content, {**headers, "host": self._host}, name)
        begun = self._reactor.seconds()

        # Without a coroutine, which costs as much as the signature: mostly the first is good.
        def judge(response: Response) -> Response | Deferred[Response]:
            if response.status >= 300:
                return self._persist(succeed(response), request, begun)
            self._answered(begun)
            return response

        def repeat(failure: Failure) -> Deferred[Response]:
            return self._persist(fail(failure), request, begun)

        return self._once(request).addCallbacks(judge, repeat)

    def _persist(
        self, answer: Deferred[Response], request: _Request, begun: float
    ) -> Deferred[Response]:
        """What comes of a request of which the first ``answer`` is not good."""
        return Deferred.fromCoroutine(self._repeat(answer, request, begun))

    async def _repeat(
        self, answer: Deferred[Response], request: _Request, begun: float
    ) -> Response:
        attempt, name = 1, request.name
        while True:
            is_lost = False
            try:
                response = await answer
                if response.status < 300:
                    self._answered(begun)
                    return response
                text = await self._text(response, LONGEST_ERROR)
                if not _may_pass(response.status, _code(text)):
                    self._answered(begun)
                    raise _refusal(response.status, text, name)
                if attempt == self._attempts:
                    raise self._down(_refusal(response.status, text, name), begun)
            except _LOST as lost:
                is_lost = True
                if attempt == self._attempts:
                    reason = f"S3: {request.method} {name or 'bucket'}: {_reason(lost)}"
                    raise self._down(StoreDown(reason), begun) from lost
            longest = PAUSE * 2 ** (attempt - 1)
            await deferLater(self._reactor, random.uniform(0.5, 1.0) * longest)
            attempt += 1
            answer = self._once(request, fresh=is_lost)

    def _answered(self, begun: float) -> None:
        if self._watch is not None:
            self._watch.answered(self._reactor.seconds() - begun)

    def _down(self, error: GatewayError, begun: float) -> GatewayError:
        if self._watch is not None:
            error.logged = self._watch.failed(error, self._reactor.seconds() - begun)
        return error

    def _once(self, request: _Request, *, fresh: bool = False) -> Deferred[Response]:
        method, path, query, content, headers, _ = request
        signed = self._signer.fields(method, path, query, headers, content.digest)
        if content.length or method in ("PUT", "POST"):
            signed += f"content-length:{content.length}\r\n"
        target = f"{path}?{query}" if query else path
        head = f"{method} {target} HTTP/1.1\r\n{signed}\r\n".encode()
        within = self._timeout + content.length / SLOWEST
        return self._connections.ask(head, content, within, fresh=fresh)


def _timed_out(failure: Any, timeout: float) -> Any:
    if isinstance(failure, Failure):
        raise TimeoutError(string=f"no answer within {timeout:g} seconds")
    return failure


def _may_pass(status: int, code: str) -> bool:
    """Whether the same request may succeed in a moment."""
    return status >= 500 or status in (408, 429) or code in _TRANSIENT


def _code(text: bytes) -> str:
    """The code in the XML of an error; empty: it has none."""
    start = text.find(b"<Code>") + 6
    return text[start : text.find(b"</Code>")].decode("ascii", "replace")[:60] if start > 5 else ""


def _reason(error: BaseException) -> str:
    if isinstance(error, Lost):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refusal(status: int, text: bytes, name: str) -> GatewayError:
    """The error for an answer that is not what was asked for."""
    code = _code(text)
    said = f"S3: {name or 'bucket'}: status {status} {code}".rstrip()
    if code in ("NoSuchKey", "NoSuchUpload"):
        return Missing(said)
    # A proxy that has lost its server answers 404 too.
    if status == 404 and code != "NoSuchBucket":
        return StoreDown(said)
    if code == "QuotaExceeded":
        return NoRoom(f"{said}; raise the quota of the bucket or of its owner")
    if status in (301, 307, 400, 403, 404, 405, 411) and code not in _TRANSIENT:
        return MailboxUnusable(f"{said}; {_CURES.get(code, _CURE)}")
    return StoreDown(said)
