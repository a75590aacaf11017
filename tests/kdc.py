"""A real Kerberos server for the interop tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import Server, free_port, need

REALM = "MIT.TEST"
SERVICES = ("pop/localhost", "pop3/localhost")
OTHER_SERVICE = "imap/localhost"
"""A service whose key is in a keytab of its own."""


def need_kerberos() -> None:
    """Skip, loudly, without MIT Kerberos or the Python package; in CI fail."""
    need("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
    if importlib.util.find_spec("gssapi") is None:
        text = "needs the Python package gssapi: pip install '.[kerberos]'"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(text)


class Kdc(Server):
    """MIT Kerberos with a realm of its own; its users' passwords are ``pw-NAME``."""

    def __init__(self, directory: Path, users: tuple[str, ...] = ("alice", "bob")) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.krb5_conf = directory / "krb5.conf"
        """For ``KRB5_CONFIG``."""
        self.keytab = directory / "pop.keytab"
        self.old_keytab = directory / "old.keytab"
        """The same services before their keys were changed."""
        self.other_keytab = directory / "imap.keytab"
        self._caches = 0
        self.krb5_conf.write_text(f"""\
[libdefaults]
 default_realm = {REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{self.port}
 }}
[domain_realm]
 localhost = {REALM}
""")
        (directory / "kdc.conf").write_text(f"""\
[kdcdefaults]
 kdc_listen = 127.0.0.1:{self.port}
 kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
 {REALM} = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/kadm5.acl
  max_life = 10h
 }}
[logging]
 kdc = STDERR
""")
        self._do("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        commands = [f"addprinc -randkey {name}" for name in (*SERVICES, OTHER_SERVICE)]
        commands += [f"addprinc -pw pw-{name} {name}" for name in users]
        commands += [
            *(f"ktadd -norandkey -k {self.user_keytab(name)} {name}" for name in users),
            f"ktadd -k {self.old_keytab} {' '.join(SERVICES)}",
            f"ktadd -k {self.keytab} {' '.join(SERVICES)}",
            f"ktadd -k {self.other_keytab} {OTHER_SERVICE}",
        ]
        self._do("kadmin.local", typed="\n".join(commands))
        assert self.keytab.exists(), "kadmin.local made no keytab"

    @property
    def env(self) -> dict[str, str]:
        """For programs that are to use this realm."""
        return {"KRB5_CONFIG": str(self.krb5_conf)}

    def user_keytab(self, name: str) -> Path:
        """A user's key."""
        return self.directory / f"{name}.keytab"

    def ccache(self, name: str, *, password: str | None = None) -> Path:
        """A credential cache of its own with the user's ticket, by keytab or by password."""
        self._caches += 1
        cache = self.directory / f"cc-{name}-{self._caches}"
        if password is None:
            self._do("kinit", "-c", str(cache), "-k", "-t", str(self.user_keytab(name)), name)
        else:
            self._do("kinit", "-c", str(cache), name, typed=password)
        return cache

    def _do(self, program: str, *arguments: str, typed: str = "") -> None:
        env = {**self.env, "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}
        done = subprocess.run(
            [_path_of(program), *arguments],
            input=f"{typed}\n".encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env={**os.environ, **env},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout.decode(errors='replace')}"

    def run(self) -> Kdc:
        """Start it; returns once it serves."""
        env = {**self.env, "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}
        self.start([_path_of("krb5kdc"), "-n"], b"commencing operation", env=env)
        return self


def _path_of(program: str) -> str:
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    assert path is not None
    return path
