"""The commands of docs/compose.md, typed in a copy of ``etc/stack``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mail_stack import STACK, MailStack
from pages import commands
from programs import need

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("mail_stack")]

DOCKER = """\
#!/bin/sh
# "docker compose" for the stack that run_local.py has started.
set -eu
shift
case $1 in
up) ;;
*) exec {program} "$@" ;;
esac
"""


class Terminal:
    """A shell in the copy."""

    def __init__(self, directory: Path) -> None:
        need("curl", "sh", "bash")
        self.directory = directory / "copy"
        shutil.copytree(STACK, self.directory, ignore=shutil.ignore_patterns("tls", "secrets"))
        self.programs = directory / "programs"
        self.programs.mkdir()
        (directory / "other").mkdir()
        self.places = {"/tmp/mail-stack": str(directory / "other")}

    def type(self, text: str) -> str:
        """Do what a block says; its output."""
        for old, new in self.places.items():
            text = text.replace(old, new)
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.directory,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (text, done.stdout)
        return done.stdout


def test_the_page_leads_to_a_message_that_is_fetched_with_a_verified_certificate(
    tmp_path: Path,
) -> None:
    terminal = Terminal(tmp_path)
    prepare, up, user, mail, elsewhere = commands("compose.md")
    terminal.type(prepare)
    stack = MailStack(terminal.directory).run()
    try:
        docker = terminal.programs / "docker"
        docker.write_text(DOCKER.format(program=" ".join(stack.program)))
        docker.chmod(0o755)
        terminal.places |= {
            "smtp://127.0.0.1/": f"smtp://127.0.0.1:{stack.smtp}/",
            "pop3s://mail.example.org/": f"pop3s://mail.example.org:{stack.pop3s}/",
        }
        terminal.type(up + user)
        said = terminal.type(mail)
        assert "Delivered-To: alice@example.org" in said
        # What the page says of a new certificate.
        terminal.type(
            "docker compose kill -s HUP pop3gw; docker compose exec postfix postfix reload"
        )
        stack.wait_for(b"reloaded the configuration")
        terminal.type(elsewhere)
        assert (tmp_path / "other/tls/mail/tls.crt").exists()
    finally:
        stack.stop()
