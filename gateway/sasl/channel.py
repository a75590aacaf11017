"""Channel bindings (RFC 5929), which bind a login to its TLS connection."""

from __future__ import annotations

import hashlib


def end_point(certificate: bytes) -> bytes:
    """The ``tls-server-end-point`` of a certificate in DER; ``b""`` if none is defined.

    The hash is that of the certificate's signature, with SHA-256 in place of MD5 and
    SHA-1 (RFC 5929 section 4.1).  Signatures without a hash, such as Ed25519, have none.
    """
    if not certificate:
        return b""
    # Not above: every reader of the settings imports this module.
    from cryptography.x509 import load_der_x509_certificate

    algorithm = load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:
        return b""
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, certificate).digest()
