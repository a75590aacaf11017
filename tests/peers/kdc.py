"""A real Kerberos server for the interop tests."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

from programs import need, unavailable
from servers import Server, free_port

REALM = "MIT.TEST"
OTHER_REALM = "OTHER.TEST"
"""Trusted by ``REALM``: its users get tickets there, too."""
SERVICES = ("pop/localhost", "pop3/localhost")
OTHER_SERVICE = "imap/localhost"
"""A service whose key is in a keytab of its own."""


def need_kerberos() -> None:
    """Skip, loudly, without MIT Kerberos or the Python package; in CI fail."""
    need("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
    if importlib.util.find_spec("gssapi") is None:
        unavailable("needs the Python package gssapi: pip install '.[kerberos]'")


class Kdc(Server):
    """MIT Kerberos with realms of its own; the passwords of users are ``pw-NAME``."""

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
        at = f"{{\n  kdc = 127.0.0.1:{self.port}\n }}"
        self.krb5_conf.write_text(f"""\
[libdefaults]
 default_realm = {REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 {REALM} = {at}
 {OTHER_REALM} = {at}
[domain_realm]
 localhost = {REALM}
""")
        (directory / "kdc.conf").write_text(f"""\
[kdcdefaults]
 kdc_listen = 127.0.0.1:{self.port}
 kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
{self._settings_of(REALM)}
{self._settings_of(OTHER_REALM)}
[logging]
 kdc = STDERR
""")
        between = f"addprinc -pw between krbtgt/{REALM}@{OTHER_REALM}"
        theirs = [name for name in users if name.endswith(f"@{OTHER_REALM}")]
        ours = [name for name in users if name not in theirs]
        self._fill(
            REALM,
            between,
            *(f"addprinc -randkey {name}" for name in (*SERVICES, OTHER_SERVICE)),
            *self._make_users(ours),
            f"ktadd -k {self.old_keytab} {' '.join(SERVICES)}",
            f"ktadd -k {self.keytab} {' '.join(SERVICES)}",
            f"ktadd -k {self.other_keytab} {OTHER_SERVICE}",
        )
        assert self.keytab.exists(), "kadmin.local made no keytab"
        if theirs:
            self._fill(OTHER_REALM, between, *self._make_users(theirs))
        self._realms = (REALM, OTHER_REALM) if theirs else (REALM,)

    def _settings_of(self, realm: str) -> str:
        files = self.directory / realm
        return f"""\
 {realm} = {{
  database_name = {files}.principal
  key_stash_file = {files}.stash
  acl_file = {files}.acl
  max_life = 10h
 }}"""

    def _make_users(self, names: list[str]) -> list[str]:
        return [
            *(f"addprinc -pw pw-{name} {name}" for name in names),
            *(f"ktadd -norandkey -k {self.user_keytab(name)} {name}" for name in names),
        ]

    def _fill(self, realm: str, *commands: str) -> None:
        """Make the database of a realm."""
        self._do("kdb5_util", "create", "-s", "-r", realm, "-P", "master")
        self._do("kadmin.local", "-r", realm, typed="\n".join(commands))

    @property
    def env(self) -> dict[str, str]:
        """For programs that are to use this realm."""
        return {"KRB5_CONFIG": str(self.krb5_conf)}

    def user_keytab(self, name: str) -> Path:
        """A user's key."""
        return self.directory / f"{_file_of(name)}.keytab"

    def ccache(self, name: str, *, password: str | None = None) -> Path:
        """A credential cache of its own with the user's ticket, by keytab or by password."""
        self._caches += 1
        cache = self.directory / f"cc-{_file_of(name)}-{self._caches}"
        if password is None:
            self._do("kinit", "-c", str(cache), "-k", "-t", str(self.user_keytab(name)), name)
        else:
            self._do("kinit", "-c", str(cache), name, typed=password)
        return cache

    def _do(self, program: str, *arguments: str, typed: str = "") -> None:
        env = {**self.env, "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}
        done = subprocess.run(
            [program, *arguments],
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
        served = [word for realm in self._realms for word in ("-r", realm)]
        self.start(["krb5kdc", "-n", *served], b"commencing operation", env=env)
        return self


def _file_of(principal: str) -> str:
    return principal.replace("/", "-")
