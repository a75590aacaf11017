"""LIST tells what RETR sends: while files are written, and whatever names and lists claim."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_expiry import Box

from answers import result
from gateway.errors import SizeChanged, StoreDown
from gateway.store.maildir.folders.duplicates import is_plain
from gateway.store.maildir.folders.scan import delivery_order, stored_size, wire_size
from gateway.store.maildir.listing.named import usual_sizes
from gateway.store.maildir.listing.sizes import OPENING, YOUNG, is_recent, is_refuted
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, run_now
from gateway.wire.body import Measure
from survival import sent_by

LONG_AGO = 1_600_000_000


def opened(store: MaildirStore) -> object:
    maildrop, _ = result(store.open(ALICE, None))
    return maildrop


def sizes_in(maildrop: object) -> list[int]:
    return list(result(maildrop.listing()).sizes)  # type: ignore[attr-defined]


def ids_in(maildrop: object) -> list[str]:
    return list(result(maildrop.listing()).uids)  # type: ignore[attr-defined]


def fresh(box: Box, **reading: object) -> MaildirStore:
    """A store as after a restart."""
    wanted = MaildirOptions(create=False, **reading)  # type: ignore[arg-type]
    return MaildirStore(str(box.root), "{name}", run_now, reading=wanted)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# -- files that are being written ---------------------------------------------


@pytest.mark.parametrize("ahead", [0, 20])
def test_a_message_that_was_half_there_when_listed_is_listed_whole_by_the_next_login(
    box: Box, ahead: int
) -> None:
    for number in range(ahead):
        box.put(f"cur/1{number}.host:2,", b"other\n")
    path = box.put("cur/999.host:2,", b"first half\n")
    store = fresh(box)
    maildrop = opened(store)
    assert sizes_in(maildrop)[-1] == 12
    with path.open("ab") as file:
        file.write(b"second half\n")
    again = opened(store)
    assert sizes_in(again)[-1] == 25
    assert len(sent_by(again, ahead)) == 25


def test_what_was_written_to_since_it_was_listed_is_refused_until_the_next_login(box: Box) -> None:
    path = box.put("cur/9.host:2,", b"first half\r\n")
    store = fresh(box)
    maildrop = opened(store)
    sizes_in(maildrop)
    path.write_bytes(b"first half\r\nsecond half\r\n")
    for _ in range(2):
        with pytest.raises(SizeChanged):
            sent_by(maildrop, 0)
    again = opened(store)
    assert sizes_in(again) == [len(sent_by(again, 0))] == [25]


def test_a_write_after_the_file_was_taken_for_complete_is_seen_when_it_is_fetched(
    box: Box,
) -> None:
    path = box.put("cur/1600000009.host,S=12,W=12:2,", b"first half\r\n")
    store = fresh(box, verify_octets=0)
    maildrop = opened(store)
    assert sizes_in(maildrop) == [12]
    path.write_bytes(b"first half\r\nsecond half\r\n")
    # Nothing in the folders tells of it.
    maildrop = opened(store)
    assert sizes_in(maildrop) == [12]
    with pytest.raises(SizeChanged):
        sent_by(maildrop, 0)
    again = opened(store)
    assert sizes_in(again) == [len(sent_by(again, 0))] == [25]


def test_quit_removes_nothing_that_was_written_to_since_it_was_listed(box: Box) -> None:
    path = box.put("cur/9.host:2,", b"first half\r\n")
    box.put("cur/8.host:2,", b"whole\r\n")
    maildrop = opened(fresh(box))
    assert len(sizes_in(maildrop)) == 2
    assert sent_by(maildrop, 1) == b"first half\r\n"
    with path.open("ab") as file:
        file.write(b"second half\r\n")
    with pytest.raises(StoreDown):
        result(maildrop.finish({0, 1}, ()))  # type: ignore[attr-defined]
    assert box.files() == ["cur/9.host:2,"]


def written_later(path: Path, text: bytes) -> None:
    """Write to a file as if that were some seconds after it was listed."""
    before = path.stat().st_mtime_ns
    path.write_bytes(text)
    os.utime(path, ns=(before, before + 5 * 10**9))


@pytest.mark.parametrize("name", ["9.host:2,", "1600000009.host,S=12,W=14:2,", "9.host,W=14:2,"])
@pytest.mark.parametrize("verify_octets", [0, 10**6])
def test_other_line_ends_at_the_same_size_in_the_file_are_refused_until_the_next_login(
    box: Box, name: str, verify_octets: int
) -> None:
    path = box.put(f"cur/{name}", b"one\ntwo six\n")
    store = fresh(box, verify_octets=verify_octets)
    maildrop = opened(store)
    assert sizes_in(maildrop) == [14]
    for text in (b"one two six\n", b"a\nb\nc\nd\nefg\n"):
        assert len(text) == 12
        written_later(path, text)
        for _ in range(2):
            with pytest.raises(SizeChanged):
                sent_by(maildrop, 0)
        maildrop = opened(store)
        assert sizes_in(maildrop) == [len(sent_by(maildrop, 0))] != [14]


def test_a_file_that_was_only_touched_is_sent(box: Box) -> None:
    path = box.put("cur/9.host:2,", b"one\ntwo\n")
    store = fresh(box)
    maildrop = opened(store)
    sizes_in(maildrop)
    written_later(path, b"one\ntwo\n")
    assert sent_by(maildrop, 0) == b"one\r\ntwo\r\n"
    result(maildrop.finish({0}, ()))  # type: ignore[attr-defined]
    assert box.files() == []


def test_quit_leaves_what_was_written_to_at_the_same_size_and_a_later_one_removes_it(
    box: Box,
) -> None:
    path = box.put("cur/9.host,S=5:2,", b"one\r\n")
    store = fresh(box)
    assert sent_by(opened(store), 0) == b"one\r\n"
    maildrop = opened(store)
    sizes_in(maildrop)
    written_later(path, b"two\r\n")
    with pytest.raises(StoreDown):
        result(maildrop.finish({0}, ()))  # type: ignore[attr-defined]
    again = opened(store)
    sizes_in(again)
    result(again.finish({0}, ()))  # type: ignore[attr-defined]
    assert box.files() == []


def test_what_quit_leaves_since_somebody_wrote_to_it_keeps_its_unique_id(box: Box) -> None:
    path = box.put("cur/1600000008.M1P1.host:2,", b"one\r\n")
    box.put("cur/1600000009.M1P1.host:2,", b"two\r\n")
    store = fresh(box)
    maildrop = opened(store)
    uids = ids_in(maildrop)
    written_later(path, b"six\r\n")
    with pytest.raises(StoreDown):
        result(maildrop.finish({0, 1}, ()))  # type: ignore[attr-defined]
    assert ids_in(opened(store)) == ids_in(opened(fresh(box))) == uids[:1]


def test_the_size_of_what_may_still_be_written_is_not_left_for_dovecot(box: Box) -> None:
    box.put("new/7.host", b"half\n")
    box.put("new/8.host,S=6", b"whole\n")
    sizes_in(opened(fresh(box)))
    lines = (box.path / "dovecot-uidlist").read_text().splitlines()[1:]
    assert [line.partition(" ")[2] for line in lines] == [":7.host", "W7 :8.host,S=6"]


def test_what_changed_long_ago_or_in_years_to_come_is_complete() -> None:
    now = time.time_ns()
    assert is_recent(now)
    for ages in (2, -2):
        assert not is_recent(now - int(ages * YOUNG * 1e9))


# -- claims -------------------------------------------------------------------


@pytest.mark.parametrize("claim", [9999, 20, 45])
def test_a_claim_that_the_files_size_refutes_is_never_believed(box: Box, claim: int) -> None:
    text = b"Subject: x\n\nsome one\n"
    box.put(f"cur/1.host,W={claim}:2,", text)
    box.put(f"cur/2.host,S=9999,W={len(text)}:2,", text)
    box.put("cur/3.host:2,", text)
    box.write_list("1 :1.host,W=9999", f"3 W{claim} :3.host")
    for _ in range(2):
        maildrop = opened(fresh(box, verify_octets=0))
        assert sizes_in(maildrop) == [24] * 3


def test_one_large_message_does_not_keep_smaller_older_ones_from_being_checked(box: Box) -> None:
    large = b"x" * 100_000 + b"\r\n"
    box.put("cur/9.host,W=100002:2,", large)
    for number in range(3):
        box.put(f"cur/{number}.host,W=7:2,", b"abcd\n")
    store = fresh(box, verify_octets=3 * (OPENING + 7))
    assert sizes_in(opened(store)) == [6, 6, 6, 100_002]


def test_a_wrong_claim_that_nobody_checked_is_put_right_once_the_message_was_sent(
    box: Box,
) -> None:
    box.put("cur/1.host,W=7:2,", b"abcd\n")
    store = fresh(box, verify_octets=0)
    maildrop = opened(store)
    assert sizes_in(maildrop) == [7]
    assert sent_by(maildrop, 0) == b"abcd\r\n"
    assert sizes_in(opened(store)) == [6]


@contextmanager
def before_each_scan(act: Callable[[], object]) -> Iterator[None]:
    """As if another thread had its turn whenever a reading looks into a folder."""
    scandir = os.scandir

    def turned(*place: str) -> object:
        act()
        return scandir(*place)

    with mock.patch.object(os, "scandir", turned):
        yield


@pytest.mark.parametrize("change", ["new message", "flag", "removal"])
def test_a_size_that_a_session_corrects_during_a_reading_is_listed_by_the_login_after_it(
    box: Box, change: str
) -> None:
    first, second = "1600000001.M1P1.host,S=30,W=31:2,", "1600000002.M2P1.host,S=3,W=3:2,"
    box.put(f"cur/{first}", b"x\r\n" * 10)
    other = box.put(f"cur/{second}", b"o\r\n")
    for name in (first, second):
        os.utime(box.path / "cur" / name, (LONG_AGO, LONG_AGO))
    store = fresh(box, verify_octets=0)
    session = opened(store)
    assert sizes_in(session) == [31, 3]
    if change == "new message":
        box.put("new/1600000003.M3P1.host,S=3,W=3", b"n\r\n")
    elif change == "flag":
        other.rename(f"{other}S")
    else:
        result(opened(store).finish({1}, ()))  # type: ignore[attr-defined]
    with before_each_scan(lambda: session.small_message(0)):  # type: ignore[attr-defined]
        opened(store)
    assert sizes_in(opened(store))[0] == len(sent_by(opened(store), 0)) == 30


def test_a_message_that_was_listed_by_its_name_alone_is_not_sent_if_its_file_is_incomplete(
    box: Box,
) -> None:
    path = box.put("cur/1600000009.host,S=12,W=12:2,", b"half\r\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    store = fresh(box, verify_octets=0)
    maildrop = opened(store)
    assert sizes_in(maildrop) == [12]
    for _ in range(2):
        with pytest.raises(SizeChanged):
            sent_by(maildrop, 0)
    with pytest.raises(StoreDown):
        result(maildrop.finish({0}, ()))  # type: ignore[attr-defined]
    again = opened(store)
    assert sizes_in(again) == [len(sent_by(again, 0))] == [6]


@pytest.mark.parametrize("name", ["1600000009.host,S=5,W=7:2,", "1600000009.host,S=5,W=6:2,"])
def test_a_message_that_was_listed_by_its_name_alone_is_sent_if_nobody_wrote_to_it(
    box: Box, name: str
) -> None:
    path = box.put(f"cur/{name}", b"abcd\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    store = fresh(box, verify_octets=0)
    assert sent_by(opened(store), 0) == b"abcd\r\n"
    assert sizes_in(opened(store)) == [6]


NAMES = st.lists(
    st.sampled_from(
        ["1600000000", "7", ".", "M1P1", ",S=5", ",W=6", ",W=99", ":2,", "S", ":x", "\n", "\r", "é"]
    ),
    min_size=1,
).map("".join)


@given(NAMES)
def test_a_usual_name_is_plain_and_begins_with_the_time_and_tells_the_size(name: str) -> None:
    base = name.partition(":")[0]
    for found, octets in usual_sizes({base: f"cur/{name}"}).items():
        assert (found, octets) == (base, wire_size(base))
        assert (stored_size(base), wire_size(base)) == (5, octets)
        assert is_plain(f"cur/{name}")
        assert delivery_order(base) == (int(base[:10]), base)


@given(st.binary(), st.booleans())
def test_no_claim_that_is_true_is_refuted(stored: bytes, convert_cr: bool) -> None:
    counted = Measure(convert_cr=convert_cr)
    counted.feed(stored)
    assert not is_refuted(counted.octets, len(stored), None)
    assert not is_refuted(counted.octets, len(stored), len(stored))
