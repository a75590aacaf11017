"""GSSAPI step by step, with tickets of a real KDC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from answers import result
from gateway.errors import (
    BadCredentials,
    DirectoryDown,
    DirectoryMisconfigured,
    MechanismFailed,
)
from gateway.interfaces import Challenge, IMechanism, Proven
from gateway.sasl.credentials import GssName, IGssName
from gateway.sasl.gssapi import TOKEN_LIMIT, GssAcceptor, Gssapi, check
from gateway.testing.store_contract import run_now
from kdc import Kdc, need_kerberos

pytestmark = pytest.mark.interop

REFUSED = (BadCredentials, MechanismFailed)
NO_LAYER = b"\1\0\0\0"


class Realm:
    """A KDC, Alice's ticket, and the octets of initiators that use it."""

    def __init__(self, kdc: Kdc) -> None:
        import gssapi

        self.gss = gssapi
        self.kdc = kdc
        self.flags = gssapi.RequirementFlag
        self.mutual = [self.flags.integrity, self.flags.mutual_authentication]
        self.one_way = [self.flags.integrity]
        self.alice = self.of_user("alice")

    def of_user(self, name: str, *, password: str | None = None) -> Any:
        """Credentials to begin with."""
        cache = self.kdc.ccache(name, password=password)
        return self.gss.Credentials(usage="initiate", store={"ccache": f"FILE:{cache}"})

    def client(self, *, service: str = "pop", flags: Any = None, who: Any = None) -> Any:
        """The other side's context."""
        return self.gss.SecurityContext(
            name=self.gss.Name(f"{service}@localhost", self.gss.NameType.hostbased_service),
            creds=who or self.alice,
            usage="initiate",
            mech=self.gss.MechType.kerberos,
            flags=flags or self.mutual,
        )

    def acceptor(self, **how: Any) -> GssAcceptor:
        """The gateway's side, as it is configured."""
        chosen = {"keytab": self.kdc.keytab, "replays": self.kdc.directory / "replays", **how}
        return GssAcceptor(**{k: v if k == "services" else str(v) for k, v in chosen.items()})

    def server(self, **how: Any) -> Gssapi:
        """One exchange."""
        return Gssapi(self.acceptor(**how), run_now)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """One KDC for all tests."""
    need_kerberos()
    kdc = Kdc(tmp_path_factory.mktemp("kdc")).run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", str(kdc.krb5_conf))
        yield Realm(kdc)
    kdc.stop()


def offered(server: Gssapi, client: Any, *, initial: bool = True) -> bytes:
    """Go through the exchange up to the server's offer of layers, which is returned wrapped."""
    if not initial:
        assert result(server.step(None)) == Challenge(b"")
    challenge = result(server.step(client.step()))
    while not client.complete:
        token = client.step(challenge.octets)
        challenge = result(server.step(token or b""))
    return bytes(challenge.octets)


def logged_in(
    server: Gssapi, client: Any, answer: bytes = NO_LAYER, *, initial: bool = True
) -> GssName:
    """What a whole exchange proves."""
    assert client.unwrap(offered(server, client, initial=initial)).message == NO_LAYER
    outcome = result(server.step(client.wrap(answer, False).message))
    assert isinstance(outcome, Proven)
    assert isinstance(outcome.credentials, GssName)
    return outcome.credentials


def test_a_ticket_logs_its_principal_in_with_and_without_an_initial_response(realm: Realm) -> None:
    for initial in (True, False):
        server = realm.server()
        assert IMechanism.providedBy(server)
        proven = logged_in(server, realm.client(), initial=initial)
        assert IGssName.providedBy(proven)
        assert (proven.principal, proven.username) == ("alice@MIT.TEST", b"alice@MIT.TEST")
        assert proven.acts_as == b""


def test_a_ticket_that_was_had_by_password_is_as_good(realm: Realm) -> None:
    who = realm.of_user("bob", password="pw-bob")
    assert logged_in(realm.server(), realm.client(who=who)).principal == "bob@MIT.TEST"


def test_with_mutual_authentication_the_server_answers_before_it_offers(realm: Realm) -> None:
    server, client = realm.server(), realm.client(flags=realm.mutual)
    challenge = result(server.step(client.step()))
    assert not client.complete
    assert client.step(challenge.octets) is None
    assert client.complete
    assert client.unwrap(result(server.step(b"")).octets).message == NO_LAYER


def test_without_mutual_authentication_the_offer_comes_at_once(realm: Realm) -> None:
    server, client = realm.server(), realm.client(flags=realm.one_way)
    challenge = result(server.step(client.step()))
    assert client.complete
    assert client.unwrap(challenge.octets).message == NO_LAYER
    assert logged_in(realm.server(), realm.client(flags=realm.one_way)).principal


def test_the_offer_is_signed_and_not_encrypted(realm: Realm) -> None:
    client = realm.client()
    wrapped = offered(realm.server(), client)
    assert NO_LAYER in wrapped
    assert not client.unwrap(wrapped).encrypted


def test_an_exchange_of_three_legs_is_carried_on_until_the_context_stands(realm: Realm) -> None:
    flags = [*realm.mutual, realm.flags.dce_style]
    server, client = realm.server(), realm.client(flags=flags)
    challenge = result(server.step(client.step()))
    # The last leg completes the server's side without a token, so its offer follows.
    offer = result(server.step(client.step(challenge.octets)))
    assert client.unwrap(offer.octets).message == NO_LAYER


@pytest.mark.parametrize(
    "name",
    ["alice", "bob", "ÄÖ ü", "", "alice@MIT.TEST"],
    ids=["same", "other", "odd", "no", "full"],
)
def test_the_authorization_identity_is_handed_on(realm: Realm, name: str) -> None:
    proven = logged_in(realm.server(), realm.client(), NO_LAYER + name.encode())
    assert (proven.principal, proven.acts_as) == ("alice@MIT.TEST", name.encode())


@pytest.mark.parametrize("name", [b"a\0", b"\0", b"a\0b", b"\xff", b"\xed\xa0\x80", b"\xc0\x80"])
def test_an_authorization_identity_with_nul_or_bad_utf_8_is_refused(
    realm: Realm, name: bytes
) -> None:
    with pytest.raises(MechanismFailed, match="authorization identity"):
        logged_in(realm.server(), realm.client(), NO_LAYER + name)


@pytest.mark.parametrize("layer", [0, 2, 3, 4, 5, 7, 255])
def test_a_layer_that_was_not_offered_is_refused(realm: Realm, layer: int) -> None:
    with pytest.raises(MechanismFailed, match="was not offered"):
        logged_in(realm.server(), realm.client(), bytes([layer, 0, 0, 0]))


@pytest.mark.parametrize("size", [b"\0\0\1", b"\1\0\0", b"\xff\xff\xff"])
def test_a_size_without_a_layer_is_refused(realm: Realm, size: bytes) -> None:
    with pytest.raises(MechanismFailed, match="no security layer"):
        logged_in(realm.server(), realm.client(), b"\1" + size)


@pytest.mark.parametrize("answer", [b"", b"\1", b"\1\0\0"])
def test_an_answer_of_less_than_four_octets_is_refused(realm: Realm, answer: bytes) -> None:
    with pytest.raises(MechanismFailed, match="less than four"):
        logged_in(realm.server(), realm.client(), answer)


def test_a_non_empty_response_to_the_last_token_is_refused(realm: Realm) -> None:
    server, client = realm.server(), realm.client()
    result(server.step(client.step()))
    with pytest.raises(MechanismFailed, match="empty response"):
        result(server.step(b"x"))


def test_an_empty_token_is_refused(realm: Realm) -> None:
    with pytest.raises(MechanismFailed):
        result(realm.server().step(b""))


def test_an_answer_that_is_not_wrapped_or_was_tampered_with_is_refused(realm: Realm) -> None:
    def truncated(message: bytes) -> bytes:
        return message[:-1]

    def flipped(message: bytes) -> bytes:
        return message[:-1] + bytes([message[-1] ^ 1])

    def renamed(message: bytes) -> bytes:
        return message.replace(b"alice", b"admin")

    def bare(_: bytes) -> bytes:
        return NO_LAYER

    def empty(_: bytes) -> bytes:
        return b""

    for spoil in (truncated, flipped, renamed, bare, empty):
        server, client = realm.server(), realm.client()
        offered(server, client)
        good = client.wrap(NO_LAYER + b"alice", False).message
        assert spoil(good) != good
        with pytest.raises(REFUSED):
            result(server.step(spoil(good)))


def test_an_answer_out_of_sequence_is_refused(realm: Realm) -> None:
    flags = [*realm.mutual, realm.flags.out_of_sequence_detection]
    server, client = realm.server(), realm.client(flags=flags)
    offered(server, client)
    client.wrap(NO_LAYER, False)
    with pytest.raises(REFUSED):
        result(server.step(client.wrap(NO_LAYER, False).message))


def test_after_the_end_and_after_a_failure_there_is_no_further_step(realm: Realm) -> None:
    done, failed = realm.server(), realm.server()
    client = realm.client()
    logged_in(done, client)
    with pytest.raises(MechanismFailed):
        result(done.step(client.wrap(NO_LAYER, False).message))
    with pytest.raises(REFUSED):
        result(failed.step(b"x"))
    with pytest.raises(MechanismFailed):
        result(failed.step(realm.client().step()))


def test_a_replayed_ticket_is_refused(realm: Realm) -> None:
    token = realm.client().step()
    assert result(realm.server().step(token)).octets
    with pytest.raises(BadCredentials, match="replay"):
        result(realm.server().step(token))


def test_who_recorded_a_whole_login_cannot_repeat_it(realm: Realm) -> None:
    client = realm.client(flags=realm.one_way)
    server, token = realm.server(), client.step()
    result(server.step(token))
    answer = client.wrap(NO_LAYER, False).message
    assert isinstance(result(server.step(answer)), Proven)
    listener = realm.server()
    with pytest.raises(BadCredentials, match="replay"):
        result(listener.step(token))
    with pytest.raises(MechanismFailed):
        result(listener.step(answer))


def test_replays_are_refused_with_the_librarys_own_cache_too(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5RCACHEDIR", str(tmp_path))
    token = realm.client().step()
    assert result(realm.server(replays="").step(token)).octets
    with pytest.raises(BadCredentials, match="replay"):
        result(realm.server(replays="").step(token))


def test_each_accepted_service_in_the_keytab_may_be_asked_for(realm: Realm) -> None:
    for service in ("pop", "pop3"):
        assert logged_in(realm.server(), realm.client(service=service)).principal


def test_a_ticket_for_another_service_is_refused(realm: Realm) -> None:
    with pytest.raises(BadCredentials, match="imap/localhost"):
        result(realm.server().step(realm.client(service="imap").step()))


def test_a_ticket_for_a_service_in_the_keytab_that_is_not_accepted_is_refused(
    realm: Realm, tmp_path: Path
) -> None:
    with pytest.raises(BadCredentials, match="pop3/localhost"):
        result(realm.server(services=("pop",)).step(realm.client(service="pop3").step()))
    both = tmp_path / "keytab"
    both.write_bytes(realm.kdc.other_keytab.read_bytes() + realm.kdc.keytab.read_bytes()[2:])
    with pytest.raises(BadCredentials, match="imap/localhost"):
        result(realm.server(keytab=both).step(realm.client(service="imap").step()))
    assert logged_in(realm.server(keytab=both), realm.client()).principal


def test_a_key_that_services_share_opens_tickets_whatever_its_place_in_the_keytab(
    realm: Realm, tmp_path: Path
) -> None:
    # As Active Directory has it.  Two bytes of version, then the entries; a name
    # of the same length keeps their sizes right.
    entries = realm.kdc.keytab.read_bytes()[2:]
    other = entries.replace(b"pop3", b"imap")
    shared = tmp_path / "keytab"
    shared.write_bytes(b"\5\2" + other + entries)
    assert logged_in(realm.server(keytab=shared), realm.client(service="pop3")).principal


def test_a_ticket_for_a_key_that_the_keytab_has_no_more_is_refused(realm: Realm) -> None:
    with pytest.raises(BadCredentials, match="keytab"):
        result(realm.server(keytab=realm.kdc.old_keytab).step(realm.client().step()))


def test_a_ticket_that_a_wrong_key_does_not_open_is_refused(realm: Realm, tmp_path: Path) -> None:
    wrong = tmp_path / "keytab"
    # The other service's key under our service's name.
    theirs = realm.kdc.other_keytab.read_bytes()
    wrong.write_bytes(theirs.replace(b"imap", b"pop3"))
    with pytest.raises(BadCredentials, match="keytab"):
        result(realm.server(keytab=wrong).step(realm.client(service="pop3").step()))


def test_a_ticket_at_the_wrong_time_is_refused(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = realm.client().step()
    strict = tmp_path / "krb5.conf"
    # Less than nothing: whatever the time, it is too far off.
    text = realm.kdc.krb5_conf.read_text()
    strict.write_text(text.replace("[libdefaults]", "[libdefaults]\n clockskew = -100000"))
    monkeypatch.setenv("KRB5_CONFIG", str(strict))
    with pytest.raises(BadCredentials, match=r"[Tt]icket|[Cc]lock"):
        result(realm.server().step(token))


def test_another_mechanism_in_the_token_is_refused(realm: Realm) -> None:
    spnego = realm.gss.SecurityContext(
        name=realm.gss.Name("pop@localhost", realm.gss.NameType.hostbased_service),
        creds=realm.gss.Credentials(
            usage="initiate", store={"ccache": f"FILE:{realm.kdc.ccache('alice')}"}
        ),
        usage="initiate",
        mech=realm.gss.OID.from_int_seq("1.3.6.1.5.5.2"),
    )
    for token in (spnego.step(), b"NTLMSSP\0\1\0\0\0" + bytes(32)):
        with pytest.raises(MechanismFailed):
            result(realm.server().step(token))


def test_a_token_over_the_limit_is_refused_before_anything_reads_it(realm: Realm) -> None:
    def never(_: Callable[[], Any]) -> Deferred[Any]:
        raise AssertionError

    server = Gssapi(realm.acceptor(), never)
    with pytest.raises(MechanismFailed, match="65537 octets"):
        result(server.step(bytes(TOKEN_LIMIT + 1)))
    with pytest.raises(REFUSED):
        result(realm.server().step(bytes(TOKEN_LIMIT)))


def test_a_truncated_ticket_is_refused_wherever_it_ends(realm: Realm) -> None:
    token = realm.client().step()
    for end in range(1, len(token), 7):
        with pytest.raises(REFUSED):
            result(realm.server().step(token[:end]))


def test_a_service_name_that_is_not_text_does_not_get_into_the_log(realm: Realm) -> None:
    token = realm.client(service="imap").step()
    for name in (b"\xff\xfe\xfd\xfc", b"\r\n\x1b["):
        forged = token.replace(b"imap", name)
        assert forged != token
        with pytest.raises(BadCredentials) as caught:
            result(realm.server().step(forged))
        assert str(caught.value).isprintable()


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_octet_never_makes_the_ticket_somebody_elses(
    realm: Realm, place: int, change: int
) -> None:
    client = realm.client(flags=realm.one_way)
    token = bytearray(client.step())
    token[place % len(token)] ^= change
    server = realm.server()
    try:
        result(server.step(bytes(token)))
        outcome = result(server.step(client.wrap(NO_LAYER, False).message))
    except REFUSED:
        return
    # Not every octet of an AP-REQ is protected: the version of the key is not.
    assert outcome.credentials.principal == "alice@MIT.TEST"


_HEADER = bytes.fromhex("6082 1000 0609 2a864886f712010202 0100")
_TOKENS = st.none() | st.binary(max_size=300) | st.binary(max_size=300).map(_HEADER.__add__)


@given(st.lists(_TOKENS, max_size=4))
def test_no_octets_lead_to_anything_but_a_refusal(
    realm: Realm, responses: list[bytes | None]
) -> None:
    server = realm.server()
    for response in responses:
        try:
            assert result(server.step(response)) == Challenge(b"")
            assert response is None
        except REFUSED:
            assert response is not None


@given(st.binary(max_size=100))
def test_no_octets_in_the_place_of_the_answer_lead_to_anything_but_a_refusal(
    realm: Realm, answer: bytes
) -> None:
    server, client = realm.server(), realm.client(flags=realm.one_way)
    result(server.step(client.step()))
    with pytest.raises(REFUSED):
        result(server.step(answer))


@given(st.binary(max_size=100))
def test_any_well_wrapped_answer_proves_no_more_than_it_says(realm: Realm, answer: bytes) -> None:
    try:
        proven = logged_in(realm.server(), realm.client(flags=realm.one_way), answer)
    except MechanismFailed:
        return
    assert answer == NO_LAYER + proven.acts_as


def test_a_keytab_that_cannot_be_used_is_named(realm: Realm, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    missing = tmp_path / "missing"
    for keytab in (missing, empty, tmp_path, realm.kdc.other_keytab, realm.kdc.krb5_conf):
        with pytest.raises(DirectoryMisconfigured, match=str(keytab)):
            result(realm.server(keytab=keytab).step(realm.client().step()))


def test_a_keytab_may_be_replaced_at_any_time(realm: Realm, tmp_path: Path) -> None:
    keytab = tmp_path / "keytab"
    keytab.write_bytes(realm.kdc.old_keytab.read_bytes())
    acceptor = realm.acceptor(keytab=keytab)
    with pytest.raises(BadCredentials):
        logged_in(Gssapi(acceptor, run_now), realm.client())
    keytab.write_bytes(realm.kdc.keytab.read_bytes())
    assert logged_in(Gssapi(acceptor, run_now), realm.client()).principal


def test_a_replay_cache_that_cannot_be_written_is_the_servers_fault(
    realm: Realm, tmp_path: Path
) -> None:
    for replays in (tmp_path / "missing" / "replays", tmp_path):
        with pytest.raises(DirectoryMisconfigured, match=str(replays)):
            result(realm.server(replays=replays).step(realm.client().step()))
    with pytest.raises(DirectoryDown, match="No space left"):
        result(realm.server(replays="/dev/full").step(realm.client().step()))


def test_the_check_says_in_a_line_what_is_wrong_with_a_keytab(realm: Realm, tmp_path: Path) -> None:
    assert check(realm.acceptor()) == []
    missing = tmp_path / "missing"
    assert check(realm.acceptor(keytab=missing)) == [f"keytab {missing}: No such file or directory"]
    (line,) = check(realm.acceptor(keytab=realm.kdc.other_keytab))
    assert line.startswith(f"keytab {realm.kdc.other_keytab}: no key of pop, POP, pop3, POP3")
    (line,) = check(realm.acceptor(services=()))
    assert "no service is accepted" in line


def test_exchanges_at_the_same_time_do_not_mix(realm: Realm) -> None:
    bob = realm.of_user("bob")
    servers = [realm.server() for _ in range(6)]
    clients = [realm.client(who=bob if n % 2 else realm.alice) for n in range(6)]
    for server, client in zip(servers, clients, strict=True):
        offered(server, client)
    names = [
        result(server.step(client.wrap(NO_LAYER, False).message)).credentials.principal
        for server, client in zip(servers, clients, strict=True)
    ]
    assert names == ["alice@MIT.TEST", "bob@MIT.TEST"] * 3
