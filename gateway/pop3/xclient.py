"""XCLIENT: what a proxy tells of its client, as Dovecot's sends it before the login.

``XCLIENT ADDR=192.0.2.1 PORT=1234 SESSION=abc TTL=4 FORWARD=...`` in one line
(https://doc.dovecot.org/main/core/config/forwarding.html); 2.4 adds ``CLIENT-TRANSPORT``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from gateway.pop3.actions import XClient
from gateway.pop3.refusals import Refused

_VALUE = re.compile(r"[!#-~]{1,128}")
_NUMBER = re.compile(r"[0-9]{1,5}")


def read_xclient(attributes: Sequence[bytes]) -> XClient:
    """What these attributes say.  Unknown ones are ignored, as Dovecot does.

    Raises ``Refused``.
    """
    given: dict[str, str] = {}
    for attribute in attributes:
        name, equals, value = attribute.decode("ascii").partition("=")
        if not equals:
            raise Refused("bad_client")
        given[name.upper()] = value
    for name in ("PORT", "TTL"):
        if not _NUMBER.fullmatch(given.get(name, "0")):
            raise Refused("bad_client")
    session = given.get("SESSION", "")
    return XClient(
        _host(given.get("ADDR", "")),
        session if _VALUE.fullmatch(session) else "",
        given.get("CLIENT-TRANSPORT", "").upper() == "TLS",
    )


def _host(text: str) -> str:
    """The canonical text of an address, with or without the prefix that Postfix writes."""
    if text.upper() in ("", "[UNAVAILABLE]"):
        return ""
    try:
        address = ip_address(text[5:] if text.upper().startswith("IPV6:") else text)
    except ValueError:
        raise Refused("bad_client") from None
    if "%" in text:
        raise Refused("bad_client")
    return str(getattr(address, "ipv4_mapped", None) or address)
