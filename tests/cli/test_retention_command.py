"""The operator's commands about retention."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from commands import PROGRAM, run_here
from gateway.cli.command import Exit
from gateway.cli.commands.retention import show_hidden, show_mailbox, show_preview, show_restored
from gateway.cli.commands.unique_ids import show_moved
from gateway.cli.terminal import Terminal
from gateway.config.retention import Retention
from gateway.errors import NoSuchMailbox, StoreDown
from gateway.model import Account, LastScan, RetentionOrder
from gateway.state.ledger import Ledger
from operator_tools import Desk as Tooled

DAY = 86_400.0
NOW = 1_800_000_000.0


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Desk(Tooled):
    """A store, and what an operator sees of it."""

    def __init__(self) -> None:
        super().__init__(Retention(policy="unread 60d, read 7d, hide 14d"), now=NOW)
        self.out, self.err = io.StringIO(), io.StringIO()

    def do(
        self,
        work: Callable[..., Coroutine[Any, Any, Exit]],
        *arguments: object,
        as_json: bool = False,
    ) -> Exit:
        """The exit code of a command's rendering."""
        terminal = Terminal(self.out, self.err, as_json=as_json)
        results: list[Exit] = []

        async def ask(operation: Any, **asked: Any) -> Any:
            return await operation(self.tools, **asked)

        shown = Deferred.fromCoroutine(work(terminal, ask, *arguments))
        shown.addCallback(results.append)
        failed: list[Failure] = []
        shown.addErrback(failed.append)
        for failure in failed:
            failure.raiseException()
        return results[0]

    def preview(self, mailbox: str | None = None, *, as_json: bool = False) -> Exit:
        """The exit code of a preview."""
        if mailbox is None:
            return self.do(show_preview, as_json=as_json)
        return self.do(show_mailbox, mailbox, as_json=as_json)

    @property
    def lines(self) -> list[str]:
        """What was printed."""
        return self.out.getvalue().splitlines()


def test_a_preview_says_what_would_go_and_why_and_touches_nothing() -> None:
    desk = Desk()
    desk.add("alice", 3, 61 * DAY)
    desk.add("alice", 2, 59 * DAY)
    desk.add("bob", 4, DAY)
    before = {name: dict(mail) for name, mail in desk.store.mail.items()}
    assert desk.preview() == 0
    assert desk.lines == [
        "alice: 3 of 5 messages would go (unread 3; 3); next look 2027-01-16T08:00:00Z;"
        " policy unread 60d, read 7d, hide 14d",
        "3 of 9 messages in 2 mailboxes would go",
    ]
    assert (desk.store.mail, desk.store.removals) == (before, [])
    assert desk.err.getvalue() == ""


def test_a_preview_of_one_mailbox_names_the_messages() -> None:
    desk = Desk()
    (uid,) = desk.add("alice", 1, 61 * DAY)
    assert desk.preview("alice") == 0
    assert desk.lines[1].startswith(f"  {uid}: unread, due 2027-01-14T08:00:00Z; came 2026-11-15T")


def test_a_mailbox_without_a_policy_is_a_result_and_one_that_there_is_not_an_error() -> None:
    desk = Desk()
    desk.section = Retention()
    desk.add("alice", 1, 61 * DAY)
    assert desk.preview("alice") == 0
    assert desk.lines == ["alice: retention has no policy for it"]
    desk.out.truncate(0)
    desk.out.seek(0)
    assert desk.preview("alice", as_json=True) == 0
    (found,) = map(json.loads, desk.lines)
    assert (found["mailbox"], found["policy"], found["would_go"]) == ("alice", "", 0)
    assert desk.err.getvalue() == ""
    with pytest.raises(NoSuchMailbox):
        desk.preview("nobody")


def test_json_is_a_line_for_each_mailbox_and_one_for_the_store() -> None:
    desk = Desk()
    (uid,) = desk.add("alice", 1, 61 * DAY)
    desk.add("bob", 1, DAY)
    desk.preview(as_json=True)
    alice, bob, store = map(json.loads, desk.lines)
    assert (alice["would_go"], alice["rules"], bob["would_go"]) == (1, {"unread": 1}, 0)
    assert store["store"] == {
        "mailboxes": 2,
        "failed": 0,
        "messages": 2,
        "would_go": 1,
        "would_purge": 0,
        "hidden": 0,
        "overdue": 0,
        "stops": None,
    }
    desk.out.truncate(0)
    desk.out.seek(0)
    desk.preview("alice", as_json=True)
    (removed,) = json.loads(desk.lines[0])["removed"]
    assert (removed["uid"], removed["rule"], removed["read"]) == (uid, "unread", None)


def test_a_preview_says_where_the_backlog_guard_would_stop() -> None:
    desk = Desk()
    desk.add("alice", 150, 61 * DAY)
    desk.preview()
    assert "STOPPED until it is released" in desk.lines[0]
    assert desk.lines[2].startswith("150 of 150 messages of the store within a day would go")


def test_a_mailbox_that_cannot_be_looked_into_is_said_and_the_others_are_shown() -> None:
    desk = Desk()
    desk.add("alice", 1, 61 * DAY)
    desk.add("bob", 1, 61 * DAY)
    desk.accounts["carol"] = Account(name="carol", mailbox="carol", retention="red 7d")
    desk.store.add("carol")
    desk.store.broken["alice"] = StoreDown("no")
    assert desk.preview() == Exit.PARTLY
    assert desk.lines[-1] == "1 of 1 messages in 3 mailboxes would go"
    assert "alice: no" in desk.err.getvalue()
    assert "carol: column 1: 'red'" in desk.err.getvalue()


def test_who_sits_at_a_terminal_sees_how_far_it_is_and_no_bar_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One without a name, or that is called dumb, cannot erase a bar and gets none.
    monkeypatch.setenv("TERM", "xterm")
    desk = Desk()
    desk.err = Screen()
    for number in range(4):
        desk.add(f"u{number}", 1, DAY)
    desk.preview()
    assert "2/4" in desk.err.getvalue()
    # The last thing written goes to the line of the bar and erases it.
    assert desk.err.getvalue().endswith("\r\x1b[1A\x1b[2K")


def test_results_are_a_table_on_a_terminal_and_names_are_no_markup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    desk = Desk()
    desk.out = Screen()
    desk.add("[red]alice", 2, 61 * DAY)
    desk.add("bob", 1, DAY)
    assert desk.preview() == Exit.DONE
    heading, rule, alice, total = [line.split() for line in desk.lines]
    assert {"Would", "Policy"} <= {re.sub(r"\x1b\[[0-9;]*m", "", word) for word in heading}
    assert set("".join(rule)) == {"─"}
    assert alice[:3] == ["[red]alice", "2", "2"]
    assert total[:3] == ["2", "of", "3"]
    assert desk.err.getvalue() == ""


def test_what_was_hidden_is_listed_and_comes_back() -> None:
    desk = Desk()
    one, two = desk.add("alice", 2, DAY)
    desk.store.away["alice"] = desk.store.mail["alice"]
    desk.store.mail["alice"] = {}
    assert desk.do(show_hidden, "alice", as_json=True) == 0
    assert {json.loads(line)["uid"] for line in desk.lines} == {one, two}
    assert desk.do(show_restored, "alice", (two, "x")) == Exit.PARTLY
    assert list(desk.store.mail["alice"]) == [two]
    assert desk.do(show_restored, "alice", ()) == 0
    assert sorted(desk.store.mail["alice"]) == [one, two]
    desk.store.mail["of a user who is gone"] = {}
    assert desk.do(show_hidden, "of a user who is gone") == 0


# -- orders, and what the command itself says ----------------------------------


ENABLED = "[retention]\nenabled = true\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = tmp_path / "var"
    state.mkdir()
    config = tmp_path / "pop3gw.toml"
    config.write_text(f'state_dir = "{state}"\n[listeners.a]\nendpoint = "tcp:0"\n{ENABLED}')
    stopped = LastScan("any 1d", due=None, looked=1.0, messages=200, stopped="200 of 200 would go")
    with closing(Ledger(str(state))) as ledger:
        ledger.keep_scan("alice", stopped)
        ledger.keep_scan("bob", stopped._replace(stopped=None))
    return config


def orders(file: Path) -> dict[str, bool]:
    """Mailboxes that are ordered to be looked at, and whether they are released."""
    with closing(Ledger(str(file.parent / "var"))) as ledger:
        given: dict[str, RetentionOrder] = ledger.orders()
    return {name: order.released_at is not None for name, order in given.items()}


def test_a_release_is_an_order_that_the_server_finds(file: Path) -> None:
    code, out, _ = run_alone("release", "--config", str(file), "alice")
    assert code == 0
    assert orders(file) == {"alice": True}
    assert "alice: 200 of 200 would go; released" in out


def test_all_means_all_that_are_stopped_for_a_release_and_all_else_otherwise(file: Path) -> None:
    assert run_alone("release", "--config", str(file), "--all")[0] == 0
    assert orders(file) == {"alice": True}
    assert run_alone("run", "--config", str(file), "--all")[0] == 0
    assert orders(file) == {"alice": True, "bob": False}


def run_alone(*arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command that has a reactor."""
    command = [*PROGRAM, "retention", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def failure(*arguments: str) -> str:
    """What a command that fails prints to standard error."""
    code, _, err = run_alone(*arguments)
    assert code == 1
    return err


def test_what_cannot_be_ordered_is_said(file: Path) -> None:
    assert "nobody: retention has not looked there yet" in failure(
        "run", "--config", str(file), "nobody"
    )
    assert "none.toml: cannot be read" in failure(
        "release", "--config", str(file.parent / "none.toml"), "--all"
    )
    (file.parent / "var" / "ledger.sqlite3").write_bytes(b"x" * 5000)
    assert "is damaged" in failure("release", "--config", str(file), "--all")


def test_an_order_that_nobody_would_take_fails(file: Path) -> None:
    file.write_text(file.read_text().replace("true", "false"))
    for order in ("run", "release"):
        assert "retention.enabled: is false" in failure(order, "--config", str(file), "--all")
    assert orders(file) == {}


def test_a_server_that_has_never_run_has_nothing_to_order(tmp_path: Path) -> None:
    config = tmp_path / "pop3gw.toml"
    text = f'state_dir = "{tmp_path}/no"\n[listeners.a]\nendpoint = "tcp:0"\n{ENABLED}'
    config.write_text(text)
    assert "has the server never run?" in failure("release", "--config", str(config), "--all")


def test_root_makes_no_files_that_the_server_could_not_change(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(file.parent / "var", 65534, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    code, _, err = run_here("retention", "release", "--config", str(file), "--all")
    assert code == 1
    assert "run it as the server's user, as sudo -u " in err
    assert orders(file) == {}


def test_a_directory_that_cannot_be_read_is_said_in_words(file: Path) -> None:
    command = [*PROGRAM, "retention", "preview", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("pop3gw retention preview: ")
    assert "var/accounts: No such file or directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ids_of_all_mailboxes_are_moved_ahead_and_one_that_fails_is_named() -> None:
    desk = Desk()
    for name in ("alice", "bob", "carol"):
        desk.add(name, 1, 0.0)
    desk.store.broken["bob"] = StoreDown("its disk is gone")
    assert desk.do(show_moved, 5000) == Exit.PARTLY
    assert dict(desk.store.moved) == {"alice": 5000, "carol": 5000}
    assert desk.lines == ["2 of 3 mailboxes go on at least 5,000 further"]
    assert "bob: its disk is gone" in desk.err.getvalue()


def test_a_command_finds_the_bind_password_where_the_server_finds_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("reader\n")
    config = tmp_path / "pop3gw.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[listeners.a]\nendpoint = "tcp:0"\n[directory]\nkind = "ldap"\n'
        '[ldap]\nuris = ["ldap://127.0.0.1:1"]\nbase = "dc=x"\nbind_dn = "cn=reader"\n'
        'bind_password_file = "password"\n[store]\npath = "{home}/Maildir"\n'
        '[retention]\npolicy = "any 5d"\n'
    )
    command = [*PROGRAM, "retention", "preview", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # It comes as far as the directory, which is not there.
    assert "127.0.0.1:1" in done.stderr, done.stderr
    assert "bind_password" not in done.stderr
    (tmp_path / "password").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"ldap.bind_password_file: {tmp_path}/password: cannot be read" in done.stderr
