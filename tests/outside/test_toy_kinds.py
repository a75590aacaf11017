"""A store, a directory and a SASL mechanism from outside the package, by dotted names."""

from __future__ import annotations

import hmac
import poplib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import start
from servers import Gateway

KEY = "k3y"
KINDS = f"""\
[pop3]
mechanisms = ["toy_kinds.XTOY", "PLAIN"]
[xtoy]
key = "{KEY}"
[directory]
kind = "toy_kinds.TOY_DIRECTORY"
users = ["bob", "carol"]
password = "wonderland"
[store]
kind = "toy_kinds.TOY_STORE"
letter = "Dear Bob,"
copies = 2
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """``twistd pop3gw`` with all three; a traceback in its log is a failure."""
    server = Gateway(tmp_path, KINDS)
    server.run(PYTHONPATH=str(Path(__file__).parent))
    yield server
    server.stop()
    print(server.log)
    assert "Traceback" not in server.log


def xtoy(name: str, key: str = KEY) -> str:
    """The client's response."""
    proof = hmac.digest(key.encode(), name.encode(), "sha256").hex()
    return b64encode(f"{name} {proof}".encode()).decode()


def connect(gateway: Gateway) -> poplib.POP3:
    return poplib.POP3("127.0.0.1", gateway.plain, timeout=30)


@pytest.mark.interop
def test_each_is_one_row_and_lets_users_in_over_pop3(gateway: Gateway) -> None:
    client = connect(gateway)
    assert client.capa()["SASL"] == ["XTOY", "PLAIN"]
    # The response may come with AUTH, or to the challenge (RFC 5034 section 4).
    assert client._shortcmd(f"AUTH XTOY {xtoy('bob')}").startswith(b"+OK")
    assert client.stat()[0] == 2
    assert client.retr(2)[1] == [b"Subject: 2", b"", b"Dear Bob,"]
    client.dele(1)
    client.quit()

    client = connect(gateway)
    assert client._longcmd is not None
    client._putcmd("AUTH XTOY")
    assert client._getline()[0] == b"+ " + b64encode(b"who?")
    assert client._shortcmd(xtoy("bob")).startswith(b"+OK")
    assert client.uidl()[1] == [b"1 2"]
    client.quit()

    client = connect(gateway)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
        client._shortcmd(f"AUTH XTOY {xtoy('bob', 'another')}")
    client.user("bob")
    client.pass_("wonderland")
    assert client.stat()[0] == 1
    client.quit()

    client = connect(gateway)
    client.user("carol")
    with pytest.raises(poplib.error_proto, match=r"\[SYS/PERM\]"):
        client.pass_("wonderland")


def faults(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """What is wrong with a configuration."""
    file = tmp_path / "pop3gw.toml"
    base = f'state_dir = "{tmp_path}"\n[listeners.a]\nendpoint = "tcp:0"\ntls = "none"\n'
    file.write_text(base + text)
    problems = start.check(str(file), environ).faults
    return sorted(one.replace(str(file), "FILE") for one in problems)


@pytest.mark.parametrize(
    ("section", "name", "fault"),
    [
        (
            "store",
            "nothing.at.all.KIND",
            "expected 'nothing.at.all.KIND' to be importable: No module named 'nothing';"
            " install its package where pop3gw is, or set PYTHONPATH",
        ),
        ("store", "toy_kinds.NOT", "expected NOT in toy_kinds, which has none; check the name"),
        (
            "store",
            "toy_kinds.NO_ROW",
            "expected 'toy_kinds.NO_ROW' to be a gateway.kinds.StoreKind, found one of type str",
        ),
        (
            "directory",
            "toy_kinds.TOY_STORE",
            "expected 'toy_kinds.TOY_STORE' to be a gateway.kinds.DirectoryKind,"
            " found one of type StoreKind",
        ),
        (
            "directory",
            "dovecot",
            "expected 'passwd-file' or 'ldap', or a dotted name such as"
            " 'mypackage.directory.MY_KIND', found 'dovecot'",
        ),
    ],
)
def test_a_name_that_is_no_row_is_refused_with_place_and_cure(
    tmp_path: Path, section: str, name: str, fault: str
) -> None:
    text = f'[{section}]\nkind = "{name}"\n'
    assert f"FILE:6: {section}.kind: {fault}" in faults(tmp_path, text)
    environ = {f"POP3GW_{section.upper()}__KIND": name}
    assert f"POP3GW_{section.upper()}__KIND: {section}.kind: {fault}" in faults(
        tmp_path, "", **environ
    )


def test_so_is_a_mechanism_and_one_that_is_not_set_up(tmp_path: Path) -> None:
    found = faults(tmp_path, '[pop3]\nmechanisms = ["toy_kinds.TOY_STORE"]\n')
    assert found == [
        "FILE:6: pop3.mechanisms: expected 'toy_kinds.TOY_STORE' to be a"
        " gateway.kinds.MechanismKind, found one of type StoreKind"
    ]
    found = faults(tmp_path, '[pop3]\nmechanisms = ["PLAIN", "toy_kinds.XTOY"]\n')
    assert found == ["FILE:6: pop3.mechanisms: expected no XTOY, since [xtoy] is not set up"]


def test_its_settings_are_checked_as_all_others_are(tmp_path: Path) -> None:
    text = KINDS.replace("copies = 2", 'copies = "2"\nleter = "x"').replace('"bob", "carol"', "1")
    found = faults(tmp_path, text.replace(f'key = "{KEY}"', "key = 5"))
    assert found == [
        "FILE:11: directory.users: expected a string, found 1",
        "FILE:16: store.copies: expected a whole number, found '2'",
        "FILE:17: store.leter: there is no such setting; did you mean letter?",
        "FILE:8: xtoy.key: expected a string, found 5",
    ]
    found = faults(tmp_path, KINDS.replace('"bob", "carol"', ""))
    assert found == ["FILE:11: directory.users: expected somebody"]
    found = faults(tmp_path, KINDS, POP3GW_STORE__COPIES="many", POP3GW_XTOY__KEY="other")
    assert found == ["POP3GW_STORE__COPIES: store.copies: expected a whole number, found 'many'"]
    found = faults(tmp_path, KINDS.replace("copies = 2", "copies = -1"))
    assert found == ["store: copies: expected 0 or more"]


def test_a_store_that_takes_no_mail_in_is_refused_lmtp(tmp_path: Path) -> None:
    text = KINDS + '[lmtp]\nendpoint = "tcp:24"\n'
    fault = "expected none: store.kind 'toy_kinds.TOY_STORE' takes no mail in"
    assert faults(tmp_path, text) == [f"lmtp.endpoint: {fault}"]
    text = KINDS + "[retention]\nenabled = true\n"
    fault = "expected false, since the store has no retention"
    assert faults(tmp_path, text) == [f"retention.enabled: {fault}"]
    assert faults(tmp_path, KINDS) == []
