"""Mail that Dovecot has compressed: out it goes unpacked, or not at all and then stays."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_expiry import Box
from twisted.logger import capturedLogs, formatEvent

from answers import result
from gateway.errors import MessageUnreadable
from gateway.store.maildir.listing.compressed import MOST, STREAMS, Lz4, unpacked
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.retention_store_contract import RULE
from gateway.testing.store_contract import ALICE, run_now
from harness import Wire
from survival import sent_by

TEXT = b"Message-ID: <1@x>\nSubject: x\n\n.dot\nbo\rdy\n" + b"line\n" * 1000 + b"no end"
SENT = TEXT.replace(b"\n", b"\r\n") + b"\r\n"


def lz4_file(text: bytes, block: int = 65536) -> bytes:
    """As Dovecot writes it."""
    packed = Lz4.MAGIC + block.to_bytes(4, "big")
    for at in range(0, len(text), block):
        data = lz4.block.compress(text[at : at + block], store_size=False)
        packed += len(data).to_bytes(4, "big") + data
    return packed


def zstd_file(text: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    packed: bytes = import_module(name).compress(text)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lz4": lz4_file,
    "zstd": zstd_file,
}
LIBRARY = {"lz4": "lz4.block", "zstd": "backports.zstd"}

each = pytest.mark.parametrize("kind", PACK)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def store_of(box: Box, **reading: object) -> MaildirStore:
    wanted = MaildirOptions(create=False, **reading)  # type: ignore[arg-type]
    return MaildirStore(str(box.root), "{name}", run_now, reading=wanted, audit=box.trail)


# -- what can be unpacked -----------------------------------------------------


@each
@pytest.mark.parametrize("name", ["1.host", "1.host,S={s},W={w}", "1.host,S={s}", "1.host,W={w}"])
@pytest.mark.parametrize("verify", [0, 2**30])
def test_it_is_sent_unpacked_and_listed_with_the_size_of_that(
    box: Box, kind: str, name: str, verify: int
) -> None:
    base = name.format(s=len(TEXT), w=len(SENT))
    box.put(f"cur/{base}:2,", PACK[kind](TEXT))
    for _ in range(2):
        client = Wire(store=store_of(box, verify_octets=verify)).login()
        assert client.send(b"LIST 1") == b"+OK 1 %d\r\n" % len(SENT)
        assert client.message(b"RETR 1") == SENT
        assert client.message(b"TOP 1 2") == b"\r\n".join(SENT.split(b"\r\n")[:5]) + b"\r\n"
        assert client.send(b"QUIT").startswith(b"+OK")
    assert len(box.files()) == 1


@each
def test_a_wrong_claim_is_put_right_as_for_any_message(box: Box, kind: str) -> None:
    box.put(f"cur/1.host,S={len(TEXT)},W={len(TEXT)}:2,", PACK[kind](TEXT))
    store = store_of(box)
    maildrop, _ = result(store.open(ALICE, None))
    assert list(result(maildrop.listing()).sizes) == [len(SENT)]
    assert sent_by(maildrop, 0) == SENT


@each
def test_where_sizes_are_those_of_files_it_is_sent_unpacked_too(box: Box, kind: str) -> None:
    box.put(f"cur/1.host,S={len(TEXT)}:2,", PACK[kind](TEXT))
    maildrop, _ = result(store_of(box, exact=False).open(ALICE, None))
    assert list(result(maildrop.listing()).sizes) == [len(TEXT)]
    assert sent_by(maildrop, 0) == SENT


@pytest.mark.parametrize("text", [b"BZh9 is text\n", b"\x1f\n", b"Dovecot-LZ4\n", b"", b"\xfd7zXZ"])
def test_what_only_begins_a_little_like_it_is_a_message(box: Box, text: bytes) -> None:
    box.put("cur/1.host:2,", text)
    maildrop, _ = result(box.store.open(ALICE, None))
    assert sent_by(maildrop, 0).rstrip() == text.rstrip()


def unpack(data: bytes) -> Iterator[bytes]:
    """The pieces in which what is packed in a file comes out."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        packed = unpacked(file.fileno(), "file")
        assert packed is not None
        while piece := packed.read():
            yield piece


@given(st.sampled_from(sorted(PACK)), st.binary(), st.integers(1, 300_000))
def test_what_was_packed_comes_out(kind: str, text: bytes, times: int) -> None:
    text = text[:50] * (times // 50)
    assert b"".join(unpack(PACK[kind](text))) == text


@pytest.mark.parametrize("kind", [kind for kind in PACK if kind != "lz4"])
def test_streams_that_follow_one_another_are_one_message(kind: str) -> None:
    assert b"".join(unpack(PACK[kind](b"one\n") + PACK[kind](b"two\n"))) == b"one\ntwo\n"


# -- what cannot ---------------------------------------------------------------


def refused(box: Box) -> str:
    """Let a client try to get the only message and delete it; the refusal of RETR."""
    store = store_of(box)
    client = Wire(store=store).login()
    assert client.send(b"STAT").startswith(b"+OK 1 ")
    refusal = client.send(b"RETR 1")
    assert refusal.startswith(b"-ERR [SYS/PERM] ")
    assert client.send(b"DELE 1").startswith(b"-ERR ")
    assert client.send(b"QUIT").startswith(b"+OK")
    assert len(box.files()) == 1
    maildrop, _ = result(store.open(ALICE, None))
    with pytest.raises(MessageUnreadable) as raised:
        sent_by(maildrop, 0)
    return str(raised.value)


@each
@pytest.mark.parametrize("cut", [1, 20, "half"])
@pytest.mark.parametrize("claim", ["", f",S={len(TEXT)},W={len(SENT)}"])
def test_one_that_ends_too_early_is_refused_and_stays(
    box: Box, kind: str, cut: int | str, claim: str
) -> None:
    whole = PACK[kind](TEXT * 50)
    box.put(f"cur/1.host{claim}:2,", whole[: len(whole) // 2 if cut == "half" else -int(cut)])
    assert kind in refused(box)


@each
def test_one_that_something_else_follows_is_refused_and_stays(box: Box, kind: str) -> None:
    box.put("cur/1.host:2,", PACK[kind](TEXT) + b"garbage")
    assert kind in refused(box)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_one_with_a_wrong_checksum_is_refused_and_stays(box: Box, kind: str) -> None:
    whole = PACK[kind](TEXT)
    box.put("cur/1.host:2,", whole[:40] + bytes([whole[40] ^ 0x55]) * 20 + whole[60:])
    assert kind in refused(box)


def test_lz4_that_ends_between_two_blocks_is_refused_by_the_size_in_its_name(box: Box) -> None:
    whole = lz4_file(TEXT, 1000)
    block = int.from_bytes(whole[19:23], "big")
    box.put(f"cur/1.host,S={len(TEXT)}:2,", whole[: 23 + block])
    assert "lz4" in refused(box)


@pytest.mark.parametrize("kind", LIBRARY)
def test_without_its_library_it_is_refused_and_stays_and_the_log_names_the_cure(
    box: Box, kind: str
) -> None:
    box.put("cur/1.host:2,", PACK[kind](TEXT))
    missing = dict.fromkeys([LIBRARY[kind], "compression.zstd"])
    with mock.patch.dict(sys.modules, missing), capturedLogs() as events:
        refused(box)
    assert any("pop3gw[compression]" in str(formatEvent(event)) for event in events)


def test_what_dovecot_has_encrypted_is_refused_and_stays(box: Box) -> None:
    box.put("cur/1.host:2,", b"CRYPTED\x03\x07\x02" + os.urandom(100))
    assert "mail_crypt" in refused(box)


@each
def test_others_are_served_beside_one_that_cannot_be_read(box: Box, kind: str) -> None:
    box.put("cur/1.host:2,", PACK[kind](TEXT)[:-3])
    box.put("cur/2.host:2,", b"fine\r\n")
    maildrop, _ = result(box.store.open(ALICE, None))
    assert sent_by(maildrop, 1) == b"fine\r\n"


# -- bombs ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in PACK if kind != "lz4"])
def test_it_comes_out_in_small_pieces_however_much_it_is(kind: str) -> None:
    pieces = list(unpack(PACK[kind](bytes(5_000_000))))
    assert sum(map(len, pieces)) == 5_000_000
    assert max(map(len, pieces)) <= 128 * 1024


def test_a_block_that_is_said_to_be_huge_is_not_made_room_for() -> None:
    for header in (Lz4.MAGIC + b"\xff" * 4, Lz4.MAGIC + b"\0\1\0\0" + b"\x7f\xff\xff\xff"):
        with pytest.raises(OSError, match="a block of"):
            list(unpack(header + b"x" * 100))


def test_there_is_an_end_to_what_comes_out() -> None:
    stream = zlib.compressobj(1, wbits=31)
    packed = b"".join(stream.compress(bytes(2**24)) for _ in range(MOST // 2**24)) + (
        stream.compress(b"xx") + stream.flush()
    )
    pieces = map(len, unpack(packed))
    with pytest.raises(OSError, match=f"more than {MOST} octets"):
        sum(pieces)


def test_there_is_an_end_to_streams_in_which_nothing_is() -> None:
    with pytest.raises(OSError, match="streams"):
        list(unpack(gzip.compress(b"") * (STREAMS + 1)))


def test_what_was_found_to_be_damaged_is_not_unpacked_again_until_it_changes(box: Box) -> None:
    path = box.put("cur/1.host:2,", gzip.compress(TEXT)[:-1])
    store = store_of(box)
    maildrop, _ = result(store.open(ALICE, None))
    with (
        mock.patch.object(os, "pread", side_effect=AssertionError),
        pytest.raises(MessageUnreadable),
    ):
        sent_by(maildrop, 0)
    path.write_bytes(gzip.compress(TEXT))
    maildrop, _ = result(store.open(ALICE, None))
    assert sent_by(maildrop, 0) == SENT


# -- retention and the audit ---------------------------------------------------


@each
def test_retention_and_audit_see_the_message_and_not_the_file(box: Box, kind: str) -> None:
    box.put(f"cur/1.host,S={len(TEXT)}:2,", PACK[kind](TEXT))
    box.write_list(f"1 :1.host,S={len(TEXT)}")
    (kept,) = box.ask("scan")
    assert kept.octets == len(TEXT) == box.ask("usage").octets
    assert box.ask("remove", ["1"], RULE) == 1
    (line,) = box.trail.lines
    assert (line.message_id, line.size) == ("<1@x>", len(TEXT))
    assert box.ask("usage").octets == 0


def test_a_wrong_size_in_the_name_of_a_plain_message_is_not_what_the_audit_says(box: Box) -> None:
    box.put("cur/1.host,S=9999:2,", b"plain\r\n")
    box.write_list("1 :1.host,S=9999")
    assert [kept.octets for kept in box.ask("scan")] == [7]
