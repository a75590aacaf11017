"""schemathesis over the API of a running server: what it describes is what it does."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from mail_places import MailOf
from servers import USER, Gateway, free_port

pytestmark = pytest.mark.interop

TOKEN = "s3cret"

HTTP = """
[http]
endpoint = "tcp:{port}:interface=127.0.0.1"
[http.tokens.all]
token = "{token}"
scopes = ["operate"]
[retention]
enabled = true
policy = "unread 60d"
"""

CONFIG = """
[checks]
# 422: a value follows the schema and still cannot be, such as a text that is no IP address. 428: a
# deletion without its confirmation. 501: the store of this server cannot do it.
positive_data_acceptance.expected-statuses = [
    "2xx", "401", "403", "404", "409", "422", "428", "501",
]
# 413: more items than the schema allows can be more octets than any body may have.
negative_data_rejection.expected-statuses = ["400", "401", "404", "405", "413", "422"]
# A deletion with dry_run deletes nothing.
use_after_free.enabled = false
"""


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass octets on until there are no more."""
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def from_many_addresses(port: int) -> Iterator[int]:
    """A port whose clients reach the server at ``port``, each from an address of its own.

    schemathesis tries wrong tokens at each operation, and the server refuses all tokens of an
    address after some of them.
    """
    numbers = count(1)

    class Forward(BaseRequestHandler):
        def handle(self) -> None:
            _, high, low = next(numbers).to_bytes(3, "big")
            with socket.create_connection(
                ("127.0.0.1", port), source_address=(f"127.1.{high}.{low}", 0)
            ) as server:
                back = Thread(target=pump, args=(server, self.request), daemon=True)
                back.start()
                pump(self.request, server)
                back.join()

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Forward) as forwarding:
        thread = Thread(target=forwarding.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield forwarding.server_address[1]
        finally:
            forwarding.shutdown()
            thread.join()


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_that_is_not_described(mail_of: MailOf, tmp_path: Path) -> None:
    port = free_port()
    gateway = Gateway(tmp_path, HTTP.format(port=port, token=TOKEN), mail_of(tmp_path))
    gateway.mail.put(USER, [b"Subject: x\r\n\r\nx\r\n"] * 3)
    gateway.run()
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    try:
        with from_many_addresses(port) as outer:
            command = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(config),
                "run",
            ]
            command += [f"http://127.0.0.1:{outer}/v1/openapi.json", "--no-color"]
            command += ["--header", f"Authorization: Bearer {TOKEN}"]
            command += ["--max-examples", "5", "--seed", "1", "--generation-database", "none"]
            ended = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500
            )
    finally:
        gateway.stop()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "internal error" not in gateway.log
    assert "Traceback" not in gateway.log
    assert "path=/v1/kick" in gateway.log
    assert TOKEN not in gateway.log
