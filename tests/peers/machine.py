"""A machine of its own for the commands of the manual: they are typed as they stand, as root."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import run_local
from pages import commands
from programs import need
from servers import Server

ROOT = Path(__file__).parents[2]

RUNS = "the machine runs"

FIRST = f"""\
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print({RUNS!r}, flush=True)
while True: signal.pause()"""
INSIDE = "[ -e /in-the-machine ] || exit 99;"
"""Nothing is to be typed on the machine outside."""
SYSTEMCTL = Path(__file__).with_name("systemctl")


class Machine(Server):
    """A writable overlay of this machine's root, in namespaces, with a loopback network."""

    def __init__(self, directory: Path) -> None:
        need("sh", "unshare", "nsenter", "setpriv", "mount", root=True)
        super().__init__(directory)
        self._pid = 0

    def run(self) -> Machine:
        """Start it with pop3gw below /opt/pop3gw, as pip installs it."""
        script = "\n".join(
            (
                run_local.overlay(self.directory / "work"),
                'mkdir -p "$root/opt/pop3gw" "$root/run/slapd"',
                f'mount --bind {shlex.quote(sys.prefix)} "$root/opt/pop3gw"',
                'mount -t tmpfs tmpfs "$root/run"; mount -t tmpfs tmpfs "$root/tmp"',
                'install -d -o openldap -g openldap "$root/run/slapd"',
                f'install -m 755 {shlex.quote(str(SYSTEMCTL))} "$root/usr/local/bin/systemctl"',
                r"""printf '#!/bin/sh\nshift 2; exec setpriv --reuid pop3gw --regid pop3gw """
                r'''--init-groups "$@"\n' >"$root/usr/local/bin/sudo"''',
                'chmod 755 "$root/usr/local/bin/sudo"',
                'echo 127.0.0.1 localhost mail.example.org >"$root/etc/hosts"',
                ': >"$root/in-the-machine"',
                # Process 1 lets the kernel reap what others leave.
                f'exec chroot "$root" {shlex.quote(sys.executable)} -c {shlex.quote(FIRST)}',
            )
        )
        forward = Path(__file__).with_name("namespace_forward.py")
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
        self.start([sys.executable, str(forward), "--", *inside, "sh", "-c", script], RUNS.encode())
        self._pid = self._find()
        return self

    def _find(self) -> int:
        """The process 1 of the machine, which has said that it runs: the last of its line."""
        assert self.process is not None
        pid = self.process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        return pid

    def type(self, text: str, *, stdin: str = "", fails: bool = False) -> str:
        """Do what a block says, in the directory of the source; its output."""
        into = ("--mount", "--pid", "--net", "--root", "--wd")
        enter = ["nsenter", "--target", str(self._pid), *into]
        clean = {"HOME": "/root", "LANG": "C.UTF-8"}
        clean["PATH"] = f"{run_local.DEFAULT_PATH}:/opt/pop3gw/bin"
        done = subprocess.run(
            [*enter, "bash", "-e", "-c", f"{INSIDE} cd {shlex.quote(str(ROOT))}\n{text}"],
            cwd="/",
            env=clean,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) == fails, (text, done.returncode, done.stdout)
        return done.stdout

    def type_page(self, page: str) -> str:
        """All commands of a page that tests run; the output."""
        return "".join(self.type(block) for block in commands(page))
