"""Every setting: what can be put there, from a file and from the environment, and what comes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Literal, get_args, get_origin

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.app import start
from gateway.config.load import load_settings
from gateway.errors import ConfigError

NAMES = {"listeners": "a", "domains": "example.org", "texts": "de", "tokens": "monitoring"}
"""What people name themselves."""


def every_setting(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Dotted key and type of all that can be set."""
    for item in attrs.fields(attrs.resolve_types(kind)):
        inner, under = item.type, (*path, item.name)
        if get_origin(inner) is dict:
            inner, under = get_args(inner)[1], (*under, NAMES[item.name])
        if get_origin(inner) is tuple and attrs.has(get_args(inner)[0]):
            inner, under = get_args(inner)[0], (*under, "1")
        if attrs.has(inner):
            yield from every_setting(inner, under)
        else:
            yield "\n".join(under), inner


SETTINGS = dict(every_setting(type(load_settings(None, {}))))

BAD = {
    "empty": '""',
    "a space": '" "',
    "huge": '"' + "x" * 100_000 + '"',
    "NUL": '"a\\u0000b"',
    "a control character": '"a\\u001b\\n\\r\\tb"',
    "not ASCII": '"\u0142\u00fc\U0001f600/\u202e"',
    "only dots and slashes": '"/../.."',
    "braces": '"{{0}"',
    "negative": "-1",
    "zero": "0",
    "1": "1",
    "5,000 digits": "9" * 5000,
    "5,000 hexadecimal digits": "0x" + "f" * 5000,
    "infinite": "inf",
    "not a number": "nan",
    "a huge float": "1e999",
    "a small float": "1e-300",
    "true": "true",
    "a date": "1979-05-27",
    "an empty list": "[]",
    "a list of the empty": '[""]',
    "a list of numbers": "[0, -1]",
    "a mixed list": '["a", 5, ["b"]]',
    "a table": "{ a = 1 }",
    "nested": "[" * 2000 + "]" * 2000,
}


NUMBERS_ONLY = ("limits", "throttle")
"""What is numbers alone, of which nothing opens a file."""


def variable_of(key: str) -> str:
    """The environment variable of a setting."""
    return f"POP3GW_{key.replace(chr(10), '__').upper()}"


class SettingsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = os.path.abspath(self.mktemp())
        os.makedirs(self.state)
        with open(f"{self.state}/accounts", "w"):
            pass
        self.base = {
            "state_dir": f'"{self.state}"',
            "listeners\na\nendpoint": '"tcp:0"',
            "listeners\na\ntls": '"none"',
        }
        self.path = f"{self.state}/pop3gw.toml"

    def write(self, **values: str) -> str:
        """A file with these besides what is needed; keys are dotted by line feeds."""
        lines = []
        for key, value in (self.base | values).items():
            if "\n1\n" in key:
                key, _, inner = key.partition("\n1\n")
                value = f"[{{ {inner} = {value} }}]"
            quoted = ".".join(f'"{part}"' for part in key.split("\n"))
            lines.append(f"{quoted} = {value}\n")
        with open(self.path, "w", encoding="utf-8") as file:
            file.writelines(lines)
        return self.path

    def faults_of(self, path: str | None, environ: dict[str, str], section: str) -> list[str]:
        """What is wrong with what is said of this configuration."""
        try:
            load_settings(path, environ)
        except ConfigError as error:
            return [one for one in error.problems if not is_good(one, section)]
        if section in NUMBERS_ONLY:
            return []
        problems = start.check(path, environ).faults
        # That a file is not there is no news of another state directory.
        about = "" if section == "state_dir" else section
        return [one for one in problems if not is_good(one, about)]

    def wrong(self, cases: Iterator[tuple[str, str, dict[str, str], str]]) -> list[str]:
        """What is wrong with all that is said of them."""
        found = []
        for what, path, environ, section in cases:
            try:
                faults = self.faults_of(path, environ, section)
            except Exception as error:
                faults = [repr(error)[:300]]
            found += [f"{what}: {fault}" for fault in faults]
        return found


def is_good(problem: str, section: str) -> bool:
    """One line of some length that has the place and the cure."""
    cures = ("expected", "cannot be read", "no such", "set another", "is no", "not")
    words = section.lower() in problem.lower() and any(cure in problem for cure in cures)
    return words and problem.isprintable() and len(problem) <= 1000


class BadValueTests(SettingsCase):
    """No value makes anything but a fault with its place and the cure, or settings that work."""

    def test_in_a_file(self) -> None:
        cases = (
            (f"{key!r} = {name}", self.write(**{key: value}), {}, key.split("\n")[0])
            for key in SETTINGS
            for name, value in BAD.items()
        )
        self.assertEqual(self.wrong(cases), [])

    def test_in_the_environment(self) -> None:
        texts = ("", " ", "9" * 5000, "\u0142/\U0001f600", "\udcff", "[" * 2000, '["", 5]', ",a,,b")
        cases = (
            (f"{variable_of(key)}={text[:9]!r}", self.write(), {variable_of(key): text}, part)
            for key in SETTINGS
            for part in [key.split("\n")[0]]
            for text in texts
        )
        self.assertEqual(self.wrong(cases), [])

    @given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.text(max_size=20), max_size=4))
    def test_no_environment_makes_anything_but_named_faults(self, values: dict[str, str]) -> None:
        environ = {variable_of(key): text for key, text in values.items()}
        try:
            settings = load_settings(None, environ)
        except ConfigError as error:
            self.assertTrue(all(is_good(problem, "") for problem in error.problems))
        else:
            self.assertTrue(settings.listeners)


GOOD: dict[str, tuple[str, Any]] = {
    "listeners\na\nendpoint": ("tcp:7", "tcp:7"),
    "directory\nkind": ("passwd-file", "passwd-file"),
    "store\nkind": ("maildir", "maildir"),
    "pop3\nexpire": ("7 USER", "7 USER"),
    "pop3\nlogin_delay": ("60", "60"),
    "pop3\ntexts": ("exchange", "exchange"),
    "pop3\nlanguage": ("de", "de"),
    "pop3\ncommand_limit": ("300", 300),
    "pop3\nsasl_line_limit": ("2048", 2048),
    "ldap\nuris": ("ldap://a, ldaps://b:7", ("ldap://a", "ldaps://b:7")),
    "ldap\nbase": ("dc=a", "dc=a"),
    "ldap\nfilter": ("(uid={user})", "(uid={user})"),
    "ldap\nrecipient_filter": ("(mail={login})", "(mail={login})"),
    "ldap\nbind_as": ("{login}@a", "{login}@a"),
    "ldap\nmap": ("samba", "samba"),
    "store\npath": ("{name}", "{name}"),
    "lmtp\nmax_recipients": ("200", 200),
    "quota\nwarn_from": ("a@example.org", "a@example.org"),
    "quota\ndigest_to": ("b@example.org", "b@example.org"),
    "retention\npolicy": ("any 7d", "any 7d"),
    "retention\ndomains\nexample.org\npolicy": ("any 8d", "any 8d"),
    "lmtp\nendpoint": ("unix:/run/lmtp", "unix:/run/lmtp"),
    "policy\nendpoint": ("tcp:8", "tcp:8"),
    "http\nendpoint": ("tcp:9", "tcp:9"),
    "lmtp\nrecipient_delimiter": ("-", "-"),
    "lmtp\nmax_size": ("7 MB", "7 MB"),
    "audit\nmax_size": ("7 MB", "7 MB"),
    "tls\nticket_key_lifetime": ("600", 600.0),
    "directory\nstale_ttl": ("5", 5.0),
    "directory\ncache_ttl": ("5", 5.0),
}
"""What a few take that do not take what others of their type take."""

NEEDED = {
    "POP3GW_LISTENERS__A__ENDPOINT": "tcp:0",
    "POP3GW_HTTP__ENDPOINT": "unix:/run/x",
    "POP3GW_HTTP__TLS": "implicit",
    "POP3GW_HTTP__PAGE": "true",
    "POP3GW_HTTP__TOKEN": "eight",
    "POP3GW_HTTP__TOKENS__MONITORING__TOKEN": "nine",
    "POP3GW_HTTP__TOKENS__MONITORING__SCOPES": "read",
    "POP3GW_QUOTA__WARN_FROM": "c@example.org",
    **{
        f"POP3GW_{section}__PROXY_{name}": value
        for section in ("LISTENERS__A", "LMTP", "POLICY", "HTTP")
        for name, value in (("PROTOCOL", "true"), ("NETWORKS", "192.0.2.1"))
    },
}
"""What some ask for besides."""

SIZES = ("octets", "warn_octets", "grace")
NEEDS_MORE = {
    "gssapi\nkeytab",
    "ldap\nbind_password_file",
    "http\ntoken_file",
    "http\ntokens\nmonitoring\ntoken_file",
    "quota\nwarn_language",
    *(key for key in SETTINGS if "\n1\n" in key),
}
"""What asks for a file, or for another setting besides."""


def good_value(key: str, kind: Any) -> tuple[str, Any]:
    """A value's text in a variable, and the value."""
    kinds = {get_origin(one) or one for one in (kind, *get_args(kind))}
    if key in GOOD:
        return GOOD[key]
    if key.endswith("scopes"):
        return "read,metrics", ("read", "metrics")
    if key.endswith("mechanisms"):
        return "LOGIN,PLAIN", ("LOGIN", "PLAIN")
    if Literal in kinds:
        literal = next(one for one in (kind, *get_args(kind)) if get_origin(one) is Literal)
        return (get_args(literal)[-1],) * 2
    if tuple in kinds:
        networks = "network" in key
        words = ("10.0.0.0/8", "2001:db8::/32") if networks else ("one", "two")
        return ",".join(words), tuple(map(ip_network, words)) if networks else words
    if bool in kinds:
        return "true", True
    if kinds & {int, float}:
        value = 1 if "share" in key else 7
        return str(value), value
    return ("7M", "7M") if key.rpartition("\n")[2] in SIZES else ("seven", "seven")


def value_of(settings: Any, key: str) -> Any:
    """What is set there."""
    for part in key.split("\n"):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


class EnvironmentTests(SettingsCase):
    def test_every_setting_can_be_set_by_environment_without_a_file(self) -> None:
        for key, kind in SETTINGS.items():
            if key in NEEDS_MORE:
                continue
            text, value = good_value(key, kind)
            settings = load_settings(None, {**NEEDED, variable_of(key): text})
            found = value_of(settings, key)
            self.assertEqual(os.path.basename(found) if key == "state_dir" else found, value, key)

    def test_every_list_is_taken_with_commas_and_as_json_and_toml_have_it(self) -> None:
        for key, kind in SETTINGS.items():
            if tuple not in {get_origin(one) for one in (kind, *get_args(kind))}:
                continue
            text, value = good_value(key, kind)
            words = [word.strip() for word in text.split(",")]
            single = ", ".join(f"'{word}'" for word in words)
            for form in (text, json.dumps(words), f"[{single}]", f" [ {single}, ] ", f"{text},"):
                settings = load_settings(None, {**NEEDED, variable_of(key): form})
                self.assertEqual(value_of(settings, key), value, (key, form))

    def test_an_empty_variable_is_an_empty_list(self) -> None:
        settings = load_settings(None, {"POP3GW_DIRECTORY__HOSTS": "", "POP3GW_LDAP__DOMAINS": " "})
        self.assertEqual((settings.directory.hosts, settings.ldap.domains), ((), ()))
