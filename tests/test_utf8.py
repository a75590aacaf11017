"""Paths are UTF-8 in every locale."""

from __future__ import annotations

import os
import poplib
import subprocess
import sys
from pathlib import Path

import pytest

from commands import PROGRAM
from gateway.model import Account
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import run_now
from servers import PASSWORD, Gateway, fill

NAMES = ("jürgen@example.org", "łukasz@example.org", "用户@例え.jp")

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""What has Python name files in ASCII."""

SCRIPT = """
import sys
from gateway.model import Account, Limits
from gateway.store.maildir.store import MaildirStore
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.testing.store_contract import run_now

assert sys.getfilesystemencoding() == "ascii"
store = MaildirStore(sys.argv[1], "{path}", run_now, reading=MaildirOptions())
for name in {names!a}:
    account = Account(name=name, mailbox=name, home="/nowhere")
    done = []
    store.receive(account).addBoth(done.append)
    done[0].write(b"hello\\r\\n")
    done[0].commit(account, Limits()).addBoth(done.append)
    assert done[1] is None, done
    done[0].close()
    store.open(account, None).addBoth(done.append)
    done[-1][0].listing().addCallback(lambda listing: print(*listing.uids))
store.names().addCallback(lambda names: print(ascii(names)))
"""


def in_ascii(script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | ASCII,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", ["mail/{name}", "post-ü/{domain}/{local}"])
def test_a_mailbox_has_one_directory_and_its_ids_in_every_locale(tmp_path: Path, path: str) -> None:
    # A file whose name has no ASCII, with an id that is to stay.
    store = MaildirStore(str(tmp_path), path, run_now, reading=MaildirOptions())
    first = Account(name=NAMES[0], mailbox=NAMES[0])
    done: list[object] = []
    store.open(first, None).addBoth(done.append)
    (maildir,) = {place.parent for place in tmp_path.rglob("cur")}
    (maildir / "cur" / "1.jürgen:2,").write_bytes(b"a\r\n")
    (maildir / "dovecot-uidlist").write_text("3 V1 N18\n17 :1.jürgen\n")
    script = SCRIPT.replace('"{path}"', ascii(path)).replace("{names!a}", ascii(NAMES))
    *uids, names = in_ascii(script, str(tmp_path))
    assert names == ascii(sorted(NAMES))
    for name, shown in zip(NAMES, uids, strict=True):
        account = Account(name=name, mailbox=name)
        store.open(account, None).addCallback(lambda opened: done.append(opened[0]._snapshot))
        assert " ".join(done[-1].listing.uids) == shown  # type: ignore[attr-defined]
    assert uids[0].split()[0] == "17"
    done.clear()
    store.names().addCallback(done.append)
    assert done == [sorted(NAMES)]


@pytest.mark.interop
def test_a_server_and_its_commands_read_every_path_as_utf8_in_every_locale(tmp_path: Path) -> None:
    place = tmp_path / "zustand-ü-ł"
    place.mkdir()
    gateway = Gateway(place)
    gateway.config = gateway.config.rename(place / "konfiguration-ł.toml")
    done = subprocess.run(
        [
            *(*PROGRAM, "passwd", "--stdin", "--scheme", "SSHA256"),
            *("--file", str(gateway.accounts), "łukasz"),
        ],
        env=os.environ | ASCII,
        input=f"{PASSWORD}\n".encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "łukasz:" in gateway.accounts.read_text()
    fill(place / "mail" / "łukasz", [b"Subject: x\r\n\r\n"])
    try:
        gateway.run(**ASCII)
        client = poplib.POP3("127.0.0.1", gateway.plain, timeout=30)
        client.encoding = "utf-8"
        client.stls(gateway.context())
        client.user("łukasz")
        client.pass_(PASSWORD)
        assert client.stat()[0] == 1
        client.quit()
    finally:
        gateway.stop()
    assert "łukasz" in gateway.log
    assert "Traceback" not in gateway.log
    assert (place / "audit.log").exists()
