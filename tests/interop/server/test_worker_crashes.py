"""Worker processes killed again and again, while mail comes in and is read and deleted."""

from __future__ import annotations

import os
import poplib
import random
import re
import signal
import smtplib
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from gateway.directory import passwd_entries
from servers import PASSWORD, Gateway, fill, free_port

pytestmark = pytest.mark.interop

WORKERS = 5
SERVERS = 10
KILLS = 20
"""Of each server.  One that loses its workers again and again starts them more and more slowly."""

USERS = [f"user{number}@example.org" for number in range(6)]
LONGEST_MAILBOX = 40


class Mailbox:
    """What clients know of a mailbox: what has to be in it, and what must not."""

    def __init__(self, user: str) -> None:
        self.user = user
        self._lock = threading.Lock()
        self._kept: set[str] = set()
        """Acknowledged by LMTP or shown by POP3, and not deleted."""
        self._marked: set[str] = set()
        """Deleted, without an answer to QUIT: it may be there or not."""
        self._gone: set[str] = set()
        """Deleted, and QUIT was answered by +OK."""
        self._uids: dict[str, str] = {}
        self._messages: dict[str, str] = {}
        self.acknowledged = 0

    def snapshot(self) -> tuple[set[str], set[str]]:
        """What a session that begins now has to show, and what it must not show."""
        with self._lock:
            return set(self._kept), set(self._gone)

    def acknowledge(self, message: str) -> None:
        """LMTP has answered 250."""
        with self._lock:
            self.acknowledged += 1
            if message not in self._gone | self._marked:
                self._kept.add(message)

    def show(self, shown: dict[str, str], due: set[str], gone: set[str]) -> None:
        """A session has shown these messages with these unique-ids."""
        with self._lock:
            assert due <= shown.keys(), f"lost: {due - shown.keys()}"
            assert not gone & shown.keys(), f"came back: {gone & shown.keys()}"
            for message, uid in shown.items():
                assert self._uids.setdefault(message, uid) == uid, "a unique-id changed"
                assert self._messages.setdefault(uid, message) == message, "a unique-id came again"
            self._kept |= shown.keys()
            self._marked -= shown.keys()

    def mark(self, messages: set[str]) -> None:
        """QUIT is sent, and these are marked as deleted."""
        with self._lock:
            self._kept -= messages
            self._marked |= messages

    def remove(self, messages: set[str]) -> None:
        """QUIT was answered by +OK."""
        with self._lock:
            self._marked -= messages
            self._gone |= messages

    @property
    def deleted(self) -> int:
        """How many messages are gone for certain."""
        return len(self._gone)

    @property
    def is_full(self) -> bool:
        """Whether its reader has to catch up."""
        return len(self._kept) >= LONGEST_MAILBOX


def text_of(message: str) -> bytes:
    """A message of some length, which its name decides."""
    lines = random.Random(message).randrange(1, 400)
    return b"Subject: %b\r\n\r\n" % message.encode() + b".line of text\r\n" * lines


def name_of(head: list[bytes]) -> str:
    """The name of a message, from its header."""
    return next(line for line in head if line.startswith(b"Subject: "))[9:].decode()


def read_and_delete(port: int, box: Mailbox, chance: random.Random) -> None:
    """A session that looks at every message, reads one, and deletes some."""
    due, gone = box.snapshot()
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    try:
        client.user(box.user)
        client.pass_(PASSWORD)
        uids = [line.decode().split()[1] for line in client.uidl()[1]]
        names = [name_of(client.top(number, 0)[1]) for number in range(1, len(uids) + 1)]
        assert len(set(names)) == len(names), "a message is there twice"
        box.show(dict(zip(names, uids, strict=True)), due, gone)
        for number in chance.sample(range(len(names)), min(1, len(names))):
            content = b"\r\n".join(client.retr(number + 1)[1]) + b"\r\n"
            assert content.endswith(text_of(names[number]))
        doomed = [number for number in range(len(names)) if chance.random() < 0.4]
        for number in doomed:
            client.dele(number + 1)
        box.mark({names[number] for number in doomed})
        client.quit()
        box.remove({names[number] for number in doomed})
    finally:
        client.close()


class Load:
    """Clients that deliver and that read, until they are told to end.

    A connection that ends before its answer is what they expect; a refusal is not.
    """

    def __init__(self, gateway: Gateway, lmtp: int, boxes: list[Mailbox]) -> None:
        self._boxes = boxes
        self._gateway = gateway
        self._lmtp = lmtp
        self._changed = threading.Condition()
        self._over = False
        self._done = 0
        self.dropped = 0
        self.odd: list[BaseException] = []
        readers = [(self._read, boxes[number::2]) for number in range(2)]
        senders = [(self._send, boxes)] * 2
        self._threads = [threading.Thread(target=self._run, args=one) for one in readers + senders]
        for thread in self._threads:
            thread.start()

    def _run(self, step: Callable[[Mailbox], None], boxes: list[Mailbox]) -> None:
        while not self._over:
            try:
                step(random.choice(boxes))
            except (OSError, EOFError, smtplib.SMTPServerDisconnected, poplib.error_proto) as error:
                if isinstance(error, poplib.error_proto) and error.args[0] != "-ERR EOF":
                    self._end(error)
                self.dropped += 1
            except BaseException as error:
                self._end(error)

    def _end(self, error: BaseException) -> None:
        self.odd.append(error)
        self._over = True
        self._advance()

    def _advance(self) -> None:
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def _read(self, box: Mailbox) -> None:
        read_and_delete(self._gateway.plain, box, random.Random())
        self._advance()

    def _send(self, box: Mailbox) -> None:
        with smtplib.LMTP("127.0.0.1", self._lmtp, timeout=60) as client:
            for _ in range(random.randrange(1, 6)):
                if box.is_full:
                    return
                name = f"{box.user}-{next(_NUMBERS)}"
                assert client.sendmail("sender@example.net", box.user, text_of(name)) == {}
                box.acknowledge(name)
                self._advance()

    def wait_for(self, more: int) -> None:
        """Until so many more sessions have ended and messages were taken."""
        with self._changed:
            wanted = self._done + more
            assert self._changed.wait_for(lambda: self._done >= wanted or self._over, 120)

    def stop(self) -> None:
        """End, and tell what was odd."""
        self._over = True
        for thread in self._threads:
            thread.join(120)
        if self.odd:
            raise self.odd[0]


_NUMBERS = count(1)


def kill_some(gateway: Gateway, load: Load) -> list[int]:
    """Kill workers that serve, whatever they are at; their process ids.

    Goes on until a client has lost its connection by one of them.
    """
    killed: list[int] = []
    while len(killed) < KILLS or (not load.dropped and len(killed) < 3 * KILLS):
        load.wait_for(random.randrange(1, 12))
        serving = set(map(int, re.findall(r"worker \d ready: pid=(\d+)", gateway.log)))
        if victims := serving.difference(killed):
            killed.append(random.choice(sorted(victims)))
            os.kill(killed[-1], signal.SIGKILL)
    return killed


@pytest.mark.parametrize("_", range(SERVERS))
def test_workers_killed_at_random_lose_nothing_bring_nothing_back_and_change_no_id(
    tmp_path: Path, _: int
) -> None:
    lmtp = free_port()
    gateway = Gateway(
        tmp_path,
        f'[processes]\nworkers = {WORKERS}\n[lmtp]\nendpoint = "tcp:{lmtp}:interface=127.0.0.1"\n',
    )
    boxes = [Mailbox(user) for user in USERS]
    for user in USERS:
        passwd_entries.put(str(gateway.accounts), user, PASSWORD.encode(), "SSHA256")
        fill(tmp_path / "mail" / user, [])
    gateway.start(gateway.command, b" info ready: ")
    load = Load(gateway, lmtp, boxes)
    try:
        killed = kill_some(gateway, load)
        load.stop()
        for box in boxes:
            read_and_delete(gateway.plain, box, random.Random())
    finally:
        load.stop()
        gateway.stop()
        print(gateway.log)  # seen when the test fails
    log = gateway.log
    for pid in killed:
        assert f"ended: pid={pid} reason=signal SIGKILL" in log
    assert "Traceback" not in log
    ids = re.findall(r" session_end: .* session=(\w+)", log)
    assert len(ids) == len(set(ids))
    assert load.dropped > 0
    assert sum(box.acknowledged for box in boxes) > 0 < sum(box.deleted for box in boxes)
