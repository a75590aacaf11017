"""What holds for every command of ``pop3gw``: help, examples, JSON, errors, exit codes."""

from __future__ import annotations

import io
import json
import os
import poplib
import re
import shlex
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import click
import pytest
from attrs import evolve, frozen
from click.testing import CliRunner

from cluster_engines import Engines
from cluster_gateway import ClusterGateway
from commands import PROGRAM
from gateway.cli.command import MEANINGS, Command, Exit, Group, command
from gateway.cli.main import pop3gw
from gateway.cli.manual import manual
from gateway.cli.terminal import Terminal
from gateway.errors import TookTooLong
from gateway.http.routes import ROUTES
from gateway.model import LastScan
from gateway.operations.users.accounts import set_password
from gateway.state.ledger import Ledger
from gateway.store.maildir.removal.hidden import hidden_name
from postgresql import PostgreSQL
from programs import need
from servers import PASSWORD, Gateway, fill, free_port
from servers import USER as OWNER

ROOT = Path(__file__).parents[2]
USER = "bob@example.org"


def leaves(group: Group, *path: str) -> Iterator[tuple[str, Command | Group]]:
    """Every command and group below, by the words that name it."""
    for name, inner in group.commands.items():
        assert isinstance(inner, Command | Group), f"{name} has no examples"
        yield " ".join((*path, name)), inner
        if isinstance(inner, Group):
            yield from leaves(inner, *path, name)


EVERY = dict(leaves(pop3gw))
COMMANDS = {words: one for words, one in EVERY.items() if isinstance(one, Command)}


@frozen
class Uses:
    """How a command is called so that it works, and so that it fails."""

    works: str
    fails: str
    place: str
    cure: str
    code: Exit = Exit.FAILED
    out: bool = False
    """Whether faults are the result, and so on standard output."""

    again: str = ""
    """How it works a second time, if that is another way."""


def asks(works: str) -> Uses:
    """A command that needs a server."""
    fails = works.replace("{served}", "{bare}")
    return Uses(works, fails, "/bare/control: No such file", "is the server running")


def about_nobody(more: str) -> Uses:
    """A command about a mailbox."""
    works, fails = (f"-c {{served}} {name} {more}" for name in (OWNER, "nobody"))
    return Uses(works, fails, "there is no mailbox 'nobody'", "check the name")


USES = {
    "check-config": Uses(
        "-c {config}",
        "-c {bad}",
        "{bad}:3: limits.connections:",
        "expected a whole number",
        out=True,
    ),
    "config show": Uses("-c {config}", "-c {none}", "{none}: cannot be read", "check --config"),
    "health": Uses(
        "-c {config}",
        "-c {closed}",
        "listener a at tcp:1:interface=127.0.0.1 down: nothing listens there",
        "is the server running with this configuration?",
        out=True,
    ),
    "passwd": Uses(
        f"--stdin --file {{state}}/accounts {USER}",
        "--delete --file {state}/accounts nobody",
        "nobody is not in {state}/accounts",
        "check the name",
    ),
    "reload": Uses(
        "-c {served}", "-c {bare}", "/bare/control: No such file", "is the server running"
    ),
    "retention preview": Uses(
        "-c {config}", "-c {bare}", "/accounts: No such file", "make it with pop3gw passwd --file"
    ),
    "retention forecast": Uses(
        "-c {config} --days 7", "-c {broken}", "ledger.sqlite3: is damaged", "move it away"
    ),
    "retention list": Uses(
        "-c {config} --stopped", "-c {broken}", "ledger.sqlite3: is damaged", "move it away"
    ),
    "retention run": Uses(
        f"-c {{config}} {USER}", "-c {config} nobody", "nobody: retention", "check the name"
    ),
    "retention release": Uses(
        "-c {config} --all", "-c {broken} --all", "ledger.sqlite3: is damaged", "move it away"
    ),
    "retention hidden": Uses(
        f"-c {{config}} {USER}", f"-c {{unborn}} {USER}", "/unborn: no such directory", "--config"
    ),
    "retention restore": Uses(
        "-c {config} ann@example.org",
        f"-c {{none}} {USER}",
        "{none}: cannot be read",
        "check --config",
    ),
    "trace": Uses(
        f"{USER} -c {{served}} --for 1s",
        f"{USER} -c {{bare}}",
        "/bare/control: No such file",
        "is the server running",
    ),
    "move-ids": Uses("-c {config}", "-c {broken}", "ledger.sqlite3: is damaged", "move it away"),
    "status": asks("-c {served}"),
    "certificates": asks("-c {served}"),
    "history": asks("-c {served}"),
    "metrics": asks("-c {served}"),
    "users show": Uses(
        f"-c {{served}} {OWNER}", "-c {served} nobody", "'nobody' is no login name", "check how"
    ),
    "users delegates": Uses(
        f"-c {{served}} {OWNER}", "-c {served} nobody", "'nobody' is no login name", "check how"
    ),
    "users auth-test": asks(f"-c {{served}} {OWNER} --stdin"),
    "quota": asks("-c {served}"),
    "users flush": asks("-c {served} --all"),
    "sessions list": asks("-c {served}"),
    "sessions kick": Uses(
        "-c {served} --user nobody",
        "-c {served} 0-0",
        "no such session is open",
        "it may have ended",
    ),
    "mailboxes list": asks("-c {served} --search alice"),
    "mailboxes show": about_nobody(""),
    "mailboxes recalculate": about_nobody(""),
    "mailboxes rename": evolve(
        asks("-c {served} old@example.org new@example.org"),
        again="-c {served} new@example.org old@example.org",
    ),
    "mailboxes copy": Uses(
        f"-c {{config}} --to {{target}} --no-switch {USER}",
        "-c {config} --to {target} nobody@example.org",
        "there is no mailbox 'nobody@example.org'",
        "check the name",
    ),
    "mailboxes delete": about_nobody("--dry-run"),
    "mailboxes move-ids": about_nobody(""),
    "messages list": about_nobody(""),
    "messages show": about_nobody("1"),
    "messages hide": evolve(about_nobody("2"), again=f"-c {{served}} {OWNER} 3"),
    "messages remove": evolve(about_nobody("4"), again=f"-c {{served}} {OWNER} 5"),
    "messages restore": asks(f"-c {{served}} {OWNER} --all"),
    "logins list": asks("-c {served} --unused-days 90"),
    "logins failed": asks(f"-c {{served}} --user {OWNER} --since 1h"),
    "deliveries": asks(f"-c {{served}} --user {OWNER} --since 1h"),
    "throttle list": asks("-c {served}"),
    "throttle forgive": asks("-c {served} --user bob"),
    "audit": asks(f"-c {{served}} --mailbox {OWNER} --since 7d"),
    "cluster migrate": Uses(
        "--database {database}",
        "-c {config}",
        "store.kind: expected 'cluster', found 'maildir'",
        "or use --database",
    ),
    "cluster verify": Uses(
        "-c {clustered}",
        "-c {config}",
        "store.kind: expected 'cluster', found 'maildir'",
        "name the configuration of a gateway of the cluster with --config",
    ),
    "samples": Uses("pop3gw.toml", "pop3gw.ini", "pop3gw.ini", "pop3gw.toml", Exit.USAGE),
    "completion": Uses("bash", "csh", "csh", "bash", Exit.USAGE),
}


SERVED = """\
[retention]
enabled = true
policy = "unread 60d, hide 14d"
check_every = 3600
[limits]
connections = 100
"""
"""Settings of the server that runs while commands are tried."""


def configuration(place: Path, state: Path, *, more: str = "", at: str = "tcp:0") -> Path:
    """A file with a state directory and a listener."""
    text = f'state_dir = "{state}"\n[limits]\n{more}\n[listeners.a]\nendpoint = "{at}"\n'
    place.write_text(f'{text}tls = "none"\n[retention]\nenabled = true\npolicy = "unread 60d"\n')
    return place


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Configurations: one that works and some that do not, each with a state directory."""
    root = tmp_path_factory.mktemp("commands")
    for name in ("state", "bare", "broken", "target"):
        (root / name).mkdir()
    made: dict[str, object] = {
        "config": configuration(root / "pop3gw.toml", root / "state"),
        "bad": configuration(root / "bad.toml", root / "state", more="connections = 'x'"),
        "bare": configuration(root / "bare.toml", root / "bare"),
        "broken": configuration(root / "broken.toml", root / "broken"),
        "unborn": configuration(root / "unborn.toml", root / "unborn"),
        "closed": configuration(
            root / "closed.toml", root / "state", at="tcp:1:interface=127.0.0.1"
        ),
        "target": configuration(root / "target.toml", root / "target"),
        "none": root / "none.toml",
        "state": root / "state",
    }
    for state in ("state", "broken", "target"):
        set_password(str(root / state / "accounts"), USER, b"secret", "SSHA256")
    maildir = root / "state/mail/example.org/bob"
    name = "1700000000.M1P1.host"
    for message in (maildir / "cur" / name, maildir / ".Expired/cur" / hidden_name(name, "17")):
        for folder in ("cur", "new", "tmp"):
            (message.parents[1] / folder).mkdir(parents=True)
        message.write_bytes(b"Subject: x\r\n\r\n")
        os.utime(message, (1_700_000_000, 1_700_000_000))
    for folder in ("cur", "new", "tmp"):
        (root / "state/mail/example.org/ann" / folder).mkdir(parents=True)
    with closing(Ledger(str(root / "state"))) as ledger:
        ledger.keep_scan(USER, LastScan("unread 60d", None, 1.0, 200, stopped="200 of 200"))
    (root / "broken/ledger.sqlite3").write_bytes(b"x" * 5000)
    (root / "served").mkdir()
    lmtp = free_port()
    at = f'[lmtp]\nendpoint = "tcp:{lmtp}:interface=127.0.0.1"\n'
    gateway = Gateway(root / "served", SERVED + at)
    made["served"] = gateway.config
    files = fill(gateway.maildir, [b"Subject: %d\r\n\r\n" % number for number in range(9)])
    lines = "".join(f"{uid} :{path.name}\n" for uid, path in enumerate(files, 1))
    gateway.maildir.joinpath("dovecot-uidlist").write_text(f"3 V1 N{len(files) + 1}\n{lines}")
    fill(gateway.maildir.parent / "old@example.org", [b"Subject: x\r\n\r\n"])
    database = PostgreSQL().run()
    made["database"] = database.url()
    try:
        gateway.run()
        with used(gateway, lmtp):
            yield {name: str(path) for name, path in made.items()}
    finally:
        gateway.stop()
        database.stop()
    assert "Traceback" not in gateway.log


@contextmanager
def used(gateway: Gateway, lmtp: int) -> Iterator[None]:
    """A delivery, a removal, a wrong password, and a session that stays open."""
    with smtplib.LMTP("127.0.0.1", lmtp, timeout=60) as postfix:
        postfix.sendmail("me@example.net", [OWNER], b"Subject: x\r\n\r\n")
    with closing(poplib.POP3("127.0.0.1", gateway.plain, timeout=60)) as client:
        client.user(OWNER)
        client.pass_(PASSWORD)
        client.dele(9)
        client.quit()
    with closing(poplib.POP3("127.0.0.1", gateway.plain, timeout=60)) as client:
        client.user(OWNER)
        with suppress(poplib.error_proto):
            client.pass_("wrong")
        client.user(OWNER)
        client.pass_(PASSWORD)
        yield


@pytest.fixture(scope="module")
def clustered(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The configuration of a server of a cluster."""
    engines.clear()
    root = tmp_path_factory.mktemp("clustered")
    gateway = ClusterGateway(engines, engines.make_bucket(), root, SERVED)
    gateway.mail.put(OWNER, [b"Subject: %d\r\n\r\n" % number for number in range(9)])
    gateway.mail.put("old@example.org", [b"Subject: x\r\n\r\n"])
    try:
        gateway.run()
        with used(gateway, gateway.lmtp):
            yield {"served": str(gateway.config), "clustered": str(gateway.config)}
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log


def run(words: str, arguments: str, places: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without a terminal."""
    command = [*PROGRAM, *words.split(), *arguments.format(**places).split()]
    return subprocess.run(
        command, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=60, check=False
    )


def json_rows() -> dict[str, str]:
    """Command to the keys of its JSON, as docs/operations.md has them."""
    text = (ROOT / "docs/operations.md").read_text()
    section = text.partition("| command | keys |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([\w -]+)` \| (.*) \|$", section, re.M))
    rows["retention release"] = rows["retention run"]
    return rows


def test_every_command_is_in_the_tables() -> None:
    assert set(USES) == set(COMMANDS) == set(json_rows())


def test_each_verb_is_a_command_and_a_route() -> None:
    names = {
        f"{route.operation.__module__.rpartition('.')[2]}.{route.operation.__name__}"
        for route in ROUTES
    }
    done = {name for one in COMMANDS.values() for name in one.does}
    assert names == done


@pytest.mark.parametrize("words", ["", *EVERY])
def test_help_has_examples_that_the_command_takes(words: str) -> None:
    done = CliRunner().invoke(pop3gw, [*words.split(), "--help"], prog_name="pop3gw")
    assert done.exit_code == 0
    examples = done.stdout.partition("Examples:\n")[2].splitlines()
    assert examples
    for example in examples:
        _, typed, rest = example.partition("pop3gw ")
        assert typed, example
        assert words == "" or rest.startswith(words), example
        ctx = click.Context(pop3gw, info_name="pop3gw", **pop3gw.context_settings)
        arguments = shlex.split(rest.partition(" > ")[0])
        while isinstance(ctx.command, Group):
            name, command, arguments = ctx.command.resolve_command(ctx, arguments)
            assert command is not None
            if arguments == ["--help"]:
                break
            ctx = command.make_context(name, arguments, parent=ctx)
            arguments = [*ctx._protected_args, *ctx.args] if isinstance(command, Group) else []


@pytest.mark.xdist_group("cluster")
@pytest.mark.parametrize(
    "words",
    [words for words, uses in USES.items() if re.search("{(served|clustered)}", uses.works)],
)
def test_it_works_for_mail_in_a_cluster(words: str, clustered: dict[str, str]) -> None:
    works_and_prints_json(words, clustered)


@pytest.mark.parametrize(
    "words", [words for words, uses in USES.items() if "{clustered}" not in uses.works]
)
def test_it_works_without_a_terminal_and_prints_json(words: str, places: dict[str, str]) -> None:
    works_and_prints_json(words, places)


def works_and_prints_json(words: str, places: dict[str, str]) -> None:
    """Without a terminal, and with the keys of the manual."""
    plain = run(words, USES[words].works, places)
    assert (plain.returncode, plain.stderr) == (0, ""), plain
    uses = USES[words]
    done = run(words, f"{uses.again or uses.works} --json", places)
    assert (done.returncode, done.stderr) == (0, "")
    documented = set(re.findall(r"`(\w+)`", json_rows()[words]))
    for line in done.stdout.splitlines():
        assert set(json.loads(line)) <= documented
    assert done.stdout
    assert "\x1b" not in plain.stdout + done.stdout


@pytest.mark.parametrize("words", COMMANDS)
def test_an_error_names_the_place_and_the_cure(words: str, places: dict[str, str]) -> None:
    uses = USES[words]
    done = run(words, uses.fails, places)
    found, other = (done.stdout, done.stderr) if uses.out else (done.stderr, done.stdout)
    assert (done.returncode, other) == (uses.code, ""), done
    assert "Traceback" not in found
    assert uses.place.format(**places) in found
    assert uses.cure in found
    if uses.code == Exit.FAILED and not uses.out:
        assert all(line.startswith(f"pop3gw {words}: ") for line in found.splitlines())
        done = run(words, f"{uses.fails} --json", places)
        assert (done.returncode, done.stdout) == (uses.code, "")
        for line in done.stderr.splitlines():
            assert list(json.loads(line)) == ["error"]


def test_what_is_done_in_part_has_an_exit_code_of_its_own(places: dict[str, str]) -> None:
    hidden = Path(places["state"]) / "mail/example.org/bob/.Expired/cur"
    (hidden / hidden_name("1700000001.M1P1.host", "18")).write_bytes(b"Subject: x\r\n\r\n")
    done = run("retention restore", f"-c {{config}} {USER} 18 4711", places)
    assert done.returncode == Exit.PARTLY
    assert done.stdout == f"1 of 2 messages are back in {USER}\n"
    done = run("retention restore", f"-c {{config}} {USER} 18 4711", places)
    assert (done.returncode, done.stdout) == (Exit.FAILED, "")
    assert "has no message with the unique-id '18'" in done.stderr


def test_an_interrupted_command_ends_without_a_traceback() -> None:
    class Interrupted(io.BytesIO):
        def readline(self, _: int | None = None) -> bytes:
            raise KeyboardInterrupt

    done = CliRunner().invoke(pop3gw, ["passwd", "--stdin", "bob"], input=Interrupted())
    assert (done.exit_code, done.output) == (Exit.INTERRUPTED, "")


@pytest.mark.parametrize(
    "words",
    [
        "--json",
        "nosuch --json",
        "mailboxes nosuch --json",
        "retention --json nosuch",
        "retention forecast --days x --json",
        "retention forecast --json --nosuch",
        "messages hide --json",
        "messages restore bob --json",
        "users flush --json",
        "samples nosuch --json",
        "audit --json x",
    ],
)
def test_wrong_usage_with_json_is_an_object_too(words: str) -> None:
    done = CliRunner().invoke(pop3gw, words.split())
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    (line,) = done.stderr.splitlines()
    assert list(json.loads(line)) == ["error"]
    without = CliRunner().invoke(pop3gw, words.replace("--json", "").split())
    assert not without.stderr.startswith("{")


def test_a_longer_wait_is_advised_where_there_is_an_option_for_it() -> None:
    for options, advised in (((), False), ([click.option("--timeout", default=60.0)], True)):

        def slow(_: Terminal, **__: object) -> None:
            raise TookTooLong("control: no answer within 60 s")

        for option in options:
            slow = option(slow)
        done = CliRunner().invoke(command("slow")(slow), [])
        assert done.exit_code == Exit.FAILED
        assert ("wait longer with --timeout" in done.stderr) == advised


def test_the_documented_exit_codes_are_those_of_the_code() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = dict(re.findall(r"^\| `(\d+)` \| (.*) \|$", text, re.M))
    assert rows == {str(int(code)): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(Exit)


def test_the_manual_page_is_made_of_the_help() -> None:
    assert (ROOT / "etc/pop3gw.1").read_text() == manual(), "run scripts/make-manual"
    for words, one in COMMANDS.items():
        name = words.replace("-", r"\-")
        assert f'.SS "pop3gw {name}"' in manual()
        assert all(example.replace("-", r"\-") in manual() for example in one.examples)


COMPLETE = """
source {script}
COMP_WORDS=(pop3gw retention re) COMP_CWORD=2
_pop3gw_completion pop3gw
echo "${{COMPREPLY[@]}}"
"""


def test_bash_completes_commands(tmp_path: Path) -> None:
    need("bash")
    script = tmp_path / "completion"
    environment = os.environ | {"PATH": f"{Path(PROGRAM[1]).parent}:{os.environ['PATH']}"}

    def output(*command: str) -> str:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    script.write_text(output(*PROGRAM, "completion", "bash"))
    text = COMPLETE.format(script=script)
    assert output("bash", "-c", text).split() == ["release", "restore"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_ask_the_command_in_the_same_way(shell: str) -> None:
    def ask(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    script = ask("completion", shell)
    assert f"_POP3GW_COMPLETE={shell}_complete" in script
    word = {"fish": "re", "zsh": "2"}[shell]
    words = "pop3gw retention re"
    said = ask(_POP3GW_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=word)
    assert "release" in said
    assert "preview" not in said
