"""The image, built without an engine, and containers of it: buildah, podman and crun as root.

No registry is asked for the base: mmdebstrap makes one of Debian that has what python:3.13-slim
has.  Build and run share this machine's network, or have none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen

from programs import SYSTEM_PATH, need

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "localhost/python-base:3.13", "localhost/pop3gw:test"
UID = 10001
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# As the image python:3.13-slim is made: no documentation, pip below /usr/local, no lists of apt.
_BASE_HOOK = """\
chroot "$1" sh -ec '
    rm /usr/lib/python3*/EXTERNALLY-MANAGED
    python3 -m venv /tmp/venv
    /tmp/venv/bin/pip --python /usr/bin/python3 install -q --no-index --no-deps \
        --root-user-action=ignore /usr/share/python-wheels/pip-*.whl
    ln -sf /usr/bin/python3 /usr/local/bin/python
    ln -sf /usr/bin/python3 /usr/local/bin/python3
    rm -rf /tmp/venv /usr/share/python-wheels /var/lib/apt/lists/* /var/cache/apt/*
'"""
_LEFT_OUT = ("doc", "info", "locale", "man")

# crun refuses cgroups of both versions at once, and root of a test machine may have few rights.
_ENTER = 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
# Those that podman and buildah set otherwise are more than such a root may have.
_LIMITS = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")
_RUN = (*_LIMITS, "--cgroups", "disabled", "--no-healthcheck", "--log-driver", "k8s-file")

HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)
"""What README and docs/container.md recommend; podman's own tmpfs is no part of Docker."""


class Containers:
    """Images and containers below a directory."""

    def __init__(self, directory: Path) -> None:
        need("buildah", "podman", "crun", "mmdebstrap", "unshare", "mount", "umount", root=True)
        self._directory = directory
        (directory / "run").mkdir()
        config = directory / "storage.conf"
        self._env = {
            "PATH": SYSTEM_PATH,
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "TMPDIR": str(directory),
            "XDG_RUNTIME_DIR": str(directory / "run"),
            "CONTAINERS_STORAGE_CONF": str(config),
            "BUILDAH_ISOLATION": "chroot",
        }
        for self._driver in ("overlay", "vfs"):
            config.write_text(
                f'[storage]\ndriver = "{self._driver}"\nrunroot = "{directory}/runroot"\n'
                f'graphroot = "{directory}/graph-{self._driver}"\n'
            )
            with contextlib.suppress(AssertionError):
                made = self._do("buildah", "from", "scratch")
                self._do("buildah", "rm", made)
                break
        self.names: list[str] = []

    def _do(self, *command: object, stdin: str = "") -> str:
        """What a program prints; it must succeed."""
        done = self._try(*command, stdin=stdin)
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _try(self, *command: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            env=self._env,
            cwd=self._directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    # -- the image -----------------------------------------------------------

    def build_once(self, shared: Path) -> None:
        """Build, or take what another process of this test run has built and left in ``shared``."""
        archives = {BASE: shared / "base.tar", IMAGE: shared / "image.tar"}
        with open(shared / "image.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if all(archive.exists() for archive in archives.values()):
                for archive in archives.values():
                    self.podman("load", "--quiet", "--input", archive)
                return
            self.build()
            if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
                # podman 4.3 mixes up the images of one archive with several.
                for name, archive in archives.items():
                    self.podman("save", "--quiet", "--output", archive, name)

    def build(self) -> None:
        """Make the base, and the image of the Dockerfile as it is."""
        base = self._directory / "base.tar"
        without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        packages = "python3,python3-venv,ca-certificates,netbase,tzdata"
        self._do(
            *("mmdebstrap", "--variant=minbase", f"--include={packages}", *without),
            *(f"--customize-hook={_BASE_HOOK}", "trixie", base),
        )
        made = self._do("buildah", "from", "scratch")
        self._do("buildah", "add", "-q", made, base, "/")
        base.unlink()
        path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._do("buildah", "config", "--env", f"PATH={path}", "--cmd", "python3", made)
        self._do("buildah", "commit", "-q", "--rm", made, BASE)
        index = os.environ.get("PIP_INDEX_URL")
        self._do(
            *("buildah", "bud", "-q", "--isolation", "chroot", "--format", "docker"),
            *(*_LIMITS, "--layers=false", "--build-arg", f"BASE={BASE}"),
            *([f"--build-arg=PIP_INDEX_URL={index}"] if index else []),
            f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
            *("-t", IMAGE, ROOT),
        )

    @cached_property
    def image(self) -> dict[str, Any]:
        """What ``podman inspect`` says of the image."""
        (found,) = json.loads(self.podman("image", "inspect", IMAGE))
        return dict(found)

    def size(self, image: str) -> int:
        """Octets of all layers of an image, unpacked."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image))

    # -- containers ----------------------------------------------------------

    def podman(self, *arguments: object, stdin: str = "") -> str:
        """What a podman command prints; it must succeed."""
        done = self.try_podman(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def try_podman(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The same, whatever its exit code."""
        command, *rest = arguments
        some = (*_RUN, *rest) if command == "run" else rest
        return self._try(
            *("unshare", "--mount", "--propagation", "slave", "sh", "-c", _ENTER, "sh"),
            *("podman", "--root", self._directory / f"graph-{self._driver}"),
            *("--runroot", self._directory / "runroot", "--storage-driver", self._driver),
            *("--cgroup-manager", "cgroupfs", "--runtime", "crun", command, *some),
            stdin=stdin,
        )

    def run_once(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """``podman run --rm`` of a container without a network, which prints something."""
        for _ in range(3):
            done = self.try_podman("run", "--rm", "--network", "none", *arguments, stdin=stdin)
            # podman attaches to a container that runs already.  A short one may have ended by
            # then, and what it printed is lost.
            if done.stdout or done.stderr:
                break
        return done

    def start(
        self, name: str, *options: object, env: Mapping[str, object] | None = None
    ) -> Container:
        """Start a container in the background, as docs/container.md recommends."""
        given = [f"--env={name}={value}" for name, value in (env or {}).items()]
        self.names.append(name)
        self.podman("run", "--detach", "--name", name, *HARDENED, *given, *options, IMAGE)
        return Container(self, name)

    def end(self) -> None:
        """Remove all containers and images."""
        for name in self.names:
            self.try_podman("rm", "--force", "--time", "0", "--volumes", name)
        self.try_podman("volume", "prune", "--force")
        # Layers are mounted in other mount namespaces only; what is left goes with the directory.
        self.try_podman("rmi", "--all", "--force")


@frozen
class Container:
    """One that was started."""

    containers: Containers
    name: str

    @property
    def log(self) -> str:
        """What it has printed."""
        done = self.containers.try_podman("logs", self.name)
        return done.stdout + done.stderr

    def wait_for(self, text: str, *, times: int = 1, seconds: float = 60) -> None:
        """Wait until it has printed that so many times."""
        end = time.monotonic() + seconds
        while (log := self.log).count(text) < times:
            assert time.monotonic() < end, f"no {text!r} in:\n{log}"
            time.sleep(0.1)

    def execute(self, *command: object) -> subprocess.CompletedProcess[str]:
        """What a command prints in it, as ``docker exec`` runs it.

        ``podman exec`` enters the root of a mount namespace.  On a machine that is itself a
        chroot, that is not the root of the container; the one of its process 1 is.
        """
        pid = self.state("Pid")
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode().rstrip("\0").split("\0")
        return subprocess.run(
            [
                *("nsenter", "--target", pid, "--mount", "--pid", "--net", "--ipc", "--uts"),
                *("--root", "--wd", "--setuid", str(UID)),
                *("--setgid", str(UID), "--", *map(str, command)),
            ],
            env=dict(variable.split("=", 1) for variable in environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def health(self) -> subprocess.CompletedProcess[str]:
        """What the image's HEALTHCHECK does, which no timer of systemd starts here."""
        (kind, *command) = self.containers.image["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.execute(*command)

    def wait_until_healthy(self, seconds: float = 60) -> None:
        """Wait for the workers, which accept clients a moment after the sockets listen."""
        end = time.monotonic() + seconds
        while (done := self.health()).returncode:
            assert time.monotonic() < end, done.stdout + done.stderr + self.log

    def state(self, field: str) -> str:
        """Of ``podman inspect``, such as ``Pid`` or ``ExitCode``."""
        return self.containers.podman("inspect", "--format", f"{{{{.State.{field}}}}}", self.name)

    def stop(self, *options: object) -> int:
        """As ``docker stop`` does; its exit code, 137 if it had to be killed."""
        self.containers.podman("stop", *options, self.name)
        return int(self.state("ExitCode"))


@contextlib.contextmanager
def built(shared: Path) -> Iterator[Containers]:
    """The image, until the end; ``shared``: a directory of all processes of this test run."""
    # podman takes no path of more than 50 characters for its locks.
    directory = Path(tempfile.mkdtemp(prefix="pop3gw-", dir="/var/tmp"))
    try:
        containers = Containers(directory)
        try:
            containers.build_once(shared)
            yield containers
        finally:
            containers.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
