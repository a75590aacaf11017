"""Programs that fetch mail, each run once, with no settings but those it is given.

Those that log in by a SASL mechanism fetch what is there to ``message`` in their home, and leave
it on the server; ``line`` is one of ``sasl_client.LINES``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from servers import Gateway, need


def run(home: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A client's process, which sees no settings but those in its home and ``env``."""
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C", **env},
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def port_of(gateway: Gateway, line: str) -> int:
    """Where the gateway serves this line."""
    return gateway.tls if line == "pop3s" else gateway.plain


def curl(
    gateway: Gateway, home: Path, line: str, user: str, mechanism: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Fetch the first message; ``user`` is name and password."""
    need("curl")
    scheme = "pop3s" if line == "pop3s" else "pop3"
    options = ["--disable", "--silent", "--show-error", "--max-time", "60", "--user", user]
    options += ["--login-options", f"AUTH={mechanism}", "--output", "message"]
    options += ["--cacert", str(gateway.certificate)]
    if line == "stls":
        options.append("--ssl-reqd")
    return run(home, "curl", *options, f"{scheme}://localhost:{port_of(gateway, line)}/1", **env)


def fetchmail(
    gateway: Gateway, home: Path, line: str, login: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Fetch everything; ``login`` is what its settings say of mechanism, user and password."""
    need("fetchmail")
    trust = f"sslcertck sslcertfile '{gateway.certificate}'"
    tls = {"plain": "sslproto ''", "stls": f"sslproto 'tls1.2+' {trust}", "pop3s": f"ssl {trust}"}
    rc = home / "rc"
    rc.write_text(
        "set no bouncemail\nset invisible\n"
        f"poll localhost service {port_of(gateway, line)} proto pop3 {login} {tls[line]}\n"
        f'  keep fetchall no rewrite mda "cat >{home}/message"\n'
    )
    rc.chmod(0o600)
    options = ["--nodetach", "--nosyslog", "--fetchmailrc", str(rc), "--pidfile", f"{home}/pid"]
    return run(home, "fetchmail", *options, **env)


def mpop(
    gateway: Gateway, home: Path, line: str, login: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Fetch everything; ``login`` is what its settings say of mechanism, user and password."""
    need("mpop")
    rc = home / "rc"
    rc.write_text(
        f"account test\nhost localhost\n{login}\nkeep on\n"
        f"port {port_of(gateway, line)}\n"
        f"tls {'off' if line == 'plain' else 'on'}\n"
        f"tls_starttls {'on' if line == 'stls' else 'off'}\n"
        f"tls_trust_file {gateway.certificate}\n"
        f"uidls_file {home}/ids\ndelivery mbox {home}/message\n"
    )
    rc.chmod(0o600)
    return run(home, "mpop", "--file", str(rc), "test", **env)
