"""A relay before a server, which breaks connections, or is silent, when a test wants it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import NamedTuple


class _Line(NamedTuple):
    """A connection of a client, and what its two threads share."""

    client: socket.socket
    server: socket.socket
    lost: threading.Event
    """The client gets no further answer."""

    ended: threading.Event
    """The server has answered all that it will."""

    forgotten: threading.Event
    """Nothing passes any more, and neither end is told."""


class Relay:
    """Forwards connections to a loopback port, and is asked to break some, or to be silent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.passed = 0
        """Octets of answers that were passed on."""
        self.lose_answer_to = b""
        """The next request with this in it gets no answer: its connection is closed."""
        self.hold_back = b""
        """The next request with this in it reaches the server by ``let_pass`` only.

        The client's connection is closed."""
        self._held: list[tuple[socket.socket, bytes, threading.Event]] = []
        self.away_after = b""
        """The next request with this in it gets no answer, nor does any later one."""
        self.cut_request_after = -1
        """Octets of the requests of one connection after which it is closed; -1: never."""
        self.cut_after = -1
        """Octets of the answers of one connection after which it is closed; -1: never."""
        self.cuts = 0
        """How many connections were broken."""
        self.connections = self.ended = 0
        """How many connections there were, and how many have ended."""
        self.is_away = False
        """Close connections at once."""
        self.answers: Mapping[bytes, bytes] = {}
        """Of requests that begin so: what is answered in the server's place."""
        self.freeze_at = b""
        """The next request with this in it does not pass, nor does anything after it."""
        self.freeze_after = -1
        """Octets of the answers of one connection after which nothing passes; -1: never."""
        self._passes = threading.Event()
        self._passes.set()
        self._open: list[socket.socket] = []
        self._lines: list[_Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def go_away(self) -> None:
        """Close all connections, and each new one."""
        self.is_away = True
        for one in self._open:
            _close(one)

    def forget(self) -> None:
        """Let nothing pass on open connections, as a firewall that has forgotten them."""
        for line in self._lines:
            line.forgotten.set()

    def freeze(self) -> None:
        """Take connections and let nothing pass on any: as a server that hangs.

        A firewall that drops packets looks the same.
        """
        self._passes.clear()

    @property
    def is_frozen(self) -> bool:
        """Whether nothing passes."""
        return not self._passes.is_set()

    def thaw(self) -> None:
        """Let all pass, and what is stuck too: as a server that goes on."""
        self._passes.set()

    def let_pass(self) -> None:
        """Send what was held back; returns when the server has answered."""
        for server, data, answered in self._held:
            server.sendall(data)
            assert answered.wait(60), "no answer in time"
        self._held.clear()

    def stop(self) -> None:
        """End."""
        self.go_away()
        self.thaw()
        _close(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_away:
                    client.close()
                    continue
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                if self.is_away:
                    # It went away meanwhile.
                    _close(client)
                    _close(server)
                    continue
                line = _Line(client, server, *(threading.Event() for _ in range(3)))
                self._lines.append(line)
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(line,), daemon=True).start()

    def _requests(self, line: _Line) -> None:
        client, server, lost, ended, forgotten = line
        got = 0
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if forgotten.is_set():
                    continue
                if self.freeze_at and self.freeze_at in data:
                    self.freeze_at = b""
                    self.freeze()
                self._passes.wait()
                got += len(data)
                if 0 <= self.cut_request_after < got:
                    self.cut_request_after = -1
                    self.cuts += 1
                    _close(client)
                    break
                if self.hold_back and self.hold_back in data:
                    self.hold_back = b""
                    self._held.append((server, data, ended))
                    self.ended += 1
                    lost.set()
                    _close(client)
                    return
                if self.away_after and self.away_after in data:
                    self.away_after = b""
                    self.is_away = True
                    lost.set()
                if self.lose_answer_to and self.lose_answer_to in data:
                    self.lose_answer_to = b""
                    lost.set()
                for begin, answer in self.answers.items():
                    if data.startswith(begin):
                        client.sendall(answer)
                        break
                else:
                    server.sendall(data)
        self.ended += 1
        _close(server)

    def _answers(self, line: _Line) -> None:
        client, server, lost, ended, _ = line
        sent = 0
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if 0 <= self.freeze_after < sent + len(data):
                    self.freeze_after = -1
                    self.freeze()
                self._passes.wait()
                if lost.is_set() or 0 <= self.cut_after < sent + len(data):
                    self.cuts += 1
                    self.cut_after = -1
                    break
                client.sendall(data)
                sent += len(data)
                self.passed += len(data)
        ended.set()
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
