"""``pop3gw passwd``: the entries that it makes, the owner of the file, what it needs to run."""

from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from commands import PROGRAM, run_here
from disks import no_room
from gateway.directory import passwd_entries, schemes
from gateway.directory.passwd import parse
from gateway.directory.schemes import verify
from gateway.operations.users.accounts import remove_account, set_password
from gateway.sasl.md4 import nt_hash

NAME = "bob@example.org"


class CommandCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.path = self.directory / "accounts"

    def run_it(self, *arguments: str, stdin: bytes | None = b"secret\n") -> tuple[int, str]:
        """Exit status and what it says, of a process without a terminal."""
        command = [*PROGRAM, "passwd", *arguments]
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
                set_password(str(self.path), name, b"secret")
            self.assertIn("of its mailbox name", str(caught.exception))
        self.assertFalse(self.path.exists())
        self.path.write_text("../up:{PLAIN}x\n")
        self.assertEqual(remove_account(str(self.path), "../up").action, "removed")

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
            set_password(str(self.path), NAME, b"secret")
            status = target.stat()
            self.assertTrue(self.path.is_symlink())
            self.assertEqual((status.st_uid, status.st_gid), owner)
            self.assertEqual(stat.S_IMODE(status.st_mode), mode)
        self.assertEqual([one.name for one in target.parent.iterdir()], ["accounts"])

    def test_a_new_file_is_for_whoever_has_its_directory(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.directory, 12_345, 54_321)
        set_password(str(self.path), NAME, b"secret")
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
                set_password(str(self.path), NAME, b"secret")
        finally:
            os.seteuid(0)
        self.assertIn("belongs to user 0", str(caught.exception))
        self.assertEqual(self.path.read_text(), "alice:{PLAIN}a\n")
        self.assertEqual([one.name for one in self.directory.iterdir()], ["accounts"])

    def test_what_is_no_file_is_not_replaced_nor_waited_for(self) -> None:
        os.mkfifo(self.path)
        for change in (lambda: set_password(str(self.path), NAME, b"x"), self.removed):
            with self.assertRaises(ValueError) as caught:
                change()
            self.assertIn("expected a file", str(caught.exception))
        self.assertTrue(stat.S_ISFIFO(self.path.stat().st_mode))

    def removed(self) -> None:
        remove_account(str(self.path), NAME)

    def test_commands_at_the_same_time_lose_none_of_their_changes(self) -> None:
        names = {f"user{number}@example.org" for number in range(20)}

        def put(name: str) -> None:
            passwd_entries.put(str(self.path), name, b"x", "PLAIN")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, names))
        self.assertEqual(set(parse(self.path.read_text(), "F")), names)

    def test_a_full_disk_leaves_the_file_as_it_was_and_none_beside_it(self) -> None:
        self.path.write_text("alice:{PLAIN}a\n")
        with no_room("fsync", "*accounts*"), self.assertRaises(OSError):
            set_password(str(self.path), NAME, b"secret")
        self.assertEqual([one.name for one in self.directory.iterdir()], ["accounts"])
        self.assertEqual(self.path.read_text(), "alice:{PLAIN}a\n")


class EntryTests(SynchronousTestCase):
    def run_command(self, *arguments: str, password: str = "secret") -> tuple[int, str, str]:
        return run_here("passwd", *arguments, "--stdin", stdin=f"{password}\n")

    def test_it_prints_an_entry_that_the_directory_takes(self) -> None:
        for scheme in schemes.SCHEMES:
            status, line, _ = self.run_command("bob@example.org", "--scheme", scheme)
            self.assertEqual(status, 0)
            account = parse(line, "F")["bob@example.org"]
            self.assertTrue(schemes.verify(account.secret, b"secret"), scheme)

    def test_it_adds_replaces_and_deletes_and_keeps_all_other_lines(self) -> None:
        path = os.path.join(self.mktemp(), "accounts")
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write("# staff\nalice:{PLAIN}a::::::\n")
        self.assertEqual(self.run_command("bob", "--file", path)[0], 0)
        self.assertEqual(self.run_command("BOB", "--file", path, password="new")[0], 0)
        with open(path) as file:
            text = file.read()
        self.assertTrue(text.startswith("# staff\nalice:{PLAIN}a::::::\nbob:{ARGON2ID}"))
        self.assertEqual(text.count("\n"), 3)
        self.assertTrue(schemes.verify(parse(text, path)["bob"].secret, b"new"))
        self.assertEqual(self.run_command("bob", "--file", path, "--delete")[0], 0)
        status, _, error = self.run_command("bob", "--file", path, "--delete")
        self.assertEqual(status, 1)
        self.assertIn("bob is not in", error)

    def test_a_name_that_cannot_be_is_refused_in_words(self) -> None:
        # The last two become the others in the form in which names are stored.
        for name in ("a:b", "#a", "a\uff1ab", " \uff03a"):
            status, _, error = self.run_command(name)
            self.assertEqual(status, 1)
            self.assertEqual(
                error, "pop3gw passwd: a name has no colon, and no # at its beginning\n"
            )

    def changed(self, line: str, *arguments: str) -> str:
        """What becomes of a line between two others when its password is changed to "secret"."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"a:{{PLAIN}}a\n{line}\nz:{{PLAIN}}z\n")
        self.assertEqual(self.run_command("bob", "--file", path, *arguments)[0], 0)
        with open(path, encoding="utf-8") as file:
            first, new, last, nothing = file.read().split("\n")
        self.assertEqual((first, last, nothing), ("a:{PLAIN}a", "z:{PLAIN}z", ""))
        self.assertTrue(schemes.verify(parse(new, path)["bob"].secret, b"secret"))
        return new

    def test_a_changed_password_leaves_the_rest_of_the_entry_as_it_was(self) -> None:
        new = self.changed("Bob:{PLAIN}b:5:6:B. B\u2028\x85:/home/bob:/bin/sh:host=x nologin a=b:c")
        name, _, *rest = new.split(":")
        self.assertEqual(name, "bob")
        self.assertEqual(
            rest, ["5", "6", "B. B\u2028\x85", "/home/bob", "/bin/sh", "host=x nologin a=b", "c"]
        )
        self.assertFalse(parse(new, "F")["bob"].may_log_in)
        self.assertEqual(self.changed("bob:{PLAIN}b:::::").split(":")[2:], [""] * 6)

    def test_an_nt_hash_is_stored_where_it_is_asked_for(self) -> None:
        _, line, _ = self.run_command("bob", "--nt-hash")
        self.assertEqual(parse(line, "F")["bob"].nt_hash, nt_hash("secret"))
        _, line, _ = self.run_command("bob")
        self.assertEqual(parse(line, "F")["bob"].nt_hash, b"")
        new = self.changed("bob:{PLAIN}b::::/home/bob::host=x", "--nt-hash")
        account = parse(new, "F")["bob"]
        self.assertEqual((account.nt_hash, account.host), (nt_hash("secret"), "x"))

    def test_an_nt_hash_is_of_the_password_as_it_was_typed(self) -> None:
        # Windows hashes what was typed; only the other schemes have it prepared.
        _, line, _ = self.run_command("bob", "--nt-hash", password="IX\u00aa")
        account = parse(line, "F")["bob"]
        self.assertEqual(account.nt_hash, nt_hash("IX\u00aa"))
        self.assertTrue(schemes.verify(account.secret, b"IXa"))

    def test_no_former_nt_hash_outlives_a_change_of_the_password(self) -> None:
        former = nt_hash("former").hex()
        for extra in (f"nt_hash={former} host=x", f"nt_hash=0 nt_hash={former.upper()} host=x"):
            new = self.changed(f"bob:{{PLAIN}}b:::::: {extra}")
            account = parse(new, "F")["bob"]
            self.assertEqual((account.nt_hash, account.host), (nt_hash("secret"), "x"))
            self.assertEqual(new.count("nt_hash"), 1)
        new = self.changed(f"bob:{{PLAIN}}b::::::nt_hash={former}", "--no-nt-hash")
        self.assertEqual(parse(new, "F")["bob"].nt_hash, b"")
        self.assertNotIn("nt_hash", self.changed("bob:{PLAIN}b::::::nt_hash="))
