"""GSSAPI as far as it goes without Kerberos; see also tests/interop/test_kerberos_mechanism.py."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from gateway.errors import BadCredentials, DirectoryMisconfigured
from gateway.interfaces import Challenge, IMechanism
from gateway.sasl.credentials import GssName, IGssName
from gateway.sasl.gssapi import GssAcceptor, Gssapi, check
from gateway.testing.store_contract import run_now


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)


@pytest.mark.usefixtures("_not_installed")
class NotInstalledTests(SynchronousTestCase):
    def test_the_check_says_how_to_get_the_package(self) -> None:
        (line,) = check(GssAcceptor(keytab="/missing"))
        self.assertIn("pip install 'pop3gw[kerberos]'", line)

    def test_a_login_is_refused_as_a_fault_of_the_server(self) -> None:
        mechanism = Gssapi(GssAcceptor(keytab="/missing"), run_now)
        self.assertTrue(IMechanism.providedBy(mechanism))
        self.assertEqual(self.successResultOf(mechanism.step(None)), Challenge(b""))
        failure = self.failureResultOf(mechanism.step(b"token"), DirectoryMisconfigured)
        self.assertIn("pip install", str(failure.value))


class Library:
    """Stands for ``gssapi.raw``: a context stands after one token, whatever it is like."""

    def __init__(self) -> None:
        self.GSSError = type("GSSError", (Exception,), {})
        self.MechType = SimpleNamespace(kerberos="krb5")
        self.NameType = SimpleNamespace(hostbased_service="service")
        self.RequirementFlag = SimpleNamespace(integrity="integrity")
        self.mech, self.flags = "krb5", {"integrity"}
        self.names = {"target": b"pop/host@R", "initiator": b"alice@R"}

    def import_name(self, name: bytes, _: str) -> bytes:
        return name

    def acquire_cred_from(self, *_: Any) -> Any:
        return SimpleNamespace(creds=object())

    def accept_sec_context(self, *_: Any) -> Any:
        return SimpleNamespace(
            context=object(),
            more_steps=False,
            token=b"",
            mech=self.mech,
            flags=self.flags,
            initiator_name="initiator",
        )

    def inquire_context(self, _: Any) -> Any:
        return SimpleNamespace(target_name="target" if "target" in self.names else None)

    def display_name(self, name: str) -> Any:
        return SimpleNamespace(name=self.names[name])

    def wrap(self, _context: Any, message: bytes, _encrypt: bool) -> Any:
        return SimpleNamespace(message=message)


@pytest.fixture
def _library(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    library = request.instance.library = Library()
    monkeypatch.setitem(sys.modules, "gssapi", SimpleNamespace(raw=library))
    monkeypatch.setitem(sys.modules, "gssapi.raw", library)


@pytest.mark.usefixtures("_library")
class ContextTests(SynchronousTestCase):
    """What MIT Kerberos sees to itself, and another library might not."""

    library: Library

    def begin(self) -> Any:
        return Gssapi(GssAcceptor(keytab=__file__, services=("pop",)), run_now).step(b"token")

    def test_a_context_for_an_accepted_service_is_taken(self) -> None:
        self.assertEqual(self.successResultOf(self.begin()), Challenge(b"\1\0\0\0"))

    def test_a_context_of_another_mechanism_is_refused(self) -> None:
        self.library.mech = "ntlm"
        self.failureResultOf(self.begin(), BadCredentials)

    def test_a_context_without_integrity_is_refused(self) -> None:
        self.library.flags = set()
        self.failureResultOf(self.begin(), BadCredentials)

    def test_a_context_for_another_service_or_none_is_refused(self) -> None:
        for target in (b"imap/host@R", b"pop", b"pop@R", b"pop3/host@R", b"x/pop@R", b"po\xff/h@R"):
            self.library.names["target"] = target
            self.failureResultOf(self.begin(), BadCredentials)
        del self.library.names["target"]
        self.failureResultOf(self.begin(), BadCredentials)

    def test_a_principal_that_is_not_utf_8_is_refused(self) -> None:
        self.library.names["initiator"] = b"caf\xe9@R"
        failure = self.failureResultOf(self.begin(), BadCredentials)
        self.assertIn("UTF-8", str(failure.value))


class GssNameTests(SynchronousTestCase):
    def test_the_principal_is_the_user_name_for_the_log(self) -> None:
        name = GssName("j\u00fcrgen@EXAMPLE.ORG", b"joe")
        self.assertTrue(IGssName.providedBy(name))
        self.assertEqual(name.username, "j\u00fcrgen@EXAMPLE.ORG".encode())
