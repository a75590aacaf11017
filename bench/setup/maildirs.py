"""Makes the mail: Maildirs written once and hard-linked into each server's own copy."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

DOMAIN = "bench.example"

_WORDS = "the mail was read by those who wrote it, naïve café and all, once only".encode().split()


class Drop(NamedTuple):
    """One user, and what a right server says about the mail."""

    local: str
    messages: int
    octets: int
    """The sum of all sizes, as STAT tells it."""
    reply_octets: int
    """The sum of all RETR replies without their status lines."""

    @property
    def login(self) -> str:
        return f"{self.local}@{DOMAIN}"

    @property
    def password(self) -> str:
        return f"pw-{self.local}"


class Copies:
    """The mail of one run: one copy below each of ``roots``, owned by ``owner``.

    The files are hard links of one another: a server may rename, mark or
    remove its own without the other noticing, and both read the same pages of
    the page cache.
    """

    def __init__(self, roots: Sequence[Path], owner: int | None) -> None:
        self._roots = roots
        self._owner = owner

    def make(self, local: str, messages: Iterator[bytes], new_each: int = 0) -> Drop:
        """Write a Maildir; every ``new_each``-th message lies in ``new`` (0: none)."""
        first, *others = [self._directories(local, root) for root in self._roots]
        count = octets = replies = 0
        chance = random.Random(local)
        for count, message in enumerate(messages, 1):
            size = wire_size(message)
            name = f"{_unique(count, chance)},S={len(message)},W={size}"
            unseen = new_each and count % new_each == 0
            place = f"new/{name}" if unseen else f"cur/{name}:2,S"
            (first / place).write_bytes(message)
            give(first / place, self._owner)
            for other in others:
                os.link(first / place, other / place)
            octets += size
            replies += size + stuffed_dots(message) + len(b".\r\n")
        return Drop(local, count, octets, replies)

    def again(self, drop: Drop, local: str) -> Drop:
        """Another user with the same mail, all of it in ``cur``."""
        names = os.listdir(self._cur(drop.local))
        source = self._cur(drop.local)
        for root in self._roots:
            target = self._directories(local, root) / "cur"
            for name in names:
                os.link(source / name, target / name)
        return drop._replace(local=local)

    def _cur(self, local: str) -> Path:
        return self._roots[0] / local / "Maildir" / "cur"

    def _directories(self, local: str, root: Path) -> Path:
        home = root / local
        maildir = home / "Maildir"
        for path in (home, maildir, maildir / "cur", maildir / "new", maildir / "tmp"):
            path.mkdir(parents=True)
            give(path, self._owner)
        return maildir


def give(path: Path, owner: int | None) -> None:
    """Give a file or a directory to a user and the group of the same number; None: it stays."""
    if owner is not None:
        os.chown(path, owner, owner)


def deliver(root: Path, drop: Drop, messages: Sequence[bytes]) -> int:
    """Add mail to ``new`` below one of the roots, as a delivery does; how many there are then."""
    maildir = root / drop.local / "Maildir"
    owner = maildir.stat()
    chance = random.Random()
    for message in messages:
        now = time.time_ns()
        name = f"{now // 10**9}.M{now // 1000 % 10**6}P{chance.randrange(300, 4_000_000)}.mx1"
        file = maildir / "new" / f"{name},S={len(message)},W={wire_size(message)}"
        file.write_bytes(message)
        os.chown(file, owner.st_uid, owner.st_gid)
    return sum(len(os.listdir(maildir / folder)) for folder in ("cur", "new"))


def _unique(number: int, chance: random.Random) -> str:
    """A base name as deliveries make it: a mail about each minute.

    Microseconds and process vary as in life, because names in a regular
    pattern collide in the hash that Dovecot keeps them in, and a poll of
    10,000 messages then costs it 180 ms instead of 20.
    """
    micros, process = chance.randrange(1_000_000), chance.randrange(300, 4_000_000)
    return f"{1600000000 + 61 * number}.M{micros}P{process}.mx1"


def wire_size(message: bytes) -> int:
    """Octets as RETR sends them, dot-stuffing not counted (RFC 1939 section 11)."""
    return len(message) + message.count(b"\n") - message.count(b"\r\n")


def stuffed_dots(message: bytes) -> int:
    """How many octets dot-stuffing adds (RFC 1939 section 3)."""
    return message.count(b"\n.") + message.startswith(b".")


def account_lines(drops: Sequence[Drop]) -> str:
    """A passwd-file for ``drops``, in the form that both servers read."""
    lines = []
    for drop in drops:
        salt = hashlib.sha256(drop.local.encode()).digest()[:8]
        digest = hashlib.sha512(drop.password.encode() + salt).digest()
        stored = base64.b64encode(digest + salt).decode()
        lines.append(f"{drop.login}:{{SSHA512}}{stored}::::::\n")
    return "".join(lines)


class Stored(NamedTuple):
    """How a message is stored."""

    line_end: bytes = b"\n"
    """LF as Postfix and Dovecot store it, or CRLF."""

    dots: int = 0
    """Every so many lines one that begins with a dot; 0: none."""


LF = Stored()
CRLF = Stored(b"\r\n")


def letters(count: int, octets: int, stored: Stored = LF) -> Iterator[bytes]:
    """Text messages of about ``octets``."""
    chance = random.Random(octets)
    for number in range(count):
        head = _header(number, "text/plain; charset=utf-8")
        lines = []
        room = octets - len(head)
        while room > 0:
            lines.append(b" ".join(chance.choices(_WORDS, k=14)))
            room -= len(lines[-1]) + len(stored.line_end)
        yield _stored(head, lines, stored)


def notes(count: int) -> Iterator[bytes]:
    """Mail as short as it gets, for a maildrop whose length is the point."""
    for number in range(count):
        yield _stored(_header(number, "text/plain"), [b"Number %d." % number], LF)


def attachments(count: int, octets: int, stored: Stored) -> Iterator[bytes]:
    """Base64 in lines of 76, which is what large mail is."""
    for number in range(count):
        noise = random.Random(number).randbytes(octets * 57 // 78)
        head = _header(number, "application/octet-stream")
        yield _stored(head, base64.encodebytes(noise).splitlines(), stored)


def _stored(head: bytes, lines: list[bytes], stored: Stored) -> bytes:
    if stored.dots:
        lines[:: stored.dots] = [b"." + line for line in lines[:: stored.dots]]
    end = stored.line_end
    return head.replace(b"\r\n", end) + b"".join(line + end for line in lines)


def _header(number: int, kind: str) -> bytes:
    return (
        f"Return-Path: <sender@{DOMAIN}>\r\n"
        f"From: Some Sender <sender@{DOMAIN}>\r\n"
        f"To: reader@{DOMAIN}\r\n"
        f"Subject: Message {number}\r\n"
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        f"Message-ID: <{number}@{DOMAIN}>\r\n"
        "MIME-Version: 1.0\r\n"
        f"Content-Type: {kind}\r\n"
        "\r\n"
    ).encode()
