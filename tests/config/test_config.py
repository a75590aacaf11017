"""Configuration: the sample, faults with their places, the environment."""

from __future__ import annotations

import errno
import os
import re
import tomllib
from itertools import product
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import execute
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.app import start
from gateway.app.first_start import file_faults
from gateway.app.needed_files import missing_files
from gateway.app.parts.rows import make_audit
from gateway.auth.kerberos import GssapiSettings
from gateway.auth.ntlm import NtlmSettings
from gateway.config.listeners import LimitSettings, Listener, Pop3, ThrottleSettings, Tls
from gateway.config.load import load_settings
from gateway.config.quota import Quota, Text, Texts
from gateway.config.renamed import RENAMED
from gateway.config.retention import Audit, Retention
from gateway.config.services import Http, Lmtp, Log, PolicyServiceSettings
from gateway.config.settings import DirectorySettings, Settings
from gateway.directory.ldap_kind import LdapSettings
from gateway.directory.passwd import PasswdFile
from gateway.errors import ConfigError, GatewayError
from gateway.model import Reason, Removed
from gateway.net.tls.certificates import make_certificate
from gateway.pop3.profile import PROFILES, Profile
from gateway.state.ledger import Ledger
from gateway.store.audited import no_audit
from gateway.store.maildir.kind import MaildirSettings

SAMPLE = Path(__file__).parents[2] / "etc" / "pop3gw.toml"
SECTIONS = {
    "listeners.pop3": Listener,
    "tls": Tls,
    "pop3": Pop3,
    "limits": LimitSettings,
    "directory": DirectorySettings,
    "ldap": LdapSettings,
    "throttle": ThrottleSettings,
    "ntlm": NtlmSettings,
    "gssapi": GssapiSettings,
    "store": MaildirSettings,
    "lmtp": Lmtp,
    "quota": Quota,
    "quota.texts.en": Texts,
    "quota.texts.en.warn": Text,
    "quota.texts.en.over": Text,
    "retention": Retention,
    "policy": PolicyServiceSettings,
    "http": Http,
    "audit": Audit,
    "log": Log,
}
REMOVED = Removed("discard", "alice", "1", None, 5, 0.0, None, Reason())
LISTENER = '[listeners.a]\nendpoint = "tcp:0"\n'


class ConfigCase(SynchronousTestCase):
    def file(self, text: str) -> str:
        path = self.mktemp()
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as out:
            out.write(text)
        return path

    def load(self, text: str = LISTENER, **environ: str) -> Settings:
        return load_settings(self.file(text), environ)

    def faults(self, text: str = LISTENER, **environ: str) -> list[str]:
        path = self.file(text)
        with self.assertRaises(ConfigError) as caught:
            load_settings(path, environ)
        return [fault.replace(path, "FILE") for fault in caught.exception.problems]

    def checked_and_started(self, text: str, **environ: str) -> tuple[list[str], list[str]]:
        """What ``--check`` says, and then what a start says."""
        path = self.file(text)
        problems = start.check(path, environ).faults
        try:
            start.assemble(MemoryReactorClock(), path, environ)
        except GatewayError as error:
            return problems, getattr(error, "problems", [str(error)])
        return problems, []


class SampleTests(ConfigCase):
    def uncommented(self) -> str:
        """The sample with every setting that it shows only as a comment."""
        return re.sub(r"^#(\w+ = )", r"\1", SAMPLE.read_text(), flags=re.M)

    def test_it_documents_every_setting(self) -> None:
        table = tomllib.loads(self.uncommented())
        for name, section in SECTIONS.items():
            shown = table
            for part in name.split("."):
                shown = shown[part]
            self.assertEqual(set(shown), {item.name for item in attrs.fields(section)}, name)
        settings = attrs.fields(type(load_settings(None, {})))
        self.assertEqual(set(table), {item.name for item in settings})

    def test_what_it_shows_are_the_defaults(self) -> None:
        sample = load_settings(str(SAMPLE), {})
        self.assertEqual(sample.profile, PROFILES["exchange2010"])
        bare = self.load()
        for section in (
            "tls",
            "limits",
            "directory",
            "ldap",
            "ntlm",
            "gssapi",
            "throttle",
            "store",
            "lmtp",
            "retention",
            "policy",
            "http",
            "audit",
            "log",
            "pop3",
        ):
            self.assertEqual(getattr(sample, section), getattr(bare, section), section)
        self.assertEqual(attrs.evolve(sample.quota, texts={}), bare.quota)
        self.assertEqual(sample.quota.templates, {})
        full = load_settings(self.file(self.uncommented()), {})
        self.assertEqual(full.profile, Profile())

    @pytest.mark.conformance("X-E0001")
    def test_ports_110_and_995_are_as_good_as_any(self) -> None:
        settings = self.load(
            '[listeners.a]\nendpoint = "tcp:110"\n'
            '[listeners.b]\nendpoint = "tcp:995"\ntls = "implicit"\n'
        )
        self.assertEqual(settings.listeners["b"].tls, "implicit")


class FaultTests(ConfigCase):
    def test_every_fault_is_named_with_its_line_its_key_and_what_was_expected(self) -> None:
        text = (
            LISTENER + '[pop3]\nidle_timeout = "long"\nprofil = "rfc1939"\n'
            '[limits]\nsessions_per_user = 0\n[store]\nmissing = "maybe"\n'
        )
        faults = self.faults(text)
        for wanted in (
            "FILE:4: pop3.idle_timeout: expected a number, found 'long'",
            "FILE:5: pop3.profil: there is no such setting; did you mean profile?",
            "FILE:7: limits.sessions_per_user: expected 1 to",
            "FILE:9: store.missing: expected one of 'create', 'refuse'",
        ):
            self.assertTrue(any(fault.startswith(wanted) for fault in faults), (wanted, faults))
        self.assertEqual(len(faults), 4)

    def test_a_setting_of_another_kind_of_store_is_named_with_its_kind(self) -> None:
        self.assertEqual(
            self.faults(f'{LISTENER}[store]\nkind = "cluster"\nlock_timeout = 5.0\nlock = 1\n'),
            [
                "FILE:6: store.lock: there is no such setting",
                'FILE:5: store.lock_timeout: this is a setting of store.kind = "maildir"',
            ],
        )
        (fault,) = self.faults(f"{LISTENER}[store]\n", POP3GW_STORE__DATABASE="service=mail")
        self.assertEqual(
            fault, 'POP3GW_STORE__DATABASE: this is a setting of store.kind = "cluster"'
        )

    def test_every_section_with_a_check_has_it_made(self) -> None:
        for line in (
            '[lmtp]\nmax_size = "much"',
            "[lmtp]\nmax_recipients = 1",
            '[quota]\noctets = "5 X"',
            '[quota]\nwarn_from = "nobody"',
            '[quota.domains."example.org"]\noctets = "5 X"',
            '[policy]\nendpoint = "nowhere"',
            '[http]\nendpoint = "nowhere"',
            '[audit]\nmax_size = ""',
            '[audit]\nmax_size = "1"',
            '[audit]\nmax_size = "63 KB"',
            '[audit]\nmax_size = "-1"',
            '[audit]\nmax_size = "9999999 P"',
            "[audit]\nkeep = 0",
        ):
            (fault,) = self.faults(f"{LISTENER}{line}\n")
            key = line.splitlines()[1].partition(" ")[0]
            self.assertRegex(fault, rf"\.{key}: .*expected")

    def test_a_token_that_is_none_is_not_shown(self) -> None:
        (fault,) = self.faults(f"{LISTENER}[http]\ntoken = 5551234\n")
        self.assertNotIn("5551234", fault)

    def test_a_secret_that_cannot_be_is_refused_by_what_is_expected_and_not_shown(self) -> None:
        for text in ("geheim x", "gehéim", "geheim, found x", "geheim" * 200):
            (fault,) = self.faults(f'{LISTENER}[http]\ntoken = "{text}"\n')
            self.assertIn("http.token: expected printable ASCII without spaces (what was", fault)
            self.assertNotIn("geh", fault)

    @pytest.mark.conformance("X-E0006")
    def test_the_command_limit_is_40_to_1024_and_from_255_where_rfc_2449_holds(self) -> None:
        for limit in (40, 47, 512, 1024):
            settings = self.load(f"{LISTENER}[pop3]\ncommand_limit = {limit}\n")
            self.assertEqual(settings.profile.command_limit, limit)
        for limit in (39, 1025):
            (fault,) = self.faults(f"{LISTENER}[pop3]\ncommand_limit = {limit}\n")
            self.assertIn("expected 40 to 1024", fault)
        rfc = f'{LISTENER}[pop3]\nprofile = "rfc1939"\ncommand_limit = 254\n'
        self.assertIn("expected 255 to 1024", self.faults(rfc)[0])
        self.assertEqual(PROFILES["exchange2007"].command_limit, 47)

    def test_a_listener_may_have_mechanisms_of_its_own(self) -> None:
        other = '[listeners.b]\nendpoint = "tcp:1"\nmechanisms = ["NTLM"]\n'
        ntlm = '[pop3]\nmechanisms = ["PLAIN"]\n[ntlm]\nprovider = "hashes"\n'
        settings = self.load(LISTENER + other + ntlm)
        self.assertEqual(settings.profile_of("a").mechanisms, ("PLAIN",))
        self.assertEqual(settings.profile_of("b").mechanisms, ("NTLM",))

    @pytest.mark.conformance("O-C0009")
    def test_a_server_that_nobody_could_log_in_to_is_refused(self) -> None:
        (fault,) = self.faults(f"{LISTENER}[pop3]\nuser_pass = false\nmechanisms = []\n")
        self.assertIn("expected a mechanism", fault)

    def test_other_contradictions_and_shapes(self) -> None:
        for text, words in (
            ("", "at least one [listeners.NAME]"),
            (f'{LISTENER}[pop3]\nprofile = "rfc1939"\nidle_timeout = 60\n', "at least 600"),
            (f'{LISTENER}[pop3]\nmechanisms = "PLAIN"\n', "expected a list"),
            (f'{LISTENER}[pop3]\nmechanisms = ["X"]\n', "expected 'GSSAPI' or 'NTLM' or 'PLAIN'"),
            (f'{LISTENER}[pop3]\nmechanisms = ["NTLM"]\n', "since [ntlm] is not set up"),
            (f'{LISTENER}[pop3]\nmechanisms = ["GSSAPI"]\n', "since [gssapi] is not set up"),
            (f'{LISTENER}mechanisms = ["GSSAPI"]\n', "since [gssapi] is not set up"),
            (f'{LISTENER}mechanisms = ["X"]\n', "expected 'GSSAPI' or 'NTLM' or 'PLAIN'"),
            (f"{LISTENER}mechanisms = []\n[pop3]\nuser_pass = false\n", "since user_pass is off"),
            (f'{LISTENER}[pop3]\nsecure_networks = ["10.0.0.1/8"]\n', "expected a network"),
            (f'{LISTENER}[pop3]\ngreeting = "<x@y>"\n', "printable ASCII"),
            (f'{LISTENER}[pop3]\nexpire = "soon"\n', "days or NEVER"),
            (f'{LISTENER}[store]\npath = "mail"\n', "at least one of {name}"),
            (f'{LISTENER}[store]\npath = "{{user}}"\n', "at least one of {name}"),
            ('[listeners.a]\ntls = "none"\n', "expected, and missing"),
            ('[listeners.a]\nendpoint = "tcp:1"\ntls = "on"\n', "expected one of 'none', 'stls'"),
            ('[listeners.a]\nendpoint = "tcp:65536"\n', "a Twisted endpoint"),
            ("tls = 5\n" + LISTENER, "tls"),
            (f'{LISTENER}[directory]\nkind = "ldap"\n', "ldap.uris"),
            (
                f'{LISTENER}[directory]\nkind = "ldap"\n[ntlm]\nprovider = "winbind"\n',
                "ldap.domains: expected your domains",
            ),
            (f'{LISTENER}[ldap]\nuris = ["http://x"]\n', "expected ldap://HOST:PORT"),
            (f'{LISTENER}[ldap]\nfilter = "uid={{login}}"\n', "a filter in parentheses"),
            (f'{LISTENER}[store]\npath = "{{name:d}}"\n', "no other field"),
            (f'{LISTENER}[store]\npath = "{{name!r}}"\n', "no other field"),
            (f'{LISTENER}[store]\npath = "{{name}}/{{home:>9}}"\n', "no other field"),
            ("demo = 1\n" + LISTENER, "expected true or false"),
        ):
            faults = self.faults(text)
            self.assertTrue(any(words in fault for fault in faults), (words, faults))

    def test_an_ldap_uri_with_an_impossible_port_is_an_error(self) -> None:
        text = LISTENER + '[ldap]\nuris = ["%s"]\n'
        for uri in ("ldap://h:99999", "ldap://h:0", "ldap://h:x", "ldap://", "ldap://h/dc=x",
                    "ldap://u:p@h", "ldap://[::1", "ldap://[zz]", "ldap://a b"):  # fmt: skip
            (fault,) = self.faults(text % uri)
            self.assertIn("FILE:4: ldap.uris: expected ldap://HOST:PORT", fault)
        for uri in ("ldap://h", "ldaps://h:65535/", "ldap://[::1]:389", "LDAP://h"):
            self.assertEqual(self.load(text % uri).ldap.uris, (uri,))

    def test_an_ldap_filter_that_cannot_be_sent_is_refused(self) -> None:
        text = LISTENER + "[ldap]\nfilter = '%s'\n"
        for wanted in ("((uid={login})", "(uid={login}))", "(uid={login})(mail={login})",
                       "({login})", "(!(uid={login})(a=b))", "((uid={user}))"):  # fmt: skip
            (fault,) = self.faults(text % wanted)
            self.assertIn("FILE:4: ldap.filter: expected a filter in parentheses", fault)
        for wanted in ("((mail={login})", "(mail={user})"):
            (fault,) = self.faults(f"{LISTENER}[ldap]\nrecipient_filter = '{wanted}'\n")
            self.assertIn(
                "ldap.recipient_filter: expected a filter in parentheses with {login} in", fault
            )
        for wanted in ("(&(a=b)(!(c=d))(|(uid={user})(mail={login})))", "(m:1.2:=cn={login})"):
            self.assertEqual(self.load(text % wanted).ldap.filter, wanted)

    def test_what_is_set_about_mail_that_comes_in_is_checked_like_all_else(self) -> None:
        for text, words in (
            ('[lmtp]\nmax_size = "big"\n', "FILE:4: lmtp.max_size: expected a size as 500M"),
            ("[lmtp]\nconnections = 0\n", "FILE:4: lmtp.connections: expected 1 to"),
            ('[policy]\nendpoint = "here"\n', "FILE:4: policy.endpoint: expected a Twisted end"),
            ('[quota]\noctets = "5 X"\n', "FILE:4: quota.octets: expected K, M, G, T or P"),
            ('[quota]\nwarn_from = "me"\n', "FILE:4: quota.warn_from: expected an address as"),
            ('[quota]\nwarn_from = "a@invalid"\n', "FILE:4: quota.warn_from: expected an addr"),
            (
                '[quota]\nwarn_language = "xx"\n',
                "FILE:4: quota.warn_language: expected 'en', 'de' or",
            ),
            ('[quota]\ndigest_to = "r@a.b"\n', "FILE: quota.warn_from: expected the address that"),
            (
                '[quota.domains."a.example"]\noctets = "much"\n',
                "FILE:4: quota.domains.a.example.octets: expected a size as 500M",
            ),
            (
                '[retention]\npolicy = "unread 60d, red 7d"\n',
                "FILE:4: retention.policy: expected a policy as 'unread 60d, read 7d': column 13",
            ),
            (
                '[retention.domains."a.example"]\npolicy = "any 7"\n',
                "FILE:4: retention.domains.a.example.policy: expected a policy as",
            ),
            (
                "[retention]\nmax_removal_share = 50\n",
                "FILE:4: retention.max_removal_share: expected 0 to",
            ),
        ):
            (fault,) = self.faults(LISTENER + text)
            self.assertTrue(fault.startswith(words), fault)

    def test_what_is_wrong_in_a_warning_of_ones_own_is_named_with_its_place(self) -> None:
        for text, words in (
            ('de.warn]\ntext = "{usd}"', "FILE:4: quota.texts.de.warn.text: expected {name}"),
            ('de.over]\nhtml = "{"', "FILE:4: quota.texts.de.over.html: expected {name}"),
            ('de.over]\nsubject = "a\\nb"', "FILE:4: quota.texts.de.over.subject: expected one"),
            ('de]\nwarning = ""', "FILE:4: quota.texts.de.warning: there is no such setting; did"),
            ('fr.warn]\ntext = "x"\nhtml = "x"', "FILE: quota.texts: expected fr.warn.subject"),
        ):
            faults = self.faults(f"{LISTENER}[quota.texts.{text}\n")
            self.assertEqual(len(faults), 1, faults)
            self.assertTrue(faults[0].startswith(words), faults)
        path = self.file(f'{LISTENER}[quota.texts.de.warn]\ntext = "{{usd}}"\n')
        self.assertIn("quota.texts.de.warn.text: expected", start.check(path, {}).faults[0])

    def test_a_bind_dn_without_a_password_would_bind_as_nobody_and_is_refused(self) -> None:
        text = (
            f'{LISTENER}[directory]\nkind = "ldap"\n'
            '[ldap]\nuris = ["ldap://h"]\nbase = "dc=x"\nbind_dn = "cn=reader"\n'
        )
        (fault,) = self.faults(text)
        self.assertIn("ldap.bind_password: expected the password of ldap.bind_dn", fault)
        self.load(text, POP3GW_LDAP__BIND_PASSWORD="x")
        self.assertIn("ldap.bind_password", self.faults(f'{text}bind_password = ""\n')[0])

    def test_what_was_found_in_place_of_a_secret_is_not_shown(self) -> None:
        for value in ("123456", "1979-05-27", "[123456]", "{ a = 123456 }", "123456.0"):
            (fault,) = self.faults(f"{LISTENER}[ldap]\nbind_password = {value}\n")
            self.assertTrue(fault.startswith("FILE:4: ldap.bind_password: expected a string"))
            for shown in ("123456", "1979", "27"):
                self.assertNotIn(shown, fault)
        (fault,) = self.faults(f"{LISTENER}[http]\ntoken = 123456\n")
        self.assertNotIn("123456", fault)

    def test_a_missing_or_malformed_file_is_one_line(self) -> None:
        self.assertIn("not TOML", self.faults("a = = b")[0])
        for path in ("/nonexistent/pop3gw.toml", "/"):
            with self.assertRaises(ConfigError) as caught:
                load_settings(path, {})
            self.assertTrue(caught.exception.problems[0].startswith(path))

    @given(st.text())
    def test_no_file_causes_anything_but_named_faults(self, text: str) -> None:
        path = self.file("")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(text)
        with self.assertRaises(ConfigError):
            load_settings(path, {})


class EnvironmentTests(ConfigCase):
    def test_every_setting_can_come_from_the_environment_and_wins(self) -> None:
        settings = self.load(
            POP3GW_STATE_DIR="/srv",
            POP3GW_LIMITS__SESSIONS_PER_USER="3",
            POP3GW_POP3__IDLE_NOTICE="false",
            POP3GW_POP3__MECHANISMS='["LOGIN"]',
            POP3GW_POP3__GREETING="hello",
            POP3GW_STORE__MISSING="refuse",
            POP3GW_LISTENERS__A__ENDPOINT="tcp:7",
            POP3GW_LISTENERS__B__ENDPOINT="tcp:8",
            POP3GW_QUOTA__TEXTS__DE__WARN__SUBJECT="Fast voll",
        )
        self.assertEqual(settings.quota.texts["de"].warn.subject, "Fast voll")
        self.assertEqual(settings.state_dir, "/srv")
        self.assertEqual(settings.limits.sessions_per_user, 3)
        self.assertFalse(settings.profile.idle_notice)
        self.assertEqual(settings.profile.mechanisms, ("LOGIN",))
        self.assertEqual(settings.pop3.greeting, "hello")
        self.assertEqual(settings.store.missing, "refuse")
        self.assertEqual(settings.listeners["a"].endpoint, "tcp:7")
        self.assertEqual(settings.listeners["b"].endpoint, "tcp:8")

    def test_a_secret_can_come_from_a_file(self) -> None:
        path = self.file("from a file\n")
        settings = self.load(POP3GW_LDAP__BIND_PASSWORD_FILE=path)
        self.assertEqual(settings.ldap.bind_password, "from a file")

    def test_file_after_a_setting_that_is_no_secret_never_puts_the_files_text_in_its_place(
        self,
    ) -> None:
        path = self.file("-----BEGIN PRIVATE KEY-----")
        for setting in ("TLS__KEY", "LISTENERS__A__KEY", "DIRECTORY__FILE", "POP3__GREETING"):
            (fault,) = self.faults(**{f"POP3GW_{setting}_FILE": path})
            self.assertTrue(fault.startswith(f"POP3GW_{setting}_FILE: only a secret"), fault)
            self.assertIn(f"set POP3GW_{setting} to the path", fault)
            self.assertNotIn("PRIVATE", fault)
        (fault,) = self.faults(POP3GW_NONSENSE_FILE=path)
        self.assertEqual(fault, "POP3GW_NONSENSE_FILE: there is no setting nonsense_file")

    def test_a_fault_names_the_variable(self) -> None:
        (fault,) = self.faults(POP3GW_LIMITS__CONNECTIONS="many")
        self.assertTrue(fault.startswith("POP3GW_LIMITS__CONNECTIONS: limits.connections: "))
        (fault,) = self.faults(POP3GW_LIMITS__CONECTIONS="5")
        self.assertIn("there is no setting limits.conections", fault)
        (fault,) = self.faults(POP3GW_LDAP__BIND_PASSWORD_FILE="/nonexistent")
        self.assertIn("cannot be read", fault)

    def test_a_variable_finds_a_name_that_is_not_in_small_letters(self) -> None:
        text = '[listeners.Pop]\nendpoint = "tcp:7"\n[quota.domains."Example.org"]\noctets = "5M"\n'
        settings = self.load(
            text,
            POP3GW_LISTENERS__POP__TLS="none",
            **{"POP3GW_QUOTA__DOMAINS__EXAMPLE.ORG__OCTETS": "7M"},
        )
        self.assertEqual([(*settings.listeners,)], [("Pop",)])
        self.assertEqual(settings.listeners["Pop"].tls, "none")
        self.assertEqual(settings.quota.domains["Example.org"].octets, "7M")

    def test_a_container_that_uses_ldap_needs_no_file(self) -> None:
        environ = {
            "POP3GW_STATE_DIR": os.path.abspath(self.mktemp()),
            "POP3GW_DIRECTORY__KIND": "ldap",
            "POP3GW_LDAP__URIS": "ldaps://one.example.org,ldaps://two.example.org",
            "POP3GW_LDAP__BASE": "dc=example,dc=org",
            "POP3GW_LDAP__BIND_DN": "cn=reader,dc=example,dc=org",
            "POP3GW_LDAP__BIND_PASSWORD_FILE": self.file("s3cret\n"),
            "POP3GW_POP3__SECURE_NETWORKS": "10.0.0.0/8,::1/128",
        }
        self.assertEqual(start.check(None, environ).faults, [])
        self.assertEqual(load_settings(None, environ).ldap.bind_password, "s3cret")

    def test_the_old_name_of_a_setting_is_an_error_that_names_the_new_one(self) -> None:
        for old, new in RENAMED.items():
            section, _, name = old.rpartition(".")
            text = f"{LISTENER}[{section}]\n{name} = 1\n" if section else f"{old} = 1\n{LISTENER}"
            (fault,) = self.faults(text)
            self.assertIn(f"{old}: this setting is called {new} now", fault)
            variable, wanted = (f"POP3GW_{key.replace('.', '__').upper()}" for key in (old, new))
            (fault,) = self.faults(**{variable: "1"})
            self.assertEqual(fault, f"{variable}: this setting is called {wanted} now")

    def test_what_kubernetes_and_docker_say_of_a_service_named_pop3gw_is_no_setting(self) -> None:
        for prefix in ("POP3GW_", "POP3GW_PLAIN_"):
            said = {
                "SERVICE_HOST": "10.0.0.1",
                "SERVICE_PORT": "110",
                "SERVICE_PORT_POP3S": "995",
                "PORT": "tcp://10.0.0.1:110",
                "PORT_110_TCP": "tcp://10.0.0.1:110",
                "PORT_110_TCP_PROTO": "tcp",
                "PORT_110_TCP_PORT": "110",
                "PORT_110_TCP_ADDR": "10.0.0.1",
                "NAME": "/web/pop3gw",
                "ENV_PATH": "/usr/bin",
            }
            self.load(**{prefix + name: value for name, value in said.items()})
        for name in ("PORT", "LIMITS_CONNECTIONS", "STATE_DIRECTORY", "LDAP__PORT"):
            (fault,) = self.faults(**{f"POP3GW_{name}": "110"})
            self.assertIn("there is no setting", fault)

    def test_the_file_itself_can_be_named_there(self) -> None:
        settings = load_settings(None, {"POP3GW_CONFIG": self.file(LISTENER)})
        self.assertEqual(list(settings.listeners), ["a"])


class CheckTests(ConfigCase):
    def test_missing_and_bad_files_are_named_and_nothing_is_made(self) -> None:
        state = self.mktemp()
        os.makedirs(state)
        text = f'state_dir = "{state}"\n{LISTENER}[tls]\nself_signed = false\n'
        problems = start.check(self.file(text), {}).faults
        self.assertEqual(len(problems), 3)
        for problem, path in zip(
            problems, ("tls/cert.pem", "tls/key.pem", "accounts"), strict=True
        ):
            self.assertIn(f"{path}: no such file", problem)
        self.assertEqual(os.listdir(state), [])

    def test_a_slip_in_the_path_of_a_certificate_is_named_and_none_is_made_there(self) -> None:
        state = self.mktemp()
        make_certificate(f"{state}/cert.pem", f"{state}/key.pem")
        os.mkdir(f"{state}/tls")
        text = (
            f'state_dir = "{state}"\n{LISTENER}[tls]\ncertificate = "crt.pem"\nkey = "key.pem"\n'
            '[listeners.b]\nendpoint = "tcp:0"\ncertificate = "cert.pem"\nkey = "b.pem"\n'
        )
        with open(f"{state}/accounts", "w"):
            pass
        before = sorted(os.listdir(state))
        for problems in self.checked_and_started(text):
            self.assertEqual(len(problems), 2)
            self.assertIn("/crt.pem: no such file: tls.certificate (one is made", problems[0])
            self.assertIn("/b.pem: no such file: listeners.b.key", problems[1])
        self.assertEqual(sorted(os.listdir(state)), before)

    def test_of_a_self_made_certificate_the_lost_half_is_named(self) -> None:
        state = self.mktemp()
        make_certificate(f"{state}/tls/cert.pem", f"{state}/tls/key.pem")
        os.unlink(f"{state}/tls/key.pem")
        with open(f"{state}/accounts", "w"):
            pass
        for problems in self.checked_and_started(f'state_dir = "{state}"\n{LISTENER}'):
            self.assertEqual(len(problems), 1)
            self.assertIn("tls/key.pem: no such file: tls.key (one is made only", problems[0])

    def test_a_certificate_is_made_only_where_a_listener_needs_it(self) -> None:
        for extra, made in (("", True), ('tls = "none"\n', False)):
            state = self.mktemp()
            os.mkdir(state)
            with open(f"{state}/accounts", "w"):
                pass
            text = f'state_dir = "{state}"\n{LISTENER}{extra}'
            self.assertEqual(self.checked_and_started(text), ([], []))
            self.assertEqual(os.path.exists(f"{state}/tls/key.pem"), made)

    def usable(self) -> str:
        """A state directory with all that must be there."""
        state = self.mktemp()
        make_certificate(f"{state}/tls/cert.pem", f"{state}/tls/key.pem")
        with open(f"{state}/accounts", "w"):
            pass
        return state

    def test_what_a_start_fails_with_a_check_says_in_the_same_words(self) -> None:
        state = self.usable()
        with open(f"{state}/no.pem", "w") as file:
            file.write("x")
        ldap = '[directory]\nkind = "ldap"\n[ldap]\nuris = ["ldap://h"]\nbase = "dc=x"\n'
        for text, words in (
            (f'{LISTENER}ciphers = "NONSENSE"\n', "listeners.a: ciphers 'NONSENSE': "),
            (f'{LISTENER}ciphers = "\u00e9"\n', "listeners.a: ciphers"),
            (f'{LISTENER}tls_minimum = "1.0"\nkey = "no.pem"\n', "listeners.a: TLS certificate"),
            ('[listeners.a]\nendpoint = "tpc:110"\n', "listeners.a.endpoint: 'tpc:110' is no"),
            ('[listeners.a]\nendpoint = "tcp:abc"\n', "listeners.a.endpoint: 'tcp:abc' is no"),
            ('[listeners.a]\nendpoint = "ssl:1:privateKey=no.pem"\n', "is no endpoint"),
            (f'{LISTENER}{ldap}ca_file = "no.pem"\n', "ldap.ca_file: "),
            (f'{LISTENER}[directory]\nfile = "."\n', "/.: expected a file, found a directory"),
            (
                f'{LISTENER}[ntlm]\nprovider = "winbind"\nhelper = ["no-such-program"]\n',
                "ntlm.helper: no program no-such-program",
            ),
        ):
            checked, started = self.checked_and_started(f'state_dir = "{state}"\n{text}')
            self.assertEqual(checked, started, text)
            (problem,) = checked
            self.assertIn(words, problem)

    def test_a_check_finds_all_that_is_wrong_though_a_start_ends_at_the_first(self) -> None:
        text = (
            '[listeners.a]\nendpoint = "tcp:abc"\nciphers = "X"\n'
            '[listeners.b]\nendpoint = "tpc:1"\n[directory]\nfile = "."\n'
            '[ntlm]\nprovider = "winbind"\nhelper = []\n'
        )
        problems = start.check(self.file(f'state_dir = "{self.usable()}"\n{text}'), {}).faults
        self.assertEqual(len(problems), 5)

    def test_a_certificate_that_no_listener_uses_fails_no_check(self) -> None:
        state = self.usable()
        with open(f"{state}/tls/cert.pem", "w") as file:
            file.write("no certificate")
        text = f'state_dir = "{state}"\n[listeners.a]\nendpoint = "tcp:0"\ntls = "none"\n'
        self.assertEqual(self.checked_and_started(text), ([], []))

    def test_a_socket_that_systemd_has_not_handed_down_is_named_by_check_and_start(self) -> None:
        state = self.usable()
        text = f'state_dir = "{state}"\n[listeners.a]\nendpoint = "%s"\ntls = "none"\n'
        for endpoint in ("systemd:domain=INET:index=0", "systemd:domain=INET6:name=pop3"):
            for problems in self.checked_and_started(text % endpoint):
                self.assertEqual(len(problems), 1)
                self.assertIn("listeners.a.endpoint: ", problems[0])
                self.assertIn("no such socket came from systemd: only a service", problems[0])
            for table in ("lmtp", "policy", "http"):
                more = f'[{table}]\nendpoint = "{endpoint}"\n'
                if table == "http":
                    more += 'token = "x"\n'
                for problems in self.checked_and_started(text % "tcp:0" + more):
                    self.assertEqual(len(problems), 1)
                    self.assertIn(f"{table}.endpoint: ", problems[0])

    def test_a_state_directory_that_is_a_file_is_named_with_the_cure(self) -> None:
        file = self.file("")
        for state in (file, f"{file}/var"):
            text = f'state_dir = "{state}"\ndemo = true\n{LISTENER}'
            for problems in self.checked_and_started(text):
                (problem,) = problems
                self.assertIn(f"{file}", problem)
                self.assertIn("state_dir; move away what is in its place, or set another", problem)
                self.assertIn("POP3GW_STATE_DIR", problem)
                self.assertNotIn("belong", problem)
            # Without the demonstration accounts are missing too, which is no news then.
            (problem,) = start.check(self.file(f'state_dir = "{state}"\n{LISTENER}'), {}).faults
            self.assertIn("state_dir; move away what is in its place", problem)

    def test_a_full_disk_at_the_first_start_is_no_error_of_ownership(self) -> None:
        for number, cure in (
            (errno.ENOSPC, "make room on its disk"),
            (errno.EDQUOT, "more room on its disk"),
            (errno.EROFS, "to be written"),
            (errno.EACCES, "and what is in it belong to the user that runs pop3gw"),
        ):
            state = self.mktemp()
            path = self.file(f'state_dir = "{state}"\ndemo = true\n{LISTENER}')
            for pattern in ("*accounts*", "*cert.pem*"):
                with no_room("open", pattern, number), self.assertRaises(ConfigError) as caught:
                    start.assemble(MemoryReactorClock(), path, {})
                self.assertIn(cure, str(caught.exception))
            # What it has left behind keeps nothing from being made once there is room.
            start.assemble(MemoryReactorClock(), path, {})

    def test_what_is_no_file_where_one_is_read_or_written_is_named(self) -> None:
        state = os.path.abspath(self.usable())
        os.mkdir(f"{state}/directory")
        os.mkfifo(f"{state}/fifo")
        for name in ("directory", "fifo"):
            for table, key in (
                ("directory", "file"),
                ("listeners.a", "certificate"),
                ("tls", "key"),
                ("audit", "path"),
            ):
                extra = "" if table == "listeners.a" else f"[{table}]\n"
                text = f'state_dir = "{state}"\n{LISTENER}{extra}{key} = "{name}"\n'
                for problems in self.checked_and_started(text):
                    wanted = f"{state}/{name}: expected a file, found a directory or a device"
                    self.assertIn(f"{wanted}: {table}.{key}", problems)
        text = f'state_dir = "{state}"\n{LISTENER}[store]\npath = "accounts/{{name}}"\n'
        for problems in self.checked_and_started(text):
            self.assertEqual(problems, [f"{state}/accounts: expected a directory: store.path"])

    def test_accounts_that_nobody_could_use_are_named_each_by_its_line(self) -> None:
        state = os.path.abspath(self.usable())
        lines = (
            "\ufeffalice@example.org:{PLAIN}x",
            "damaged@example.org:{SSHA}abc",
            "short@example.org:{SHA512-CRYPT}$6$salt$abc",
            "broken@example.org:{ARGON2ID}$argon2id$v=19",
            "../up@example.org:{PLAIN}x",
            "slash/x@example.org:{PLAIN}x",
            ".dot@example.org:{PLAIN}x",
            f"{'x' * 256}@example.org:{{PLAIN}}x",
            "nodomain:{PLAIN}x",
            "bad@example.org:{PLAIN}x::::::retention=unred_7d",
            "none",
            "fine@example.org:{PLAIN}x",
        )
        with open(f"{state}/accounts", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        problems = start.check(self.file(f'state_dir = "{state}"\n{LISTENER}'), {}).faults
        numbers = [problem.removeprefix(f"{state}/accounts:").split(":")[0] for problem in problems]
        self.assertEqual(sorted(map(int, numbers)), list(range(2, 12)))
        self.assertIn("pop3gw passwd", "".join(one for one in problems if "SSHA" in one))

    def test_an_unreadable_accounts_file_is_not_reported_as_missing(self) -> None:
        state = os.path.abspath(self.usable())
        os.chmod(f"{state}/accounts", 0)
        settings = load_settings(self.file(f'state_dir = "{state}"\n{LISTENER}'), {})
        os.chmod(state, 0o755)
        for above in (state, *map(str, Path(state).parents)):
            if os.geteuid() == 0 and above != "/":
                os.chmod(above, os.stat(above).st_mode | 0o055)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with self.assertRaises(GatewayError) as caught:
                PasswdFile(settings.path_of("accounts"), execute)
        finally:
            os.seteuid(user)
        words = "accounts: Permission denied: directory.file; let the user that runs pop3gw read it"
        self.assertIn(words, str(caught.exception))
        os.chmod(state, 0)
        self.addCleanup(os.chmod, state, 0o755)
        if user == 0:
            os.seteuid(65534)
        try:
            problems = missing_files(settings)
        finally:
            os.seteuid(user)
        wanted = f"{state}/accounts: Permission denied (let the user that runs pop3gw enter the"
        self.assertTrue(any(one.startswith(wanted) for one in problems), problems)

    def test_a_ledger_that_is_none_is_found_before_somebody_needs_it(self) -> None:
        state = os.path.abspath(self.usable())
        path = self.file(f'state_dir = "{state}"\n{LISTENER}')
        ledger = f"{state}/ledger.sqlite3"
        Ledger(state).close()
        before = sorted(os.listdir(state))
        self.assertEqual(start.check(path, {}).faults, [])
        self.assertEqual(sorted(os.listdir(state)), before)
        whole = Path(ledger).read_bytes()
        for octets in (
            b"garbage " * 1000,
            whole[: len(whole) // 2],
            whole[:100] + b"\xff" * len(whole),
        ):
            Path(ledger).write_bytes(octets)
            for problems in self.checked_and_started(Path(path).read_text()):
                (problem,) = problems
                self.assertIn(f"{ledger}: ", problem)
                self.assertIn("move it away", problem)
                self.assertEqual(Path(ledger).read_bytes(), octets)
            self.assertEqual(sorted({*os.listdir(state)} - {"audit.log"}), before)

    def test_a_file_of_the_state_that_the_server_may_not_write_is_named_with_the_cure(self) -> None:
        names = "ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm", "leader.lock"
        for workers, name in product((1, 2), names):
            state = os.path.abspath(self.usable())
            Path(state, name).touch(mode=0o400)
            os.chmod(state, 0o777)
            text = f'state_dir = "{state}"\n{LISTENER}[processes]\nworkers = {workers}\n'
            (problem,) = self.faults_of_user(text)
            self.assertIn(f"{state}/{name}: may not be written: state_dir; let {state}", problem)

    def test_a_state_directory_that_may_not_be_written_is_named_without_an_audit_log(self) -> None:
        state = os.path.abspath(self.usable())
        os.chmod(state, 0o555)
        (problem,) = self.faults_of_user(f'state_dir = "{state}"\n{LISTENER}[audit]\npath = ""\n')
        self.assertIn(f"{state}: may not be written: state_dir; let {state}", problem)

    def faults_of_user(self, text: str) -> list[str]:
        """What a start by a user without rights finds in the files."""
        settings, user = load_settings(self.file(text), {}), os.geteuid()
        if user:
            return file_faults(settings, None)
        for above in map(str, Path(settings.state_dir).parents):
            if above != "/":
                os.chmod(above, os.stat(above).st_mode | 0o055)
        os.seteuid(65534)
        try:
            return file_faults(settings, None)
        finally:
            os.seteuid(user)

    def test_ciphers_that_are_none_are_found_before_there_is_a_certificate(self) -> None:
        state = self.mktemp()
        os.makedirs(state)
        with open(f"{state}/accounts", "w"):
            pass
        text = f'state_dir = "{state}"\n{LISTENER}ciphers = "NOPE"\n'
        for problems in self.checked_and_started(text):
            (problem,) = problems
            self.assertIn("listeners.a: ciphers 'NOPE': no cipher match", problem)

    def test_a_check_before_the_first_start_makes_nothing(self) -> None:
        state = self.mktemp()
        text = f'state_dir = "{state}"\ndemo = true\n{LISTENER}'
        self.assertEqual(start.check(self.file(text), {}).faults, [])
        self.assertFalse(os.path.exists(state))

    def test_a_good_configuration_has_no_problems_and_a_bad_accounts_file_has(self) -> None:
        state = self.mktemp()
        make_certificate(f"{state}/tls/cert.pem", f"{state}/tls/key.pem")
        text = f'state_dir = "{state}"\n{LISTENER}'
        with open(f"{state}/accounts", "w") as file:
            file.write("alice@example.org:{PLAIN}x\n")
        self.assertEqual(start.check(self.file(text), {}).faults, [])
        with open(f"{state}/accounts", "a") as file:
            file.write("bob\n")
        with open(f"{state}/tls/key.pem", "w") as file:
            file.write("no key")
        problems = start.check(self.file(text), {}).faults
        self.assertEqual(len(problems), 2)
        self.assertIn("accounts:2: ", problems[0])

    def test_an_unusable_path_of_the_audit_log_is_an_error_at_the_start(self) -> None:
        state = self.usable()
        text = f'state_dir = "{state}"\n{LISTENER}[audit]\npath = "logs/removed"\n'
        for problems in self.checked_and_started(text):
            wanted = f"{os.path.abspath(state)}/logs: no such directory: audit.path"
            self.assertEqual(problems, [wanted])
        os.mkdir(f"{state}/logs")
        self.assertEqual(self.checked_and_started(text), ([], []))

    def test_the_audit_is_no_file_of_another_use_and_has_a_name_that_can_be(self) -> None:
        state = self.usable()
        os.symlink("accounts", f"{state}/also")
        for path, words in (
            *(("accounts", "no other use"), ("also", "no other use")),
            *(("ledger.sqlite3", "no other use"), ("a" * 300, "File name too long")),
        ):
            text = f'state_dir = "{state}"\n{LISTENER}[audit]\npath = "{path}"\n'
            for problems in self.checked_and_started(text):
                self.assertEqual(len(problems), 1)
                self.assertIn(words, problems[0])
                self.assertIn("audit.path", problems[0])

    def test_what_a_session_removes_is_in_the_audit_that_is_set(self) -> None:
        for path, max_size, files in (
            ("audit.log", "64 KB", ["audit.log", "audit.log.1"]),
            ("audit.log", "0", ["audit.log"]),
            ("audit.log", "unlimited", ["audit.log"]),
            ("removed", "1 MB", ["removed"]),
            ("", "64 KB", []),
        ):
            state = self.usable()
            text = f'state_dir = "{state}"\n{LISTENER}[audit]\npath = "{path}"\n'
            text += f'max_size = "{max_size}"\nkeep = 1\n'
            settings = load_settings(self.file(text), {})
            audit = make_audit(settings)
            for _ in range(3):
                audit([REMOVED] * 150)
            found = {name for name in os.listdir(state) if name not in ("tls", "accounts")}
            self.assertEqual(sorted(found), files)

    def test_a_cluster_keeps_the_audit_itself_and_has_no_other_use_for_the_section(self) -> None:
        text = f"""{LISTENER}[store]
kind = "cluster"
database = "postgresql://gateway@localhost/mail"
bucket = "https://localhost/mail"
bucket_access_key = "gateway"
bucket_secret_key = "secret"
"""
        settings = load_settings(self.file(text), {})
        self.assertEqual(settings.audit_path, "")
        self.assertIs(make_audit(settings), no_audit)
        (fault,) = self.faults(f"{text}[audit]\nkeep = 1\n")
        self.assertIn("audit: expected no such section: a cluster keeps the audit itself", fault)
        (fault,) = self.faults(f"{text}audit_days = -1\n")
        self.assertIn("store.audit_days", fault)

    def test_a_bucket_is_one_that_there_can_be_and_no_path_in_one(self) -> None:
        text = f"""{LISTENER}[store]
kind = "cluster"
database = "postgresql://gateway@localhost/mail"
bucket_access_key = "gateway"
bucket_secret_key = "secret"
"""
        for path in ("mail", "mail/", "a-b.c", "Old_Name", "x" * 255, "tenant%3Amail"):
            load_settings(self.file(f'{text}bucket = "https://localhost/{path}"\n'), {})
        for path in ("mail/prefix", "mail/prefix/", "mail//a", "../mail"):
            (fault,) = self.faults(f'{text}bucket = "https://localhost/{path}"\n')
            self.assertIn("store.bucket: expected https://HOST/BUCKET, found", fault)
            self.assertIn("give the mail a bucket of its own, without a path in it", fault)
        for path in (
            "..",
            "ab",
            "x" * 256,
            "/mail",
            "a%2Fb",
            "mail%20",
            "a b",
            "mail;x",
            "m\u00fcll",
        ):
            (fault,) = self.faults(f'{text}bucket = "https://localhost/{path}"\n')
            self.assertIn("store.bucket: expected https://HOST/BUCKET with a bucket of 3", fault)
        for server in ("[2001:db8::7]:7480", "s_3", "S3.example.org:443"):
            load_settings(self.file(f'{text}bucket = "http://{server}/mail"\n'), {})
        for rest in (
            *("localhost", "localhost/", "localhost///", "localhost/mail?x", "localhost/mail#x"),
            *("/mail", "localhost:x/mail", "localhost:0/mail", "localhost:99999/mail"),
            *("[::1/mail", "s 3/mail", "m\u00fcll/mail", "me@localhost/mail", "@localhost/mail"),
        ):
            (fault,) = self.faults(f'{text}bucket = "https://{rest}"\n')
            self.assertIn("store.bucket: expected https://HOST/BUCKET, found", fault)

    def of_database(self, words: str) -> str:
        """A cluster with this connection string."""
        return f"""{LISTENER}[store]
kind = "cluster"
database = "{words}"
bucket = "https://localhost/mail"
bucket_access_key = "gateway"
bucket_secret_key = "secret"
"""

    def test_a_connection_string_by_which_libpq_cannot_connect_is_a_fault(self) -> None:
        uri = "postgresql://gateway@db1,db2/mail"
        for words, fault in (
            ("host=h port=abc", "port: expected a number from 1 to 65535"),
            ("host=h port=0", "port: expected a number from 1 to 65535"),
            (f"{uri}?port=5432,65536", "port: expected a number from 1 to 65535"),
            (f"{uri}?port=1,2,3", "libpq refuses it: could not match 3 port numbers to 2 hosts"),
            (f"{uri}?sslmode=verify", 'libpq refuses it: invalid sslmode value: "verify"'),
            (f"{uri}?keepalives_idle=1m", "keepalives_idle: expected a number"),
            (f"{uri}?target_session_attrs=readwrite", "attrs: expected one of any, read-write,"),
            (f"{uri}?load_balance_hosts=all", "load_balance_hosts: expected one of"),
            (f"{uri}?sslmod=require", "sslmod is none, do you mean sslmode?"),
            ("host=h sslmod=require", "sslmod is none, do you mean sslmode?"),
        ):
            (found,) = self.faults(self.of_database(words))
            self.assertIn("store.database: ", found)
            self.assertIn(fault, found)
        for words in (
            f"{uri}?target_session_attrs=read-write&sslmode=verify-full&port=5432,5433",
            "host=/run/postgresql dbname=mail",
            "host=h port='5432' gssencmode=disable load_balance_hosts=random",
            # Only the user of the gateway may have it.
            "service=of-another-user sslmode=require",
        ):
            load_settings(self.file(self.of_database(words)), {})

    def test_no_secret_is_in_a_connection_string_or_in_what_refuses_it(self) -> None:
        for words in (
            "postgresql://gateway:hushhush@db1/mail",
            "postgresql://gateway:hushhush/more@db1/mail",
            "postgresql://gateway:hush?hushhush=x@db1/mail",
            "https://gateway:hushhush@db1/mail",
            "https://gateway:hushhush@db1/mail?x=1",
            "host=h password=x hushhush=y",
            "host=h password=x hushhush",
            "host=h sslkey=k sslpassword=hushhush",
            "host=h scram_client_key=hushhush",
        ):
            (fault,) = self.faults(self.of_database(words))
            self.assertIn("store.database: ", fault)
            self.assertNotIn("hush", fault)
        (fault,) = self.faults(self.of_database("host=h sslpassword=x"))
        self.assertIn("has sslpassword, which is secret: move it to a service file", fault)

    def test_what_refuses_a_bucket_shows_no_secret(self) -> None:
        text = self.of_database("host=h")
        for bucket in (
            "https://me:hushhush@localhost/mail",
            "postgresql://me:hushhush@localhost/mail",
            "https://me:hush/hushhush@localhost/mail",
            "https://[me:hushhush@localhost/mail",
            "me:hushhush@localhost/mail",
            "https://localhost/mail?X-Amz-Signature=hushhush",
            "https://localhost/mail#hushhush",
        ):
            (fault,) = self.faults(text.replace("https://localhost/mail", bucket))
            self.assertIn("store.bucket: expected https://HOST/BUCKET", fault)
            self.assertNotIn("hush", fault)


class ListenerTests(ConfigCase):
    def test_a_listener_that_says_tls_by_name_or_port_must_say_which(self) -> None:
        for name, port in (
            *((name, "110") for name in ("pop3s", "POP3S", "pops", "spop3", "pop3-ssl", "tls")),
            *((name, "110") for name in ("implicit", "pop3_995", "pop3-tls")),
            *(("a", port) for port in ("995", "1995", "20995")),
        ):
            listener = f'[listeners.{name}]\nendpoint = "tcp:{port}"\n'
            (fault,) = self.faults(listener)
            self.assertIn(f"FILE:1: listeners.{name}: expected tls = ", fault)
            for cure in ('tls = "implicit"', 'tls = "stls"'):
                self.assertIn(cure, fault)
                settings = self.load(f"{listener}{cure}\n")
                self.assertEqual(settings.listeners[name].tls, cure.split('"')[1])
            self.load(f'{listener}tls = "none"\n')

    def test_the_same_by_environment(self) -> None:
        environ = {"POP3GW_LISTENERS__POP3S__ENDPOINT": "tcp:995"}
        with self.assertRaises(ConfigError) as caught:
            load_settings(None, environ)
        self.assertIn('tls = "implicit"', str(caught.exception))
        settings = load_settings(None, environ | {"POP3GW_LISTENERS__POP3S__TLS": "implicit"})
        self.assertEqual([*settings.listeners], ["pop3s"])

    def test_other_names_and_ports_speak_plain_text_until_asked(self) -> None:
        for name in ("pop3", "a", "starttls", "pop3-stls", "popserver", "slow", "outlook"):
            settings = self.load(f'[listeners.{name}]\nendpoint = "tcp:110"\n')
            self.assertEqual(settings.listeners[name].tls, "stls")

    def test_without_a_file_the_listeners_are_those_that_the_sample_shows(self) -> None:
        for environ in ({}, {"POP3GW_CONFIG": ""}):
            settings = load_settings(None, environ)
            self.assertEqual(settings.listeners, load_settings(str(SAMPLE), {}).listeners)
        self.assertEqual({one.tls for one in settings.listeners.values()}, {"stls", "implicit"})

    def test_a_start_without_a_file_serves_with_the_documented_defaults(self) -> None:
        state = os.path.abspath(self.mktemp())
        environ = {"POP3GW_STATE_DIR": state, "POP3GW_DEMO": "true"}
        self.assertEqual(start.check(None, environ).faults, [])
        start.assemble(MemoryReactorClock(), None, environ)

    def test_two_listeners_at_one_place_are_named(self) -> None:
        for text, key in (
            ('[listeners.b]\nendpoint = "tcp:7:interface=127.0.0.1"\n', "listeners.b"),
            ('[lmtp]\nendpoint = "tcp:7"\n', "lmtp"),
            ('[policy]\nendpoint = "tcp6:7"\n', "policy"),
            ('[http]\ntoken = "x"\nendpoint = "tcp:7:backlog=5"\n', "http"),
        ):
            (fault,) = self.faults(f'[listeners.a]\nendpoint = "tcp:7"\n{text}')
            self.assertIn(f"{key}.endpoint: expected another place than listeners.a", fault)
        self.load(f'{LISTENER}[lmtp]\nendpoint = "tcp:0"\n')

    def test_a_listener_at_which_nobody_could_log_in_is_refused(self) -> None:
        nobody = '[listeners.a]\nendpoint = "tcp:7"\ntls = "none"\n[pop3]\nsecure_networks = []\n'
        (fault,) = self.faults(nobody)
        self.assertIn("listeners.a.tls: expected", fault)
        self.assertIn("pop3.secure_networks", fault)
        self.load(nobody.replace('"none"', '"stls"'))
        self.load(nobody.replace("[]", '["10.0.0.0/8"]'))
        # NTLM shows no password to who listens.
        self.load(f'{nobody}[ntlm]\nprovider = "hashes"\n')

    def test_contradictions_about_proxies_are_named_with_their_cure(self) -> None:
        lmtp = '[lmtp]\nendpoint = "tcp:24"\n'
        ntlm = '[ntlm]\nprovider = "hashes"\nchannel_binding = "%s"\n'
        on, proxy = "proxy_protocol = true\n", 'proxy_networks = ["192.0.2.1"]\n'
        ended = f'{LISTENER}tls = "none"\n{on}{proxy}proxy_tls = "stated"\n'
        for text, words in (
            (LISTENER + on, "listeners.a.proxy_networks: expected the addresses of the proxies"),
            (LISTENER + lmtp + on, "lmtp.proxy_networks: expected the addresses of the proxies"),
            (LISTENER + proxy, "listeners.a.proxy_protocol: expected true, or no proxy_networks"),
            (
                f'{LISTENER}{on}proxy_networks = ["10.0.0.0/8", "0.0.0.0/0"]\n',
                "listeners.a.proxy_networks: expected the addresses of the proxies: in a network",
            ),
            (
                f'{LISTENER}xclient_networks = ["::/0"]\n',
                "listeners.a.xclient_networks: expected the addresses of the proxies: in a network",
            ),
            (
                f'{LISTENER}proxy_tls = "stated"\n',
                'listeners.a.proxy_tls: expected "off", since the listener',
            ),
            (
                f'{LISTENER}{lmtp}proxy_tls = "stated"\n',
                'lmtp.proxy_tls: expected "off", since the listener',
            ),
            (
                f"{ended}{ntlm % 'allow'}",
                'expected "off", or tls = "stls" with a copy of the proxy\'s certificate, or ntlm.',
            ),
            (f"{LISTENER}{lmtp}xclient_networks = []\n", "lmtp.xclient_networks"),
        ):
            (fault,) = self.faults(text)
            self.assertIn(words, fault)
        self.load(LISTENER + on + proxy)
        self.load(f"{ended}{ntlm % 'off'}")
        self.load(f"{ended}mechanisms = []\n{ntlm % 'require'}")
        self.load(f"{ended.replace('none', 'stls')}{ntlm % 'require'}")
        self.load(f'{LISTENER}xclient_networks = ["192.0.2.1"]\nproxy_tls = "stated"\n')

    def test_a_unix_socket_behind_a_proxy_needs_no_networks(self) -> None:
        for place in ("unix:/run/pop3", "systemd:domain=UNIX:index=0"):
            self.load(f'[listeners.a]\nendpoint = "{place}"\nproxy_protocol = true\n')
        (fault,) = self.faults('[listeners.a]\nendpoint = "tcp:1"\nproxy_protocol = true\n')
        self.assertIn("listeners.a.proxy_networks", fault)

    def test_tls_at_a_proxy_lets_somebody_in(self) -> None:
        nobody = (
            '[pop3]\nsecure_networks = []\n[listeners.a]\nendpoint = "tcp:7"\ntls = "none"\n'
            'proxy_protocol = true\nproxy_networks = ["192.0.2.1"]\n'
        )
        (fault,) = self.faults(nobody)
        self.assertIn("listeners.a.tls: expected", fault)
        self.load(f'{nobody}proxy_tls = "stated"\n')

    def test_at_an_address_of_the_network_loopback_lets_nobody_in(self) -> None:
        text = '[listeners.a]\nendpoint = "tcp:7:interface=%s"\ntls = "none"\n'
        (fault,) = self.faults(text % "10.0.0.5")
        self.assertIn("listeners.a.tls: expected", fault)
        for address in ("", "0.0.0.0", "127.0.0.1", "localhost", r"\\:\\:1", r"\\:\\:"):
            self.load(text % address)
        self.load(text % "10.0.0.5" + '[pop3]\nsecure_networks = ["10.0.0.0/8"]\n')

    def test_a_certificate_that_only_lmtp_needs_is_missed_before_the_start(self) -> None:
        state = os.path.abspath(self.mktemp())
        os.makedirs(state)
        with open(f"{state}/accounts", "w"):
            pass
        text = f'state_dir = "{state}"\n{LISTENER}tls = "none"\n[tls]\nself_signed = false\n'
        text += '[lmtp]\nendpoint = "tcp:0"\ntls = "stls"\n'
        path = self.file(text)
        problems = start.check(path, {}).faults
        self.assertEqual(len(problems), 2)
        self.assertIn("tls/cert.pem: no such file: tls.certificate (for lmtp)", problems[0])

    def test_a_haproxy_endpoint_that_would_trust_any_client_is_an_error(self) -> None:
        state = self.mktemp()
        os.makedirs(state)
        with open(f"{state}/accounts", "w"):
            pass
        top = f'state_dir = "{state}"\n[listeners.a]\ntls = "none"\n'
        for table, text in (
            ("listeners.a", 'endpoint = "haproxy:tcp:7"\n'),
            ("lmtp", 'endpoint = "tcp:0"\n[lmtp]\nendpoint = "haproxy:tcp:7"\n'),
            ("policy", 'endpoint = "tcp:0"\n[policy]\nendpoint = "haproxy:unix:/x"\n'),
            ("http", 'endpoint = "tcp:0"\n[http]\ntoken = "x"\nendpoint = "haproxy:tcp:7"\n'),
        ):
            path = self.file(top + text)
            (problem,) = start.check(path, {}).faults
            self.assertIn(f"{table}.endpoint: ", problem)
            self.assertIn("use tcp: with proxy_protocol = true", problem)
            with self.assertRaises(ConfigError):
                start.assemble(MemoryReactorClock(), path, {})


class SecretFileTests(ConfigCase):
    LDAP = (
        '[directory]\nkind = "ldap"\n'
        '[ldap]\nuris = ["ldap://h"]\nbase = "dc=x"\nbind_dn = "cn=reader"\n'
    )

    def secret(self, octets: bytes) -> str:
        path = os.path.abspath(self.file(""))
        with open(path, "wb") as out:
            out.write(octets)
        return path

    def test_a_secret_of_the_file_may_stand_in_a_file_of_its_own(self) -> None:
        for octets, wanted in (
            (b"s3cret", "s3cret"),
            (b"s3cret\n", "s3cret"),
            (b"s3cret\r\n", "s3cret"),
            (b"\xef\xbb\xbfs3cret\n", "s3cret"),
            (b" s3 cret \n", " s3 cret "),
            ("\u0142".encode(), "\u0142"),
        ):
            text = f'{LISTENER}{self.LDAP}bind_password_file = "{self.secret(octets)}"\n'
            self.assertEqual(self.load(text).ldap.bind_password, wanted)
        text = f'{LISTENER}[http]\nendpoint = "tcp:1"\ntoken_file = "{self.secret(b"t0ken")}"\n'
        self.assertEqual(self.load(text).http.token, "t0ken")

    def test_its_path_lies_below_the_state_directory(self) -> None:
        state, name = os.path.split(self.secret(b"s3cret"))
        text = f'state_dir = "{state}"\n{LISTENER}{self.LDAP}bind_password_file = "{name}"\n'
        self.assertEqual(self.load(text).ldap.bind_password, "s3cret")

    def test_the_environment_wins_whichever_way_it_says_it(self) -> None:
        file, other = self.secret(b"file"), self.secret(b"other")
        for said in (f'bind_password_file = "{file}"', 'bind_password = "file"'):
            text = f"{LISTENER}{self.LDAP}{said}\n"
            for name, value in (("", "other"), ("_FILE", other)):
                settings = self.load(text, **{f"POP3GW_LDAP__BIND_PASSWORD{name}": value})
                self.assertEqual(settings.ldap.bind_password, "other", (said, name))

    def test_errors_name_their_place_and_show_no_secret(self) -> None:
        key = "FILE:9: ldap.bind_password_file: "
        for octets, words in (
            (b"", "expected a secret in "),
            (b"\n", "expected a secret in "),
            (b"s3\0cret", "expected no NUL in "),
            (b"s3cret\xff", "cannot be read: not UTF-8"),
            (b"s3cret" * 2**22, "cannot be read: more than 16 MB"),
        ):
            path = self.secret(octets)
            (fault,) = self.faults(f'{LISTENER}{self.LDAP}bind_password_file = "{path}"\n')
            self.assertTrue(fault.startswith(key) and words in fault, fault)
            self.assertNotIn("s3cret", fault)
        for path in ("/nonexistent", "/"):
            (fault,) = self.faults(f'{LISTENER}{self.LDAP}bind_password_file = "{path}"\n')
            self.assertTrue(fault.startswith(f"{key}{path}: cannot be read: "), fault)
        path = self.secret(b"two words")
        (fault,) = self.faults(f'{LISTENER}[http]\nendpoint = "tcp:1"\ntoken_file = "{path}"\n')
        self.assertIn("http.token_file: expected printable ASCII", fault)
        self.assertNotIn("two", fault)

    def test_a_secret_in_two_places_is_refused(self) -> None:
        both = f'bind_password = "a"\nbind_password_file = "{self.secret(b"b")}"\n'
        (fault,) = self.faults(f"{LISTENER}{self.LDAP}{both}")
        self.assertIn("ldap.bind_password_file: expected nothing, since ldap.bind_password", fault)


class TextTests(ConfigCase):
    """What editors and people make of a file."""

    def test_a_byte_order_mark_and_line_ends_of_windows_do_not_matter(self) -> None:
        path = self.file("")
        with open(path, "wb") as out:
            out.write(b"\xef\xbb\xbf" + LISTENER.replace("\n", "\r\n").encode())
        self.assertEqual([*load_settings(path, {}).listeners], ["a"])
        with open(path, "wb") as out:
            out.write(LISTENER.encode("utf-16"))
        with self.assertRaises(ConfigError) as caught:
            load_settings(path, {})
        self.assertIn("not UTF-8", str(caught.exception))

    def test_a_domain_without_quotes_is_given_them(self) -> None:
        for table, domain in (
            ("quota.domains", "example.org"),
            ("retention.domains", "a.b.example.org"),
            ("listeners", "pop3.old"),
        ):
            faults = self.faults(f'{LISTENER}[{table}.{domain}]\nkey = "5"\n')
            cure = f'a name with a dot stands in quotes: [{table}."{domain}"]'
            self.assertTrue(any(fault.endswith(cure) for fault in faults), faults)

    def test_names_that_people_give_are_checked_as_values_are(self) -> None:
        for name in ("", " ", "a\\nb", "*", "@", "a/b", "x" * 300):
            for table, rest, words in (
                ("listeners", 'endpoint = "tcp:0"\n', "listeners: expected names of letters"),
                ("quota.domains", 'octets = "5M"\n', 'expected domains such as "example.org"'),
                ("retention.domains", 'policy = "any 5d"\n', "expected domains such as"),
                ("quota.texts", 'warn = { subject = "x" }\n', "expected languages such as fr"),
            ):
                (fault,) = self.faults(f'{LISTENER}[{table}."{name}"]\n{rest}')
                self.assertIn(words, fault)
        self.load('[listeners."pop3.old-1_b"]\nendpoint = "tcp:0"\n')

    def test_a_number_that_python_does_not_read_is_named_with_its_line(self) -> None:
        for value in ("9" * 5000, "-" + "9" * 5000, "[" * 3000, "{a=" * 3000):
            (fault,) = self.faults(f"{LISTENER}[limits]\nconnections = {value}\n")
            self.assertTrue(fault.startswith("FILE:4: connections: expected shorter"), fault)
        (fault,) = self.faults(f"{LISTENER}[limits]\nconnections = 0x{'f' * 5000}\n")
        self.assertTrue(fault.startswith("FILE:4: limits.connections: expected 1 to"), fault)

    def test_a_relative_state_dir_in_the_root_directory_is_an_error(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        path = os.path.abspath(self.file(LISTENER))
        os.chdir("/")
        for environ in ({}, {"POP3GW_STATE_DIR": "./var"}):
            with self.assertRaises(ConfigError) as caught:
                load_settings(path, environ)
            self.assertIn("state_dir: expected an absolute path", str(caught.exception))
        self.assertEqual(load_settings(path, {"POP3GW_STATE_DIR": "/var"}).state_dir, "/var")
        (fault,) = self.faults(POP3GW_STATE_DIR="")
        self.assertEqual(fault, "POP3GW_STATE_DIR: state_dir: expected a path, found ''")


class HttpTests(ConfigCase):
    BASE = LISTENER + "[http]\n"

    def test_a_token_has_a_secret_and_a_scope(self) -> None:
        faults = self.faults(self.BASE + 'endpoint = "unix:/run/x"\n[http.tokens.a]\nscopes = []\n')
        self.assertEqual(
            faults,
            [
                "FILE: http.tokens.a.token: expected a token, here or in token_file",
                "FILE:6: http.tokens.a.scopes: expected some of quota, metrics, read, operate",
            ],
        )
        (fault,) = self.faults(self.BASE + '[http.tokens.a]\ntoken = "x"\nscopes = ["write"]\n')
        self.assertIn("found 'write'", fault)

    def test_the_secret_of_a_token_may_be_in_a_file_and_is_never_shown(self) -> None:
        secret = self.file("s3cret\n")
        text = f'[http.tokens.a]\ntoken_file = "{os.path.abspath(secret)}"\nscopes = ["read"]\n'
        settings = self.load(LISTENER + '[http]\nendpoint = "unix:/run/x"\n' + text)
        self.assertEqual(settings.http.tokens["a"].token, "s3cret")
        self.assertNotIn("s3cret", repr(settings))
        self.assertEqual(
            settings.secret_files, {os.path.abspath(secret): "http.tokens.a.token_file"}
        )

    def test_two_names_have_two_tokens(self) -> None:
        tokens = "".join(f'[http.tokens.{name}]\ntoken = "x"\nscopes = ["read"]\n' for name in "ab")
        (fault,) = self.faults(self.BASE + 'endpoint = "unix:/run/x"\n' + tokens)
        self.assertIn("another token for each name", fault)

    def test_what_operates_is_not_offered_to_the_network_without_tls(self) -> None:
        operating = '[http.tokens.a]\ntoken = "x"\nscopes = ["operate"]\n'
        reach = 'endpoint = "tcp:8110"\ntoken = "y"\n'
        for text in (reach + operating, reach + "page = true\n"):
            (fault,) = self.faults(self.BASE + text)
            self.assertIn('http.tls: expected "implicit"', fault)
        for safe in (
            'endpoint = "tcp:8110:interface=127.0.0.1"\n',
            'endpoint = "unix:/run/x"\n',
            'endpoint = "tcp:8110"\ntls = "implicit"\n',
            'endpoint = "tcp:8110"\nproxy_protocol = true\nproxy_networks = ["192.0.2.1"]\n'
            'proxy_tls = "always"\n',
        ):
            self.assertTrue(self.load(self.BASE + safe + operating).http.tokens)

    def test_a_page_has_an_endpoint_and_operators_have_a_page(self) -> None:
        (fault,) = self.faults(self.BASE + "page = true\n")
        self.assertIn("http.endpoint", fault)
        text = 'endpoint = "unix:/run/x"\noperators = ["bob"]\n'
        (fault,) = self.faults(self.BASE + text)
        self.assertIn("http.operators: expected none", fault)
