"""The PROXY protocol's header: what is one, what is none, and what is not whole yet."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import proxy_headers
from gateway.errors import ProxyHeaderMalformed
from gateway.wire.proxy_header import LONGEST, SIGNATURE, ProxyHeader, crc32c, read_header
from proxy_headers import binary, line, over_tls, tlv, with_checksum

HEADERS = (
    line(),
    line("2001:db8::7", "2001:db8::1"),
    proxy_headers.UNKNOWN,
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
    binary(),
    binary("2001:db8::7", over_tls(), tlv(proxy_headers.UNIQUE_ID, b"c0ffee")),
    with_checksum("192.0.2.7", over_tls()),
    proxy_headers.LOCAL,
    proxy_headers.OF_A_UNIX_SOCKET,
    proxy_headers.OF_NO_FAMILY,
)

WORDS = st.sampled_from(
    [b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"192.0.2.7", b"::1", b"110", b"\r\n", b"\n"]
)
NEARLY = st.builds(
    lambda header, at, octets: header[:at] + octets + header[at + len(octets) :],
    st.sampled_from(HEADERS),
    st.integers(0, 300),
    st.binary(max_size=4),
)
ANYTHING = (
    NEARLY
    | st.binary()
    | st.lists(WORDS, max_size=12).map(b"".join)
    | st.binary(min_size=4).map(SIGNATURE.__add__)
)


def outcome(data: bytes) -> ProxyHeader | str | None:
    """What is read, or what is wrong."""
    try:
        return read_header(data)
    except ProxyHeaderMalformed as error:
        return str(error)


class GoodTests(SynchronousTestCase):
    def test_the_client_of_each_version_and_family_is_read(self) -> None:
        for header, host in (
            (line(), "192.0.2.7"),
            (line("2001:DB8:0::7", "::1"), "2001:db8::7"),
            (binary(), "192.0.2.7"),
            (binary("2001:db8::7"), "2001:db8::7"),
            (proxy_headers.OF_A_UNIX_SOCKET, ""),
            (proxy_headers.OF_NO_FAMILY, ""),
        ):
            self.assertEqual(read_header(header + b"USER"), ProxyHeader(len(header), host))

    def test_an_ipv4_client_of_an_ipv6_socket_is_one_of_ipv4(self) -> None:
        for header in (line("::ffff:192.0.2.7", "::1"), binary("::ffff:192.0.2.7")):
            found = read_header(header)
            assert found is not None
            self.assertEqual(found.host, "192.0.2.7")

    def test_a_proxy_that_connects_for_itself_names_no_client(self) -> None:
        for header in (
            proxy_headers.LOCAL,
            binary(command=0),
            binary(command=0, family=0xFF),
            proxy_headers.UNKNOWN,
            b"PROXY UNKNOWN and whatever else\r\n",
        ):
            self.assertEqual(read_header(header), ProxyHeader(len(header), local=True))

    def test_whether_the_client_is_on_tls_is_read_past_unknown_fields(self) -> None:
        for more, tls in (
            ([], False),
            ([over_tls()], True),
            ([over_tls(0)], False),
            # A client certificate alone says nothing of this connection (PP2_CLIENT_CERT_SESS).
            ([over_tls(6)], False),
            ([tlv(0xE0, b"x" * 300), tlv(proxy_headers.NOOP, b""), over_tls(7)], True),
        ):
            found = read_header(binary("192.0.2.7", *more))
            assert found is not None
            self.assertEqual(found.tls, tls)

    def test_the_id_of_the_connection_is_one_word(self) -> None:
        for value, word in (
            (b"C0A8:1F90_42", "C0A8:1F90_42"),
            (b"two words", b"two words".hex()),
            (b'a"b', b'a"b'.hex()),
            (b"x" * 200, "x" * 128),
            (b"", ""),
        ):
            found = read_header(binary("192.0.2.7", tlv(proxy_headers.UNIQUE_ID, value)))
            assert found is not None
            self.assertEqual(found.unique_id, word)

    def test_the_checksum_is_that_of_rfc_3720(self) -> None:
        # Section B.4 of RFC 3720, and the usual check value.
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)
        self.assertEqual(crc32c(bytes(range(32))), 0x46DD794E)
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)


class BadTests(SynchronousTestCase):
    def test_each_that_is_none_says_what_is_wrong(self) -> None:
        checked = with_checksum("192.0.2.7", over_tls())
        for data, words in (
            (b"\x16\x03\x01", "without a PROXY header"),
            (b"CAPA\r\n", "without a PROXY header"),
            (b"PROXX", "without a PROXY header"),
            (b"proxy TCP4", "without a PROXY header"),
            (SIGNATURE[:-1] + b"\r", "without a PROXY header"),
            (b"PROXY " + b"x" * 101, "without CRLF in its first 107 octets"),
            (line().replace(b"\r", b"") + b"x" * 107, "without CRLF"),
            (b"PROXY \r\n", "unknown protocol"),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "unknown protocol"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "without four fields"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "without four fields"),
            (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "unknown protocol"),
            (b"PROXY TCP4 ::1 1.2.3.4 1 2\r\n", "an address that is none of TCP4"),
            (b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "an address that is none of TCP6"),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "an address that is none of TCP6"),
            (b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", "an address"),
            (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "an address"),
            (b"PROXY TCP4 1.2.3.\xb2 1.2.3.4 1 2\r\n", "an address"),
            (b"PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n", "an address"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "a port that is none"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n", "a port that is none"),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n", "a port that is none"),
            (SIGNATURE + b"\x11\x11\0\0", "unknown version or command"),
            (SIGNATURE + b"\x22\x11\0\0", "unknown version or command"),
            (SIGNATURE + b"\x21\x12\0\0", "none of TCP or a UNIX socket"),
            (SIGNATURE + b"\x21\x41\0\0", "none of TCP or a UNIX socket"),
            (SIGNATURE + b"\x21\x11\xff\xff", f"more than {LONGEST} octets"),
            (SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), "ends within its addresses"),
            (SIGNATURE + b"\x21\x31\0\x0c" + bytes(12), "ends within its addresses"),
            (binary("192.0.2.7", b"\x04"), "ends within a field"),
            (binary("192.0.2.7", b"\x04\0\x02x"), "ends within a field"),
            (binary("192.0.2.7", tlv(proxy_headers.TLS, b"\x01")), "too short"),
            (checked[:-1] + b"9", "a wrong CRC32C"),
            (binary("192.0.2.7", tlv(proxy_headers.CRC32C, b"")), "a wrong CRC32C"),
            (binary("192.0.2.7", tlv(proxy_headers.CRC32C, bytes(4))), "a wrong CRC32C"),
        ):
            with self.assertRaises(ProxyHeaderMalformed) as caught:
                read_header(data)
            self.assertIn(words, str(caught.exception), data)

    def test_no_octet_of_a_checked_header_may_be_another(self) -> None:
        good = with_checksum("192.0.2.7", over_tls(), tlv(proxy_headers.UNIQUE_ID, b"abc"))
        self.assertIsInstance(outcome(good), ProxyHeader)
        # The type of the field with the checksum: of another type, it is no checksum.
        checksum = good.index(tlv(proxy_headers.CRC32C, bytes(4))[:3])
        for at in {*range(16, len(good))} - {checksum}:
            bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            self.assertIsInstance(outcome(bad), str, at)


class AnyOctetsTests(SynchronousTestCase):
    @given(ANYTHING)
    @example(b"")
    @example(b"\r")
    @example(b"P")
    def test_all_are_read_or_refused_or_wait_for_a_bounded_number_of_octets(
        self, data: bytes
    ) -> None:
        found = outcome(data)
        if found is None:
            self.assertLess(len(data), 16 + LONGEST)
            self.assertLess(len(data), 107) if not data.startswith(SIGNATURE[:6]) else None
        elif isinstance(found, ProxyHeader):
            self.assertLessEqual(found.length, len(data))
            self.assertEqual(found, outcome(data[: found.length]))

    @given(ANYTHING)
    def test_where_they_are_cut_does_not_matter(self, data: bytes) -> None:
        whole = outcome(data)
        pieces = (outcome(data[:end]) for end in range(len(data) + 1))
        self.assertEqual(next((one for one in pieces if one is not None), None), whole)

    @given(st.sampled_from(HEADERS), st.binary(max_size=50))
    def test_what_follows_is_not_looked_at(self, header: bytes, more: bytes) -> None:
        self.assertEqual(outcome(header + more), outcome(header))
        for end in range(len(header)):
            self.assertIsNone(outcome(header[:end]), end)
