"""Several certificates: in the file, in the environment, and what check-config says of them."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from certificates import Pair
from gateway.app import start
from gateway.config.listeners import CertificateFiles
from gateway.config.load import load_settings
from gateway.errors import ConfigError
from gateway.operations.server.configuration import show

LISTENER = '[listeners.pop3s]\nendpoint = "tcp:0"\ntls = "implicit"\n'
TABLE = '[[{}.certificates]]\ncertificate = "{}.pem"\nkey = "{}.key"\n'
ENV = "POP3GW_LISTENERS__POP3S__CERTIFICATES__{}__{}"


def both(number: int, label: str) -> dict[str, str]:
    """The variables of one certificate."""
    return {
        ENV.format(number, "CERTIFICATE"): f"{label}.pem",
        ENV.format(number, "KEY"): f"{label}.key",
    }


class CertificatesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = os.path.abspath(self.mktemp())
        os.makedirs(self.state)
        with open(f"{self.state}/accounts", "w"):
            pass

    def file(self, text: str) -> str:
        """A configuration file."""
        path = f"{self.state}/pop3gw.toml"
        with open(path, "w") as file:
            file.write(f'state_dir = "{self.state}"\n{text}')
        return path

    def files(self, *labels: str) -> tuple[CertificateFiles, ...]:
        """What is expected in the settings."""
        return tuple(CertificateFiles(f"{one}.pem", f"{one}.key") for one in labels)

    def faults(self, text: str, environ: dict[str, str] | None = None) -> list[str]:
        """What check-config says, with the paths shortened."""
        problems = start.check(self.file(text), environ or {}).faults
        return [problem.replace(self.state, "DIR") for problem in problems]


class LoadTests(CertificatesCase):
    def test_each_table_of_the_file_is_a_certificate_in_their_order(self) -> None:
        tables = "".join(TABLE.format(place, a, a) for place in ("tls",) for a in ("a", "b"))
        own = TABLE.format("listeners.pop3s", "c", "c")
        settings = load_settings(self.file(f"{LISTENER}{own}{tables}"), {})
        self.assertEqual(settings.tls.certificates, self.files("a", "b"))
        self.assertEqual(settings.listeners["pop3s"].certificates, self.files("c"))

    def test_the_environment_numbers_them_from_1(self) -> None:
        environ = {}
        for number in range(1, 13):
            environ |= both(number, f"c{number}")
        settings = load_settings(self.file(LISTENER), environ)
        wanted = self.files(*(f"c{number}" for number in range(1, 13)))
        self.assertEqual(settings.listeners["pop3s"].certificates, wanted)

    def test_the_environment_replaces_one_of_the_file_and_adds_to_them(self) -> None:
        text = LISTENER + TABLE.format("listeners.pop3s", "a", "a")
        environ = {ENV.format(1, "KEY"): "other.key"} | both(2, "b")
        settings = load_settings(self.file(text), environ)
        replaced = CertificateFiles("a.pem", "other.key")
        self.assertEqual(settings.listeners["pop3s"].certificates, (replaced, *self.files("b")))

    def test_numbers_that_there_cannot_be_are_faults_that_say_which_is_next(self) -> None:
        for number in ("0", "3", "00", "9999"):
            environ = {ENV.format(number, "KEY"): "a.key"} | both(1, "a")
            with self.assertRaises(ConfigError) as caught:
                load_settings(self.file(LISTENER), environ)
            self.assertIn(ENV.format(number, "KEY"), str(caught.exception))
            self.assertIn("since the first is 1", str(caught.exception))
        for name in ("POP3GW_TLS__CERTIFICATES", "POP3GW_TLS__CERTIFICATES__1"):
            with self.assertRaises(ConfigError) as caught:
                load_settings(self.file(LISTENER), {name: "a.pem"})
            self.assertIn(name, str(caught.exception))

    def test_a_fault_names_the_listener_and_which_of_its_certificates(self) -> None:
        text = LISTENER + TABLE.format("listeners.pop3s", "a", "a")
        text += '[[listeners.pop3s.certificates]]\ncertificate = 5\nkeys = "b.key"\n'
        with self.assertRaises(ConfigError) as caught:
            load_settings(self.file(text), {})
        problems = [one.rpartition("/")[2] for one in caught.exception.problems]
        place = "listeners.pop3s.certificates.2"
        self.assertEqual(
            sorted(problems),
            [
                f"pop3gw.toml: {place}.key: expected, and missing",
                f"pop3gw.toml:10: {place}.keys: there is no such setting; did you mean key?",
                f"pop3gw.toml:9: {place}.certificate: expected a string, found 5",
            ],
        )

    def test_no_list_of_tables_is_a_fault(self) -> None:
        for value in ("5", '"a"', '["a"]', "{ key = 'a' }"):
            with self.assertRaises(ConfigError) as caught:
                load_settings(self.file(f"{LISTENER}certificates = {value}\n"), {})
            self.assertIn("listeners.pop3s.certificates", str(caught.exception))
            self.assertIn("expected", str(caught.exception))

    def test_several_beside_a_single_one_are_a_contradiction(self) -> None:
        several = TABLE.format("tls", "a", "a")
        for text, place in (
            (f'{LISTENER}[tls]\ncertificate = "x.pem"\nkey = "x.key"\n{several}', "tls"),
            (f'{LISTENER}key = "x.key"\n{TABLE.format("listeners.pop3s", "a", "a")}', "listeners"),
            (f'{LISTENER}key = "x.key"\n{several}', "listeners.pop3s.certificate: expected"),
            (f"{LISTENER}{several}{several}", "tls.certificates.2: expected another one"),
        ):
            with self.assertRaises(ConfigError) as caught:
                load_settings(self.file(text), {})
            (problem,) = caught.exception.problems
            self.assertIn(f": {place}", problem)
        # The sample has the default path.
        default = f'{LISTENER}[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n{several}'
        self.assertEqual(load_settings(self.file(default), {}).tls.certificates, self.files("a"))

    def test_ticket_keys_live_for_a_minute_at_least_or_there_are_none(self) -> None:
        for value, good in (("0", True), ("60", True), ("59.9", False), ("1e6", False)):
            path = self.file(f"{LISTENER}[tls]\nticket_key_lifetime = {value}\n")
            if good:
                load_settings(path, {})
            else:
                with self.assertRaises(ConfigError):
                    load_settings(path, {})


class CheckTests(CertificatesCase):
    def test_good_ones_are_no_fault_and_none_is_made_beside_them(self) -> None:
        for label in ("a", "b"):
            Pair(self.state, label, "pop.example.org")
        tables = "".join(TABLE.format("tls", one, one) for one in ("a", "b"))
        self.assertEqual(self.faults(LISTENER + tables), [])
        start.assemble(Clock(), self.file(LISTENER + tables), {})
        self.assertFalse(os.path.exists(f"{self.state}/tls"))

    def test_a_missing_file_names_its_setting(self) -> None:
        Pair(self.state, "a", "pop.example.org")
        for place in ("listeners.pop3s", "tls"):
            tables = "".join(TABLE.format(place, one, one) for one in ("a", "b"))
            self.assertEqual(
                self.faults(LISTENER + tables),
                [
                    f"DIR/b.pem: no such file: {place}.certificates.2.certificate",
                    f"DIR/b.key: no such file: {place}.certificates.2.key",
                ],
            )

    def test_each_faulty_certificate_is_named(self) -> None:
        for label in ("a", "b", "c"):
            Pair(self.state, label, "pop.example.org")
        os.replace(f"{self.state}/a.key", f"{self.state}/b.key")
        with open(f"{self.state}/a.key", "w") as file:
            file.write("no key")
        tables = "".join(TABLE.format("listeners.pop3s", one, one) for one in ("c", "b", "a"))
        second, third = self.faults(LISTENER + tables)
        self.assertIn("listeners.pop3s.certificates.2: TLS certificate DIR/b.pem, key", second)
        self.assertIn("listeners.pop3s.certificates.3: TLS certificate DIR/a.pem, key", third)

    def test_config_show_lists_each_with_its_origin(self) -> None:
        text = LISTENER + TABLE.format("listeners.pop3s", "a", "a")
        found = {
            ".".join(one.key): (one.value, one.origin.rpartition("/")[2])
            for one in show(self.file(text), both(2, "b"))
        }
        place = "listeners.pop3s.certificates"
        self.assertEqual(found[f"{place}.1.key"], ("a.key", "pop3gw.toml:7"))
        self.assertEqual(found[f"{place}.2.key"], ("b.key", ENV.format(2, "KEY")))
        self.assertEqual(found["listeners.pop3s.key"], ("", "default"))
