"""A POP3 client that logs in to the real gateway by SASL, and Kerberos' part in that."""

from __future__ import annotations

import contextlib
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import Gateway

LINES = ("plain", "stls", "pop3s")

Respond = Callable[[bytes], bytes]
"""From a challenge to the response; asked with ``b""`` first, for the initial one."""


class SaslClient:
    """One connection; a server that goes silent fails the test and never hangs it."""

    def __init__(self, gateway: Gateway, line: str = "plain") -> None:
        self._gateway = gateway
        port = gateway.tls if line == "pop3s" else gateway.plain
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        if line == "pop3s":
            self._begin_tls()
        self._file = self._socket.makefile("rb")
        assert self.reply().startswith(b"+OK")
        if line == "stls":
            assert self.ask(b"STLS").startswith(b"+OK")
            self._begin_tls()
            self._file = self._socket.makefile("rb")

    def _begin_tls(self) -> None:
        self._socket = self._gateway.context().wrap_socket(
            self._socket, server_hostname="localhost"
        )

    def __enter__(self) -> SaslClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Drop the line without a word."""
        self._file.close()
        self._socket.close()

    @property
    def certificate(self) -> bytes:
        """The server's, in DER."""
        return self._socket.getpeercert(binary_form=True)  # type: ignore[attr-defined,no-any-return]

    def reply(self) -> bytes:
        """A line without its end; nothing once the server has closed."""
        return self._file.readline().removesuffix(b"\r\n")

    def write(self, line: bytes) -> None:
        """A line."""
        self._socket.sendall(line + b"\r\n")

    def ask(self, line: bytes) -> bytes:
        """The reply to a line; nothing when the server has closed."""
        with contextlib.suppress(ConnectionError):
            self.write(line)
            return self.reply()
        return b""

    def block(self, command: bytes) -> list[bytes]:
        """The lines of a multi-line reply."""
        assert self.ask(command).startswith(b"+OK")
        lines = []
        while (line := self.reply()) != b".":
            lines.append(line)
        return lines

    def challenge(self, line: bytes) -> bytes:
        """What the server wants next."""
        reply = self.ask(line)
        assert reply.startswith(b"+ "), reply
        return b64decode(reply[2:], validate=True)

    def log_in(self, mechanism: str, respond: Respond, *, initial: bool = False) -> bytes:
        """The whole exchange; its last reply."""
        command = f"AUTH {mechanism}".encode()
        if initial:
            command += b" " + (b64encode(respond(b"")) or b"=")
        reply = self.ask(command)
        while reply.startswith(b"+ "):
            reply = self.ask(b64encode(respond(b64decode(reply[2:], validate=True))))
        return reply


class Ticket:
    """A Kerberos ticket's holder, as ``Respond`` (RFC 4752 section 3.1)."""

    def __init__(
        self, ccache: Path, *, service: str = "pop", acts_as: str = "", mutual: bool = True
    ) -> None:
        import gssapi

        flags = [gssapi.RequirementFlag.integrity]
        if mutual:
            flags.append(gssapi.RequirementFlag.mutual_authentication)
        self._context: Any = gssapi.SecurityContext(
            name=gssapi.Name(f"{service}@localhost", gssapi.NameType.hostbased_service),
            creds=gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{ccache}"}),
            usage="initiate",
            mech=gssapi.MechType.kerberos,
            flags=flags,
        )
        self._acts_as = acts_as.encode()
        self.sent: list[bytes] = []
        """Every token, for who looks for them elsewhere."""

    def __call__(self, challenge: bytes) -> bytes:
        """The next token."""
        if not self._context.complete:
            token = self._context.step(challenge or None) or b""
        else:
            assert self._context.unwrap(challenge).message == b"\1\0\0\0"
            token = self._context.wrap(b"\1\0\0\0" + self._acts_as, False).message
        self.sent.append(token)
        return token
