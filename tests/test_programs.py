"""What tests may run, and what a new machine gets, are one table."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

import programs

SCRIPT = Path(__file__).parent.parent / "scripts" / "debian-packages"


class ProgramsTests(SynchronousTestCase):
    def test_a_program_that_is_not_in_the_table_cannot_be_needed(self) -> None:
        with self.assertRaisesRegex(KeyError, "ls has no line in .*packages.txt"):
            programs.need("ls")

    def test_a_program_that_is_not_in_the_table_cannot_be_run(self) -> None:
        with self.assertRaises(FileNotFoundError):
            subprocess.run(["ls"], check=False)

    def test_what_is_in_the_path_is_what_is_in_the_table(self) -> None:
        there = {file.name for file in os.scandir(os.environ["PATH"])}
        self.assertEqual(there - programs.PACKAGES.keys(), set())

    def test_no_test_goes_round_the_table_by_a_path_of_its_own(self) -> None:
        system = re.compile(r"/(usr/)?(s?bin|lib)/\S+")
        wrong = [
            f"{file.name}:{node.lineno}: {node.value}"
            for file in sorted(Path(__file__).parent.rglob("*.py"))
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if system.fullmatch(node.value) and node.value not in {*programs.PACKAGES, "/bin/sh"}
        ]
        self.assertEqual(wrong, [])

    def test_a_file_of_a_package_is_found_by_its_pattern(self) -> None:
        self.assertEqual(programs.PACKAGES["/usr/include/python3*/Python.h"], "python3-dev")
        found = programs.find("/usr/include/stdio.h")
        self.assertIn(found, (None, "/usr/include/stdio.h"))


def test_the_script_names_the_packages_of_the_programs_that_are_missing(tmp_path: Path) -> None:
    # Not root, and nothing on the path but what the script itself runs.
    user = tmp_path / "id"
    user.write_text("#!/bin/sh\necho 1000\n")
    user.chmod(0o755)
    shell = programs.find("sh")
    done = subprocess.run(
        [str(shell), str(SCRIPT)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    named = set(done.stderr.partition("will be skipped:")[2].split())
    assert {"curl", "getmail6", "util-linux"} <= named <= set(programs.PACKAGES.values())


def installed(directory: Path, apt_get: str) -> subprocess.CompletedProcess[str]:
    """What ``scripts/apt-install`` says of a package, given an ``apt-get`` in shell."""
    for name, text in {"apt-get": apt_get, "seq": "echo 1 2 3", "sleep": ""}.items():
        program = directory / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    shell, script = programs.find("sh"), SCRIPT.with_name("apt-install")
    return subprocess.run(
        [str(shell), str(script), "some-package"],
        env={"PATH": str(directory), "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_that_installs_just_now_is_waited_for(tmp_path: Path) -> None:
    # Each of the two calls finds the lock held the first time.
    apt_get = (
        'echo "$*" >>$HOME/asked\n'
        "case $* in *update*) n=$HOME/update ;; *) n=$HOME/install ;; esac\n"
        "[ -e $n ] && exit\n"
        ">$n; echo 'E: Could not get lock /var/lib/apt/lists/lock.' >&2; exit 100"
    )
    assert installed(tmp_path, apt_get).returncode == 0
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[3] for line in asked] == ["update", "update", "install", "install"]
    assert asked[-1].endswith(" some-package")


def test_what_else_keeps_from_installing_is_told_at_once(tmp_path: Path) -> None:
    done = installed(tmp_path, 'echo >>$HOME/asked; echo "E: Unable to locate it"; exit 100')
    assert done.returncode == 1
    assert done.stderr == "E: Unable to locate it\n"
    assert (tmp_path / "asked").read_text() == "\n"


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("", "Skipped")])
def test_a_missing_program_skips_a_test_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(programs.PACKAGES, "no-such-program", "some-package")
    with pytest.raises(BaseException, match="no-such-program: apt-get install some-package") as why:
        programs.need("no-such-program")
    assert type(why.value).__name__ == outcome
