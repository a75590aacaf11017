"""The image: what is in it, and containers as docs/container.md runs them."""

from __future__ import annotations

import os
import re
import shlex
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

import gateway
from client_process import curl, fetchmail
from containers import BASE, HARDENED, IMAGE, ROOT, UID, Container, Containers, built
from gateway.testing.directory_contract import PASSWORDS
from programs import need
from servers import Slapd, free_port

pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("container"),
    # The first one waits for the image.
    pytest.mark.timeout(1500),
]

ALICE, BOB = "alice@example.org", "bob@example.org"
STATE = "/var/lib/pop3gw"


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The image, built once in a test run."""
    with built(tmp_path_factory.getbasetemp().parent) as found:
        yield found


def output(done: subprocess.CompletedProcess[str]) -> str:
    """What a command has printed to standard output; it must succeed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shell(containers: Containers, script: str) -> list[str]:
    """The lines that a script prints in the image, as its user."""
    done = containers.run_once(*HARDENED, "--entrypoint", "sh", IMAGE, "-c", script)
    return output(done).splitlines()


# -- what is in it -----------------------------------------------------------


def test_the_image_is_smaller_than_200_megabytes(containers: Containers) -> None:
    base, whole = containers.size(BASE), containers.size(IMAGE)
    parts = shell(containers, "du -sk /opt/pop3gw/lib/python3*/site-packages/gateway /opt/pop3gw")
    ours, packages = (int(line.split()[0]) // 1000 for line in parts)
    sizes = f"base {base // 10**6} MB, Python packages {packages} MB, of these pop3gw {ours} MB"
    print(f"image {whole // 10**6} MB: {sizes}")
    assert whole < 200 * 10**6, sizes
    assert ours < 10


def test_nothing_is_in_it_that_only_a_build_needs(containers: Containers) -> None:
    found = shell(
        containers,
        "find / -xdev \\( -name 'pip*' -o -name ensurepip -o -name 'cc1*' -o -name dropin.pyc"
        " -o -name .git \\) -not -path '/proc/*' 2>/dev/null;"
        " ls -A /var/lib/apt/lists; ls -A /var/cache/apt;"
        " for one in pip pip3 gcc cc c++ ld make; do command -v $one; done; :",
    )
    assert found == []
    packages = "/opt/pop3gw/lib/python3*/site-packages"
    assert shell(containers, f"ls -d /src {packages}/tests {packages}/bench 2>/dev/null; :") == []


def test_its_user_its_labels_and_its_signal_are_those_of_the_documentation(
    containers: Containers,
) -> None:
    config: dict[str, Any] = containers.image["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["StopSignal"] in ("SIGTERM", "15")
    environment = dict(one.split("=", 1) for one in config["Env"])
    # Docker kills after 10 seconds.
    assert float(environment["POP3GW_LIMITS__DRAIN_TIMEOUT"]) <= 8
    assert list(config["Volumes"]) == [STATE]
    assert set(config["ExposedPorts"]) == {"1110/tcp", "1995/tcp"}
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels["version"] == gateway.__version__
    assert labels["base.name"] == BASE
    assert {"title", "description", "licenses", "url", "vendor"} <= {
        name for name, value in labels.items() if value
    }
    assert {"created", "revision"} <= set(labels)
    assert shell(containers, "id -u; id -g; id -G") == [f"{UID}"] * 3


def test_python_writes_nothing_and_text_is_utf8_and_the_time_zone_is_a_setting(
    containers: Containers,
) -> None:
    assert shell(
        containers,
        "python3 -c 'import sys; print(sys.getfilesystemencoding(), sys.stdout.encoding)'",
    ) == ["utf-8 utf-8"]
    done = containers.run_once(
        *HARDENED, "-e", "TZ=Asia/Tokyo", "--entrypoint", "date", IMAGE, "+%z"
    )
    assert output(done) == "+0900\n"


# -- the first start ---------------------------------------------------------


def first_start(containers: Containers, *options: object) -> str:
    """What a start prints that cannot succeed."""
    done = containers.run_once(*HARDENED, *options, IMAGE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_volume_of_somebody_else_is_named_in_one_line_with_the_cure(
    containers: Containers, tmp_path: Path
) -> None:
    for owner, mode in ((0, 0o755), (0, 0o700), (20000, 0o700)):
        volume = tmp_path / f"{owner}-{mode}"
        volume.mkdir()
        volume.chmod(mode)
        os.chown(volume, owner, owner)
        said = first_start(
            containers, "-v", f"{volume}:{STATE}", "-e", "POP3GW_DIRECTORY__KIND=ldap",
            "-e", "POP3GW_LDAP__URIS=ldap://127.0.0.1:1", "-e", "POP3GW_LDAP__BASE=dc=example",
        )  # fmt: skip
        assert len(said.splitlines()) == 1, said
        assert said.startswith(STATE)
        assert f"chown -R {UID} {STATE}" in said
        assert list(volume.iterdir()) == []
        # The cure, where the volume is.
        for path in (volume, *volume.rglob("*")):
            os.chown(path, UID, UID)
        assert output(
            containers.run_once(
                *HARDENED, "-v", f"{volume}:{STATE}", "-e", "POP3GW_DEMO=true", IMAGE, "--check"
            )
        ).endswith("The configuration is fine.\n")


def test_a_missing_passwd_file_is_named_in_one_line_with_the_cure(containers: Containers) -> None:
    said = first_start(containers)
    assert said == (
        f"{STATE}/accounts: no such file: directory.file (make it with pop3gw passwd --file)\n"
    )


def test_a_platform_may_choose_the_user_id(containers: Containers) -> None:
    container = containers.start(
        "chosen", "--network", "none", "--user", "1000730000:0", env={"POP3GW_DEMO": "true"}
    )
    container.wait_for("listener pop3s at")
    container.wait_until_healthy()
    assert output(container.health()).count(" up: +OK") == 2
    assert container.stop() == 0


# -- by environment alone ----------------------------------------------------


@frozen
class Served:
    """Where clients find a container."""

    container: Container
    plain: int
    tls: int
    lmtp: int
    certificate: Path
    secrets: Path


@pytest.fixture(scope="module")
def served(
    containers: Containers, slapd: Slapd, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """A container on an empty volume, with LDAP, LMTP, the policy service and HTTP."""
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "ldap").write_text("reader\n")
    (secrets / "token").write_text("a-token-from-a-file\n")
    for path in (secrets, *secrets.iterdir()):
        os.chown(path, UID, UID)
        path.chmod(0o700 if path.is_dir() else 0o400)
    plain, tls, lmtp = free_port(), free_port(), free_port()
    container = containers.start(
        "served",
        *("--network", "host", "-v", f"{secrets}:/run/secrets:ro", "-v", f"mail:{STATE}"),
        env={
            "POP3GW_LISTENERS__POP3__ENDPOINT": f"tcp:{plain}",
            "POP3GW_LISTENERS__POP3S__ENDPOINT": f"tcp:{tls}",
            "POP3GW_TLS__NAMES": "localhost",
            "POP3GW_DIRECTORY__KIND": "ldap",
            "POP3GW_LDAP__URIS": f"ldap://127.0.0.1:{slapd.plain}",
            "POP3GW_LDAP__BASE": slapd.BASE,
            "POP3GW_LDAP__BIND_DN": slapd.READER,
            "POP3GW_LDAP__BIND_PASSWORD_FILE": "/run/secrets/ldap",
            "POP3GW_LMTP__ENDPOINT": f"tcp:{lmtp}",
            "POP3GW_POLICY__ENDPOINT": f"unix:{STATE}/policy",
            "POP3GW_HTTP__ENDPOINT": f"tcp:{free_port()}",
            "POP3GW_HTTP__TOKEN_FILE": "/run/secrets/token",
            "TZ": "Asia/Tokyo",
            # The image has 8 of Docker's 10 seconds, which a slow machine may need for the rest.
            "POP3GW_LIMITS__DRAIN_TIMEOUT": "3",
        },
    )
    container.wait_for(" info ready: ")
    container.wait_until_healthy()
    certificate = secrets / "cert.pem"
    certificate.write_text(output(container.execute("cat", f"{STATE}/tls/cert.pem")))
    return Served(container, plain, tls, lmtp, certificate, secrets)


def test_mail_comes_in_by_lmtp_and_clients_fetch_it_with_ldap_by_environment_alone(
    served: Served, home: Path
) -> None:
    need("curl", "fetchmail")
    with smtplib.LMTP("127.0.0.1", served.lmtp) as client:
        text = "Subject: into the container\r\n\r\nhello\r\n"
        assert client.sendmail("postfix@example.org", [ALICE], text) == {}
    secret = PASSWORDS[ALICE]
    for line in ("stls", "pop3s"):
        done = curl(served, home, line, f"{ALICE}:{secret}", "PLAIN")  # type: ignore[arg-type]
        assert done.returncode == 0, done.stdout
        assert "Subject: into the container" in (home / "message").read_text()
        (home / "message").unlink()
    login = f'auth password user "{ALICE}" password "{secret}"'
    done = fetchmail(served, home, "pop3s", login)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stdout
    assert "hello" in (home / "message").read_text()
    served.container.wait_for(f"end=quit user={ALICE} from=127.0.0.1 tls=TLSv1.3", times=3)
    log = served.container.log
    assert re.search(rf"\+0900 info delivery: mailbox={ALICE} ", log)
    assert "Traceback" not in log
    for hidden in ("reader\n", "a-token-from-a-file", secret):
        assert hidden not in log


def test_it_is_healthy_while_every_listener_answers_and_logs_no_check(served: Served) -> None:
    before = served.container.log
    lines = output(served.container.health()).splitlines()
    assert [line.split()[1] for line in lines] == ["pop3", "pop3s", "lmtp", "policy", "http"]
    assert all(" up: " in line for line in lines)
    assert served.container.log == before


def test_it_is_unhealthy_when_one_listener_is_gone(served: Served) -> None:
    socket, away = f"{STATE}/policy", f"{STATE}/away"
    output(served.container.execute("mv", socket, away))
    try:
        done = served.container.health()
    finally:
        output(served.container.execute("mv", away, socket))
    assert done.returncode == 1
    down = [line for line in done.stdout.splitlines() if " up: " not in line]
    assert down == [
        f"listener policy at unix:{STATE}/policy down: no such socket; is the server running"
        " with this configuration?"
    ]
    assert served.container.health().returncode == 0


def test_it_is_unhealthy_when_the_server_hangs(served: Served) -> None:
    freeze = "import os, signal; os.kill({pid}, signal.{name})"
    pids = servers_of(served.container)
    for pid in pids:
        output(served.container.execute("python3", "-c", freeze.format(pid=pid, name="SIGSTOP")))
    try:
        done = served.container.execute("pop3gw", "health", "--timeout", "2")
    finally:
        for pid in pids:
            output(
                served.container.execute("python3", "-c", freeze.format(pid=pid, name="SIGCONT"))
            )
    assert done.returncode == 1
    assert done.stdout.count("no answer in time") == 5
    assert served.container.health().returncode == 0


def servers_of(container: Container) -> list[int]:
    """The processes of the server by their numbers in the container: all but tini."""
    script = (
        "import os, glob\n"
        "for path in glob.glob('/proc/[0-9]*'):\n"
        "    try: words = open(path + '/cmdline').read().split('\\0')\n"
        "    except OSError: continue\n"
        "    if path != '/proc/1' and int(path[6:]) != os.getpid(): print(path[6:], words)\n"
    )
    lines = output(container.execute("python3", "-c", script)).splitlines()
    return [int(line.split()[0]) for line in lines]


def test_processes_that_lose_their_parent_leave_no_zombies(served: Served) -> None:
    before = servers_of(served.container)
    output(served.container.execute("sh", "-c", "for n in 1 2 3; do sh -c 'exit 3' & done; exit 0"))
    # One that has just ended may be one for a moment.
    states = "until ! cat /proc/[0-9]*/stat | sed 's/.*) //' | grep -q ^Z; do sleep 0.1; done"
    output(served.container.execute("timeout", "60", "sh", "-c", states))
    assert servers_of(served.container) == before


def test_docker_stop_ends_it_in_time_with_a_client_that_reads_nothing_and_mail_is_kept(
    served: Served, containers: Containers, home: Path
) -> None:
    need("curl")
    with smtplib.LMTP("127.0.0.1", served.lmtp) as client:
        large = "Subject: large\r\n\r\n" + "0123456789\r\n" * 1_000_000
        assert client.sendmail("postfix@example.org", [BOB], large) == {}
    begun = home / "slow"
    slow = subprocess.Popen(
        [
            *("curl", "--disable", "--silent", "--limit-rate", "1K", "--output", str(begun)),
            *("--user", f"{BOB}:{PASSWORDS[BOB]}", f"pop3://127.0.0.1:{served.plain}/1"),
        ]
    )
    try:
        while not (begun.exists() and begun.stat().st_size):
            assert slow.poll() is None
            time.sleep(0.01)
        # 137: killed after Docker's 10 seconds.
        assert served.container.stop("--time", "10") == 0
    finally:
        slow.kill()
        slow.wait()
    assert "Server Shut Down." in served.container.log
    containers.podman("start", served.container.name)
    served.container.wait_for("listener http at", times=2)
    served.container.wait_until_healthy()
    files = output(
        served.container.execute("find", f"{STATE}/mail/example.org/bob", "-name", "*,S=*")
    )
    assert len(files.splitlines()) == 1
    # Commands find the configuration: it is in the environment.
    shown = output(served.container.execute("pop3gw", "users", "show", BOB))
    assert re.search(rf"^Account: +{BOB},", shown, re.M), shown


# -- the README --------------------------------------------------------------


def commands(first: str) -> list[str]:
    """The lines of the README's block that begins with a line like this."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    (block,) = (block for block in blocks if block.startswith(first))
    return block.replace("\\\n", " ").splitlines()


def test_docker_run_of_the_readme_works_as_written(containers: Containers) -> None:
    need("nsenter", "curl")
    build, passwd, run, *more = map(shlex.split, commands("docker build"))
    assert build == ["docker", "build", "-t", "pop3gw", "."]
    containers.podman("tag", IMAGE, "pop3gw")
    assert passwd[:2] == run[:2] == ["docker", "run"]
    # Nobody sits at a terminal, and the network is the container's own: no port is published.
    words = [word.replace("-it", "-i") for word in passwd[1:]]
    done = containers.try_podman(*words[:1], "--network=none", *words[1:], stdin="wonderland\n")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    words = [word for word in run[1:] if word not in ("-p", "110:1110", "995:1995")]
    assert len(words) == len(run) - 1 - 4
    name = words[words.index("--name") + 1]
    containers.names.append(name)
    containers.podman(words[0], "--network=none", "--read-only-tmpfs=false", *words[1:])
    container = Container(containers, name)
    container.wait_for("listener pop3s at")
    container.wait_until_healthy()
    pid = container.state("Pid")
    for url in ("pop3://127.0.0.1:1110/", "pop3s://127.0.0.1:1995/"):
        fetched = subprocess.run(
            ["nsenter", "--target", pid, "--net", "curl", "--disable", "--silent",
             "--ssl-reqd", "--insecure", "--user", "bob@example.org:wonderland", url],
            capture_output=True,
            timeout=60,
            check=False,
        )  # fmt: skip
        assert fetched.returncode == 0, fetched
    for line in more:
        assert line[:3] == ["docker", "exec", name], line
        output(container.execute(*line[3:]))
    assert container.stop() == 0
