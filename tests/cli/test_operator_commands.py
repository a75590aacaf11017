"""What commands ask a server, and what they do with its answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from control_socket import Asked, Said, control_socket
from gateway.cli.main import pop3gw
from gateway.cli.moments import Moment

CONTENTS = {
    "mailbox": "bob",
    "dry_run": True,
    "messages": 1200,
    "octets": 3_000_000,
    "hidden_messages": 3,
    "folder_messages": 0,
    "on_hold": False,
    "owner": "bob",
}
DAY = 86_400.0


def typed(tmp_path: Path, answers: dict[str, Any], *words: str) -> tuple[Result, list[Asked]]:
    """A command, and what it asked; ``answers`` by method and path."""
    config = tmp_path / "pop3gw.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')

    def answer(asked: Asked) -> Said:
        return Said(answers[f"{asked.method} {asked.target.partition('?')[0]}"])

    with control_socket(tmp_path / "control", answer) as requests:
        arguments = [*words, "--config", str(config)]
        done = CliRunner().invoke(pop3gw, arguments, prog_name="pop3gw")
    (tmp_path / "control").unlink()
    return done, requests


def test_a_mailbox_is_not_deleted_unless_somebody_says_yes(tmp_path: Path) -> None:
    answers = {"DELETE /v1/mailboxes/bob": CONTENTS}
    done, requests = typed(tmp_path, answers, "mailboxes", "delete", "bob")
    assert done.exit_code == 2
    assert "bob: 1,200 messages, 2.9 MB (3 hidden, 0 in other folders): say --yes" in done.stderr
    assert [json.loads(one.body) for one in requests] == [{"dry_run": True}]
    done, requests = typed(tmp_path, answers, "mailboxes", "delete", "bob", "--dry-run")
    assert done.stdout.startswith("would delete bob: 1,200 messages")
    assert [json.loads(one.body) for one in requests] == [{"dry_run": True}]


def test_a_deletion_repeats_the_name_and_warns_of_the_account_that_is_left(tmp_path: Path) -> None:
    answers = {"DELETE /v1/mailboxes/bob": CONTENTS}
    done, requests = typed(tmp_path, answers, "mailboxes", "delete", "bob", "--yes")
    assert done.exit_code == 0
    assert json.loads(requests[-1].body) == {"confirm": "bob"}
    assert "the account bob is still in the directory" in done.stdout


def test_a_search_of_the_audit_log_goes_on_from_its_cursor(tmp_path: Path) -> None:
    entry = {
        "at": 1.0,
        "action": "hide",
        "mailbox": "bob",
        "uid": "7",
        "message_id": "<x@y>",
        "octets": 5,
        "received": 0.0,
        "read": None,
        "rule": "",
        "session": "",
        "client": "",
        "operator": "uid 0",
    }
    parts = iter(
        [
            Said({"items": [], "cursor": "1:9", "damaged": 0}),
            Said({"items": [entry, entry], "cursor": "1:5", "damaged": 1}),
            Said({"items": [entry], "cursor": "", "damaged": 0}),
        ]
    )
    config = tmp_path / "pop3gw.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    with control_socket(tmp_path / "control", lambda _: next(parts)) as requests:
        arguments = ["audit", "--all", "--json", "--config", str(config)]
        done = CliRunner().invoke(pop3gw, arguments, prog_name="pop3gw")
    assert done.exit_code == 3
    assert "1 lines of the audit log could not be read" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["uid"], one["at"]) for one in lines] == [("7", "1970-01-01T00:00:01Z")] * 3
    assert ["cursor=1%3A9" in requests[1].target, "cursor=1%3A5" in requests[2].target] == [
        True
    ] * 2


def test_a_password_is_read_from_standard_input_and_is_in_no_answer(tmp_path: Path) -> None:
    found = {
        "user": "bob",
        "passed": False,
        "failed": "password",
        "account": "",
        "mailbox": "",
        "steps": [{"step": "password", "passed": False, "text": "it is wrong"}],
        "waits": [],
    }
    config = tmp_path / "pop3gw.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    with control_socket(tmp_path / "control", lambda _: Said(found)) as requests:
        arguments = ["users", "auth-test", "bob", "--stdin", "--config", str(config)]
        done = CliRunner().invoke(pop3gw, arguments, input="pass word \n", prog_name="pop3gw")
    assert done.exit_code == 1
    assert done.stdout == "Password: FAILED: it is wrong\nLogin:    fails\n"
    assert json.loads(requests[0].body)["password"] == "pass word "
    assert "pass word" not in requests[0].target


def test_either_a_session_or_all_of_a_user_are_named_for_a_kick(tmp_path: Path) -> None:
    for words in ([], ["x1", "--user", "bob"]):
        done, requests = typed(tmp_path, {}, "sessions", "kick", *words)
        assert (done.exit_code, requests) == (2, [])
        assert "expected SESSION, or --user or --address" in done.stderr


def test_points_in_time_are_spans_before_now_or_dates_in_utc() -> None:
    kind = Moment()
    for text, ago in (("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 7 * DAY), ("1w", 7 * DAY)):
        assert abs(time.time() - ago - kind.convert(text, None, None)) < 60
    assert kind.convert("1970-01-02", None, None) == DAY
    assert kind.convert("1970-01-02T01:00", None, None) == DAY + 3600
    assert kind.convert("1970-01-02T01:00:00+01:00", None, None) == DAY
    for bad in ("", "h", "7", "7y", "-1d", "yesterday", "1970-13-01", "９d", "9" * 50 + "d"):
        with pytest.raises(click.BadParameter, match="expected 2h, 7d"):
            kind.convert(bad, None, None)


@pytest.mark.parametrize("group", ["sessions", "mailboxes", "throttle", "logins"])
def test_a_group_without_a_command_means_its_list(tmp_path: Path, group: str) -> None:
    page = {"items": [], "page": 0, "per_page": 50, "total": 0}
    done, (asked,) = typed(tmp_path, {f"GET /v1/{group}": page}, group)
    assert (done.exit_code, asked.method) == (0, "GET")
    assert "Commands:" in CliRunner().invoke(pop3gw, [group, "--help"]).stdout


@pytest.mark.parametrize("words", [[], ["retention"], ["config"]])
def test_options_before_a_command_are_told_where_they_belong(words: list[str]) -> None:
    done = CliRunner().invoke(pop3gw, [*words, "-c", "x"])
    assert done.exit_code == 2
    assert "expected a command before -c: " in done.stderr
