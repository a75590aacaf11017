"""The unit, rated by systemd's tools and run by systemd itself, as docs/install.md installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from programs import need
from servers import PASSWORD
from systemd import Systemd

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[3]
BOB = "bob@example.org"
UNIT = "pop3gw.service"


def block(with_line: str, language: str = "sh", page: str = "install") -> str:
    """The fenced block of a page that has this text."""
    text = (ROOT / f"docs/{page}.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    (found,) = (one for one in blocks if with_line in one)
    return str(found)


class Machine(Systemd):
    """A machine on which pop3gw is installed."""

    def type(self, text: str) -> None:
        """Type a block of a page, in the directory of the source."""
        self.run(f"set -e\n{text}", text=f"{PASSWORD}\n", cwd=str(ROOT))

    def drop_in(self, text: str) -> None:
        """Change the unit as systemctl edit does."""
        folder = self.directory / "etc/systemd/system/pop3gw.service.d"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))
        (folder / f"{number}.conf").write_text(text)
        self.run("systemctl daemon-reload")

    def curl(self, arguments: str) -> str:
        """What curl prints as Bob."""
        return self.run(f"curl -sSk --max-time 30 -u {BOB}:{PASSWORD} {arguments}")

    def deliver(self, where: str) -> None:
        """Deliver a message for Bob by LMTP, to an address or a socket."""
        self.run(f"python3 - {where}", text=DELIVERY)

    @property
    def log(self) -> str:
        """The journal of the unit."""
        return self.run(f"journalctl --no-pager --output cat --unit {UNIT}")

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait."""
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def pid(self) -> str:
        """The main process, by the number inside."""
        return self.show(UNIT, "MainPID")[0]


DELIVERY = f"""\
import smtplib, sys
client = smtplib.LMTP(sys.argv[1], 24)
client.sendmail("a@example.org", ["{BOB}"], "Subject: one\\n\\nfirst\\n")
client.quit()
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user may enter, and sockets too."""
    need("/usr/bin/python3", "/usr/lib/python3*/ensurepip/__init__.py", "useradd", root=True)
    made = Path(tempfile.mkdtemp(prefix="pop3gw-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """pop3gw as pip builds it."""
    tree = place / "tree"
    # A build writes into the tree, and other tests run there meanwhile.
    for name in ("etc", "gateway", "twisted"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"
    build = [*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(tree)]
    subprocess.run(build, check=True, timeout=300)
    (found,) = place.glob("*.whl")
    return found


def offline(text: str, wheel: Path) -> str:
    """The commands, without what ``pip install`` would fetch and the tests have already."""
    twistd = Path(sys.executable).with_name("twistd")

    return text.replace(
        "/opt/pop3gw/bin/pip install .\n",
        f"""\
echo {sysconfig.get_path("purelib")} > $(echo /opt/pop3gw/lib/python3*/site-packages)/tests.pth
sed '1s|.*|#!/opt/pop3gw/bin/python|' {twistd} > /opt/pop3gw/bin/twistd
chmod 755 /opt/pop3gw/bin/twistd
/opt/pop3gw/bin/pip install --no-deps --no-index {wheel}
""",
    )


@pytest.fixture(scope="module")
def installed(place: Path, wheel: Path) -> Path:
    """A machine with all that docs/install.md says to type before the service starts."""
    opt = place / "opt"
    opt.mkdir()
    (place / "first").mkdir()
    machine = Machine(place / "first", opt)
    try:
        machine.type(offline(block("useradd"), wheel))
        machine.type(block("notify-reload"))
        start = "systemctl enable --now pop3gw\n"
        machine.type(block(start).replace(start, ""))
    finally:
        machine.stop()
    return place


@pytest.fixture
def machine(installed: Path) -> Iterator[Machine]:
    """One that is installed; the service does not run yet."""
    directory = Path(tempfile.mkdtemp(dir=installed))
    machine = Machine(directory, installed / "opt", installed / "first")
    try:
        yield machine
    finally:
        machine.stop()


# -- rated ------------------------------------------------------------------------


def test_the_unit_is_exposed_to_less_than_two() -> None:
    need("systemd-analyze")
    unit = ROOT / "etc" / UNIT
    rate = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit]
    done = subprocess.run(rate, capture_output=True, text=True, timeout=60, check=False)
    (rated,) = re.findall(r"Overall exposure level for pop3gw\.service: ([\d.]+)", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(rated) <= 2.0


def test_systemd_finds_no_fault_in_the_units(machine: Machine) -> None:
    machine.run("/opt/pop3gw/bin/pop3gw samples pop3gw.socket > /etc/systemd/system/pop3gw.socket")
    verify = "systemd-analyze verify /etc/systemd/system/pop3gw.service"
    for unit in ("service", "socket"):
        assert machine.run(f"{verify} /etc/systemd/system/pop3gw.{unit} 2>&1") == ""


# -- run --------------------------------------------------------------------------


def test_the_service_of_the_page_serves_low_ports_reloads_and_stops(machine: Machine) -> None:
    machine.run("systemctl enable --now pop3gw")
    machine.type(block("systemctl status"))
    user, state, status = machine.show(UNIT, "User", "SubState", "StatusText")
    assert (user, state, status) == ("pop3gw", "running", "ready; connections: none")
    for url in ("pop3://127.0.0.1/", "pop3s://127.0.0.1/"):
        assert machine.curl(url) == ""
    before = machine.pid()
    machine.type(block("systemctl reload"))
    machine.until(lambda: "reloaded /var/lib/pop3gw/tls/cert.pem" in machine.log)
    machine.until(lambda: machine.show(UNIT, "SubState") == ["running"])
    assert machine.pid() == before
    owners = machine.run("find /var/lib/pop3gw -printf '%U\\n' | sort -u")
    assert owners == machine.run("id -u pop3gw")
    machine.run("systemctl stop pop3gw")
    assert machine.show(UNIT, "Result", "ActiveState") == ["success", "inactive"]
    for listener, tls in (("pop3", "stls"), ("pop3s", "implicit")):
        assert re.search(rf"listener {listener} at .*tls={tls}", machine.log)
    for word in ("Traceback", "Unable to write to plugin cache", "warn", "ignoring"):
        assert word not in machine.log


KILL_WHO_IS_REFUSED = """[Service]
# In place of EPERM, which a program may well survive.
SystemCallErrorNumber=kill
# twistd imports pdb, which imports readline: it reads the terminal's description as the file
# system's user, and survives EPERM.
SystemCallFilter=setfsuid setfsgid
"""


def test_no_system_call_of_a_busy_server_is_outside_of_the_filter(machine: Machine) -> None:
    lmtp = "Environment=POP3GW_LMTP__ENDPOINT=tcp:24:interface=127.0.0.1\n"
    machine.drop_in(f"{KILL_WHO_IS_REFUSED}{lmtp}")
    machine.run("systemctl enable --now pop3gw")
    before = machine.pid()
    machine.deliver("127.0.0.1")
    assert machine.curl("pop3://127.0.0.1/1").endswith("Subject: one\n\nfirst")
    assert machine.curl("pop3s://127.0.0.1/ -X UIDL").startswith("1 ")
    machine.curl("pop3s://127.0.0.1/1 -I -X DELE")
    machine.run("systemctl reload pop3gw")
    machine.until(lambda: "reloaded " in machine.log)
    assert machine.curl("pop3s://127.0.0.1/") == ""
    assert machine.pid() == before
    machine.run("systemctl stop pop3gw")
    assert machine.show(UNIT, "Result") == ["success"]


def test_worker_processes_serve_and_are_replaced_within_the_same_unit(machine: Machine) -> None:
    settings = "POP3GW_PROCESSES__WORKERS=2 POP3GW_PROCESSES__HANG_TIMEOUT=3"
    machine.drop_in(f"{KILL_WHO_IS_REFUSED}Environment={settings}\n")
    machine.run("systemctl enable --now pop3gw")
    parent = machine.pid()
    machine.until(lambda: all(f"worker {number} ready" in machine.log for number in (1, 2)))
    for url in ("pop3://127.0.0.1/", "pop3s://127.0.0.1/"):
        assert machine.curl(url) == ""
    (fork_server,) = machine.run(f"cat /proc/{parent}/task/*/children").split()
    workers = machine.run(f"cat /proc/{fork_server}/task/*/children").split()
    assert len(workers) == 2
    machine.run(f"kill -STOP {workers[0]}")
    machine.until(lambda: machine.log.count("worker 1 ready") == 2)
    machine.run("systemctl reload pop3gw")
    machine.until(lambda: machine.show(UNIT, "SubState") == ["running"])
    assert machine.curl("pop3://127.0.0.1/") == ""
    assert machine.show(UNIT, "NRestarts", "MainPID") == ["0", parent]
    # A worker must not speak for the parent.
    assert "reception only permitted" not in machine.run("journalctl --no-pager")
    machine.run("systemctl stop pop3gw")
    assert machine.show(UNIT, "Result") == ["success"]
    assert "Traceback" not in machine.log


def test_a_secret_that_root_alone_can_read_reaches_the_service(machine: Machine) -> None:
    machine.run("mkdir /etc/pop3gw && echo shibboleth > /etc/pop3gw/ldap-password")
    machine.run("chmod 600 /etc/pop3gw/ldap-password")
    text = block("LoadCredential=", "ini")
    # The page's, for the setting of a service that a client can ask.
    text = text.replace("LDAP__BIND_PASSWORD", "HTTP__TOKEN")
    machine.drop_in(f"{text}Environment=POP3GW_HTTP__ENDPOINT=tcp:8110:interface=127.0.0.1\n")
    machine.run("systemctl enable --now pop3gw")
    ask = f"curl -sS -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8110/v1/quota/{BOB}"
    assert machine.run(ask) == "401"
    assert machine.run(f"{ask} -H 'Authorization: Bearer shibboleth'") == "200"
    assert "shibboleth" not in machine.log


def test_a_server_that_hangs_is_restarted_and_its_journal_has_the_stacks(machine: Machine) -> None:
    machine.drop_in("[Service]\nWatchdogSec=5\n")
    machine.run("systemctl enable --now pop3gw")
    before = machine.pid()
    machine.run(f"kill -STOP {before}")
    machine.until(lambda: machine.show(UNIT, "NRestarts", "SubState") == ["1", "running"])
    assert machine.pid() != before
    assert "Watchdog timeout" in machine.log
    assert "Fatal Python error: Aborted" in machine.log
    assert machine.curl("pop3://127.0.0.1/") == ""


def test_mail_in_home_directories_needs_the_drop_in_of_the_page(machine: Machine) -> None:
    mail = "Environment=POP3GW_STORE__PATH=/home/mail/{name}/Maildir\n"
    machine.drop_in(f"[Service]\n{mail}")
    machine.run("mount -t tmpfs tmpfs /home && install -d -o pop3gw /home/mail")
    machine.run("systemctl enable --now pop3gw")
    assert machine.run(f"curl -sS -u {BOB}:{PASSWORD} pop3://127.0.0.1/", check=False) == ""
    assert machine.run("ls /home/mail") == ""
    machine.drop_in(block("ProtectHome=no", "ini"))
    machine.run("systemctl restart pop3gw")
    machine.curl("pop3://127.0.0.1/")
    assert machine.run("ls /home/mail") == BOB


def test_sockets_of_systemd_outlive_the_service(machine: Machine) -> None:
    machine.type(block("pop3gw samples pop3gw.socket"))
    for number in (1, 2):
        machine.deliver("/run/pop3gw-lmtp")
        for url in ("pop3://127.0.0.1/", "pop3s://[::1]/"):
            assert len(machine.curl(f"{url} -X UIDL").splitlines()) == number
        machine.run("systemctl stop pop3gw.service")
        assert machine.show("pop3gw.socket", "ActiveState") == ["active"]
        assert "Traceback" not in machine.log
        # The next client starts it.
    assert machine.run("stat -c '%a %U' /run/pop3gw-lmtp") == "660 pop3gw"


# -- kept running -------------------------------------------------------------------


def test_a_log_file_in_place_of_the_journal_rotates_at_a_signal(machine: Machine) -> None:
    machine.drop_in(block("LogsDirectory", "ini", "upgrade"))
    machine.run("systemctl enable --now pop3gw")
    machine.run("systemctl kill --signal=USR1 pop3gw")
    listed = "ls /var/log/pop3gw"
    machine.until(lambda: machine.run(listed) == "pop3gw.log\npop3gw.log.1")
    assert machine.curl("pop3://127.0.0.1/") == ""
    machine.run("systemctl stop pop3gw")
    assert f"user={BOB}" in machine.run("cat /var/log/pop3gw/pop3gw.log")


def test_a_restart_after_an_upgrade_keeps_the_ids_of_mail(machine: Machine) -> None:
    machine.drop_in("[Service]\nEnvironment=POP3GW_LMTP__ENDPOINT=tcp:24:interface=127.0.0.1\n")
    machine.run("systemctl enable --now pop3gw")
    machine.deliver("127.0.0.1")
    ids = machine.curl("pop3s://127.0.0.1/ -X UIDL")
    before = machine.pid()
    machine.type(block("systemctl restart", page="upgrade"))
    assert machine.pid() != before
    assert machine.curl("pop3s://127.0.0.1/ -X UIDL") == ids
