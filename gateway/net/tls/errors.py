"""Why TLS has failed, in words for the log."""

from __future__ import annotations

_CURES = {
    "no shared cipher": "the listener's ciphers has none of the client's",
    "unsupported protocol": "the client's TLS is older than the listener's tls_minimum",
    "version too low": "the client's TLS is older than the listener's tls_minimum",
    "http request": "the client sends plain text to a port that begins with TLS",
    "wrong version number": "the client sends plain text to a port that begins with TLS",
    "packet length too long": "the client sends plain text to a port that begins with TLS",
    "unknown ca": "the client does not trust the certificate",
    "certificate unknown": "the client does not trust the certificate",
    "bad certificate": "the client does not trust the certificate",
    "certificate expired": "the client does not trust the certificate",
}
"""Explanations of OpenSSL's reasons, or of their ends."""


def reason_of(error: BaseException) -> str:
    """OpenSSL's reason for a failure, with an explanation if there is one."""
    found = dict.fromkeys(reason for _, _, reason in _entries(error) if reason)
    said = ", ".join(found) or str(error) or type(error).__name__
    cures = (cure for one in found for end, cure in _CURES.items() if one.endswith(end))
    meant = next(cures, "")
    return f"{said} ({meant})" if meant else said


def _entries(error: BaseException) -> list[tuple[str, str, str]]:
    first = error.args[0] if error.args else ()
    return first if isinstance(first, list) else []
