"""The rows of ``python -m bench``, the mail that they are about, and the settings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import bench
from bench.figures.report import LABELS
from bench.rows import LONG, OTHERS, QUICK, Others, Row, Sizes, beside_other_commit, rows
from bench.setup import mail
from bench.setup.maildirs import (
    CRLF,
    LF,
    Copies,
    Stored,
    attachments,
    deliver,
    letters,
    notes,
    stuffed_dots,
    wire_size,
)
from bench.setup.servers import Gateway
from bench.work.delivery import Deliveries
from bench.work.mailboxes import FirstOpen, InTurn
from bench.work.memory import HELD
from bench.work.work import Retrieval, Sessions

README = Path(bench.__file__).with_name("README.md")
ROWS = rows(Sizes())


class RowsTests(SynchronousTestCase):
    def test_each_row_has_a_name_of_its_own(self) -> None:
        names = [row.name for row in ROWS]
        self.assertEqual(len(names), len(set(names)))

    def test_all_sizes_have_the_same_rows(self) -> None:
        names = [row.name for row in ROWS]
        for sizes in (QUICK, LONG):
            self.assertEqual([row.name for row in rows(sizes)], names)

    def test_there_is_a_maker_for_all_mail_and_no_mail_without_a_row(self) -> None:
        wanted = {name for row in ROWS for name in row.mail} | {held.mail for held in HELD}
        self.assertEqual(set(mail.makers(Copies([], None), Sizes())), wanted)

    def test_each_figure_with_a_goal_has_a_label(self) -> None:
        self.assertLessEqual({goal.figure for row in ROWS for goal in row.goals}, set(LABELS))

    def test_each_row_has_to_reach_something(self) -> None:
        self.assertEqual([row.name for row in ROWS if not row.goals], [])

    def test_where_work_is_long_others_are_asked_what_they_wait(self) -> None:
        silent = [row.name for row in ROWS if self._is_long(row) and row.others is Others.NO]
        self.assertEqual(silent, [])
        self.assertEqual(
            [row.name for row in ROWS if row.others is not Others.NO and OTHERS not in row.mail], []
        )

    def _is_long(self, row: Row) -> bool:
        work = row.work
        huge = isinstance(work, Retrieval) and work.mail.startswith("10m")
        return huge or "long" in row.mail or isinstance(work, FirstOpen | InTurn | Deliveries)

    def test_a_cold_row_has_each_user_once(self) -> None:
        for sizes in (Sizes(), QUICK, LONG):
            cold = [row.work for row in rows(sizes) if isinstance(row.work, Sessions)]
            counts = [work.count for work in cold if work.cold]
            self.assertEqual(counts, [sizes.users - 1])

    def test_beside_another_commit_no_row_may_cost_more(self) -> None:
        goals = [goal for row in map(beside_other_commit, ROWS) for goal in row.goals]
        self.assertEqual(
            {goal.bound for goal in goals if goal.beside and not goal.at_least}, {1.05}
        )
        self.assertEqual({goal.bound for goal in goals if goal.at_least}, {1 / 1.05})

    def test_the_readme_names_each_row(self) -> None:
        named = re.findall(r"`([\w*-]+)`", README.read_text())
        patterns = [re.compile(name.replace("*", ".*")) for name in named]
        self.assertEqual(
            [row.name for row in ROWS if not any(one.fullmatch(row.name) for one in patterns)], []
        )


class MailTests(SynchronousTestCase):
    def test_mail_is_stored_with_the_line_ends_and_dots_that_the_row_names(self) -> None:
        dotted = Stored(b"\n", 10)
        for message in (*letters(2, 5000, dotted), *attachments(1, 50_000, dotted)):
            self.assertNotIn(b"\r", message)
            self.assertGreater(stuffed_dots(message), 3)
        for message in (*letters(2, 5000, CRLF), *attachments(1, 50_000, CRLF)):
            self.assertEqual(message.count(b"\r\n"), message.count(b"\n"))
            self.assertEqual(stuffed_dots(message), 0)
        for message in (*letters(2, 5000, LF), *notes(2)):
            self.assertEqual((message.count(b"\r"), stuffed_dots(message)), (0, 0))

    def test_messages_are_as_large_as_the_row_says(self) -> None:
        for octets in (1200, 10_000):
            for message in letters(3, octets):
                self.assertLess(abs(len(message) - octets), 200)
        (large,) = attachments(1, 1_000_000, CRLF)
        self.assertLess(abs(len(large) - 1_000_000), 5000)

    def test_both_servers_have_the_same_mail_and_the_sizes_are_right(self) -> None:
        roots = [Path(self.mktemp()), Path(self.mktemp())]
        made = mail.make(Copies(roots, None), QUICK, [OTHERS])[OTHERS]
        for drop in made:
            files = [sorted((root / drop.local).rglob("*,S=*")) for root in roots]
            one, other = ([file.name for file in some] for some in files)
            self.assertEqual((one, len(one)), (other, drop.messages))
            sizes = [wire_size(file.read_bytes()) for file in files[0]]
            self.assertEqual(sum(sizes), drop.octets)

    def test_a_message_that_comes_in_is_counted(self) -> None:
        root = Path(self.mktemp())
        drop = Copies([root], None).make("user", letters(3, 500))
        self.assertEqual(deliver(root, drop, list(letters(2, 500))), 5)
        self.assertEqual(len(list((root / "user/Maildir/new").iterdir())), 2)


class SettingsTests(SynchronousTestCase):
    ALLOWED = frozenset(
        {
            "state_dir",
            *(f"limits.{name}" for name in ("connections", "connections_per_address")),
            "limits.sessions_per_user",
            "directory.kind",
            "directory.file",
            "store.kind",
            "store.path",
            "lmtp.endpoint",
            "lmtp.max_size",
            *(f"tls.{name}" for name in ("certificate", "key", "self_signed")),
            *(
                f"listeners.{name}.{key}"
                for name in ("plain", "rsa", "ecdsa")
                for key in ("endpoint", "tls")
            ),
            *(f"listeners.ecdsa.{key}" for key in ("certificate", "key")),
        }
    )
    """Where things are, and limits that count all clients as one."""

    def test_the_gateway_is_measured_with_its_default_settings(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        pair = directory / "a.pem", directory / "a.key"
        Gateway(directory, {"rsa": pair, "ecdsa": pair}, None).command()
        file = directory / "pop3gw.toml"
        self.assertEqual(set(self._keys(tomllib.loads(file.read_text()))), self.ALLOWED)

    def _keys(self, table: Mapping[str, object], before: str = "") -> list[str]:
        found = []
        for name, value in table.items():
            path = f"{before}{name}"
            found += self._keys(value, f"{path}.") if isinstance(value, dict) else [path]
        return found
