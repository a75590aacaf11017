"""Clients' addresses, as transports name them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.networks import client_address


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%2", "fe80::1"),
    ],
)
def test_an_address_is_the_same_however_the_socket_spells_it(host: str, meant: str) -> None:
    assert client_address(host) == ip_address(meant)


@pytest.mark.parametrize("host", ["", "%eth0", "mail.example.com", "192.0.2.256"])
def test_what_is_no_address_is_a_value_error(host: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        client_address(host)
