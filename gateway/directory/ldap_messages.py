"""LDAP messages (RFC 4511) in BER: request templates, and a parser of responses.  Pure.

ldap3 builds each request from about a hundred objects, which takes half a
millisecond.  Here ldap3 builds each kind of request once, with placeholders; then
only the values are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ldap3.operation.bind import bind_operation
from ldap3.operation.extended import extended_operation
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from pyasn1.codec.ber.encoder import encode

LONGEST = 1 << 20
"""Most octets of a response; the entry of an account has some hundred."""

_CONSTRUCTED = 0x20
_SEQUENCE, _INTEGER, _OCTETS, _CONTROLS = 0x30, 0x02, 0x04, 0xA0
_ENUMERATED = 0x0A
_ENTRY, _REFERENCE, _REFERRAL = 0x64, 0x73, 0xA3
_PAGES = b"1.2.840.113556.1.4.319"
BOUND, SEARCHED, EXTENDED = 0x61, 0x65, 0x78
"""Responses that end an operation: BindResponse, SearchResultDone, ExtendedResponse."""

Content = bytes | list["Element"]


class Element(NamedTuple):
    """A tag and its content: octets, or elements if the tag is constructed."""

    tag: int
    content: Any


class Result(NamedTuple):
    """The result of an operation: code and diagnostic message."""

    code: int
    words: str
    cookie: bytes = b""
    """Cookie of the next page; empty: the last one (RFC 2696)."""

    kind: int = 0
    """The tag of the response."""

    referrals: tuple[str, ...] = ()
    """Referrals: URIs of other servers."""


class Reference(NamedTuple):
    """A search continuation (RFC 4511 section 4.5.3): URIs of other servers."""

    uris: tuple[str, ...]


class Entry(NamedTuple):
    """An entry of a search; attribute names in lower case."""

    dn: str
    values: Mapping[str, list[bytes]]


def message_length(data: bytes | bytearray) -> int:
    """Octets of the message at the start of ``data``; 0: more data needed."""
    if len(data) < 2:
        return 0
    if data[0] != _SEQUENCE:
        raise ConnectionError("the server does not speak LDAP")
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if len(data) < 2 + count:
        return 0
    length = 2 + count + int.from_bytes(data[2 : 2 + count], "big")
    if count > 8 or length > LONGEST:
        raise ConnectionError("the server's answer is too long")
    return length


def read_elements(data: bytes, depth: int = 0) -> list[Element]:
    """All elements of ``data``.  Raises ``ConnectionError`` if it is not BER."""
    elements, at, end = [], 0, len(data)
    while at < end:
        if at + 2 > end or depth > 16:
            raise ConnectionError("the server's answer is not BER")
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            count = length & 0x7F
            if not 0 < count <= 8:
                # RFC 4511 section 5.1: only definite lengths.
                raise ConnectionError("the server's answer is not BER as in LDAP")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > end:
            raise ConnectionError("the server's answer is not BER")
        inner = data[at : at + length]
        constructed = tag & _CONSTRUCTED
        elements.append(Element(tag, read_elements(inner, depth + 1) if constructed else inner))
        at += length
    return elements


def read_response(message: bytes) -> tuple[int, Entry | Reference | Result | None]:
    """Message id and content; None for messages that are not needed."""
    try:
        number, operation, *controls = read_elements(message)[0].content
        identity = _number(number, _INTEGER)
        if operation.tag == _ENTRY:
            name, attributes = operation.content
            values = {
                kind.content.decode("ascii").lower(): [value.content for value in found.content]
                for kind, found in (one.content for one in attributes.content)
            }
            return identity, Entry(name.content.decode("utf-8", "surrogateescape"), values)
        if operation.tag == _REFERENCE:
            return identity, Reference(_texts(operation))
        if operation.tag in (BOUND, SEARCHED, EXTENDED):
            code, _, words, *others = operation.content
            said = words.content.decode("utf-8", "replace")
            referrals = [uri for one in others if one.tag == _REFERRAL for uri in _texts(one)]
            number = _number(code, _ENUMERATED)
            return identity, Result(
                number, said, _cookie(controls), operation.tag, tuple(referrals)
            )
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ConnectionError("the server's answer is not LDAP") from error
    return identity, None


def _number(element: Element, tag: int) -> int:
    """The number; raises ``ConnectionError`` for anything else: 0 would mean success."""
    octets = element.content
    if element.tag != tag or not 1 <= len(octets) <= 4:
        raise ValueError("no number")
    return int.from_bytes(octets, "big", signed=True)


def _texts(element: Element) -> tuple[str, ...]:
    return tuple(one.content.decode("utf-8", "replace") for one in element.content)


def _cookie(controls: Sequence[Element]) -> bytes:
    """The cookie of the control for pages, if there is one."""
    for control in (one for some in controls for one in some.content):
        kind, *rest = control.content
        if kind.content == _PAGES:
            _, cookie = read_elements(rest[-1].content)[0].content
            return bytes(cookie.content)
    return b""


def page(entries: int, cookie: bytes) -> bytes:
    """The control that asks for the next page of ``entries`` entries (RFC 2696)."""
    place = _encoded(_INTEGER, _octets(entries)) + _encoded(_OCTETS, cookie)
    value = _encoded(_OCTETS, _encoded(_SEQUENCE, place))
    return _encoded(_CONTROLS, _encoded(_SEQUENCE, _encoded(_OCTETS, _PAGES) + value))


def _octets(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _encoded(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 0x80:
        return bytes((tag, length)) + body
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + body


class Request:
    """A request with placeholders."""

    def __init__(
        self,
        kind: str,
        operation: Any,
        placeholders: Sequence[bytes],
        wanted: str = "",
        *,
        ends: int,
    ) -> None:
        """``operation``: a request of ldap3 with placeholders in place of values."""
        self.ends = ends
        """Tag of the response that ends it."""
        self.wanted = wanted
        """The filter of the configuration."""
        message = LDAPMessage()
        message["messageID"] = MessageID(1)
        message["protocolOp"] = ProtocolOp().setComponentByName(kind, operation)
        self._placeholders = placeholders
        _, made = read_elements(encode(message))[0].content
        self._operation = self._prepared(made)

    def _prepared(self, element: Element) -> bytes | Element:
        """Encode the constant parts, each in one piece."""
        tag, content = element
        if isinstance(content, bytes):
            changes = any(placeholder in content for placeholder in self._placeholders)
            return element if changes else _encoded(tag, content)
        parts: list[Any] = []
        for part in map(self._prepared, content):
            if parts and isinstance(part, bytes) and isinstance(parts[-1], bytes):
                parts[-1] += part
            else:
                parts.append(part)
        if all(isinstance(part, bytes) for part in parts):
            return _encoded(tag, b"".join(parts))
        return Element(tag, parts)

    def filled(self, identity: int, values: Sequence[bytes], controls: bytes = b"") -> bytes:
        """The message with these values in the order of the placeholders, and ``controls``.

        Each value has an element with its length, so no value can inject another.
        """
        body = _encoded(_INTEGER, _octets(identity)) + self._fill(self._operation, values)
        return _encoded(_SEQUENCE, body + controls)

    def _fill(self, part: bytes | Element, values: Sequence[bytes]) -> bytes:
        if isinstance(part, bytes):
            return part
        tag, content = part
        if isinstance(content, bytes):
            for placeholder, value in zip(self._placeholders, values, strict=True):
                content = content.replace(placeholder, value)
            return _encoded(tag, content)
        return _encoded(tag, b"".join([self._fill(inner, values) for inner in content]))


_SCOPES = {"subtree": "SUBTREE", "one": "LEVEL"}
_START_TLS = "1.3.6.1.4.1.1466.20037"
_NAME, _PASSWORD = b"6E616D65@name", b"70617373@password"


def bind_request() -> Request:
    """A simple bind.  Values: name and password."""
    operation = bind_operation(3, "SIMPLE", _NAME.decode(), _PASSWORD.decode())
    return Request("bindRequest", operation, (_NAME, _PASSWORD), ends=BOUND)


def start_tls_request() -> Request:
    """StartTLS (RFC 4511 section 4.14).  No values."""
    operation = extended_operation(_START_TLS, no_encode=True)
    return Request("extendedReq", operation, (), ends=EXTENDED)


def search_request(
    base: str,
    wanted: str,
    attributes: Sequence[str],
    fields: Sequence[str],
    *,
    seconds: int,
    scope: str = "subtree",
    most: int = 2,
) -> Request:
    """A search with this size limit, 0: none.  Values: those of ``fields``.

    ``wanted`` is a filter (RFC 4515) with those fields in braces.  Raises
    ``ldap3.core.exceptions.LDAPInvalidFilterError``.
    """
    places = [f"66696C746572{number}{field}" for number, field in enumerate(fields)]
    filled = wanted
    for field, place in zip(fields, places, strict=True):
        filled = filled.replace(f"{{{field}}}", place)
    operation = search_operation(
        *(base, filled, _SCOPES[scope], "NEVER"),
        *(list(attributes), most, seconds, False, False, False),
    )
    encoded = [place.encode() for place in places]
    return Request("searchRequest", operation, encoded, wanted, ends=SEARCHED)
