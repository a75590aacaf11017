"""A Postfix of our own for the interop tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from programs import find, need
from servers import free_port, until_listening


def need_postfix() -> None:
    """Skip, loudly, where Postfix is missing or root is not there to start it."""
    files = ("postqueue", "smtp-source", "swaks", "/usr/share/postfix/master.cf.dist")
    need("postfix", *files, root=True)


def _packaged() -> str:
    """The distribution's ``master.cf``."""
    place = find("/usr/share/postfix/master.cf.dist")
    assert place is not None
    return Path(place).read_text()


class Postfix:
    """Takes mail for ``example.org``, delivers it by LMTP, and asks a policy service."""

    def __init__(
        self,
        directory: Path,
        *,
        lmtp: str = "",
        policy: int | None = None,
        packaged: str = "",
    ) -> None:
        """``lmtp`` as Postfix spells a destination; ``policy`` is a port.

        ``packaged``: lines of ``main.cf`` in place of both, with the services of the
        distribution's ``master.cf``, chroots included.
        """
        self.directory = directory
        self.port = free_port()
        for name in ("etc", "spool", "data"):
            (directory / name).mkdir(parents=True)
        shutil.chown(directory / "data", "postfix")
        for parent in (directory, *directory.parents):
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        asks = ""
        if policy is not None:
            service = f"inet:127.0.0.1:{policy}, timeout=20s, default_action=DUNNO"
            service = f"check_policy_service {{ {service} }}"
            asks = (
                f"smtpd_recipient_restrictions = reject_unauth_destination, {service}, permit\n"
                f"smtpd_end_of_data_restrictions = {service}\n"
            )
        delivery = packaged or (
            "virtual_mailbox_domains = example.org\nvirtual_mailbox_maps = static:ok\n"
            f"virtual_transport = lmtp:{lmtp}"
        )
        (directory / "etc/main.cf").write_text(f"""\
compatibility_level = 3.6
config_directory = {directory}/etc
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = mx.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_transport = error:no local users
alias_maps =
alias_database =
{delivery}
default_transport = error:nothing leaves this machine
lmtp_destination_recipient_limit = 50
lmtp_destination_concurrency_limit = 10
smtpd_relay_restrictions = reject_unauth_destination
message_size_limit = 52428800
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
smtputf8_enable = yes
always_add_missing_headers = yes
smtpd_peername_lookup = no
{asks}""")
        services = (
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 1 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "proxywrite unix - - n - 1 proxymap",
            "showq unix n - n - - showq",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "lmtp unix - - n - 10 lmtp",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        )
        master = f"127.0.0.1:{self.port} inet n - n - 20 smtpd\n" + "\n".join(services) + "\n"
        if packaged:
            master = re.sub(r"^smtp(?= +inet)", f"127.0.0.1:{self.port}", _packaged(), flags=re.M)
        (directory / "etc/master.cf").write_text(master)
        for name in ("dynamicmaps.cf", "dynamicmaps.cf.d"):
            source = Path("/etc/postfix") / name
            if source.is_dir():
                shutil.copytree(source, directory / "etc" / name)
            elif source.exists():
                shutil.copy(source, directory / "etc" / name)

    def _do(self, *command: str) -> str:
        done = subprocess.run(
            [command[0], "-c", f"{self.directory}/etc", *command[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout + self.log
        return done.stdout

    def run(self) -> Postfix:
        """Start it; returns once it takes mail."""
        self._do("postfix", "start")
        until_listening(self.port)
        return self

    def stop(self) -> None:
        """End it and all its processes."""
        self._do("postfix", "stop")

    @property
    def queue(self) -> str:
        """What waits, a line of JSON for each message."""
        return self._do("postqueue", "-j")

    @property
    def log(self) -> str:
        """What it has logged."""
        file = self.directory / "maillog"
        return file.read_text(errors="replace") if file.exists() else ""

    def until_empty(self, seconds: float = 60) -> None:
        """Wait until nothing waits."""
        end = time.monotonic() + seconds
        while queue := self.queue:
            assert time.monotonic() < end, queue + self.log
            time.sleep(0.05)
