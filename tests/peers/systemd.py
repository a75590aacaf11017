"""systemd itself, as process 1 of a machine that is made of namespaces.

It has an ``/etc``, ``/opt``, ``/run``, ``/var/lib``, ``/var/log`` and network of its own, and of
Debian's units only those that a service needs.  Nothing of it touches the machine outside.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from secrets import token_hex

from programs import need

A_UNIT = "/usr/lib/systemd/system/basic.target"
CGROUPS = Path("/sys/fs/cgroup")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_KEPT = (
    *("*.slice", "shutdown.target", "sockets.target", "timers.target", "umount.target"),
    *("network*.target", "nss-lookup.target", "paths.target", "local-fs*.target"),
    *("systemd-journald*.s*", "final.target", "exit.target", "systemd-exit.service"),
)

_TARGETS = {
    "sysinit": "Wants=systemd-journald.service\nAfter=systemd-journald.service\n",
    "basic": "Requires=sysinit.target\nWants=sockets.target\nAfter=sysinit.target sockets.target\n",
    "multi-user": "Requires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n",
}

_BOOT = """\
set -e
mount --make-rprivate /
mount --bind "$PLACE/etc" /etc
mount --bind "$OPT" /opt
mount --bind "$PLACE/lib" /var/lib
mount --bind "$PLACE/log" /var/log
mount --bind "$PLACE/units" /usr/lib/systemd/system
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /usr/lib/systemd/system-generators
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
# Credentials are mounted in one namespace and seen in another.
mount --make-rshared /
exec env -i PATH="$PATH" container=namespaces LANG=C.UTF-8 /lib/systemd/systemd --system \
    --unit=multi-user.target --log-target=journal --show-status=no
"""


class Systemd:
    """A machine that systemd runs, in a directory."""

    def __init__(self, directory: Path, opt: Path, like: Path | None = None) -> None:
        """Start it with this ``/opt``; returns once it takes commands.

        ``like``: the directory of another one, to begin with copies of its files.
        """
        need(
            "/lib/systemd/systemd",
            A_UNIT,
            "systemctl",
            "setpriv",
            "unshare",
            "nsenter",
            "cp",
            root=True,
        )
        self.directory, self._opt = directory, opt
        directory.chmod(0o755)
        for name in ("log", "units"):
            (directory / name).mkdir()
        if like is None:
            (directory / "lib").mkdir()
            shutil.copytree("/etc", directory / "etc", symlinks=True)
            for name in ("systemd/system", "systemd/system-generators"):
                shutil.rmtree(directory / "etc" / name, ignore_errors=True)
            (directory / "etc/systemd/system").mkdir(parents=True)
        else:
            # With owners, which shutil leaves out.
            subprocess.run(["cp", "-a", like / "etc", like / "lib", directory], check=True)
        for pattern in _KEPT:
            for unit in Path(A_UNIT).parent.glob(pattern):
                if not unit.is_dir():
                    shutil.copy(unit, directory / "units", follow_symlinks=False)
        (directory / "units/systemd-journald-audit.socket").unlink()
        journal = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"
        (directory / "etc/systemd/journald.conf").write_text(journal)
        for name, text in _TARGETS.items():
            (directory / "units" / f"{name}.target").write_text(f"[Unit]\n{text}")
        self._cgroup = _cgroups() / f"pop3gw-test-{token_hex(8)}"
        self._cgroup.mkdir()
        self._start()

    def _start(self) -> None:
        die = ("setpriv", "--pdeathsig", "KILL")
        unshare = (*die, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        more = ("--uts", "--ipc", "--net", "--cgroup", "bash", "-c", _BOOT)
        enter = ("bash", "-c", 'echo $$ > "$0" && exec "$@"', self._cgroup / "cgroup.procs")
        with open(self.directory / "console", "wb") as console:
            self._process = subprocess.Popen(
                [*enter, *unshare, *more],
                env={"PLACE": str(self.directory), "OPT": str(self._opt), "PATH": _PATH},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 60
        while self.run("systemctl is-system-running", check=False) not in ("running", "degraded"):
            assert time.monotonic() < end, (self.directory / "console").read_text()
            time.sleep(0.05)

    @property
    def _first(self) -> str:
        """Its process, by the number outside."""
        number = self._process.pid
        return Path(f"/proc/{number}/task/{number}/children").read_text().strip()

    def run(self, command: str, *, text: str = "", check: bool = True, cwd: str = "/") -> str:
        """What a shell command prints on that machine; by default it must succeed."""
        enter = ["nsenter", "--target", self._first, "--root", "--mount", "--pid", "--net"]
        done = subprocess.run(
            [*enter, "--ipc", "--uts", "sh", "-c", f"cd {cwd}\n{command}"],
            input=text,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "SYSTEMD_PAGER": "cat"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not (check and done.returncode), (command, done.stdout + done.stderr)
        return done.stdout.strip()

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit."""
        wanted = "".join(f" --property={name}" for name in names)
        lines = self.run(f"systemctl show {unit}{wanted}").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in names]

    def stop(self) -> None:
        """End it, and all that runs on it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        end = time.monotonic() + 30
        for group in sorted(self._cgroup.rglob("*/"), reverse=True):
            _remove(group, end)
        _remove(self._cgroup, end)


def _remove(group: Path, end: float) -> None:
    while group.is_dir():
        try:
            group.rmdir()
        except OSError:
            # The kernel is still ending its processes.
            assert time.monotonic() < end
            time.sleep(0.02)


def _cgroups() -> Path:
    """The root of the hierarchy of version 2."""
    unified = CGROUPS / "unified"
    return unified if unified.is_dir() else CGROUPS
