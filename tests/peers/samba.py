"""A Samba domain controller for the interop tests: LDAP, Kerberos and NTLM as Windows has them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from gateway.net.tls.certificates import make_certificate
from programs import need
from servers import Server, free_port

PEOPLE = {name: f"pw-{name}" for name in ("alice", "bob", "carol", "dave", "erin", "frank", "jörg")}
"""Passwords by sAMAccountName; see ``SambaDC`` for who is who."""
LOCKOUT_THRESHOLD = 5
"""So many wrong passwords lock an account."""

_ACCOUNT_DISABLED = 2
_NORMAL_ACCOUNT = 512
_AES_KEYS = 8 | 16
_PAST = 116_444_736_000_000_000
"""1970 as a FILETIME: units of 100 ns since 1601."""
_NEVER = -(2**63)


def need_samba() -> None:
    """Skip, loudly, where Samba is missing or root is not there to make a namespace."""
    need(
        *("samba", "samba-tool", "winbindd", "ntlm_auth", "ldbmodify", "unshare", "setpriv"),
        root=True,
    )


class SambaDC(Server):
    """A domain controller of ``LAB.TEST`` in a network namespace of its own.

    The ports of LDAP and Kerberos cannot be changed, so the namespace. All its files and sockets
    are below ``directory``, whose path must leave some 60 of the 107 octets of a socket's name.

    ==========  ==================================================================================
    alice       ordinary; ``mDBStorageQuota`` 1000, ``mDBOverHardQuotaLimit`` 2000 (KiB)
    bob         ordinary; in the group ``helpdesk``
    carol       disabled
    dave        expired
    erin        locked after wrong passwords
    frank       has to change the password at the next login
    jörg        ordinary
    reader      the account with which others look up people
    svc-pop     the account of the service ``pop/localhost``
    ==========  ==================================================================================
    """

    REALM, DOMAIN, BASE = "LAB.TEST", "LAB", "DC=lab,DC=test"
    READER, READER_PASSWORD = "reader@LAB.TEST", "pw-reader"
    SERVICE = "pop/localhost"

    def __init__(self, directory: Path) -> None:
        """Make the domain, which takes some seconds."""
        super().__init__(directory)
        self.certificate = directory / "cert.pem"
        self.smb_conf = directory / "smb.conf"
        self.krb5_conf = directory / "krb5.conf"
        self.keytab = directory / "pop.keytab"
        self.ntlm_auth = directory / "ntlm_auth"
        """Samba's program of that name, for which winbindd is this one."""
        make_certificate(str(self.certificate), str(directory / "key.pem"))
        self._write_settings()
        self._samba_tool(
            *("domain", "provision", "--server-role=dc", "--dns-backend=NONE"),
            *(f"--realm={self.REALM}", f"--domain={self.DOMAIN}", "--adminpass=Administrat0r"),
            *("--host-name=dc1", "--host-ip=127.0.0.1"),
        )
        for change in (*self._schema(), self._accounts()):
            self.modify(change)
        self._samba_tool("domain", "exportkeytab", str(self.keytab), f"--principal={self.SERVICE}")
        self.plain, self.tls, self.kdc = free_port(), free_port(), free_port()
        self.krb5_conf.write_text(f"""\
[libdefaults]
default_realm = {self.REALM}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
{self.REALM} = {{
  kdc = 127.0.0.1:{self.kdc}
}}
[domain_realm]
localhost = {self.REALM}
""")

    def _write_settings(self) -> None:
        at = self.directory
        for name in ("lock", "state", "cache", "private", "pid", "bind-dns", "run/samba", "log"):
            (at / name).mkdir(parents=True)
        self.smb_conf.write_text(f"""\
[global]
netbios name = DC1
realm = {self.REALM}
workgroup = {self.DOMAIN}
server role = active directory domain controller
server services = ldap, cldap, kdc, rpc, winbindd
interfaces = 127.0.0.1/8
bind interfaces only = yes
lock directory = {at}/lock
state directory = {at}/state
cache directory = {at}/cache
private dir = {at}/private
pid directory = {at}/pid
binddns dir = {at}/bind-dns
ncalrpc dir = {at}/lock/ncalrpc
winbindd socket directory = {at}/run/samba/winbindd
ntp signd socket directory = {at}/lock/ntp_signd
log file = {at}/log/samba
prefork children = 1
tls enabled = yes
tls certfile = {self.certificate}
tls cafile = {self.certificate}
tls keyfile = {at}/key.pem
ldap server require strong auth = no
ntlm auth = ntlmv1-permitted
dsdb:schema update allowed = yes
[sysvol]
path = {at}/state/sysvol
read only = no
[netlogon]
path = {at}/state/sysvol/{self.REALM.lower()}/scripts
read only = no
""")
        # Clients of winbindd look for its socket below /run, whatever smb.conf says.
        self.ntlm_auth.write_text(f"""\
#!/bin/sh
exec unshare --mount sh -c 'mount --bind {at}/run /run && exec ntlm_auth "$@"' ntlm_auth "$@"
""")
        self.ntlm_auth.chmod(0o755)

    def _schema(self) -> Iterable[str]:
        """Exchange's attributes for quotas, under object ids of our own (RFC 5612)."""
        schema = f"CN=Schema,CN=Configuration,{self.BASE}"
        integer, boolean = ("2.5.5.9", 2), ("2.5.5.8", 1)
        attributes = {
            "mDBStorageQuota": integer,
            "mDBOverQuotaLimit": integer,
            "mDBOverHardQuotaLimit": integer,
            "mDBUseDefaults": boolean,
        }
        yield "\n\n".join(
            f"dn: CN={name},{schema}\nchangetype: add\nobjectClass: attributeSchema\n"
            f"attributeID: 1.3.6.1.4.1.32473.1.{number}\nlDAPDisplayName: {name}\n"
            f"attributeSyntax: {syntax}\noMSyntax: {om_syntax}\nisSingleValued: TRUE"
            for number, (name, (syntax, om_syntax)) in enumerate(attributes.items(), 1)
        )
        yield f"dn: CN=User,{schema}\nchangetype: modify\nadd: mayContain\n" + "\n".join(
            f"mayContain: {name}" for name in attributes
        )

    def _accounts(self) -> str:
        rules = {
            "pwdProperties": 0,
            "minPwdLength": 4,
            "minPwdAge": 0,
            "maxPwdAge": _NEVER,
            "pwdHistoryLength": 0,
            "lockoutThreshold": LOCKOUT_THRESHOLD,
        }
        more = {
            "alice": "mDBStorageQuota: 1000\nmDBOverHardQuotaLimit: 2000\nmDBUseDefaults: FALSE",
            "carol": f"userAccountControl: {_NORMAL_ACCOUNT | _ACCOUNT_DISABLED}",
            "dave": f"accountExpires: {_PAST}",
            "frank": "pwdLastSet: 0",
        }
        service = (
            f"servicePrincipalName: {self.SERVICE}\nmsDS-SupportedEncryptionTypes: {_AES_KEYS}"
        )
        return "\n\n".join(
            [
                f"dn: {self.BASE}\nchangetype: modify\n"
                + "\n-\n".join(f"replace: {name}\n{name}: {rules[name]}" for name in rules),
                *(self.person(name, word, more.get(name, "")) for name, word in PEOPLE.items()),
                self.person("reader", self.READER_PASSWORD),
                self.person("svc-pop", "pw-svc-pop", service),
                f"dn: {self.dn('helpdesk')}\nchangetype: add\nobjectClass: group\n"
                f"sAMAccountName: helpdesk\nmember: {self.dn('bob')}",
            ]
        )

    def dn(self, name: str) -> str:
        """Where this user or group is."""
        return f"CN={name},CN=Users,{self.BASE}"

    def person(
        self, name: str, password: str, more: str = "", *, dn: str = "", upn: str = ""
    ) -> str:
        """An account in LDIF."""

        def encoded(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        secret = base64.b64encode(f'"{password}"'.encode("utf-16-le")).decode()
        lines = [
            f"dn:: {encoded(dn or self.dn(name))}",
            "changetype: add",
            "objectClass: user",
            f"sAMAccountName:: {encoded(name)}",
            f"userPrincipalName:: {encoded(upn or f'{name}@{self.REALM}')}",
            f"mail:: {encoded(f'{name}@example.test')}",
            f"unicodePwd:: {secret}",
        ]
        if "userAccountControl" not in more:
            lines.append(f"userAccountControl: {_NORMAL_ACCOUNT}")
        return "\n".join([*lines, *filter(None, [more])])

    def _tool(self, *command: str, stdin: str = "") -> None:
        """Run one of Samba's programs; what it says belongs to its failure only."""
        done = subprocess.run(
            command, input=stdin.encode(), capture_output=True, timeout=600, cwd=self.directory
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise AssertionError(f"{command}: {done.returncode}\n{said}")

    def _samba_tool(self, *arguments: str) -> None:
        self._tool("samba-tool", *arguments, f"--configfile={self.smb_conf}")

    def modify(self, changes: str) -> None:
        """Make changes, given in LDIF, behind the server's back."""
        database = f"{self.directory}/private/sam.ldb"
        settings = f"--configfile={self.smb_conf}"
        self._tool("ldbmodify", "-H", database, settings, stdin=changes + "\n")

    def run(self) -> SambaDC:
        """Start it; returns once LDAP, the KDC and winbindd answer, and erin is locked."""
        ports = [f"{self.plain}:389", f"{self.tls}:636", f"{self.kdc}:88"]
        forward = Path(__file__).with_name("namespace_forward.py")
        command = [
            *(sys.executable, str(forward), *ports, "--"),
            *("samba", "--foreground", "--debug-stdout", "-s", str(self.smb_conf)),
        ]
        try:
            self.start(command, b"ports answer")
            end = time.monotonic() + 60
            while not self.logs_in("reader", self.READER_PASSWORD):
                assert time.monotonic() < end, f"winbindd does not answer:\n{self.log}"
                time.sleep(0.05)
            for _ in range(LOCKOUT_THRESHOLD):
                self.logs_in("erin", "wrong")
        except BaseException:
            self.stop()
            raise
        return self

    def logs_in(self, name: str, password: str) -> bool:
        """Whether winbindd lets this one in with NTLM."""
        command = [
            *(str(self.ntlm_auth), f"--configfile={self.smb_conf}"),
            *(f"--domain={self.DOMAIN}", f"--username={name}", f"--password={password}"),
        ]
        return not subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    def winbindd_pids(self) -> list[int]:
        """Its winbindd processes, parent first; for a test that halts them."""
        assert self.process is not None
        namespace = os.readlink(f"/proc/{self.process.pid}/ns/net")
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if (
                    os.readlink(f"/proc/{name}/ns/net") == namespace
                    and Path(f"/proc/{name}/comm").read_text() == "winbindd\n"
                ):
                    found.append(int(name))
            except OSError:
                continue  # It has just ended.
        return sorted(found)
