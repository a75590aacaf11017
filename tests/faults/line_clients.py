"""POP3 and LMTP clients that see each octet, and tell a refusal from an end of the connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

PATIENCE = 60.0
"""Seconds for a reply: above all time limits of a gateway together."""


class NoAnswer(Exception):
    """The connection was refused, or ended before the reply."""


class Silence(Exception):
    """The connection is open, and the reply does not come."""


class Refused(Exception):
    """``-ERR``, or a reply code of LMTP that is not the wanted one; its text."""


class LineClient:
    """A connection to a loopback port."""

    def __init__(self, port: int, *, patience: float = PATIENCE) -> None:
        """``patience``: seconds for a reply.

        Raises ``NoAnswer`` or ``Silence``, as all methods do.
        """
        self._patience = patience
        try:
            self._line = socket.create_connection(("127.0.0.1", port), timeout=patience)
        except OSError as error:
            raise NoAnswer(f"connect: {error}") from None
        self._file = self._line.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._file.close()
        self._line.close()

    def fileno(self) -> int:
        """Of its socket."""
        return self._line.fileno()

    def send(self, data: bytes) -> None:
        """Send octets."""
        try:
            self._line.sendall(data)
        except TimeoutError:
            raise Silence("it does not read") from None
        except OSError as error:
            raise NoAnswer(f"send: {error}") from None

    def line(self) -> bytes:
        """A line, with its CRLF."""
        try:
            line = self._file.readline()
        except TimeoutError:
            raise Silence(f"no reply within {self._patience:.0f} s") from None
        except OSError as error:
            raise NoAnswer(f"read: {error}") from None
        if not line.endswith(b"\r\n"):
            raise NoAnswer("the connection ended")
        return line


class Pop3(LineClient):
    """A POP3 session."""

    def __init__(self, port: int, *, patience: float = PATIENCE) -> None:
        super().__init__(port, patience=patience)
        self.reply()

    def reply(self) -> str:
        """The text after ``+OK``.  Raises ``Refused``."""
        line = self.line().decode().rstrip()
        if not line.startswith("+OK"):
            raise Refused(line)
        return line[3:].strip()

    def ask(self, command: str) -> str:
        """Send a command.  Raises ``Refused``."""
        self.send(f"{command}\r\n".encode())
        return self.reply()

    def login(self, user: str, password: str) -> None:
        """Raises ``Refused``."""
        self.ask(f"USER {user}")
        self.ask(f"PASS {password}")

    def text(self) -> bytes:
        """The lines up to the dot, without dot-stuffing."""
        lines = []
        while (line := self.line()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b".") else line)
        return b"".join(lines)

    def ask_text(self, command: str) -> bytes:
        """Send a command with a reply of several lines.  Raises ``Refused``."""
        self.ask(command)
        return self.text()

    def column(self, command: str) -> list[str]:
        """The second column of UIDL or LIST.  Raises ``Refused``."""
        return [line.split(" ")[1] for line in self.ask_text(command).decode().splitlines()]

    def texts(self, commands: Sequence[str]) -> list[bytes | str]:
        """Replies to commands that are sent at once: a text, or why it was refused."""
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        found: list[bytes | str] = []
        for _ in commands:
            try:
                self.reply()
            except Refused as refused:
                found.append(str(refused))
            else:
                found.append(self.text())
        return found


class Lmtp(LineClient):
    """An LMTP connection."""

    def __init__(self, port: int, *, patience: float = PATIENCE) -> None:
        """Raises ``Refused`` too."""
        super().__init__(port, patience=patience)
        self.reply()
        self.ask("LHLO client.example.net")

    def reply(self) -> str:
        """A reply, which has to be 2xx or 354.  Raises ``Refused``."""
        while (line := self.line())[3:4] == b"-":
            pass
        text = line.decode().rstrip()
        if text[0] not in "23":
            raise Refused(text)
        return text

    def ask(self, command: str) -> str:
        """Send a command.  Raises ``Refused``."""
        self.send(f"{command}\r\n".encode())
        return self.reply()

    def deliver(self, recipients: Sequence[str], content: bytes) -> dict[str, str]:
        """Each recipient that did not get it, and why.  Raises ``Refused``: none did."""
        self.ask("MAIL FROM:<sender@example.net>")
        failed: dict[str, str] = {}
        for name in recipients:
            try:
                self.ask(f"RCPT TO:<{name}>")
            except Refused as refused:
                failed[name] = str(refused)
        accepted = [name for name in recipients if name not in failed]
        if not accepted:
            self.ask("RSET")
            return failed
        self.ask("DATA")
        stuffed = b"".join(
            b"." + line if line.startswith(b".") else line
            for line in content.splitlines(keepends=True)
        )
        self.send(stuffed + b".\r\n")
        for name in accepted:
            try:
                self.reply()
            except Refused as refused:
                failed[name] = str(refused)
        return failed
