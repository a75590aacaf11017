"""A control socket that answers as a test says, for the command ``pop3gw``."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

from attrs import frozen


@frozen
class Asked:
    """A request."""

    method: str
    target: str
    body: bytes = b""


@frozen
class Said:
    """An answer; ``body``: a JSON value, or octets as they are."""

    body: Any
    status: int = 200
    kind: str = "application/json"


@contextmanager
def control_socket(path: Path, answer: Callable[[Asked], Said | bytes]) -> Iterator[list[Asked]]:
    """The requests so far; octets as an answer are sent in place of any HTTP."""
    requests: list[Asked] = []

    class Control(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = Asked(
                self.command,
                self.path,
                self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )
            requests.append(asked)
            said = answer(asked)
            if isinstance(said, bytes):
                self.wfile.write(said)
                self.close_connection = True
                return
            raw = isinstance(said.body, bytes)
            body = said.body if raw else json.dumps(said.body).encode()
            self.send_response(said.status)
            self.send_header("Content-Type", said.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Unix(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Unix(str(path), Control) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield requests
        finally:
            server.shutdown()
            thread.join()
