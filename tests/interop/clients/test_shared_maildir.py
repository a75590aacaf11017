"""Dovecot and the gateway on one Maildir at the same time."""

from __future__ import annotations

import contextlib
import imaplib
import itertools
import os
import poplib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers import OWNER, PASSWORD, USER, Dovecot, Gateway, fill

pytestmark = pytest.mark.interop

Seen = dict[str, int]
"""Unique-id to the number that a message has in its header."""

BOTH_WAYS = pytest.mark.parametrize(
    ("first", "second"), [("dovecot", "gateway"), ("gateway", "dovecot")]
)

WATCHERS = ("gateway 1", "gateway 2", "dovecot 1", "dovecot 2")


class Shared:
    """A Maildir that both serve."""

    def __init__(self, directory: Path) -> None:
        self.gateway = Gateway(directory)
        self.maildir = self.gateway.maildir
        fill(self.maildir, [])
        (directory / "dovecot").mkdir()
        self.dovecot = Dovecot(directory / "dovecot", self.maildir)
        self._count = itertools.count(1)

    @property
    def uidlist(self) -> Path:
        """The list of unique-ids that both keep."""
        return Path(self.maildir, "dovecot-uidlist")

    def deliver(self, count: int = 1, *, final_newline: bool = True) -> list[int]:
        """Deliver as an MTA does; the numbers in the messages' headers."""
        numbers = [next(self._count) for _ in range(count)]
        for number in numbers:
            name = f"{1_700_000_000 + number}.M{number}P1.test"
            file = self.maildir / "tmp" / name
            end = "\n" if final_newline else ""
            file.write_text(f"X-Number: {number}\nSubject: x\n\nbody {number}\n.{end}")
            os.chown(file, OWNER, OWNER)
            file.rename(self.maildir / "new" / name)
        return numbers

    @contextlib.contextmanager
    def pop(self, server: str) -> Iterator[poplib.POP3]:
        """Log in to one of the two; ends without QUIT if the test has not sent it."""
        port = self.gateway.plain if server == "gateway" else self.dovecot.plain
        client = poplib.POP3("127.0.0.1", port, timeout=30)
        try:
            client.user(USER)
            client.pass_(PASSWORD)
            yield client
        finally:
            client.close()

    @contextlib.contextmanager
    def imap(self) -> Iterator[imaplib.IMAP4]:
        """Dovecot's IMAP, INBOX selected."""
        with imaplib.IMAP4("127.0.0.1", self.dovecot.imap, timeout=30) as client:
            client.login(USER, PASSWORD)
            assert client.select()[0] == "OK"
            yield client

    def seen(self, server: str) -> Seen:
        """All messages as one of the two shows them in a session of its own."""
        with self.pop(server) as client:
            found = messages(client)
            client.quit()
        return found

    def delete(self, server: str, *numbers: int) -> None:
        """Delete messages by the numbers in their headers."""
        with self.pop(server) as client:
            for position, number in enumerate(messages(client).values(), 1):
                if number in numbers:
                    client.dele(position)
            client.quit()


def messages(client: poplib.POP3) -> Seen:
    """What a session shows, in its order."""
    ids = [line.split()[1].decode() for line in client.uidl()[1]]
    assert len(set(ids)) == len(ids)
    return {uid: number_of(client.top(position, 0)[1]) for position, uid in enumerate(ids, 1)}


def number_of(lines: list[bytes]) -> int:
    """A message's number."""
    return int(lines[0].removeprefix(b"X-Number: "))


def flags(client: imaplib.IMAP4) -> list[set[str]]:
    """The flags of each message."""
    answers = client.fetch("1:*", "(FLAGS)")[1]
    return [
        set(re.findall(r"\\\w+", answer.decode())) - {"\\Recent"}
        for answer in answers
        if isinstance(answer, bytes)
    ]


def agree(shared: Shared) -> Seen:
    """What both servers show, which is the same."""
    ours, theirs = shared.seen("gateway"), shared.seen("dovecot")
    assert list(ours.items()) == list(theirs.items())
    return ours


@pytest.fixture
def shared(directory: Path) -> Iterator[Shared]:
    """Both servers at work on an empty Maildir; none of them has been asked yet."""
    servers = Shared(directory)
    with contextlib.ExitStack() as stack:
        for server in (servers.dovecot, servers.gateway):
            server.run()
            stack.callback(lambda server: print(server.log), server)  # seen when a test fails
            stack.callback(server.stop)
        yield servers


@pytest.mark.conformance("X-C0007")
@BOTH_WAYS
def test_ids_that_one_server_gives_the_other_shows(shared: Shared, first: str, second: str) -> None:
    numbers = shared.deliver(20)
    given = shared.seen(first)
    assert sorted(given.values()) == numbers
    status = shared.uidlist.stat()
    assert (status.st_uid, status.st_gid) == (OWNER, OWNER)
    assert not shared.uidlist.with_name("dovecot-uidlist.lock").exists()
    assert list(shared.seen(second).items()) == list(given.items())
    ids = [int(uid) for uid in given]
    assert ids == sorted(ids)


@pytest.mark.conformance("P-20")
def test_no_id_changes_when_dovecot_loses_its_index(shared: Shared) -> None:
    shared.deliver(5)
    before = agree(shared)
    for index in shared.maildir.glob("dovecot.index*"):
        index.unlink()
    shared.deliver()
    after = agree(shared)
    assert before.items() < after.items()
    assert len(after) == 6


@pytest.mark.conformance("P-20")
def test_a_replaced_uidlist_is_not_taken_for_one_that_grew(shared: Shared) -> None:
    shared.deliver(3)
    shared.seen("dovecot")
    before = shared.seen("gateway")
    inode = shared.uidlist.stat().st_ino
    shared.deliver(3)
    header, *entries = shared.uidlist.read_text().splitlines()
    (shared.maildir / "cur" / f"{entries[0].partition(':')[2]}:2,").unlink()
    uids = list(range(max(map(int, before)) + 1, max(map(int, before)) + 4))
    entries += [f"{uid} :{1_700_000_000 + n}.M{n}P1.test" for n, uid in enumerate(uids, 4)]
    header = re.sub(r" N\d+", f" N{uids[-1] + 1}", header)
    # Dovecot writes a new file for all new mail; many file systems soon use an inode again.
    for _ in range(20):
        lock = shared.uidlist.with_name("dovecot-uidlist.lock")
        lock.write_text("\n".join([header, *entries[1:], ""]))
        os.chown(lock, OWNER, OWNER)
        lock.rename(shared.uidlist)
        if shared.uidlist.stat().st_ino == inode:
            break
    expected = dict(list(before.items())[1:]) | {str(uid): n for n, uid in enumerate(uids, 4)}
    assert agree(shared) == expected


@pytest.mark.conformance("X-C0009", "O-C0041")
@BOTH_WAYS
def test_files_that_share_a_base_name_are_messages_for_both(
    shared: Shared, first: str, second: str
) -> None:
    numbers = shared.deliver(8)
    for number, path in zip(numbers, sorted((shared.maildir / "new").iterdir()), strict=True):
        name = f"Re: letter {number}.eml" if number < 5 else f"17.M1P1.host:2,{'FRST'[number - 5]}"
        path.rename(shared.maildir / "cur" / name)
    for server in (first, second, first):
        shared.seen(server)
    before = agree(shared)
    assert sorted(before.values()) == numbers
    shared.delete("gateway", 3)
    after = agree(shared)
    assert {uid: number for uid, number in before.items() if number != 3} == after


@pytest.mark.conformance("X-C0009")
def test_a_list_with_one_number_for_two_messages_is_put_right_for_both(shared: Shared) -> None:
    numbers = shared.deliver(4)
    names = sorted(path.name for path in (shared.maildir / "new").iterdir())
    lines = "".join(f"5 :{name}\n" for name in names)
    shared.uidlist.write_text(f"3 V1700000000 N6\n{lines}")
    os.chown(shared.uidlist, OWNER, OWNER)
    ours = shared.seen("gateway")
    assert (len(ours), "5" in ours) == (len(numbers), True)
    assert agree(shared) == ours


def test_a_line_that_a_dead_writer_left_incomplete_costs_no_id(shared: Shared) -> None:
    shared.deliver(3)
    before = agree(shared)
    with shared.uidlist.open("ab") as file:
        file.write(b"4000000 :17000")
    shared.deliver()
    after = agree(shared)
    assert list(after.items())[:3] == list(before.items())
    assert sorted(after.values()) == [1, 2, 3, 4]
    assert max(map(int, after)) > max(map(int, before))
    assert shared.uidlist.stat().st_uid == OWNER


@pytest.mark.conformance("X-N4", "X-N5", "O-C0021", "P-2", "P-3")
@BOTH_WAYS
def test_sizes_are_right_whatever_dovecot_has_noted_in_the_uidlist(
    shared: Shared, first: str, second: str
) -> None:
    shared.deliver(3)
    shared.deliver(3, final_newline=False)
    for server in (first, second, first):
        with shared.pop(server) as client:
            listed = [int(line.split()[1]) for line in client.list()[1]]
            sent = [
                sum(len(line) + 2 for line in client.retr(position)[1])
                for position in range(1, len(listed) + 1)
            ]
            client.quit()
        if server == "gateway":
            assert listed == sent
        else:
            # Dovecot does not count the line end that it adds.
            assert listed == sent[:3] + [size - 2 for size in sent[3:]]


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_both_agree_and_no_id_changes_while_mail_comes_and_goes(shared: Shared) -> None:
    known: Seen = {}
    there: set[int] = set()
    turns = itertools.cycle(["dovecot", "gateway", "gateway", "dovecot", "dovecot"])
    for turn in range(12):
        there |= set(shared.deliver(1 + turn % 3))
        server = next(turns)
        shown = shared.seen(server)
        for uid, number in shown.items():
            assert known.setdefault(uid, number) == number
        assert len(set(known.values())) == len(known), "a message has changed its id"
        assert set(shown.values()) == there
        if turn % 4 == 3:
            gone = min(there)
            shared.delete(next(turns), gone)
            there.discard(gone)
        assert set(agree(shared).values()) == there


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_the_id_of_the_newest_message_is_not_given_again_after_its_deletion(
    shared: Shared,
) -> None:
    highest = 0
    for deleter, giver in itertools.product(["dovecot", "gateway"], repeat=2):
        first, second, newest = shared.deliver(3)
        used = agree(shared)
        assert min(map(int, used)) > highest
        shared.delete(deleter, newest)
        assert list(agree(shared).values()) == [first, second]
        (new,) = shared.deliver()
        shown = shared.seen(giver)
        assert agree(shared) == shown
        (fresh,) = set(shown) - set(used)
        assert shown[fresh] == new
        assert int(fresh) > max(map(int, used))
        # With all gone there is no file left that remembers.
        shared.delete(deleter, first, second, new)
        assert agree(shared) == {}
        highest = int(fresh)


def test_what_is_fetched_by_pop3_is_read_in_imap(shared: Shared) -> None:
    shared.deliver(4)
    ids = shared.seen("dovecot")
    with shared.pop("gateway") as client:
        client.retr(2)
        client.top(3, 10)
        client.quit()
    with shared.imap() as imap:
        assert flags(imap) == [set(), {"\\Seen"}, set(), set()]
        imap.store("4", "+FLAGS", "\\Flagged")
    with shared.pop("gateway") as client:
        client.retr(4)
        client.quit()
    with shared.imap() as imap:
        assert flags(imap) == [set(), {"\\Seen"}, set(), {"\\Seen", "\\Flagged"}]
    assert agree(shared) == ids


def test_what_imap_marks_during_a_session_is_kept_when_the_session_marks_it_too(
    shared: Shared,
) -> None:
    shared.deliver(2)
    with shared.pop("gateway") as client:
        client.retr(1)
        with shared.imap() as imap:
            imap.store("1", "+FLAGS", "(\\Flagged \\Answered)")
        client.quit()
    with shared.imap() as imap:
        assert flags(imap) == [{"\\Seen", "\\Flagged", "\\Answered"}, set()]


@pytest.mark.conformance("X-C0004", "P-17")
def test_a_message_that_imap_renames_during_a_session_is_still_there(shared: Shared) -> None:
    numbers = shared.deliver(4)
    with shared.pop("gateway") as client:
        before = messages(client), client.list()[1], client.stat()
        with shared.imap() as imap:
            imap.store("1:4", "+FLAGS", "(\\Flagged \\Seen)")
        assert not list((shared.maildir / "new").iterdir())
        assert [number_of(client.retr(position)[1]) for position in range(1, 5)] == numbers
        with shared.imap() as imap:
            imap.store("1:4", "-FLAGS", "\\Flagged")
            imap.store("1:4", "+FLAGS", "\\Answered")
        assert [number_of(client.top(position, 0)[1]) for position in range(1, 5)] == numbers
        shared.deliver()
        assert (messages(client), client.list()[1], client.stat()) == before
        client.dele(3)
        with shared.imap() as imap:
            imap.store("3", "+FLAGS", "\\Deleted")
        client.quit()
    assert sorted(agree(shared).values()) == [1, 2, 4, 5]


@pytest.mark.conformance("X-C0004", "P-17", "P-18")
def test_a_message_that_imap_expunges_during_a_session_is_an_error_and_no_other_is(
    shared: Shared,
) -> None:
    shared.deliver(4)
    with shared.pop("gateway") as client:
        uidl, listing, stat = client.uidl()[1], client.list()[1], client.stat()
        with shared.imap() as imap:
            imap.store("2", "+FLAGS", "\\Deleted")
            imap.expunge()
        commands: list[Callable[[], object]] = [lambda: client.retr(2), lambda: client.top(2, 0)]
        for command in commands:
            with pytest.raises(poplib.error_proto, match=r"^b'-ERR"):
                command()
        assert [number_of(client.retr(position)[1]) for position in (1, 3, 4)] == [1, 3, 4]
        assert (client.uidl()[1], client.list()[1], client.stat()) == (uidl, listing, stat)
        # Deleting it again is what the client wanted anyway.
        client.dele(2)
        client.dele(4)
        client.quit()
    assert sorted(agree(shared).values()) == [1, 3]


def test_what_one_server_deletes_is_gone_at_the_other(shared: Shared) -> None:
    shared.deliver(5)
    left = list(agree(shared).items())
    for deleter, numbers in (("dovecot", (2, 4)), ("gateway", (1, 5))):
        shared.delete(deleter, *numbers)
        left = [item for item in left if item[1] not in numbers]
        assert list(agree(shared).items()) == left


@pytest.mark.conformance("X-N3", "X-C0008", "O-C0040")
def test_no_id_changes_its_message_while_both_log_in_and_mail_arrives(shared: Shared) -> None:
    logins, done = threading.Semaphore(0), threading.Event()
    delivered = 0

    def watch(server: str) -> list[tuple[int, Seen]]:
        """Each login's messages, and how many had arrived before it."""
        seen = []
        while not done.is_set():
            before = delivered
            logins.release()
            seen.append((before, shared.seen(server)))
        return seen

    def deliver() -> None:
        nonlocal delivered
        try:
            for _ in range(60):
                assert logins.acquire(timeout=30)
                delivered = shared.deliver(3)[-1]
        finally:
            done.set()

    with ThreadPoolExecutor(5) as pool:
        watching = {name: pool.submit(watch, name.split()[0]) for name in WATCHERS}
        pool.submit(deliver).result(600)
        seen = {name: watcher.result(600) for name, watcher in watching.items()}
    final = agree(shared)
    assert sorted(final.values()) == list(range(1, delivered + 1))
    for name, logins_seen in seen.items():
        for before, shown in logins_seen:
            assert shown.items() <= final.items(), name
            assert set(shown.values()) >= set(range(1, before + 1)), name
