"""The process is killed at every step it takes on the disk: no message is lost, no id changes.

The parent, a test, prepares a mailbox.  A child opens it with the real store and kills itself
with SIGKILL before its first step, in the next round before its second, and so on until it
lives; a write is also cut short after each of its octets.  Then the parent opens what is there.
Children are forked by this file run as a program, so that each costs a fork only.
"""

from __future__ import annotations

import builtins
import gc
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from twisted.internet.defer import Deferred, execute

from gateway.model import Account, Form
from gateway.store.maildir import MaildirStore
from gateway.store.snapshot import Reading
from gateway.store.uidlist import NAME
from gateway.wire.body import Canonical

ALICE = Account(name="alice@example.org", mailbox="alice@example.org")
FIRST_ID = 100
LOCK_TIMEOUT = 10.0
"""Far below the age at which anybody's lock file is stale."""

Shown = dict[bytes, str]
"""What RETR sends to what UIDL shows."""


def run_now(work: Callable[[], Any]) -> Deferred[Any]:
    """A worker that has done the work before it returns."""
    return execute(work)


def open_store(root: str, *, create: bool = False, exclusive: bool = False) -> MaildirStore:
    """A store as after a restart, which remembers nothing."""
    reading = Reading(create=create, lock_timeout=LOCK_TIMEOUT)
    return MaildirStore(root, "{name}", run_now, reading=reading, exclusive=exclusive)


def result_of(deferred: Deferred[Any]) -> Any:
    """What it has fired with; its failure is raised."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def sent_by(maildrop: Any, index: int) -> bytes:
    """A message as RETR sends it."""
    body = result_of(maildrop.retrieve(index))
    steps = Canonical() if body.form is Form.STORED else None
    data = b""
    while (chunk := body.read_now()) != b"":
        if chunk is None:
            chunk = result_of(body.read())
        data += steps.feed(chunk) if steps else chunk
    body.close()
    return data + (steps.finish() if steps else b"")


def shown_by(maildrop: Any) -> Shown:
    """All that a client can see, each id once and each message once."""
    listing = result_of(maildrop.listing())
    uids = list(listing.uids)
    contents = [sent_by(maildrop, index) for index in range(len(uids))]
    assert [len(content) for content in contents] == list(listing.sizes)
    assert len(set(uids)) == len(uids), "two messages share an id"
    assert len(set(contents)) == len(contents), "one message is there twice"
    return dict(zip(contents, uids, strict=True))


# -- the child: dies ----------------------------------------------------------

AUDITED = frozenset(
    {
        *("open", "fcntl.flock", "os.listdir", "os.scandir", "os.truncate"),
        *("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "os.chown"),
    }
)


class Death:
    """Counts the steps that this process takes in a directory, and ends it before one of them."""

    def __init__(self, directory: str, step: int, cuts: int) -> None:
        """``cuts`` is at how many places a write is cut short."""
        self._directory = directory
        self._left = step
        self._cuts = cuts

    def arm(self) -> None:
        """Count from here on."""
        really_write, really_open = os.write, builtins.open

        def write(file: int, data: Any) -> int:
            for cut in range(0, len(data), max(1, len(data) // self._cuts)):
                if self._is_due():
                    really_write(file, data[:cut])
                    self._die()
            return really_write(file, data)

        def sync(_: int) -> None:
            # Whoever is killed leaves what it wrote with the kernel, synced or not.
            self._step()

        class Unbuffered(io.FileIO):
            def write(self, data: Any) -> int:
                return write(self.fileno(), data)

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
            if "b" in mode and set(mode) & set("wax") and self._is_ours(path):
                file = Unbuffered(path, mode)
                self._step()
                return file  # type: ignore[return-value]
            return really_open(path, mode, *args, **kwargs)

        os.write, os.fsync, builtins.open = write, sync, opened  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in AUDITED:
            return
        # A link's second name may be ours where its first is not.
        if isinstance(args[0], int) or any(map(self._is_ours, args[:2])):
            self._step()

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str) and path.startswith(self._directory)

    def _is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _step(self) -> None:
        if self._is_due():
            self._die()

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


MARKED, READ = frozenset({1, 3, 6, 7}), frozenset({0, 2, 3, 5})
"""Indexes into a mailbox of eight."""


def act_open(death: Death, root: str, _: Callable[[Shown], None], **options: bool) -> None:
    """Log in."""
    death.arm()
    result_of(open_store(root, **options).open(ALICE))


def act_quit(death: Death, root: str, tell: Callable[[Shown], None], **options: bool) -> None:
    """Log in, look around, mark some messages, read some, QUIT."""
    maildrop, give_back = result_of(open_store(root, **options).open(ALICE))
    tell(shown_by(maildrop))
    death.arm()
    result_of(maildrop.finish(MARKED, READ))
    give_back()


def act_quit_after_moves(
    death: Death, root: str, tell: Callable[[Shown], None], **options: bool
) -> None:
    """As ``act_quit``, but meanwhile another program has given all messages other names."""
    maildrop, _ = result_of(open_store(root, **options).open(ALICE))
    tell(shown_by(maildrop))
    for path in files_in(f"{root}/{ALICE.mailbox}"):
        base = path.name.partition(":")[0]
        path.rename(path.parent.parent / "cur" / f"{base}:2,F")
    death.arm()
    result_of(maildrop.finish(MARKED, READ))


ACTS = {"open": act_open, "quit": act_quit, "quit after moves": act_quit_after_moves}


Acts = dict[str, Callable[..., None]]


def child(order: dict[str, Any], pipe: int, acts: Acts) -> None:
    """One child's life."""
    really_write = os.write

    def tell(shown: Shown) -> None:
        text = json.dumps({content.decode("latin-1"): uid for content, uid in shown.items()})
        really_write(pipe, text.encode() + b"\n")

    root = order["root"]
    death = Death(root, order["step"], order["cuts"])
    acts[order["act"]](death, root, tell, **order["options"])


def serve(channel: socket.socket, acts: Acts) -> None:
    """Fork a child for each order, and say how it ended and what it had seen."""
    gc.freeze()
    for line in channel.makefile("rb"):
        order = json.loads(line)
        ours, its = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(order, its, acts)
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        os.close(its)
        with open(ours, "rb") as pipe:
            seen = {key: value for line in pipe for key, value in json.loads(line).items()}
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        channel.sendall(json.dumps([status, seen]).encode() + b"\n")


# -- the parent: looks at what is left ----------------------------------------


class End(NamedTuple):
    """How a child ended."""

    killed: bool
    seen: Shown


class Doomed:
    """Children that die when told to."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._replies = channel.makefile("rb")

    def live(self, root: Path, act: str, step: int, *, cuts: int = 400, **options: bool) -> End:
        """Have a child perform ``act`` and die before its ``step``-th step, if it has so many."""
        order = {"root": str(root), "act": act, "step": step, "cuts": cuts, "options": options}
        self._channel.sendall(json.dumps(order).encode() + b"\n")
        status, seen = json.loads(self._replies.readline())
        assert status in (0, -signal.SIGKILL), f"the child failed at step {step}"
        return End(status != 0, {text.encode("latin-1"): uid for text, uid in seen.items()})


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lives on, so that syncing would cost time and show nothing."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def doomed() -> Iterator[Doomed]:
    yield from doomed_children(__file__)


def doomed_children(program: str) -> Iterator[Doomed]:
    """Children of a file like this one, which knows what they are to do."""
    ours, its = socket.socketpair()
    ours.settimeout(60)
    command = [sys.executable, program, str(its.fileno())]
    with its, ours, subprocess.Popen(command, pass_fds=[its.fileno()]) as process:
        its.close()
        yield Doomed(ours)
        ours.shutdown(socket.SHUT_RDWR)
        try:
            process.wait(30)
        finally:
            process.kill()


def base_of(number: int) -> str:
    """A Maildir name; some tell sizes, some do not."""
    base = f"{1_700_000_000 + number}.M{number}P1.host"
    size = len(as_sent(content_of(number)))
    return f"{base},W={size}" if number % 4 == 0 else base


def content_of(number: int) -> bytes:
    """A message, with or without what makes it an effort to send."""
    end = b"\n" if number % 3 == 0 else b"\r\n"
    lines = [b"Subject: %d" % number, b"", b".dot", b"\0\xff" * number, b"last"]
    return end.join(lines) + (end if number % 2 else b"")


def as_sent(content: bytes) -> bytes:
    """Text with CRLF line ends, the last included."""
    text = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def files_in(maildir: str | Path) -> list[Path]:
    """All message files."""
    folders = (Path(maildir, folder) for folder in ("new", "cur"))
    return sorted(path for folder in folders for path in folder.iterdir())


class Mailbox:
    """A Maildir of the messages 1 to ``messages``, of which 1 to ``listed`` have ids."""

    def __init__(self, directory: Path, messages: int, *, listed: int = 0) -> None:
        self.root = directory
        self.maildir = directory / ALICE.mailbox
        if directory.exists():
            shutil.rmtree(directory)
        for folder in ("tmp", "new", "cur"):
            (self.maildir / folder).mkdir(parents=True)
        self.stored: set[bytes] = set()
        for number in range(1, messages + 1):
            self.deliver(number)
        self.listed = {number: FIRST_ID + number for number in range(1, listed + 1)}
        self.seen = {as_sent(content_of(number)): str(uid) for number, uid in self.listed.items()}
        if listed:
            self.write_list()

    def deliver(self, number: int) -> None:
        """Have a message delivered; each second one has been looked at."""
        where = f"cur/{base_of(number)}:2," if number % 2 else f"new/{base_of(number)}"
        (self.maildir / where).write_bytes(content_of(number))
        self.stored.add(content_of(number))

    def write_list(self, *, head: str = "", form: str = "{uid} :{base}\n", tail: str = "") -> None:
        """Write the uidlist as other programs would."""
        lines = [
            form.format(uid=uid, base=base_of(number), number=number)
            for number, uid in self.listed.items()
        ]
        head = head or f"3 V1600000000 N{FIRST_ID + len(lines) + 1} G{'0' * 32}\n"
        (self.maildir / NAME).write_text(head + "".join(lines) + tail)

    def shows(
        self, store: MaildirStore, *, seen: Shown, maybe_gone: frozenset[bytes] = frozenset()
    ) -> Shown:
        """Log in; what is shown agrees with the files and with what was seen earlier."""
        maildrop, give_back = result_of(store.open(ALICE))
        shown = shown_by(maildrop)
        give_back()
        stored = {path.read_bytes() for path in files_in(self.maildir)}
        assert self.stored - maybe_gone <= stored <= self.stored
        assert set(shown) == set(map(as_sent, stored))
        for content, uid in seen.items():
            assert shown.get(content, uid) == uid, "an id has changed"
        return shown

    def survived(self, seen: Shown, *, maybe_gone: frozenset[bytes] = frozenset(), **options: bool):  # type: ignore[no-untyped-def]
        """A new process finds all as it was, goes on, and so does the one after it."""
        after = self.shows(open_store(str(self.root), **options), seen=seen, maybe_gone=maybe_gone)
        number = len(self.stored) + 1
        self.deliver(number)
        store = open_store(str(self.root), **options)
        later = self.shows(store, seen=after, maybe_gone=maybe_gone)
        new = later.pop(as_sent(content_of(number)))
        assert later == after
        used = {*seen.values(), *after.values()}
        assert int(new) > max((int(uid) for uid in used if uid.isdecimal()), default=0)
        assert not list((self.maildir / "tmp").iterdir())


Prepare = Callable[[Path], Mailbox]


def not_listed(directory: Path) -> Mailbox:
    return Mailbox(directory, 5)


def grown(directory: Path) -> Mailbox:
    return Mailbox(directory, 7, listed=4)


def torn(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 7, listed=4)
    mailbox.write_list(tail=f"{FIRST_ID + 5} W57 :{base_of(5)[:9]}")
    return mailbox


def torn_to_a_whole_name(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 7, listed=4)
    mailbox.write_list(tail=f"{FIRST_ID + 50} :{base_of(5)}")
    return mailbox


def of_version_1(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    mailbox.write_list(head="1 1600000000 130\n", form="{uid} {base}:2,S\n")
    return mailbox


def carried_over(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    mailbox.write_list(form="{uid} P!old-{number}+id W1 :{base}\n", tail="torn")
    for number in mailbox.listed:
        size = len(as_sent(content_of(number)))
        text = (mailbox.maildir / NAME).read_text()
        line = f"P!old-{number}+id W"
        (mailbox.maildir / NAME).write_text(text.replace(f"{line}1 ", f"{line}{size} "))
        mailbox.seen[as_sent(content_of(number))] = f"!old-{number}+id"
    return mailbox


def mostly_gone(directory: Path) -> Mailbox:
    mailbox = Mailbox(directory, 6, listed=4)
    gone = "".join(f"{uid} :1600000000.M{uid}P1.host\n" for uid in range(200, 1300))
    mailbox.write_list(tail=gone)
    mailbox.seen[b"one of those that are gone"] = "1299"
    return mailbox


def eight(directory: Path) -> Mailbox:
    return Mailbox(directory, 8, listed=8)


@pytest.mark.conformance("X-C0007", "X-C0008", "X-C0009", "O-C0039", "O-C0040", "O-C0041", "P-20")
@pytest.mark.parametrize(
    "prepare",
    [not_listed, grown, torn, torn_to_a_whole_name, of_version_1, carried_over, mostly_gone],
)
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_death_at_any_step_of_a_login_changes_no_id_and_leaves_no_lock(
    doomed: Doomed, tmp_path: Path, prepare: Prepare, exclusive: bool
) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = prepare(tmp_path / "mail")
        # What is appended is there octet by octet; what is rewritten takes its name when whole.
        cuts = 200 if prepare is grown and not exclusive else 8
        killed, _ = doomed.live(mailbox.root, "open", step, cuts=cuts, exclusive=exclusive)
        mailbox.survived(mailbox.seen, exclusive=exclusive)
    assert step > 10


@pytest.mark.conformance("X-V0006", "X-C0008", "O-C0040")
@pytest.mark.parametrize(("act", "steps"), [("quit", 8), ("quit after moves", 10)])
def test_a_death_at_any_step_of_quit_takes_marked_messages_only(
    doomed: Doomed, tmp_path: Path, act: str, steps: int
) -> None:
    marked = frozenset(content_of(index + 1) for index in MARKED)
    step, killed, left = 0, True, set()
    while killed:
        step += 1
        mailbox = eight(tmp_path / "mail")
        killed, seen = doomed.live(mailbox.root, act, step)
        assert seen == mailbox.seen
        left.add(len(files_in(mailbox.maildir)))
        mailbox.survived(seen, maybe_gone=marked)
    assert step >= steps
    assert left == {8, 7, 6, 5, 4}


def test_a_death_at_any_step_of_making_a_maildir_leaves_one_that_can_be_used(
    doomed: Doomed, tmp_path: Path
) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = Mailbox(tmp_path / "mail", 0)
        shutil.rmtree(mailbox.maildir)
        killed, _ = doomed.live(mailbox.root, "open", step, create=True)
        if killed:
            result_of(open_store(str(mailbox.root), create=True).open(ALICE))
        mailbox.survived({}, create=True)
    assert step > 3


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_a_second_death_while_the_first_is_cleared_up_changes_nothing(
    doomed: Doomed, tmp_path: Path
) -> None:
    first, killed_first = 0, True
    while killed_first:
        first += 1
        second, killed = 0, True
        while killed:
            second += 1
            mailbox = Mailbox(tmp_path / "mail", 3, listed=2)
            killed_first, _ = doomed.live(mailbox.root, "open", first, cuts=2)
            killed, _ = doomed.live(mailbox.root, "open", second, cuts=2)
            try:
                mailbox.survived(mailbox.seen)
            except Exception as error:
                error.add_note(f"first death at step {first}, second at step {second}")
                raise


@pytest.mark.conformance("X-C0008", "O-C0040")
def test_a_process_that_lives_on_goes_on_where_another_died(doomed: Doomed, tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        mailbox = Mailbox(tmp_path / "mail", 3, listed=3)
        veteran = open_store(str(mailbox.root))
        seen = mailbox.shows(veteran, seen=mailbox.seen)
        for number in (4, 5):
            mailbox.deliver(number)
        killed, _ = doomed.live(mailbox.root, "open", step, cuts=20)
        seen = mailbox.shows(veteran, seen=seen)
        assert len(seen) == 5
        mailbox.survived(seen)
        mailbox.shows(veteran, seen=seen)


@pytest.mark.conformance("X-C0008", "X-C0009", "O-C0040")
def test_a_mailbox_bears_one_death_after_the_other(doomed: Doomed, tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail", 2, listed=2)
    seen = mailbox.seen
    for step in range(1, 61):
        mailbox.deliver(2 + step)
        doomed.live(mailbox.root, "open", step, cuts=10)
        if step % 3 == 0:
            before = max(map(int, seen.values()))
            now = mailbox.shows(open_store(str(mailbox.root)), seen=seen)
            assert all(int(uid) > before for content, uid in now.items() if content not in seen)
            seen = now
    assert len(seen) == 62


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent, ACTS)
