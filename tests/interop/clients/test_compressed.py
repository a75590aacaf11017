"""Mail that Dovecot compresses when it saves it, read by both servers."""

from __future__ import annotations

import contextlib
import imaplib
import os
import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.setup import dovecot_config
from gateway.store.maildir.listing.compressed import is_packed
from servers import PASSWORD, USER, Dovecot, Gateway, corpus, fill

pytestmark = pytest.mark.interop

TEXTS = [
    b"Subject: short\r\n\r\n.dot\r\n",
    b"Subject: long\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(50_000)),
    b"Subject: no end\r\n\r\nno end",
]


def saving(method: str) -> str:
    """Dovecot's settings for this."""
    if dovecot_config.version().startswith("2.3."):
        return f"mail_plugins = zlib\nplugin {{\n  zlib_save = {method}\n}}\n"
    return f"mail_plugins {{\n  mail_compress = yes\n}}\nmail_compress_write_method = {method}\n"


@contextlib.contextmanager
def both(directory: Path, method: str) -> Iterator[tuple[Gateway, Dovecot]]:
    """Both servers at work on an empty Maildir."""
    gateway = Gateway(directory)
    fill(gateway.maildir, [])
    (directory / "dovecot").mkdir()
    dovecot = Dovecot(directory / "dovecot", gateway.maildir, more=saving(method))
    with contextlib.ExitStack() as stack:
        for server in (dovecot, gateway):
            server.run()
            stack.callback(lambda server: print(server.log), server)  # seen when a test fails
            stack.callback(server.stop)
        yield gateway, dovecot


def fetched(port: int) -> list[tuple[int, bytes, bytes]]:
    """The size of each message by LIST, what RETR gives, and what TOP."""
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    try:
        client.user(USER)
        client.pass_(PASSWORD)
        sizes = [int(line.split()[1]) for line in client.list()[1]]
        found = []
        for number, size in enumerate(sizes, 1):
            whole, top = client.retr(number)[1], client.top(number, 1)[1]
            found.append((size, b"\r\n".join([*whole, b""]), b"\r\n".join([*top, b""])))
        return found
    finally:
        client.close()


@pytest.mark.parametrize("method", ["gz", "bz2", "lz4", "zstd"])
def test_what_dovecot_saves_compressed_comes_out_as_dovecot_gives_it(
    directory: Path, method: str
) -> None:
    texts = [*TEXTS, *(text for _, text in corpus()[:20] if b"\0" not in text)]
    with both(directory, method) as (gateway, dovecot):
        with imaplib.IMAP4("127.0.0.1", dovecot.imap, timeout=30) as client:
            client.login(USER, PASSWORD)
            for text in texts:
                assert client.append("INBOX", "", "", text)[0] == "OK"
        files = [
            f"{folder}/{name}"
            for folder in (gateway.maildir / "cur", gateway.maildir / "new")
            for name in os.listdir(folder)
        ]
        assert len(files) == len(texts)
        assert all(map(is_packed, files))
        ours, theirs = fetched(gateway.plain), fetched(dovecot.plain)
        assert [whole for _, whole, _ in ours] == [whole for _, whole, _ in theirs]
        assert [top for *_, top in ours] == [top for *_, top in theirs]
        assert all(size == len(whole) for size, whole, _ in ours)
