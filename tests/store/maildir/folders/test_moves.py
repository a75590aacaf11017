"""No rename ever replaces a file that is there."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.store.maildir.folders.moves import move, move_by_link


class MoveTests(SynchronousTestCase):
    way = staticmethod(move)

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.write("a", "first")

    def write(self, name: str, text: str) -> None:
        with open(f"{self.directory}/{name}", "w") as file:
            file.write(text)

    def move(self, source: str, target: str) -> None:
        self.way(f"{self.directory}/{source}", f"{self.directory}/{target}")

    def content(self) -> dict[str, str]:
        found = {}
        for name in os.listdir(self.directory):
            with open(f"{self.directory}/{name}") as file:
                found[name] = file.read()
        return found

    def test_a_file_gets_another_name(self) -> None:
        self.move("a", "b:2,S")
        self.assertEqual(self.content(), {"b:2,S": "first"})

    def test_a_file_that_has_the_name_stays_and_so_does_the_one_to_be_moved(self) -> None:
        self.write("b", "second")
        self.assertRaises(FileExistsError, self.move, "a", "b")
        self.assertEqual(self.content(), {"a": "first", "b": "second"})

    def test_a_link_that_leads_nowhere_has_its_name_too(self) -> None:
        os.symlink("/nowhere", f"{self.directory}/b")
        self.assertRaises(FileExistsError, self.move, "a", "b")

    def test_what_is_not_there_and_where_no_name_may_be_are_told_apart(self) -> None:
        error = self.assertRaises(FileNotFoundError, self.move, "c", "b")
        self.assertEqual(error.filename, f"{self.directory}/c")
        long = self.assertRaises(OSError, self.move, "a", "x" * 256)
        self.assertEqual(long.errno, errno.ENAMETOOLONG)

    def test_a_name_of_any_octets_but_two_is_one(self) -> None:
        odd = os.fsdecode(b"\xff \n:")
        self.move("a", odd)
        self.assertEqual(self.content(), {odd: "first"})


class WithoutTheCallTests(MoveTests):
    """As on NFS, which knows no rename that replaces nothing."""

    way = staticmethod(move_by_link)


class DiskTests(SynchronousTestCase):
    def test_a_full_disk_says_so(self) -> None:
        with no_room("rename", "*/a"):
            error = self.assertRaises(OSError, move, "/nowhere/a", "/nowhere/b")
        self.assertEqual(error.errno, errno.ENOSPC)
