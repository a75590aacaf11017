"""Requests and responses in BER: ours are ldap3's, octet for octet, with anything filled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.bind import bind_operation
from ldap3.operation.search import search_operation
from ldap3.protocol.convert import build_controls_list
from ldap3.protocol.rfc2696 import paged_search_control
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.conv import escape_filter_chars
from pyasn1.codec.ber.encoder import encode

from gateway.directory.ldap_messages import (
    BOUND,
    LONGEST,
    SEARCHED,
    Entry,
    Reference,
    Result,
    bind_request,
    message_length,
    page,
    read_elements,
    read_response,
    search_request,
)

FILTERS = (
    "(uid={login})",
    "(|(uid={login})(mail={login}))",
    "(&(objectClass=user)(!(a=b))(|(sAMAccountName={user})(mail=smtp:{login})(cn={user}*)))",
    "(userAccountControl:1.2.840.113556.1.4.803:={user})",
)


def made(kind: str, operation: object, identity: int) -> bytes:
    """The message as ldap3 makes it."""
    message = LDAPMessage()
    message["messageID"] = MessageID(identity)
    message["protocolOp"] = ProtocolOp().setComponentByName(kind, operation)
    return bytes(encode(message))


# ldap3 strips the spaces around a value, so it is no measure for names that have some.
NAMES = st.text(min_size=1, max_size=200).filter(
    lambda name: name.strip() == name and name.isprintable()
)
IDS = st.integers(1, 2**31 - 1)


@given(st.sampled_from(FILTERS), NAMES, NAMES, IDS)
def test_a_search_that_is_filled_in_is_the_search_that_ldap3_makes(
    wanted: str, login: str, user: str, identity: int
) -> None:
    request = search_request("dc=x", wanted, ["mail", "uid"], ("login", "user"), seconds=5)
    ours = request.filled(identity, (login.encode(), user.encode()))
    values = {"{login}": escape_filter_chars(login), "{user}": escape_filter_chars(user)}
    escaped = wanted
    for field in ("{user}", "{login}"):
        head, *rest = escaped.split(field)
        escaped = head + "".join(f"\0{field}\0{part}" for part in rest)
    for field, value in values.items():
        escaped = escaped.replace(f"\0{field}\0", value)
    operation = search_operation(
        "dc=x", escaped, "SUBTREE", "NEVER", ["mail", "uid"], 2, 5, False, False, False
    )
    assert ours == made("searchRequest", operation, identity)


@given(st.text(max_size=300), st.text(min_size=1, max_size=300), IDS)
def test_a_bind_that_is_filled_in_is_the_bind_that_ldap3_makes(
    name: str, password: str, identity: int
) -> None:
    try:
        operation = bind_operation(3, "SIMPLE", name, password)
        operation["authentication"]["simple"] = password.encode()
    except Exception:
        return
    ours = bind_request().filled(identity, (name.encode(), password.encode()))
    assert ours == made("bindRequest", operation, identity)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_is_filled_in_the_message_keeps_its_shape(login: bytes, user: bytes) -> None:
    request = search_request("dc=x", FILTERS[2], ["mail"], ("login", "user"), seconds=5)

    def shape(elements: object) -> object:
        if isinstance(elements, bytes):
            return None
        return [(tag, shape(content)) for tag, content in elements]  # type: ignore[attr-defined]

    usual = shape(read_elements(request.filled(9, (b"a", b"b"))))
    assert shape(read_elements(request.filled(9, (login, user)))) == usual


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element."""
    body = b"".join(parts)
    assert len(body) < 0x100
    length = bytes((len(body),)) if len(body) < 0x80 else bytes((0x81, len(body)))
    return bytes((tag,)) + length + body


ENTRY = tlv(
    *(0x30, tlv(0x02, b"\x05")),
    tlv(
        *(0x64, tlv(0x04, "uid=jürgen".encode())),
        tlv(0x30, tlv(0x30, tlv(0x04, b"MaiL"), tlv(0x31, tlv(0x04, b"a"), tlv(0x04, b"b")))),
    ),
)
DONE = tlv(0x30, tlv(0x02, b"\x05"), tlv(0x65, tlv(0x0A, b"\x31"), tlv(0x04), tlv(0x04, b"no")))


def test_entries_and_results_are_read() -> None:
    assert read_response(ENTRY) == (5, Entry("uid=jürgen", {"mail": [b"a", b"b"]}))
    assert read_response(DONE) == (5, Result(0x31, "no", kind=SEARCHED))
    referral = tlv(0x30, tlv(0x02, b"\x05"), tlv(0x73, tlv(0x04, b"ldap://x")))
    assert read_response(referral) == (5, Reference(("ldap://x",)))
    other = tlv(0x30, tlv(0x02, b"\x05"), tlv(0x79))
    assert read_response(other) == (5, None)


@pytest.mark.parametrize(
    "code",
    [
        *(
            tlv(0x0A),
            tlv(0x0A, b"\0" * 5),
            tlv(0x02, b"\0"),
            tlv(0x04, b"\0"),
            tlv(0x0A, b"\xff" * 9),
        ),
        *(b"\x0a\x80", b"\x0a\x81\x00", tlv(0x2A, tlv(0x0A, b"\0"))),
    ],
)
def test_a_code_that_is_no_number_is_no_success(code: bytes) -> None:
    for kind in (BOUND, SEARCHED):
        body = tlv(kind, code, tlv(0x04), tlv(0x04))
        with pytest.raises(ConnectionError):
            read_response(tlv(0x30, tlv(0x02, b"\x05"), body))
    with pytest.raises(ConnectionError):
        read_response(tlv(0x30, tlv(0x02), tlv(0x61, tlv(0x0A, b"\0"), tlv(0x04), tlv(0x04))))


@given(st.integers(1, 2**31 - 1), st.binary(max_size=300), IDS)
def test_the_control_for_pages_is_the_one_that_ldap3_makes(
    entries: int, cookie: bytes, identity: int
) -> None:
    control = page(entries, cookie)
    assert control == encode(build_controls_list([paged_search_control(False, entries, cookie)]))
    request = search_request("dc=x", FILTERS[0], ["mail"], ("login",), seconds=5)
    with_it, without = (request.filled(identity, (b"x",), more) for more in (control, b""))
    (_, parts), *_ = read_elements(with_it)
    assert parts == read_elements(without)[0].content + read_elements(control)


@given(st.binary(max_size=50))
def test_a_result_tells_where_the_next_page_begins(cookie: bytes) -> None:
    value = tlv(0x04, tlv(0x30, tlv(0x02, b"\0"), tlv(0x04, cookie)))
    other = tlv(0x30, tlv(0x04, b"1.2.3"), tlv(0x01, b"\xff"))
    pages = tlv(0x30, tlv(0x04, b"1.2.840.113556.1.4.319"), value)
    done = tlv(0x65, tlv(0x0A, b"\0"), tlv(0x04), tlv(0x04))
    message = tlv(0x30, tlv(0x02, b"\x05"), done, tlv(0xA0, other, pages))
    assert read_response(message) == (5, Result(0, "", cookie, SEARCHED))


def test_a_message_is_as_long_as_it_says_and_not_endless() -> None:
    assert [message_length(DONE[:cut]) for cut in (0, 1)] == [0, 0]
    assert message_length(DONE) == len(DONE)
    assert message_length(b"\x30\x82\x01") == 0
    assert message_length(b"\x30\x82\x01\x00") == 260
    for odd in (
        b"HTTP/1.1",
        b"\x30\x84\x7f\xff\xff\xff",
        b"\x30\x83" + bytes((LONGEST >> 16, 0, 0)),
    ):
        with pytest.raises(ConnectionError):
            message_length(odd)


@given(st.binary(max_size=80), st.sampled_from([ENTRY, DONE]), st.integers(0, 60))
def test_what_is_not_ldap_is_a_connection_error_and_nothing_else(
    junk: bytes, good: bytes, at: int
) -> None:
    for data in (junk, good[:at] + junk + good[at:], good[:at]):
        try:
            read_response(data)
        except ConnectionError:
            continue
