"""``python -m bench.directory``: logins against an LDAP directory, beside Dovecot's own."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from string import Template

from bench.program import main, need, users_at
from bench.setup import dovecot_config, processes
from bench.setup.maildirs import Drop
from bench.setup.servers import Dovecot, Gateway, Server, changed, free_port, made, running
from bench.work.load import Line, Probe, Step, Talk, converse, login
from bench.work.work import Mail, Sessions, percentile

BASE = "ou=people,dc=example,dc=org"
READER = f"cn=reader,{BASE}"


class Slapd:
    """OpenLDAP with an entry for each user, in the foreground."""

    def __init__(self, directory: Path, drops: Sequence[Drop]) -> None:
        self.port = free_port()
        self._directory = directory
        (directory / "db").mkdir(parents=True)
        (directory / "slapd.conf").write_text(f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
threads 4
database mdb
maxsize 67108864
suffix "{BASE}"
rootdn "cn=admin,{BASE}"
rootpw admin
directory {directory}/db
dbnosync
index uid,mail eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{READER}" read by anonymous auth
""")
        entries = [
            f"dn: {BASE}\nobjectClass: organizationalUnit\nou: people",
            f"dn: {READER}\nobjectClass: applicationProcess\n"
            f"objectClass: simpleSecurityObject\ncn: reader\nuserPassword: {_ssha('reader')}",
            *(
                f"dn: uid={drop.login},{BASE}\nobjectClass: inetOrgPerson\nuid: {drop.login}\n"
                f"cn: x\nsn: x\nmail: {drop.login}\nuserPassword: {_ssha(drop.password)}"
                for drop in drops
            ),
        ]
        (directory / "people.ldif").write_text("\n\n".join(entries) + "\n")
        config = f"{directory}/slapd.conf"
        add = ["/usr/sbin/slapadd", "-q", "-f", config, "-l", f"{directory}/people.ldif"]
        subprocess.run(add, check=True)

    @contextmanager
    def running(self) -> Iterator[Slapd]:
        """Started, and stopped at the end."""
        url = f"ldap://127.0.0.1:{self.port}"
        config = f"{self._directory}/slapd.conf"
        process = subprocess.Popen(
            ["/usr/sbin/slapd", "-d", "0", "-f", config, "-h", url], stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + 20
            while time.monotonic() < end:
                try:
                    Line(self.port, None).socket.close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield self
        finally:
            process.terminate()
            process.wait(20)


def _ssha(password: str) -> str:
    salt = os.urandom(8)
    digest = hashlib.sha1(password.encode() + salt).digest()
    return "{SSHA}" + b64encode(digest + salt).decode()


class LdapGateway(Gateway):
    """The gateway in front of slapd."""

    cache_ttl = 0.0
    ldap = 0

    def _settings(self) -> str:
        changes = {
            'kind = "passwd-file"': (
                f'kind = "ldap"\nthreads = {WORKERS}\ncache_ttl = {self.cache_ttl}'
            ),
        }
        return f"""{changed(super()._settings(), changes)}
[ldap]
uris = ["ldap://127.0.0.1:{self.ldap}"]
base = "{BASE}"
bind_dn = "{READER}"
bind_password = "reader"

[throttle]
free = 1000
network_free = 100000
"""


WORKERS = 4


LDAP_2_3 = """\
uris = ldap://127.0.0.1:$port
dn = $reader
dnpass = reader
base = $base
scope = subtree
auth_bind = yes
pass_attrs = mail=user
pass_filter = (|(uid=%u)(mail=%u))
"""
LDAP_2_4 = """\
ldap_uris = ldap://127.0.0.1:$port
ldap_auth_dn = $reader
ldap_auth_dn_password = reader
ldap_base = $base
passdb ldap {
  ldap_scope = subtree
  ldap_bind = yes
  ldap_filter = (|(uid=%{user})(mail=%{user}))
  fields {
    user = %{ldap:mail}
  }
}
"""
"""A file of its own in 2.3, a part of the configuration in 2.4."""


class LdapDovecot(Dovecot):
    """Dovecot with its LDAP passdb, every login bound anew."""

    ldap = 0

    def command(self) -> list[str]:
        command = super().command()
        spelt = LDAP_2_3 if dovecot_config.version(command[0]).startswith("2.3.") else LDAP_2_4
        text = Template(spelt).substitute(port=self.ldap, reader=READER, base=BASE)
        (self.directory / "ldap.conf").write_text(text)
        return command

    def _settings(self) -> str:
        changes = {
            "driver = passwd-file": "driver = ldap",
            f"args = username_format=%u {self.accounts}": f"args = {self.directory}/ldap.conf",
            "auth_cache_size = 16M": "auth_cache_size = 0",
        }
        return changed(super()._settings(), changes)


def _measure(directory: Path, rounds: int, sessions: int) -> dict[str, str]:
    need(
        "/usr/lib/dovecot/modules/auth/libauthdb_ldap.so",
        "Dovecot's LDAP is missing: apt-get install dovecot-ldap slapd",
    )
    kinds: dict[str, type[Server]] = {
        "dovecot": LdapDovecot,
        "cold": LdapGateway,
        "warm": LdapGateway,
        "file": Gateway,
    }
    servers = made(directory, kinds)
    drops = users_at(servers.values())
    with ExitStack() as stack:
        slapd = stack.enter_context(Slapd(directory / "slapd", drops).running())
        for server in servers.values():
            if isinstance(server, LdapGateway | LdapDovecot):
                server.ldap = slapd.port
        servers["warm"].cache_ttl = 60.0  # type: ignore[attr-defined]
        for server in servers.values():
            stack.enter_context(running(server))
        found = _in_turns(servers, {"users": drops}, rounds, sessions)
        found |= _held_up(servers["cold"], drops)
        found |= _by_name(servers["cold"], drops)
    return found


def _in_turns(
    servers: Mapping[str, Server], mail: Mail, rounds: int, sessions: int
) -> dict[str, str]:
    work = Sessions("users", ("STAT",), sessions)
    cpu: dict[str, list[float]] = {name: [] for name in servers}
    rate: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            work.prepare(server, mail)
            figures = work.measure(server, mail)
            cpu[name].append(figures["cpu_us"])
            rate[name].append(figures["rate"])
    us = {name: statistics.median(values) for name, values in cpu.items()}
    per_s = {name: statistics.median(values) for name, values in rate.items()}
    return {
        "login, STAT, QUIT, every login bound anew: CPU, Dovecot": f"{us['dovecot']:.0f} us",
        "the same, gateway": f"{us['cold']:.0f} us",
        "  ratio (reach 1.0)": f"{us['cold'] / us['dovecot']:.2f}x",
        "  logins a second, Dovecot and gateway": f"{per_s['dovecot']:.0f}, {per_s['cold']:.0f}",
        "the same with a warm cache, gateway, LDAP": f"{us['warm']:.0f} us",
        "the same, gateway, passwd-file": f"{us['file']:.0f} us",
        "  ratio (reach 1.2)": f"{us['warm'] / us['file']:.2f}x",
    }


def _held_up(server: Server, drops: Sequence[Drop]) -> dict[str, str]:
    """How long another session waits while 200 log in at once, each bound anew."""
    probe = Probe(server.plain, login(drops[0].login, drops[0].password))
    try:
        time.sleep(0.2)
        before = processes.settle(server.pid)
        for _ in range(3):
            _at_once(server, [(drop.login, drop.password, b"+OK") for drop in drops])
        spent = processes.settle(server.pid) - before
        time.sleep(0.2)
    finally:
        times = probe.stop()
    return {
        "200 logins at once, three times: another session's NOOP, longest (reach 20 ms)": (
            f"{max(times) * 1000:.1f} ms"
        ),
        "  p99, and CPU of the 600 logins": (
            f"{percentile(sorted(times), 99) * 1000:.1f} ms, {spent:.2f} s"
        ),
    }


def _at_once(server: Server, logins: Sequence[tuple[str, str, bytes]]) -> list[float]:
    """Log in on several connections at once; the times from PASS to its reply."""
    talks = []
    for name, password, expect in logins:
        *first, last = login(name, password)
        talks.append(
            Talk(
                Line(server.plain, None),
                [*first, last._replace(expect=expect), Step(b"QUIT\r\n")],
                ends=True,
            )
        )
    tally = converse(iter(talks), len(talks))
    return list(tally.replies)


def _by_name(server: Server, drops: Sequence[Drop]) -> dict[str, str]:
    """PASS with a wrong password, for names that exist and names that do not, in turns."""
    names: dict[str, Callable[[int], str]] = {
        "known": lambda number: drops[number % len(drops)].login,
        "unknown": lambda number: f"nobody{number}@example.org",
    }
    times: dict[str, list[float]] = {kind: [] for kind in names}
    for number in islice(cycle(range(200)), 400):
        for kind, name in names.items():
            *first, last = login(name(number), f"wrong{number}{time.monotonic_ns()}")
            wrong = last._replace(expect=b"-ERR [AUTH]")
            talk = Talk(Line(server.plain, None), [*first, wrong, Step(b"QUIT\r\n")], ends=True)
            times[kind].append(converse(iter([talk]), 1).replies[2])
    known, unknown = (statistics.median(times[kind]) * 1000 for kind in ("known", "unknown"))
    return {
        "wrong password, known and unknown name: median wait": (
            f"{known:.2f} ms, {unknown:.2f} ms ({unknown / known:.2f}x)"
        )
    }


if __name__ == "__main__":
    sys.exit(main("bench.directory", __doc__, _measure, {"sessions": 1000}))
