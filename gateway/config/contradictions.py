"""What is wrong with settings each of which is right by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from gateway import endpoints
from gateway.config.settings import Listener, Settings

Fault = tuple[str, str]
"""The key of a setting, and what is wrong."""

_PASSWORDS = {"PLAIN", "LOGIN"}


def contradictions(settings: Settings, table: Mapping[str, Any]) -> list[Fault]:
    """All of them; ``table`` tells what was set at all."""
    return [
        *_of_listeners(settings, table),
        *_of_endpoints(settings),
        *_of_pop3(settings),
        *_of_mechanisms(settings),
        *_of_quota(settings),
        *_of_ldap(settings),
    ]


def _of_listeners(settings: Settings, table: Mapping[str, Any]) -> Iterator[Fault]:
    if not settings.listeners:
        yield "listeners", "expected at least one [listeners.NAME]"
    for name, listener in settings.listeners.items():
        endpoint = endpoints.find(listener.endpoint)
        said = "port" if endpoint and endpoint.says_tls else "name"
        if "tls" not in table["listeners"][name] and (said == "port" or _says_tls(name)):
            yield (
                f"listeners.{name}",
                f'expected tls = "implicit" (TLS from the first octet) or tls = "stls" (plain'
                f" text until the client asks for TLS) to be set, since the {said} says TLS",
            )
        if _lets_nobody_in(settings, listener):
            yield (
                f"listeners.{name}.tls",
                'expected "stls" or "implicit", or networks in pop3.secure_networks: nobody could'
                " log in without TLS",
            )


def _says_tls(name: str) -> bool:
    lower = re.sub(r"s(tart)?[._-]?tls", "", name.lower())
    return bool(re.search(r"tls|ssl|implicit|995|spop|pop3?s(?![a-z])", lower))


def _lets_nobody_in(settings: Settings, listener: Listener) -> bool:
    networks = settings.pop3.secure_networks
    endpoint = endpoints.find(listener.endpoint)
    if endpoint and endpoint.is_for_the_network:
        # Whoever gets there does not come from an address of loopback's.
        networks = tuple(one for one in networks if not one.is_loopback)
    passwords_only = _PASSWORDS.issuperset(_mechanisms(settings, listener))
    return listener.tls == "none" and not networks and passwords_only


def _mechanisms(settings: Settings, listener: Listener) -> tuple[str, ...]:
    own = listener.mechanisms
    return settings.profile.mechanisms if own is None else own


def _of_endpoints(settings: Settings) -> Iterator[Fault]:
    texts = {f"listeners.{name}": one.endpoint for name, one in settings.listeners.items()}
    for part in ("lmtp", "policy", "http"):
        texts[part] = getattr(settings, part).endpoint
    known = {place: found for place, text in texts.items() if (found := endpoints.find(text))}
    for (one, first), (other, second) in combinations(known.items(), 2):
        if first.clashes_with(second):
            yield f"{other}.endpoint", f"expected another place than {one}.endpoint has"


def _of_pop3(settings: Settings) -> Iterator[Fault]:
    profile, name = settings.profile, settings.pop3.profile
    least, most = profile.command_limit_range
    if not least <= profile.command_limit <= most:
        found = endpoints.shown(profile.command_limit)
        fault = f"expected {least} to {most} in profile {name}, found {found}"
        yield "pop3.command_limit", fault
    if name == "rfc1939":
        for key in ("idle_timeout", "preauth_idle_timeout"):
            if getattr(profile, key) < 600:
                fault = f"expected at least 600 in profile {name} (RFC 1939 section 3)"
                yield f"pop3.{key}", fault


def _of_mechanisms(settings: Settings) -> Iterator[Fault]:
    profile = settings.profile
    if not (profile.user_pass or profile.mechanisms):
        yield "pop3.mechanisms", "expected a mechanism, since user_pass is off"
    configured = {"NTLM": settings.ntlm.provider != "off", "GSSAPI": settings.gssapi.keytab}
    offered = {"pop3": profile.mechanisms}
    for listener, own in settings.listeners.items():
        offered[f"listeners.{listener}"] = own.mechanisms or ()
        if own.mechanisms == () and not profile.user_pass:
            yield f"listeners.{listener}.mechanisms", "expected a mechanism, since user_pass is off"
    for place, names in offered.items():
        for name in names:
            if not configured.get(name, True):
                fault = f"expected no {name}, since [{name.lower()}] is not set up"
                yield f"{place}.mechanisms", fault
    if settings.gssapi.keytab and not settings.gssapi.realms:
        yield "gssapi.realms", "expected the realms whose users are yours"


def _of_quota(settings: Settings) -> Iterator[Fault]:
    quota, http = settings.quota, settings.http
    if quota.digest_to and not quota.warn_from:
        yield "quota.warn_from", "expected the address that the digest comes from"
    if fault := quota.language_fault:
        yield "quota.warn_language", fault
    if http.endpoint and not (http.token or http.endpoint.startswith("unix:")):
        yield "http.token", "expected a token, or a unix: endpoint to guard by permissions"


def _of_ldap(settings: Settings) -> Iterator[Fault]:
    ldap = settings.ldap
    if settings.directory.kind != "ldap":
        return
    for key in ("uris", "base"):
        if not getattr(ldap, key):
            yield f"ldap.{key}", 'expected for directory.kind = "ldap"'
    if settings.ntlm.provider == "winbind" and not ldap.domains:
        # Else another domain's alice, whom a domain controller vouches for, were ours.
        yield "ldap.domains", 'expected your domains for ntlm.provider = "winbind"'
    if ldap.bind_dn and not ldap.bind_password:
        # A server would take that for an anonymous bind (RFC 4513 section 5.1.2), or refuse.
        yield "ldap.bind_password", "expected the password of ldap.bind_dn, or bind_password_file"
    if settings.demo:
        yield "demo", "expected false: the demo account lives in a passwd-file"
