"""A real S3 for the tests of the cluster store: the smallest Ceph that serves it.

Of the S3 servers that Debian has, it is the one with read-after-write in its listings too.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from gateway.net.tls.certificates import make_certificate
from programs import need
from servers import Server, free_port, until_listening

ACCESS_KEY, SECRET_KEY = "gateway", "a-secret-key"
"""Of the user of gateways, who has what the policy of a bucket gives."""

OWNER_KEY, OWNER_SECRET = "owner", "another-secret-key"
"""Of the user who makes buckets."""

BACKUP_KEY, BACKUP_SECRET = "backup", "a-third-secret-key"
"""Of the user who may read what gateways have written."""

USERS = ((ACCESS_KEY, SECRET_KEY), (OWNER_KEY, OWNER_SECRET), (BACKUP_KEY, BACKUP_SECRET))

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw")

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {directory}/keyring
run dir = {directory}
admin socket =
log file =
log to stderr = true
err to stderr = true
setuser match path = {directory}/none
auth allow insecure global id reclaim = false
osd pool default size = {osds}
osd pool default min size = {least}
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {directory}/mon
mon data avail crit = 1
mon data avail warn = 2
osd data = {directory}/osd.$id
osd objectstore = {objects}
memstore device bytes = 1073741824
bluestore block size = 2147483648
bluestore block db size = 0
bluestore block wal size = 0
bluestore cache autotune = false
bluestore cache size = 33554432
osd class dir = {classes}
osd class load list = *
osd class default list = *
rgw data = {directory}
rgw frontends = beast endpoint=127.0.0.1:{port} {tls} tcp_nodelay=1
rgw thread pool size = 16
rgw enable usage log = false
"""


class RadosGateway:
    """A monitor, OSDs, and the S3 gateway before them.

    One OSD keeps its objects in memory.  Of three, each has all objects on disk and two serve.
    """

    def __init__(self, directory: Path, *, osds: int = 1) -> None:
        need(*PROGRAMS, "radosgw-admin", root=True)
        self.directory = directory
        self.port = free_port()
        self.tls = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://localhost:{self.tls}"
        self.certificate = directory / "cert.pem"
        key = directory / "key.pem"
        make_certificate(str(self.certificate), str(key))
        self._monitor_port = free_port()
        self._monitor, self.gateway = Server(directory), Server(directory)
        self.osds = [Server(directory) for _ in range(osds)]
        self._configuration = directory / "ceph.conf"
        self._fsid = str(uuid.uuid4())
        self._configuration.write_text(
            CONFIGURATION.format(
                fsid=self._fsid,
                monitor=f"[v2:127.0.0.1:{self._monitor_port}]",
                directory=directory,
                classes=_classes(),
                port=self.port,
                osds=osds,
                least=osds // 2 + 1,
                objects="memstore" if osds == 1 else "bluestore",
                tls=f"ssl_endpoint=127.0.0.1:{self.tls} ssl_certificate={self.certificate}"
                f" ssl_private_key={key}",
            )
        )
        for folder in ("mon", *(f"osd.{number}" for number in range(osds))):
            (directory / folder).mkdir()

    def run(self) -> RadosGateway:
        """Start all; returns once it serves its users."""
        self._make_keys()
        map_ = str(self.directory / "monmap")
        monitor = f"[v2:127.0.0.1:{self._monitor_port}]"
        self._do("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", monitor, map_)
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_)
        self._start(self._monitor, "ceph-mon", "-i", "a")
        until_listening(self._monitor_port)
        for number in range(len(self.osds)):
            osd = str(uuid.uuid4())
            self._do("ceph", "osd", "new", osd, str(number))
            self._do("ceph-osd", "-i", str(number), "--mkfs", "--osd-uuid", osd)
            self.start_osd(number)
        self.start_gateway()
        for name, secret in USERS:
            user = ("--uid", name, "--display-name", name)
            keys = ("--access-key", name, "--secret-key", secret)
            self._do("radosgw-admin", "user", "create", *user, *keys)
        return self

    def start_osd(self, number: int) -> None:
        """Start an OSD, for the first time or after it was ended."""
        self._start(self.osds[number], "ceph-osd", "-i", str(number))

    def start_gateway(self) -> None:
        """Start the S3 gateway; returns once it takes connections."""
        self._start(self.gateway, "radosgw", "-n", "client.admin")
        until_listening(self.port, 120)

    def limit(self, bucket: str, objects: int) -> None:
        """Give a bucket a quota."""
        which = ("--quota-scope=bucket", "--bucket", bucket, "--uid", OWNER_KEY)
        self._do("radosgw-admin", "quota", "set", *which, "--max-objects", str(objects))
        self._do("radosgw-admin", "quota", "enable", *which)

    def stop(self) -> None:
        """End all."""
        for server in (self.gateway, *self.osds, self._monitor):
            if server.process is not None:
                server.stop()

    def _make_keys(self) -> None:
        ring = str(self.directory / "keyring")
        everything = (
            "--cap",
            "mon",
            "allow *",
            "--cap",
            "osd",
            "allow *",
            "--cap",
            "mgr",
            "allow *",
        )
        osds = (f"osd.{number}" for number in range(len(self.osds)))
        for name in ("mon.", "client.admin", *osds):
            create = () if Path(ring).exists() else ("--create-keyring",)
            self._do("ceph-authtool", ring, *create, "--gen-key", "-n", name, *everything)

    def _start(self, server: Server, *command: str) -> None:
        server.start([*command, "-f", "-c", str(self._configuration)], b"")

    def _do(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, "-c", str(self._configuration), *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout.decode(errors='replace')}"


def _classes() -> Path:
    """Where OSDs find the code of radosgw: Debian 13 has a path that begins with no slash."""
    (found,) = Path("/usr/lib").glob("*/rados-classes")
    return found
