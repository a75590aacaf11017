"""``pop3gw check-config`` and ``pop3gw config show``."""

from __future__ import annotations

import io
import json
import os
import tomllib
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner

from commands import run_here
from gateway.cli.main import pop3gw
from gateway.config.load import load_settings

SECRET = "do-not-show-this"
TEXT = """\
state_dir = "{place}"
demo = true
[listeners.a]
endpoint = "tcp:0"
tls = "none"
[limits]
connections = 7
[pop3]
profile = "exchange2007"
idle_timeout = 60
[ldap]
bind_password_file = "password"
[http]
token = "do-not-show-this-2"
[quota.domains."example.org"]
octets = "1 GB"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a secret of each kind."""
    (tmp_path / "password").write_text(f"{SECRET}\n")
    file = tmp_path / "pop3gw.toml"
    file.write_text(TEXT.format(place=tmp_path))
    return file


def show(*arguments: str, **environment: str) -> list[dict[str, object]]:
    """The settings as JSON."""
    result = CliRunner(env=environment).invoke(pop3gw, ["config", "show", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_setting_has_its_value_and_its_origin(config: Path) -> None:
    found = {
        one["setting"]: (one["value"], one["origin"])
        for one in show("-c", str(config), POP3GW_LIMITS__SESSIONS_PER_USER="5")
    }
    assert found["limits.connections"] == (7, f"{config}:7")
    assert found["limits.sessions_per_user"] == (5, "POP3GW_LIMITS__SESSIONS_PER_USER")
    assert found["limits.stall_timeout"] == (300.0, "default")
    assert found["pop3.idle_timeout"] == (60.0, f"{config}:10")
    assert found["pop3.user_pass"] == (True, "profile exchange2007")
    assert found["listeners.a.endpoint"] == ("tcp:0", f"{config}:4")
    assert found["listeners.a.mechanisms"] == (["PLAIN", "LOGIN"], "pop3.mechanisms")
    assert found['quota.domains."example.org".octets'] == ("1 GB", f"{config}:16")


def test_no_secret_is_shown(config: Path) -> None:
    for form in ((), ("--json",)):
        code, out, _ = run_here("config", "show", "--config", str(config), *form)
        assert code == 0
        assert "do-not-show" not in out
    found = {one["setting"]: one for one in show("--config", str(config))}
    for key, line in (("ldap.bind_password", 12), ("http.token", 14)):
        assert found[key]["hidden"] is True
        assert (found[key]["value"], found[key]["origin"]) == (None, f"{config}:{line}")
    assert found["ldap.bind_password_file"]["value"] == "password"


def test_the_output_is_a_configuration_with_the_same_settings(config: Path, tmp_path: Path) -> None:
    _, out, _ = run_here("config", "show", "--config", str(config))
    again = tmp_path / "again.toml"
    again.write_text(out)
    before, after = load_settings(str(config), {}), load_settings(str(again), {})
    assert tomllib.loads(out)["quota"]["domains"] == {
        "example.org": {"octets": "1 GB", "warn_octets": ""}
    }
    # What the profile gives is now said, and what is hidden is not.
    assert before.profile == after.profile
    assert before.profile_of("a") == after.profile_of("a")
    for part in ("limits", "directory", "store", "quota", "retention", "tls", "lmtp", "audit"):
        assert getattr(before, part) == getattr(after, part)
    assert evolve(before.ldap, bind_password="") == evolve(after.ldap, bind_password="")


def test_a_part_can_be_asked_for_and_what_differs_from_the_defaults(config: Path) -> None:
    found = show("limits", "audit.keep", "--config", str(config))
    assert {str(one["setting"]).partition(".")[0] for one in found} == {"limits", "audit"}
    assert len(found) == 8
    changed = [one["setting"] for one in show("-n", "limits", "--config", str(config))]
    assert changed == ["limits.connections"]
    code, _, err = run_here("config", "show", "limit", "--config", str(config))
    assert code == 2
    assert "there is no setting or section limit" in err


def test_faults_are_printed_with_file_line_and_setting(config: Path) -> None:
    config.write_text(config.read_text().replace("connections = 7", "connections = 'x'"))
    code, out, err = run_here("check-config", "--config", str(config))
    assert (code, err) == (1, "")
    assert out == f"{config}:7: limits.connections: expected a whole number, found 'x'\n"
    code, out, _ = run_here("check-config", "--config", str(config), "--json")
    assert code == 1
    assert json.loads(out) == {
        "ok": False,
        "faults": [f"{config}:7: limits.connections: expected a whole number, found 'x'"],
        "remarks": [],
    }
    code, _, err = run_here("config", "show", "--config", str(config))
    assert code == 1
    assert err.startswith(f"pop3gw config show: {config}:7: limits.connections: expected")


def test_a_configuration_without_faults_is_fine(config: Path) -> None:
    config.write_text(config.read_text() + 'messages = 0\n[audit]\npath = "audit.log"\n')
    code, out, _ = run_here("check-config", "--config", str(config))
    assert (code, out.splitlines()[-1]) == (0, "The configuration is fine.")
    assert "quota.domains.example.org.messages: a quota of 0 is no limit" in out
    code, out, _ = run_here("check-config", "--config", str(config), "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)


def test_who_checks_for_another_user_is_root(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run_here("check-config", "--config", str(config), "--user", "no such user")
    assert code == 2
    assert "there is no such user" in err
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    code, _, err = run_here("check-config", "--config", str(config), "--user", "nobody")
    assert code == 2
    assert "only root can check for another user" in err


def test_settings_are_a_table_on_a_terminal(config: Path) -> None:
    from gateway.cli.commands.configuration import SETTINGS
    from gateway.cli.terminal import Terminal
    from gateway.operations.server.configuration import show as operation

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Screen()
    Terminal(out, io.StringIO()).show(SETTINGS, operation(str(config), {}))
    assert "(hidden)" in out.getvalue()
    assert "─" in out.getvalue()
    assert "do-not-show" not in out.getvalue()


OUTSIDE = """
[directory]
kind = "toy_kinds.TOY_DIRECTORY"
users = ["bob", "carol"]
[store]
kind = "toy_kinds.TOY_STORE"
copies = 2
"""


def test_settings_of_kinds_from_outside_the_package_are_shown(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "outside")
    text = config.read_text().replace("demo = true", "demo = false")
    config.write_text(text.replace("[pop3]", f"{OUTSIDE}[pop3]"))
    found = {one["setting"]: (one["value"], one["origin"]) for one in show("-c", str(config))}
    assert found["directory.users"] == (["bob", "carol"], f"{config}:11")
    assert found["store.copies"] == (2, f"{config}:14")
    assert found["store.letter"] == ("Hello.", "default")
