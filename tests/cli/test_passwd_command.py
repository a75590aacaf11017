"""``python -m gateway.cli.passwd``: whose file it leaves behind, and what it needs to run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.cli import passwd
from gateway.directory.passwd import parse
from gateway.directory.schemes import verify

NAME = "bob@example.org"


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.path = self.directory / "accounts"

    def run_it(self, *arguments: str, stdin: bytes | None = b"secret\n") -> tuple[int, str]:
        """Exit status and what it says, of a process without a terminal."""
        command = [sys.executable, "-m", "gateway.cli.passwd", *arguments]
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=60,
            check=False,
            **given,  # type: ignore[call-overload]
        )
        return done.returncode, done.stdout.decode()

    def password_is(self, password: bytes) -> None:
        account = parse(self.path.read_text(), "F")[NAME]
        self.assertTrue(verify(account.secret, password))


class TerminalTests(CommandCase):
    def test_without_a_terminal_it_reads_one_line(self) -> None:
        for line, password in ((b"one\n", b"one"), (b"two", b"two"), (b"three\r\n", b"three")):
            status, said = self.run_it("--file", str(self.path), NAME, stdin=line)
            self.assertEqual((status, said), (0, ""))
            self.password_is(password)

    def test_without_anything_to_read_it_says_so_and_changes_nothing(self) -> None:
        for stdin in (None, b""):
            status, said = self.run_it("--file", str(self.path), NAME, stdin=stdin)
            self.assertEqual(status, 1)
            self.assertIn("expected a password on standard input", said)
            self.assertNotIn("Traceback", said)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_what_no_password_can_be_is_refused_in_words(self) -> None:
        for line in (b"\xff\n", b"\n", b"a\0\x07b\n", "\ue000\n".encode()):
            status, said = self.run_it("--file", str(self.path), NAME, stdin=line)
            self.assertEqual(status, 1)
            self.assertTrue(said.startswith("pop3gw passwd: ") and "Traceback" not in said, said)


class NameTests(CommandCase):
    def test_a_name_that_no_mailbox_can_have_is_refused(self) -> None:
        for name in ("../up", "a/b@example.org", ".dot@example.org", "a@../b", "a@", "x" * 256):
            with self.assertRaises(ValueError) as caught:
                passwd.put(str(self.path), name, b"secret")
            self.assertIn("of its mailbox name", str(caught.exception))
        self.assertFalse(self.path.exists())
        self.path.write_text("../up:{PLAIN}x\n")
        self.assertTrue(passwd.delete(str(self.path), "../up"))

    def test_a_configuration_names_the_file_and_says_who_could_have_a_mailbox(self) -> None:
        config = self.directory / "pop3gw.toml"
        config.write_text(f'state_dir = "{self.directory}"\n[listeners.a]\nendpoint = "tcp:0"\n')
        self.assertEqual(self.run_it("--config", str(config), NAME), (0, ""))
        self.password_is(b"secret")
        status, said = self.run_it("--config", str(config), "nodomain")
        self.assertEqual(status, 1)
        self.assertIn("{domain} of its mailbox name is empty", said)
        status, said = self.run_it("--config", f"{config}.no", NAME)
        self.assertIn("cannot be read: No such file", said)
        self.assertEqual(self.run_it("--config", str(config), "--delete", NAME), (0, ""))


class FileTests(CommandCase):
    def test_owner_mode_and_link_of_the_file_stay(self) -> None:
        target = self.directory / "real" / "accounts"
        target.parent.mkdir()
        target.write_text("alice:{PLAIN}a\n")
        self.path.symlink_to("real/accounts")
        owner = (os.getuid(), os.getgid())
        if os.geteuid() == 0:
            owner = (12_345, 54_321)
            os.chown(target, *owner)
        for mode in (0o600, 0o664, 0o440):
            target.chmod(mode)
            passwd.put(str(self.path), NAME, b"secret")
            status = target.stat()
            self.assertTrue(self.path.is_symlink())
            self.assertEqual((status.st_uid, status.st_gid), owner)
            self.assertEqual(stat.S_IMODE(status.st_mode), mode)
        self.assertEqual([one.name for one in target.parent.iterdir()], ["accounts"])

    def test_a_new_file_is_for_whoever_has_its_directory(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.directory, 12_345, 54_321)
        passwd.put(str(self.path), NAME, b"secret")
        status, above = self.path.stat(), self.directory.stat()
        self.assertEqual((status.st_uid, status.st_gid), (above.st_uid, above.st_gid))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o640)

    def test_who_could_not_leave_the_owner_changes_nothing(self) -> None:
        if os.geteuid() != 0:
            return
        self.path.write_text("alice:{PLAIN}a\n")
        self.path.chmod(0o644)
        for above in (self.directory, *self.directory.parents):
            if above != Path("/"):
                above.chmod(above.stat().st_mode | 0o055)
        os.chown(self.directory, 12_345, 12_345)
        os.seteuid(12_345)
        try:
            with self.assertRaises(ValueError) as caught:
                passwd.put(str(self.path), NAME, b"secret")
        finally:
            os.seteuid(0)
        self.assertIn("belongs to user 0", str(caught.exception))
        self.assertEqual(self.path.read_text(), "alice:{PLAIN}a\n")
        self.assertEqual([one.name for one in self.directory.iterdir()], ["accounts"])

    def test_a_full_disk_leaves_the_file_as_it_was_and_none_beside_it(self) -> None:
        self.path.write_text("alice:{PLAIN}a\n")
        with no_room("fsync", "*accounts*"), self.assertRaises(OSError):
            passwd.put(str(self.path), NAME, b"secret")
        self.assertEqual([one.name for one in self.directory.iterdir()], ["accounts"])
        self.assertEqual(self.path.read_text(), "alice:{PLAIN}a\n")
