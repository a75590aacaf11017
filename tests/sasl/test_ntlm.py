"""NTLM: the published numbers, both transcripts, and everything that must be refused."""

from __future__ import annotations

from base64 import b64decode

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from answers import result
from gateway.errors import BadCredentials, MechanismFailed
from gateway.model import Peer
from gateway.sasl import ntlm_proof as arithmetic
from gateway.sasl.md4 import md4, nt_hash
from gateway.sasl.ntlm import Ntlm, NtlmOptions, Response, filetime
from gateway.sasl.ntlmssp import (
    Av,
    Flags,
    build_challenge,
    read_authenticate,
    read_negotiate,
    read_pairs,
    read_proof,
)
from ntlm_client import Client

CHALLENGE = bytes.fromhex("0123456789abcdef")
PASSWORD, USER, DOMAIN = "Pässwörd", "jürgen", "EXAMPLE"
NEW_YEAR_2021 = 1_609_459_200.0
OPTIONS = NtlmOptions("MAIL", "EXAMPLE", "mail.example.com", "example.com")
END_POINT = bytes.fromhex("89eee6b6c7541508d753a43e2aaf9267e81f1c8e4302146769742c93d293077c")
BINDING = bytes.fromhex("b4b3ef4fb372f37b23353169cde98ab5")

# [MS-NLMP] 4.2: user User, password Password, domain Domain.
SPEC_HASH = bytes.fromhex("a4f49c406510bdcab6824ee7c30fd852")
SPEC_TEMP = bytes.fromhex(
    "0101000000000000" + "00" * 8 + "aa" * 8 + "00000000"
    "02000c0044006f006d00610069006e0001000c005300650072007600650072000000000000000000"
)
SPEC_CHALLENGE = b64decode(
    "TlRMTVNTUAACAAAADAAMADgAAAAzgoriASNFZ4mrze8AAAAAAAAAACQAJABEAAAABgBwFwAAAA9TAGUAcgB2AGUAcgAC"
    "AAwARABvAG0AYQBpAG4AAQAMAFMAZQByAHYAZQByAAAAAAA="
)
SPEC_AUTHENTICATE = b64decode(
    "TlRMTVNTUAADAAAAGAAYAGwAAABUAFQAhAAAAAwADABIAAAACAAIAFQAAAAQABAAXAAAABAAEADYAAAANYKI4gUBKAoA"
    "AAAPRABvAG0AYQBpAG4AVQBzAGUAcgBDAE8ATQBQAFUAVABFAFIAhsNQl6yc7BAlVHZKV8zMGaqqqqqqqqqqaM0KuFHl"
    "HJaqvJJ76+9qHAEBAAAAAAAAAAAAAAAAAACqqqqqqqqqqgAAAAACAAwARABvAG0AYQBpAG4AAQAMAFMAZQByAHYAZQBy"
    "AAAAAAAAAAAAxdrSVE/JeZCUzhzpC8nQPg=="
)

# Two whole exchanges: A without, B with signing and a key exchange.
TRANSCRIPTS = {
    "A": (
        b64decode("TlRMTVNTUAABAAAAB4II4gAAAAAoAAAAAAAAACgAAAAKAGFKAAAADw=="),
        b64decode(
            "TlRMTVNTUAACAAAACAAIADgAAAAFgooCASNFZ4mrze8AAAAAAAAAAGwAbABAAAAACgBhSgAAAA9NAEEASQBMAAIA"
            "DgBFAFgAQQBNAFAATABFAAEACABNAEEASQBMAAQAFgBlAHgAYQBtAHAAbABlAC4AYwBvAG0AAwAgAG0AYQBpAGwA"
            "LgBlAHgAYQBtAHAAbABlAC4AYwBvAG0ABwAIAACANQzR39YBAAAAAA=="
        ),
        b64decode(
            "TlRMTVNTUAADAAAAGAAYAFgAAADkAOQAcAAAAA4ADgBUAQAADAAMAGIBAAAGAAYAbgEAAAAAAAB0AQAABYKKAgoA"
            "YUoAAAAP9wwhBvfABzNp2jPxF7KBZQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAANNaWy31pSzcirmTc1PnhocBAQAA"
            "AAAAAACANQzR39YB66O52Tfp0P8AAAAAAgAOAEUAWABBAE0AUABMAEUAAQAIAE0AQQBJAEwABAAWAGUAeABhAG0A"
            "cABsAGUALgBjAG8AbQADACAAbQBhAGkAbAAuAGUAeABhAG0AcABsAGUALgBjAG8AbQAHAAgAAIA1DNHf1gEKABAA"
            "tLPvT7Ny83sjNTFpzemKtQkAKABwAG8AcAAvAG0AYQBpAGwALgBlAHgAYQBtAHAAbABlAC4AYwBvAG0ABgAEAAIA"
            "AAAAAAAAAAAAAEUAWABBAE0AUABMAEUAagD8AHIAZwBlAG4AVwBTADEA"
        ),
    ),
    "B": (
        b64decode("TlRMTVNTUAABAAAAF4II4gAAAAAoAAAAAAAAACgAAAAKAGFKAAAADw=="),
        b64decode(
            "TlRMTVNTUAACAAAACAAIADgAAAAVgoriASNFZ4mrze8AAAAAAAAAAGwAbABAAAAACgBhSgAAAA9NAEEASQBMAAIA"
            "DgBFAFgAQQBNAFAATABFAAEACABNAEEASQBMAAQAFgBlAHgAYQBtAHAAbABlAC4AYwBvAG0AAwAgAG0AYQBpAGwA"
            "LgBlAHgAYQBtAHAAbABlAC4AYwBvAG0ABwAIAACANQzR39YBAAAAAA=="
        ),
        b64decode(
            "TlRMTVNTUAADAAAAGAAYAFgAAADkAOQAcAAAAA4ADgBUAQAADAAMAGIBAAAGAAYAbgEAABAAEAB0AQAAFYKK4goA"
            "YUoAAAAPUP1IkDwp+KHEz2YYbBMEnAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAANNaWy31pSzcirmTc1PnhocBAQAA"
            "AAAAAACANQzR39YB66O52Tfp0P8AAAAAAgAOAEUAWABBAE0AUABMAEUAAQAIAE0AQQBJAEwABAAWAGUAeABhAG0A"
            "cABsAGUALgBjAG8AbQADACAAbQBhAGkAbAAuAGUAeABhAG0AcABsAGUALgBjAG8AbQAHAAgAAIA1DNHf1gEKABAA"
            "tLPvT7Ny83sjNTFpzemKtQkAKABwAG8AcAAvAG0AYQBpAGwALgBlAHgAYQBtAHAAbABlAC4AYwBvAG0ABgAEAAIA"
            "AAAAAAAAAAAAAEUAWABBAE0AUABMAEUAagD8AHIAZwBlAG4AVwBTADEAdnF5Uvtcn9+/Nilm/apmBw=="
        ),
    ),
}
KEYS = {
    "A": ("7d37205712ede8d2fd3f2d39fda258a4", "f70c2106f7c0073369da33f117b28165"),
    "B": ("eccd87a7345c53cabf1ca0eba7cd7ec8", "50fd48903c29f8a1c4cf66186c13049c"),
}


# -- the published numbers ----------------------------------------------------


def test_md4_gives_the_numbers_of_rfc_1320() -> None:
    assert md4(b"").hex() == "31d6cfe0d16ae931b73c59d7e0c089c0"
    assert md4(b"abc").hex() == "a448017aaf21d8525fc10ae87aa6729d"
    assert md4(b"a" * 80).hex() == md4(bytes(b"a" * 80)).hex()
    eighty = b"12345678901234567890" * 4
    assert md4(eighty).hex() == "e33b4ddc9c38f2199c3e7b164fcc0536"


def test_hashes_and_keys_are_those_of_the_specification() -> None:
    assert nt_hash("Password") == SPEC_HASH
    key = arithmetic.ntowf_v2(SPEC_HASH, "User", "Domain")
    assert key.hex() == "0c868a403bfd7a93a3001ef22ef02e3f"
    proof = arithmetic.nt_proof(key, CHALLENGE, SPEC_TEMP)
    assert proof.hex() == "68cd0ab851e51c96aabc927bebef6a1c"
    base = arithmetic.session_base_key(key, proof)
    assert base.hex() == "8de40ccadbc14a82f15cb0ad0de95ca3"
    assert arithmetic.rc4(base, bytes.fromhex("c5dad2544fc9799094ce1ce90bc9d03e")) == b"\x55" * 16


def test_the_specifications_own_messages_are_read() -> None:
    agreed = Flags(0xE28A8233)
    message = read_authenticate(SPEC_AUTHENTICATE, agreed)
    assert (message.text(message.user), message.text(message.domain)) == ("User", "Domain")
    assert (message.flags, message.mic_at) == (0xE2888235, 0)
    assert message.lm_response.hex() == "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"
    proof = read_proof(message.nt_response)
    assert proof.temp == SPEC_TEMP
    base = arithmetic.prove_v2(SPEC_HASH, "User", "Domain", CHALLENGE, proof)
    assert base is not None
    assert arithmetic.exported_session_key(base, message) == b"\x55" * 16
    assert read_pairs(SPEC_CHALLENGE[68:]) == {
        Av.NB_DOMAIN: "Domain".encode("utf-16-le"),
        Av.NB_COMPUTER: "Server".encode("utf-16-le"),
    }


def test_the_published_example_of_pop3_is_read() -> None:
    flags = read_negotiate(b64decode("TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAFASgKAAAADw=="))
    assert flags == 0xA2088207


def test_legacy_responses_are_computed_as_published() -> None:
    v1 = bytes.fromhex("67c43011f30298a2ad35ece64f16331c44bdbed927841f94")
    assert arithmetic.prove_v1(SPEC_HASH, CHALLENGE, v1)
    session = bytes.fromhex("7537f803ae367128ca458204bde7caf81e97ed2683267232")
    mixed = arithmetic.session_challenge(CHALLENGE, b"\xaa" * 8)
    assert arithmetic.prove_v1(SPEC_HASH, mixed, session)
    assert not arithmetic.prove_v1(SPEC_HASH, CHALLENGE, session)


def test_upper_case_keeps_one_letter_for_one() -> None:
    assert arithmetic.upper("jürgen Weiß ŉ") == "JÜRGEN WEIß ŉ"


def test_a_channel_binding_is_the_digest_of_the_whole_structure() -> None:
    assert arithmetic.channel_binding(END_POINT) == BINDING


# -- the transcripts ----------------------------------------------------------


BOUND = Peer("192.0.2.1", True, "1", lambda: [b"other", b"certificate"])
"""A peer on the connection that the transcripts' binding belongs to."""


def exchange(peer: Peer, options: NtlmOptions = OPTIONS, *, legacy: bool = False) -> Ntlm:
    """A mechanism at the transcripts' moment, with their challenge and their end point."""
    return Ntlm(
        options,
        peer,
        now=lambda: NEW_YEAR_2021,
        random=lambda _: CHALLENGE,
        legacy=legacy,
        end_point={b"certificate": END_POINT, b"other": END_POINT[::-1]}.__getitem__,
    )


def answered(mechanism: Ntlm, negotiate: bytes, authenticate: bytes) -> Response:
    """The credentials at the end."""
    result(mechanism.step(negotiate))
    return result(mechanism.step(authenticate)).credentials


def base_key(credentials: Response, password: str = PASSWORD) -> bytes | None:
    """The session base key, if the response is right."""
    assert credentials.proof is not None
    return arithmetic.prove_v2(
        nt_hash(password),
        credentials.user,
        credentials.domain,
        credentials.challenge,
        credentials.proof,
    )


def test_transcript_a_runs_through_octet_for_octet() -> None:
    negotiate, challenge, authenticate = TRANSCRIPTS["A"]
    mechanism = exchange(BOUND)
    assert result(mechanism.step(None)).octets == b""
    assert result(mechanism.step(negotiate)).octets == challenge
    credentials = result(mechanism.step(authenticate)).credentials
    assert (credentials.user, credentials.domain) == (USER, DOMAIN)
    assert credentials.username == "EXAMPLE\\jürgen".encode()
    key = base_key(credentials)
    assert key is not None
    credentials.check(key)


@pytest.mark.parametrize("name", ["A", "B"])
def test_keys_and_integrity_codes_of_the_transcripts(name: str) -> None:
    negotiate, challenge, authenticate = TRANSCRIPTS[name]
    message = read_authenticate(authenticate, Flags(int.from_bytes(challenge[20:24], "little")))
    proof = read_proof(message.nt_response)
    base = arithmetic.prove_v2(nt_hash(PASSWORD), USER, DOMAIN, CHALLENGE, proof)
    assert base is not None
    key = arithmetic.exported_session_key(base, message)
    assert (key.hex(), message.mic.hex()) == KEYS[name]
    code = arithmetic.integrity_code(key, negotiate, challenge, message.without_mic)
    assert code == message.mic


@pytest.mark.parametrize("what", ["password", "negotiate flags", "integrity code", "proof"])
def test_any_change_to_a_transcript_is_refused(what: str) -> None:
    negotiate, _, authenticate = map(bytearray, TRANSCRIPTS["A"])
    password = PASSWORD
    if what == "password":
        password = "Passwörd"
    elif what == "negotiate flags":
        negotiate[14] ^= 0x10
    elif what == "integrity code":
        authenticate[72] ^= 1
    else:
        authenticate[0x70] ^= 1
    credentials = answered(exchange(BOUND), bytes(negotiate), bytes(authenticate))
    key = base_key(credentials, password)
    if what in ("password", "proof"):
        assert key is None
    else:
        assert key is not None
        with pytest.raises(BadCredentials, match="integrity code is wrong"):
            credentials.check(key)


# -- what a client may send, and what not -------------------------------------


PLAIN_PEER = Peer("192.0.2.1", False, "1")


def log_in(client: Client, options: NtlmOptions = OPTIONS, *, legacy: bool = False) -> None:
    """A whole exchange with a client of our own; raises as the gateway would."""
    mechanism = exchange(PLAIN_PEER, options, legacy=legacy)
    challenge = result(mechanism.step(client.negotiate())).octets
    credentials = result(mechanism.step(client.authenticate(challenge))).credentials
    key = base_key(credentials, PASSWORD)
    if key is None:
        raise BadCredentials("the proof is wrong")
    credentials.check(key)


def client(**how: object) -> Client:
    """One that does everything right but for what is said."""
    usual = {"user": USER, "password": PASSWORD, "domain": DOMAIN, "now": NEW_YEAR_2021}
    return Client(**(usual | how))  # type: ignore[arg-type]


def test_a_good_client_gets_in_whatever_it_takes_for_its_domain() -> None:
    for domain in (DOMAIN, "", "example", "Other"):
        log_in(client(domain=domain))
    log_in(client(domain="Some", key_domain=""))
    log_in(client(domain="example", key_domain="EXAMPLE"))


def test_oem_strings_are_read_as_curl_sends_them() -> None:
    log_in(client(oem=True, mic=False, timestamp=False))


def test_without_an_integrity_code_only_where_no_timestamp_was_sent() -> None:
    with pytest.raises(BadCredentials, match="no integrity code"):
        log_in(client(mic=False))
    log_in(client(mic=False), evolve(OPTIONS, require_mic=False))


def test_an_integrity_code_at_64_without_a_version_is_found() -> None:
    log_in(client(version=False))


def test_a_client_with_a_clock_off_by_more_than_allowed_is_rejected() -> None:
    late = client(oem=True, mic=False, timestamp=False, now=NEW_YEAR_2021 + 37 * 3600)
    with pytest.raises(BadCredentials, match="clock is"):
        log_in(late)
    log_in(late, evolve(OPTIONS, max_skew=38 * 3600))


def test_a_response_that_was_made_for_another_server_is_refused() -> None:
    for key in (Av.NB_COMPUTER, Av.NB_DOMAIN, Av.DNS_COMPUTER, Av.DNS_DOMAIN, Av.TIMESTAMP):
        with pytest.raises(BadCredentials, match="is not what this server sent"):
            log_in(client(pairs={key: b"E\0V\0I\0L\0"}))


def test_a_channel_binding_is_wanted_checked_or_left_alone() -> None:
    required = evolve(OPTIONS, bindings="require")
    log_in(client())
    with pytest.raises(BadCredentials, match="no channel binding"):
        log_in(client(), required)
    with pytest.raises(BadCredentials, match="no channel binding"):
        log_in(client(pairs={Av.CHANNEL_BINDINGS: bytes(16)}), required)
    wrong = client(pairs={Av.CHANNEL_BINDINGS: b"x" * 16})
    with pytest.raises(BadCredentials, match="of another connection"):
        log_in(wrong)
    log_in(wrong, evolve(OPTIONS, bindings="off"))


def test_the_target_name_is_checked_where_names_are_set() -> None:
    options = evolve(OPTIONS, targets=frozenset({"pop/mail.example.com"}))
    for name in ("pop/mail.example.com", "POP/Mail.Example.COM", ""):
        log_in(client(pairs={Av.TARGET_NAME: name.encode("utf-16-le")}), options)
    log_in(client(), options)
    other = {Av.TARGET_NAME: "http/www.example.com".encode("utf-16-le")}
    with pytest.raises(BadCredentials, match="meant for"):
        log_in(client(pairs=other), options)
    log_in(client(pairs=other))
    log_in(client(pairs=other, av_flags=6), options)


def test_anonymous_and_lm_only_responses_are_always_refused() -> None:
    for how in (
        {"user": "", "nt": b"", "lm": b""},
        {"user": "", "nt": b"", "lm": b"\0"},
        {"nt": b""},
        {"nt": b"", "lm": b"x" * 24},
        {"flags": Flags.ANONYMOUS},
        {"user": ""},
    ):
        for legacy in (False, True):
            with pytest.raises(MechanismFailed):
                log_in(client(**how), legacy=legacy)


@pytest.mark.parametrize("session_security", [False, True])
def test_ntlmv1_is_taken_only_from_where_it_may_come(session_security: bool) -> None:
    old = client(v1=True, session_security=session_security)
    with pytest.raises(MechanismFailed, match=r"ntlm\.legacy_networks"):
        log_in(old)
    mechanism = exchange(PLAIN_PEER, legacy=True)
    challenge = result(mechanism.step(old.negotiate())).octets
    credentials = result(mechanism.step(old.authenticate(challenge))).credentials
    assert credentials.legacy
    hashed = nt_hash(PASSWORD)
    assert arithmetic.prove_v1(hashed, credentials.challenge, credentials.response)
    assert not arithmetic.prove_v1(nt_hash("x"), credentials.challenge, credentials.response)
    credentials.check(b"")


def test_responses_against_the_grammar_are_refused() -> None:
    good = client()
    challenge = result(exchange(PLAIN_PEER).step(good.negotiate())).octets
    temp = good.temp(challenge)
    for broken in (
        b"x" * 25,
        b"x" * 16 + b"\x02" + temp[1:],
        b"x" * 16 + temp[:28] + b"\x01\0\xff\xff",
        b"x" * 16 + temp[:28] + (b"\x01\0\x02\0ab" * 2) + bytes(4),
        b"x" * 16 + temp[:28] + b"\x01\0\x02\0ab" + b"\0\0\x01\0",
        b"x" * 16 + temp[:28] + b"\x01\0\x02\0ab" * 1,
    ):
        with pytest.raises(MechanismFailed):
            log_in(client(nt=broken))
    with pytest.raises(MechanismFailed, match="OEM strings after Unicode"):
        log_in(client(drop=Flags.UNICODE))
    with pytest.raises(MechanismFailed, match="promised and not there"):
        log_in(client(mic=False, av_flags=2))
    with pytest.raises(MechanismFailed, match="UTF-16"):
        log_in(client(raw_user=b"\0\xd8"))


def test_messages_in_the_wrong_order_or_with_bad_offsets_are_refused() -> None:
    negotiate, challenge, authenticate = TRANSCRIPTS["A"]
    for first in (b"", b"NTLMSSP\0", authenticate, challenge, negotiate[:14], b"x" * 40):
        with pytest.raises(MechanismFailed):
            result(exchange(PLAIN_PEER).step(first))
    with pytest.raises(MechanismFailed, match="neither Unicode nor OEM"):
        result(exchange(PLAIN_PEER).step(negotiate[:12] + bytes(20)))
    mechanism = exchange(PLAIN_PEER)
    result(mechanism.step(negotiate[:16]))
    for second in (b"", negotiate, authenticate[:50], authenticate[:200]):
        with pytest.raises(MechanismFailed):
            result(mechanism.step(second))


@pytest.mark.parametrize("odd", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028", "\u202e"])
@pytest.mark.parametrize("field", ["user", "domain"])
def test_a_name_with_what_would_forge_a_line_of_the_log_is_refused(field: str, odd: str) -> None:
    with pytest.raises(MechanismFailed, match="cannot be printed") as caught:
        log_in(client(**{field: f"a{odd}b"}))
    assert str(caught.value).isprintable()


@given(st.binary(max_size=600), st.booleans())
def test_no_octets_crash_it(data: bytes, headed: bool) -> None:
    for kind, at in ((1, 1), (3, 2)):
        message = b"NTLMSSP\0" + bytes((kind, 0, 0, 0)) + data if headed else data
        mechanism = exchange(PLAIN_PEER, legacy=True)
        if at == 2:
            result(mechanism.step(TRANSCRIPTS["A"][0]))
        try:
            result(mechanism.step(message))
        except (MechanismFailed, BadCredentials):
            continue


@given(st.integers(0, len(TRANSCRIPTS["A"][2]) - 1), st.integers(1, 255))
def test_no_single_changed_octet_makes_a_traceback_or_another_user(at: int, change: int) -> None:
    message = bytearray(TRANSCRIPTS["A"][2])
    message[at] ^= change
    try:
        credentials = answered(exchange(PLAIN_PEER), TRANSCRIPTS["A"][0], bytes(message))
        key = base_key(credentials) if credentials.proof else None
        if key is not None:
            assert arithmetic.upper(credentials.user) == USER.upper()
            credentials.check(key)
    except (MechanismFailed, BadCredentials):
        return


def test_nothing_secret_is_shown_by_what_is_logged() -> None:
    negotiate, _, authenticate = TRANSCRIPTS["A"]
    credentials = answered(exchange(BOUND), negotiate, authenticate)
    message = read_authenticate(authenticate, Flags(0x028A8205))
    shown = repr(credentials) + repr(message) + repr(credentials.proof)
    assert credentials.response.hex() not in shown
    assert repr(message.nt_response[:16])[2:-1] not in shown


def test_a_challenge_for_oem_has_its_target_in_oem() -> None:
    challenge = build_challenge(
        Flags.OEM | Flags.NTLM, "MAIL", CHALLENGE, OPTIONS.pairs(0, timestamp=False)
    )
    assert challenge[56:60] == b"MAIL"
    assert not Flags(int.from_bytes(challenge[20:24], "little")) & Flags.UNICODE


def test_a_member_of_a_domain_names_the_domain_and_any_other_server_itself() -> None:
    kinds = Flags.TARGET_TYPE_SERVER | Flags.TARGET_TYPE_DOMAIN
    for joined, name, kind in (
        (False, b"MAIL", Flags.TARGET_TYPE_SERVER),
        (True, b"EXAMPLE", Flags.TARGET_TYPE_DOMAIN),
    ):
        mechanism = exchange(PLAIN_PEER, evolve(OPTIONS, joined=joined))
        negotiate = Client(USER, PASSWORD, now=NEW_YEAR_2021, oem=True).negotiate()
        challenge = result(mechanism.step(negotiate)).octets
        assert challenge[56:].startswith(name + bytes((Av.NB_DOMAIN, 0)))
        assert Flags(int.from_bytes(challenge[20:24], "little")) & kinds == kind


def test_a_filetime_counts_from_1601() -> None:
    assert filetime(NEW_YEAR_2021) == 132539328000000000
