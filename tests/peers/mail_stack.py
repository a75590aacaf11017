"""The mail stack of ``etc/stack``: Postfix, OpenLDAP and pop3gw as compose.yaml describes them."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from programs import need
from servers import Server, free_port

STACK = Path(__file__).parents[2] / "etc" / "stack"
NAME = "mail.example.org"
"""What the certificate is for."""
ADMINISTRATOR = ("-Q", "-Y", "EXTERNAL", "-H", "ldapi:///")

PROGRAMS = (
    *("chmod", "env", "mkdir", "mount", "nsenter", "rm", "setpriv", "sh", "tini", "tr"),
    "unshare",
    *("openssl", "postfix", "slapd", "slapadd", "slappasswd"),
    *("ldapadd", "ldapmodify", "ldappasswd", "ldapwhoami"),
)


class MailStack(Server):
    """All three behind loopback ports of ours, in a network of their own."""

    def __init__(self, directory: Path) -> None:
        """``directory`` gets secrets, certificates and volumes."""
        need(*PROGRAMS, root=True)
        super().__init__(directory)
        self.smtp, self.pop3, self.pop3s, self.policy = (free_port() for _ in range(4))
        self.authority = directory / "tls/ca/ca.crt"
        self.mailboxes = directory / "volumes/mailboxes"
        self.program = [sys.executable, str(STACK / "run_local.py"), str(directory)]
        subprocess.run([STACK / "prepare", str(directory)], check=True, timeout=60)

    def run(self) -> MailStack:
        """Start it; returns once each part is healthy."""
        ports = {self.smtp: 25, self.pop3: 1110, self.pop3s: 1995, self.policy: 12340}
        forward = Path(__file__).with_name("namespace_forward.py")
        self.start(
            [
                *(sys.executable, str(forward)),
                *(f"{outer}:{inner}" for outer, inner in ports.items()),
                *("--", *self.program, "up"),
            ],
            b"all services are healthy",
            env={"MAIL_DATA": str(self.directory)},
        )
        return self

    def do(self, *words: str, stdin: str = "") -> str:
        """``exec``, ``kill`` or ``restart``; the output."""
        done = subprocess.run(
            [*self.program, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout + done.stderr, self.log)
        return done.stdout

    def add(self, user: str, password: str, *lines: str) -> None:
        """A user in LDAP, as users/alice.ldif, with these lines in place of the optional ones."""
        entry = (STACK / "users/alice.ldif").read_text()
        entry = re.sub(r"^(pop3gw|preferred).*\n", "", entry, flags=re.M).replace("alice", user)
        entry += "\n".join(lines) + "\n"
        self.do("exec", "openldap", "ldapadd", *ADMINISTRATOR, stdin=entry)
        dn = f"uid={user},ou=people,dc=example,dc=org"
        self.do("exec", "openldap", "ldappasswd", *ADMINISTRATOR, "-s", password, dn)

    def end(self, service: str, how: str = "KILL") -> None:
        """End the process of a service; returns once another one is healthy."""
        started = f"{service} | started".encode()
        times = self.log.encode().count(started)
        self.do("kill", "-s", how, service)
        self.wait_for(started, times=times + 1)
        self.do("healthy", service)

    def answer(self, recipient: str, *, size: int = 0) -> tuple[int, str]:
        """What Postfix replies to RCPT."""
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=60) as client:
            client.ehlo()
            client.mail("sender@example.net", [f"SIZE={size}"] if size else [])
            code, text = client.rcpt(recipient)
        return code, text.decode()

    def flush_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Have Postfix try all mail again and again until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log
            self.do("exec", "postfix", "postqueue", "-f")
            time.sleep(0.05)
