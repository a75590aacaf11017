"""Every setting: a server that has taken it by a reload is one that was started with it."""

from __future__ import annotations

import ipaddress
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from facts import Fact, facts, without
from gateway.app.assembly import Assembly
from gateway.app.server.reload import difference
from gateway.config.listeners import CertificateFiles
from gateway.config.live import RESTART, merge, needs_restart
from gateway.config.load import load_settings
from gateway.config.settings import Settings
from gateway.directory import passwd_entries
from gateway.model import Account
from gateway.net.tls.certificates import make_certificate

ROOT = Path(__file__).parents[2]

BASE = """
state_dir = "{place}"
[listeners.plain]
endpoint = "tcp:1110:interface=127.0.0.1"
tls = "stls"
[listeners.secure]
endpoint = "tcp:1995:interface=127.0.0.1"
tls = "implicit"
certificate = "cert.pem"
key = "key.pem"
[tls]
certificate = "cert.pem"
key = "key.pem"
[lmtp]
endpoint = "unix:{place}/lmtp"
[policy]
endpoint = "unix:{place}/policy"
[http]
endpoint = "unix:{place}/http"
tls = "implicit"
token = "token"
page = true
[quota]
octets = "1 GB"
warn_from = "post@a.example"
digest_to = "post@a.example"
[quota.domains."a.example"]
octets = "2 GB"
[quota.texts.de.warn]
subject = "Voll"
[retention]
enabled = true
policy = "unread 60d"
[retention.domains."a.example"]
policy = "unread 90d"
[ntlm]
provider = "hashes"
"""

PROXIED = ("listeners.plain", "lmtp", "policy", "http")

LDAP = """
[directory]
kind = "ldap"
[ldap]
uris = ["ldap://127.0.0.1:389"]
base = "dc=example"
bind_dn = "cn=reader"
bind_password = "secret"
"""

CLUSTER = """
[store]
kind = "cluster"
database = "postgresql://gateway@127.0.0.1:1/mail"
database_password = "secret"
bucket = "https://127.0.0.1:2/mail"
bucket_access_key = "gateway"
bucket_secret_key = "secret"
body_cache = "bodies"
timeout = 1.0
"""

NETWORKS = (ipaddress.ip_network("192.0.2.0/24"),)

OTHER: Mapping[str, Any] = {
    "listeners.*.endpoint": "tcp:2110:interface=127.0.0.1",
    "listeners.*.tls": "none",
    "listeners.*.tls_minimum": "1.3",
    "listeners.*.ciphers": "ECDHE+AESGCM",
    "listeners.*.mechanisms": ("PLAIN",),
    "http.tls_minimum": "1.3",
    "http.ciphers": "ECDHE+AESGCM",
    "http.operators": ("a@a.example",),
    "*.certificate": "other-cert.pem",
    "*.key": "other-key.pem",
    "*.certificates": (CertificateFiles("other-cert.pem", "other-key.pem"),),
    "tls.names": ("pop.a.example",),
    "pop3.profile": "rfc1939",
    "pop3.mechanisms": ("PLAIN",),
    "pop3.command_limit": 300,
    "pop3.sasl_line_limit": 4096,
    "pop3.preauth_idle_timeout": 33.0,
    "pop3.idle_timeout": 1234.0,
    "pop3.idle_notice": False,
    "pop3.exclusive": True,
    "pop3.exact_sizes": False,
    "pop3.refused_in_a_row": 9,
    "pop3.user_pass": False,
    "pop3.expire": "30",
    "pop3.login_delay": "60",
    "pop3.implementation": "Another",
    "pop3.texts": "plain",
    "pop3.language": "de",
    "pop3.utf8_headers": "refuse",
    "throttle.refuse_after": 5,
    "directory.kind": "ldap",
    "directory.file": "others",
    "directory.hosts": ("mail.a.example",),
    "store.path": "other/{name}",
    "store.bucket": "https://127.0.0.1:3/mail",
    "store.bucket_ca_file": "cert.pem",
    "store.body_cache": "other-bodies",
    "store.body_cache_size": "2 GB",
    "quota.octets": "3 GB",
    "*.warn_octets": "1 MB",
    "*.messages": 77,
    "quota.domains.*.octets": "4 GB",
    "quota.warn_percent": 50,
    "quota.grace": "1 MB",
    "quota.warn_from": "other@a.example",
    "quota.digest_to": "other@a.example",
    "quota.warn_language": "de",
    "quota.texts.*.*.subject": "Trop plein",
    "quota.texts.*.*.text": "{name}",
    "quota.texts.*.*.html": "<p>{name}</p>",
    "retention.policy": "unread 30d",
    "retention.domains.*.policy": "unread 20d",
    "lmtp.name": "mx.a.example",
    "lmtp.tls": "stls",
    "*.max_size": "7 MB",
    "lmtp.recipient_delimiter": "-",
    "audit.path": "other.log",
    "ldap.uris": ("ldap://127.0.0.1:390",),
    "ldap.ca_file": "cert.pem",
    "ldap.base": "dc=other",
    "ldap.filter": "(cn={login})",
    "ldap.recipient_filter": "(mail={login})",
    "ldap.bind_as": "uid={login},dc=example",
    "ldap.domains": ("A",),
    "ldap.map": "activedirectory",
    "ntlm.provider": "off",
    "ntlm.targets": ("pop/a.example",),
    "ntlm.helper": ("other",),
    "processes.workers": 2,
}
"""Another value of settings where it is not plain what else there could be."""

UNSEEN: Mapping[str, str] = {
    "*_file": "its secret is read when the settings are loaded",
    "tls.self_signed": "the start makes the certificate",
    "gssapi.*": "a keytab and MIT Kerberos are needed; the part is made of the whole section",
    "ntlm.helper": "winbind is needed; the part is made of the whole section",
    "ntlm.helpers": "as ntlm.helper",
    "ntlm.timeout": "as ntlm.helper",
}
"""Settings with an effect that is not to be seen in the parts of this server."""


class Reactor(MemoryReactorClock):
    """One that has threads, or seems so."""

    def callFromThread(self, work: Callable[[], None]) -> None:
        """Never: nothing is waited for."""


def fits(pattern: str, key: str) -> bool:
    """Whether a key is meant; ``*`` stands for anything."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), key) is not None


def find(table: Mapping[str, Any], key: str) -> Any:
    """What a table says of a key; None: nothing."""
    exact = table.get(key)
    return (
        exact
        if exact is not None
        else next((value for pattern, value in table.items() if fits(pattern, key)), None)
    )


def keys_of(section: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of all settings."""
    for item in attrs.fields(type(section)):
        value, key = getattr(section, item.name), (*at, item.name)
        if attrs.has(type(value)):
            yield from keys_of(value, key)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if attrs.has(type(inner)):
                    yield from keys_of(inner, (*key, name))
        else:
            yield key


def with_value(section: Any, key: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    """A section with another value of one setting."""
    name, *rest = key
    if isinstance(section, dict):
        return section | {name: with_value(section[name], tuple(rest), change)}
    old = getattr(section, name)
    new = with_value(old, tuple(rest), change) if rest else change(old)
    return attrs.evolve(section, **{name: new})


def other_value(section: Any, key: tuple[str, ...], value: Any) -> Any:
    """A value that a setting does not have."""
    known = find(OTHER, ".".join(key))
    if known is not None:
        return known
    for name in key[:-1]:
        section = section[name] if isinstance(section, dict) else getattr(section, name)
    kind = attrs.fields_dict(attrs.resolve_types(type(section)))[key[-1]].type
    choices = getattr(kind, "__args__", ())
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value / 2 if isinstance(value, float) and 0 < value < 1 else value + 1
    if choices and isinstance(value, str):
        return next(one for one in choices if one != value)
    if isinstance(value, tuple):
        return NETWORKS
    return "x"


class FactsTests(SynchronousTestCase):
    maxDiff = None

    """A fact is an attribute of an object that a server's parts lead to, with its plain value."""

    def setUp(self) -> None:
        place = Path(tempfile.mkdtemp(prefix="pop3gw-"))
        self.addCleanup(shutil.rmtree, place)
        self.place = place
        make_certificate(str(place / "cert.pem"), str(place / "key.pem"))
        for name in ("cert.pem", "key.pem"):
            shutil.copy(place / name, place / f"other-{name}")
        for name in ("accounts", "others"):
            passwd_entries.put(str(place / name), "a@a.example", b"x", "SSHA256")
        for name in ("bodies", "other-bodies"):
            (place / name).mkdir()

        self.base = BASE.replace("{place}", str(place))

    def settings(self, text: str = "") -> Settings:
        """The settings of the base, and more."""
        path = self.place / "pop3gw.toml"
        path.write_text(self.base + text)
        return load_settings(str(path), {})

    def started(self, settings: Settings) -> Assembly:
        """A server that seems to run."""
        assembly = Assembly(Reactor(), settings, ())
        self.addCleanup(assembly.stop_threads)
        self.server = assembly.server()
        assembly._parts.start()
        return assembly

    def reloaded(self, old: Settings, new: Settings) -> tuple[Assembly, Any]:
        """One that was started with the old settings and has taken the new ones."""
        self.started(old)
        reloading = self.server.reloading
        assert reloading is not None
        outcome = reloading.prepare(difference(new, reloading.settings)).commit()
        return reloading.assembly, outcome

    def facts(self, assembly: Assembly) -> set[Fact]:
        """Class, attribute and value of everything that is set in the server."""
        runtime = assembly._runtime
        parts = {name: one.made for name, one in assembly._parts._parts.items()}
        roots = [parts, self.server.listeners, runtime.admissions, runtime.observers, runtime.pools]
        shared = [runtime.login_admission, runtime.state, runtime.leader]
        found = set(facts([*roots, *shared, runtime.events._takers]))
        return found | {("Server", "drain_timeout", repr(self.server.drain_timeout))}

    def volatile(self, settings: Settings) -> set[tuple[str, str]]:
        """What differs between two servers with the same settings."""
        first, second = (self.facts(self.started(settings)) for _ in range(2))
        # The last hour begins at a minute, and when a thread is free it is asked who leads, and
        # whether the database answers.
        known = {("History", "_began"), ("FlockLeader", "_is_led"), ("Database", "_is_away")}
        known |= {("Outage", "_since"), ("Figures", "_counts")}
        return {(kind, name) for kind, name, _ in first ^ second} | known

    def test_the_same_settings_change_no_fact(self) -> None:
        settings = self.settings()
        ignored = self.volatile(settings)
        fresh = self.facts(self.started(settings))
        after, outcome = self.reloaded(settings, settings)
        self.assertEqual((outcome.changed, outcome.restart), ((), ()))
        self.assertEqual(without(self.facts(after), ignored), without(fresh, ignored))

    def test_a_session_of_before_a_reload_is_under_a_hold_that_the_reload_brought(self) -> None:
        old = self.settings()
        new = attrs.evolve(old, retention=attrs.evolve(old.retention, policy="hold", domains={}))
        before = self.started(old)
        realm: Any = before.logins(before.directory()).portal.realm
        alice = Account(name="a@a.example", mailbox="a@a.example")
        self.assertFalse(realm._is_held(alice))
        reloading = self.server.reloading
        assert reloading is not None
        reloading.prepare(difference(new, old)).commit()
        self.assertTrue(realm._is_held(alice))

    def check(self, base: str, wanted: Callable[[str], bool]) -> None:
        """Change each setting by itself."""
        old = self.settings(base)
        ignored = self.volatile(old)
        before = without(self.facts(self.started(old)), ignored)
        wrong = []
        for key in keys_of(old):
            shown = ".".join(key)
            if wanted(shown):
                new = with_value(old, key, lambda value, key=key: other_value(old, key, value))
                wrong += self.faults(shown, old, new, before, ignored, needs_restart(key))
        self.assertEqual("\n".join(wrong), "")

    def faults(
        self,
        key: str,
        old: Settings,
        new: Settings,
        before: set[Fact],
        ignored: set[tuple[str, str]],
        waits: bool,
    ) -> list[str]:
        """What is wrong with a reload that changes one setting."""
        found = merge(old, new)
        if (found.changed, found.restart) != (((), (key,)) if waits else ((key,), ())):
            return [f"{key}: changed={found.changed} restart={found.restart}"]
        if waits or find(UNSEEN, key) is not None:
            return []
        try:
            fresh = without(self.facts(self.started(new)), ignored)
            after = without(self.facts(self.reloaded(old, new)[0]), ignored)
        except Exception as error:
            return [f"{key}: {type(error).__name__}: {error}"]
        if fresh == before:
            return [f"{key}: no effect"]
        return [f"{key}: {sorted(after - fresh)} in place of {sorted(fresh - after)}"] * (
            fresh != after
        )

    def test_each_setting_is_live_or_listed(self) -> None:
        self.check("", lambda key: not (key.startswith("ldap.") or "proxy_" in key))

    def test_each_setting_of_a_listener_behind_a_proxy_is_live(self) -> None:
        for name in PROXIED:
            said = f'[{name}]\nproxy_protocol = true\nproxy_networks = ["127.0.0.1/32"]\n'
            self.base = self.base.replace(f"[{name}]\n", said)
        self.check("", lambda key: "proxy_" in key and "secure" not in key)

    def test_each_setting_of_ldap_is_live(self) -> None:
        self.check(
            LDAP,
            lambda key: (
                key.startswith(("ldap.", "directory."))
                and key != "directory.kind"
                and key != "directory.file"
            ),
        )

    def test_each_setting_of_a_cluster_is_live_or_listed(self) -> None:
        counted = ("store.", "limits.sessions_per_user", "throttle.window", "pop3.login_delay")
        self.check(CLUSTER, lambda key: key.startswith(counted))


class DocumentedTests(SynchronousTestCase):
    def test_the_manual_lists_what_needs_a_restart(self) -> None:
        text = (ROOT / "docs/operations.md").read_text()
        section = text.partition("| setting | why |\n|---|---|\n")[2].partition("\n\n")[0]
        listed = dict(re.findall(r"^\| `(.*)` \| (.*) \|$", section, re.M))
        self.assertEqual(listed, {key.replace("*", "NAME"): why for key, why in RESTART.items()})
