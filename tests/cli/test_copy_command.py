"""What ``pop3gw mailboxes copy`` shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from answers import result
from commands import run_here
from copy_suite import tools_of
from gateway.cli.command import Exit
from gateway.cli.commands.copy import show_copies
from gateway.cli.terminal import Terminal
from gateway.errors import NoSuchMailbox
from gateway.operations.tools import Tools
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import run_now
from servers import fill


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Desk:
    """Two places, and what an operator sees."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = [self.place(name) for name in ("old", "new")]
        self.out, self.err = io.StringIO(), io.StringIO()
        for name in ("ann", "bob"):
            fill(root / "old" / name, [b"Subject: %d\r\n\r\n" % number for number in range(3)])

    def place(self, name: str) -> Tools:
        """One of them."""
        reading = MaildirOptions()
        return tools_of(
            MaildirStore(str(self.root / name), "{name}", run_now, reading=reading), name
        )

    def copy(self, *names: str, as_json: bool = False, **more: Any) -> Exit:
        """The exit code."""
        terminal = Terminal(self.out, self.err, as_json=as_json)
        options = {"switch": True, "is_all": False, **more}
        shown = show_copies(terminal, *self.places, names, **options)
        code: Exit = result(Deferred.fromCoroutine(shown))
        return code

    @property
    def lines(self) -> list[str]:
        """All that was printed."""
        return self.out.getvalue().splitlines()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Two mailboxes in the old place."""
    return Desk(tmp_path)


def test_each_mailbox_has_a_line_that_says_who_serves_it(desk: Desk) -> None:
    assert desk.copy("ann", "bob", switch=False) is Exit.DONE
    first, second = desk.lines
    assert first.startswith("ann: 3 messages, 42 B, 3 of them copied now, all compared;")
    assert first.endswith("the old place serves it: run it again without --no-switch to switch")
    assert second.startswith("bob: ")
    assert desk.copy("ann") is Exit.DONE
    assert desk.lines[-1].startswith("ann: 3 messages, 42 B, 0 of them copied now")
    assert "; the new place serves it, after 0.0 s in which none did" in desk.lines[-1]


def test_messages_that_are_not_copied_are_counted(desk: Desk) -> None:
    fill(desk.root / "old" / "ann" / ".Sent", [b"Subject: sent\r\n\r\n"] * 2)
    desk.copy("ann")
    assert "; 2 in other folders, which only IMAP shows, are not copied" in desk.lines[0]


def test_all_again_skips_those_that_were_switched(desk: Desk) -> None:
    desk.copy("ann")
    assert desk.copy("ann", "bob", is_all=True) is Exit.DONE
    assert (
        desk.lines[1] == "ann: was copied before, and another place serves it: copy it from there"
    )
    assert desk.lines[2].startswith("bob: 3 messages")


def test_one_that_fails_does_not_stop_the_others(desk: Desk) -> None:
    assert desk.copy("nobody", "bob") is Exit.PARTLY
    assert "there is no mailbox 'nobody'" in desk.err.getvalue()
    assert desk.lines[0].startswith("bob: 3 messages")
    assert desk.copy("nobody", "noone") is Exit.FAILED
    with pytest.raises(NoSuchMailbox):
        desk.copy("nobody")


def test_json_has_the_numbers(desk: Desk) -> None:
    desk.copy("ann", as_json=True)
    found = json.loads(desk.lines[0])
    assert (found["mailbox"], found["messages"], found["copied"]) == ("ann", 3, 3)
    assert found["is_switched"] is True


@pytest.fixture
def screen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """At a terminal that can move its cursor."""
    monkeypatch.setenv("TERM", "xterm")
    desk.err = Screen()
    return desk


def test_a_terminal_shows_a_progress_bar_and_takes_it_away(screen: Desk) -> None:
    screen.copy("ann")
    drawn = screen.err.getvalue()
    assert "0/3" in drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") > 0


def test_a_copy_that_fails_takes_the_progress_bar_away_too(screen: Desk) -> None:
    store: Any = screen.places[1].store

    def take(*_: object) -> Any:
        raise NoSuchMailbox("gone")

    store.take = take
    with pytest.raises(NoSuchMailbox):
        screen.copy("ann")
    drawn = screen.err.getvalue()
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") > 0


def test_names_or_all_and_another_configuration_are_wanted(tmp_path: Path) -> None:
    code, _, err = run_here("mailboxes", "copy", "-c", "a.toml", "--to", "b.toml")
    assert (code, "name mailboxes, or say --all" in err) == (Exit.USAGE, True)
    config = tmp_path / "pop3gw.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[listeners.a]\nendpoint = "tcp:0"\ntls = "none"\n'
    )
    code, _, err = run_here("mailboxes", "copy", "-c", str(config), "--to", str(config), "bob")
    assert (code, "--to: expected another configuration" in err) == (Exit.FAILED, True)
