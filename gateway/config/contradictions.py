"""Errors in combinations of settings that are valid one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from gateway import endpoints
from gateway.config.listeners import Listener, Tls
from gateway.config.proxies import proxy_faults
from gateway.config.retention import Audit
from gateway.config.services import SCOPES
from gateway.config.settings import Settings
from gateway.kinds import Fault


def contradictions(settings: Settings, table: Mapping[str, Any]) -> list[Fault]:
    """All contradictions; ``table``: what the file and the environment set."""
    return [
        *_of_certificates("tls", settings.tls),
        *_of_listeners(settings, table),
        *_of_endpoints(settings),
        *_of_proxies(settings),
        *_of_pop3(settings),
        *_of_mechanisms(settings),
        *_of_quota(settings),
        *_of_http(settings),
        *_of_kinds(settings),
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
        yield from _of_certificates(f"listeners.{name}", listener)
        if settings.tls.certificates and bool(listener.certificate) != bool(listener.key):
            missing = "key" if listener.certificate else "certificate"
            yield f"listeners.{name}.{missing}", "expected, since [tls] has several"
        if _lets_nobody_in(settings, name, listener):
            yield (
                f"listeners.{name}.tls",
                'expected "stls" or "implicit", or networks in pop3.secure_networks: nobody could'
                " log in without TLS",
            )


def _of_certificates(section: str, own: Listener | Tls) -> Iterator[Fault]:
    """Faults of ``[[tls.certificates]]``, or of those of a listener."""
    default = type(own) is Tls and own.certificate == Tls().certificate and own.key == Tls().key
    if own.certificates and (own.certificate or own.key) and not default:
        yield (
            f"{section}.certificates",
            f"expected no certificate and key in [{section}] beside them; make these the first"
            f" [[{section}.certificates]]",
        )
    for number, one in enumerate(own.certificates, 1):
        if one in own.certificates[: number - 1]:
            yield f"{section}.certificates.{number}", "expected another one than before"


def _says_tls(name: str) -> bool:
    lower = re.sub(r"s(tart)?[._-]?tls", "", name.lower())
    return bool(re.search(r"tls|ssl|implicit|995|spop|pop3?s(?![a-z])", lower))


def _lets_nobody_in(settings: Settings, name: str, listener: Listener) -> bool:
    networks = settings.pop3.secure_networks
    endpoint = endpoints.find(listener.endpoint)
    if listener.proxy_tls != "off":
        return False
    if endpoint and endpoint.is_for_the_network:
        # Clients of that address do not come from the loopback network.
        networks = tuple(one for one in networks if not one.is_loopback)
    profile = settings.profile_of(name)
    passwords_only = profile.cleartext.issuperset(profile.mechanisms)
    return listener.tls == "none" and not networks and passwords_only


def _of_endpoints(settings: Settings) -> Iterator[Fault]:
    texts = {f"listeners.{name}": one.endpoint for name, one in settings.listeners.items()}
    for part in ("lmtp", "policy", "http"):
        texts[part] = getattr(settings, part).endpoint
    known = {place: found for place, text in texts.items() if (found := endpoints.find(text))}
    for (one, first), (other, second) in combinations(known.items(), 2):
        if first.clashes_with(second):
            yield f"{other}.endpoint", f"expected another place than {one}.endpoint has"


def _of_proxies(settings: Settings) -> Iterator[Fault]:
    for name, listener in settings.listeners.items():
        section = f"listeners.{name}"
        yield from proxy_faults(section, listener.endpoint, listener, listener.xclient_networks)
        if listener.proxy_tls != "off" and listener.tls == "none":
            for kind in map(settings.mechanism_kinds.get, settings.profile_of(name).mechanisms):
                if kind is not None and kind.binds_to_tls(settings.of(kind)):
                    yield (
                        f"{section}.proxy_tls",
                        f'expected "off", or tls = "stls" with a copy of the proxy\'s certificate,'
                        f' or {kind.section}.channel_binding = "off", or no {kind.name} in'
                        f" {section}.mechanisms: its clients bind to the proxy's certificate",
                    )
    for part in ("lmtp", "policy", "http"):
        service = getattr(settings, part)
        yield from proxy_faults(part, service.endpoint, service)


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
    kinds = settings.mechanism_kinds
    offered = {"pop3": profile.mechanisms}
    for listener, own in settings.listeners.items():
        if own.mechanisms:
            offered[f"listeners.{listener}"] = settings.profile_of(listener).mechanisms
        if own.mechanisms == () and not profile.user_pass:
            yield f"listeners.{listener}.mechanisms", "expected a mechanism, since user_pass is off"
    for place, names in offered.items():
        for kind in map(kinds.__getitem__, names):
            if not kind.is_set_up(settings.of(kind)):
                fault = f"expected no {kind.name}, since [{kind.section}] is not set up"
                yield f"{place}.mechanisms", fault


def _of_quota(settings: Settings) -> Iterator[Fault]:
    quota = settings.quota
    if quota.digest_to and not quota.warn_from:
        yield "quota.warn_from", "expected the address that the digest comes from"
    if fault := quota.language_fault:
        yield "quota.warn_language", fault


def _of_http(settings: Settings) -> Iterator[Fault]:
    http = settings.http
    for name, one in http.tokens.items():
        if not one.token:
            yield f"http.tokens.{name}.token", "expected a token, here or in token_file"
        if not one.scopes:
            yield f"http.tokens.{name}.scopes", f"expected some of {', '.join(SCOPES)}"
    secrets = [one for one in (http.token, *(one.token for one in http.tokens.values())) if one]
    if len({*secrets}) != len(secrets):
        yield "http.tokens", "expected another token for each name: the log tells them apart"
    endpoint = endpoints.find(http.endpoint)
    if not http.endpoint or endpoint is None:
        if http.page or http.operators:
            yield "http.endpoint", "expected an address, since http.page and http.operators need it"
        return
    if not (secrets or http.endpoint.startswith("unix:")):
        yield "http.token", "expected a token, or a unix: endpoint to guard by permissions"
    is_safe = http.tls == "implicit" or http.proxy_tls != "off" or not endpoint.is_reachable
    if not is_safe and (http.page or any("operate" in one.scopes for one in http.tokens.values())):
        yield (
            "http.tls",
            'expected "implicit", or an endpoint on 127.0.0.1 or unix:, or proxy_tls behind a proxy'
            " that ends TLS: others could read the tokens of operators",
        )
    if http.operators and not http.page:
        yield "http.operators", "expected none, since http.page is off: they log in there"


def _of_kinds(settings: Settings) -> Iterator[Fault]:
    for kind in settings.login_kinds:
        yield from kind.faults(settings.of(kind), settings)
    yield from settings.store_kind.faults(settings.store, settings)
    if settings.store_kind.keeps_audit and settings.audit != Audit():
        yield "audit", f"expected no such section: a {settings.store.kind} keeps the audit itself"
    if settings.demo and settings.directory_kind.add_account is None:
        yield "demo", "expected false: the demo account lives in a passwd-file"
