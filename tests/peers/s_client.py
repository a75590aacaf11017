"""OpenSSL's client on one connection: what it says of the handshake."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from programs import need


class Handshake:
    """What ``openssl s_client`` prints of a connection that it ends by QUIT."""

    def __init__(self, port: int, *options: str) -> None:
        need("openssl")
        # Read to the end: the tickets of TLS 1.3 come after the handshake.
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *options]
        ended = subprocess.run(
            command,
            input=b"QUIT\r\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.output = (ended.stdout + ended.stderr).decode("utf-8", "replace")

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.output, re.M)
        return found[1] if found else ""

    @property
    def subject(self) -> str:
        """The common name of the server's certificate; empty: there was none."""
        return self._find(r"^subject=.*CN ?= ?(\S+)")

    @property
    def signature(self) -> str:
        """The kind of the server's signature, such as ``ECDSA``; empty in a resumed session."""
        return self._find(r"^Peer signature type: (\S+)")

    @property
    def resumed(self) -> bool:
        """Whether the session is one from before."""
        if not re.search(r"^(New|Reused), TLSv", self.output, re.M):
            raise AssertionError(self.output)
        return bool(self._find(r"^(Reused), TLSv"))


def resumes(directory: Path, port: int, *options: str, at: int = 0, then: str = "") -> bool:
    """Whether a session with a port is resumed there, or at another one; no session: False."""
    session = directory / "session.pem"
    session.unlink(missing_ok=True)
    assert not Handshake(port, *options, "-sess_out", str(session)).resumed
    if not session.exists():
        return False
    more = then.split() or options
    return Handshake(at or port, *more, "-sess_in", str(session)).resumed
