"""TLS of a listener: its certificates, versions, ciphers, and the resumption of sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from gateway.errors import ConfigError
from gateway.net.tls.certificates import Certificate, Contents, reasons_of
from gateway.net.tls.server_names import choices, find_choice, first_choice

__all__ = ["TLSContext"]

VERSIONS: Mapping[str, int] = {
    "1.0": SSL.TLS1_VERSION,
    "1.1": SSL.TLS1_1_VERSION,
    "1.2": SSL.TLS1_2_VERSION,
    "1.3": SSL.TLS1_3_VERSION,
}

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Ciphers of TLS 1.2: forward secrecy and AEAD only, as in TLS 1.3 (RFC 9325 section 4.2)."""

OLD_CIPHERS = "DEFAULT:@SECLEVEL=0"
"""Ciphers if TLS 1.0 or 1.1 is allowed, which have no AEAD.

OpenSSL 3 refuses both at its normal security level.
"""

_RELEASE_BUFFERS = 0x10
"""SSL_MODE_RELEASE_BUFFERS: idle connections free their record buffers (34 KiB)."""

TICKET_KEY_LIFETIME = 43_200.0
"""Seconds after which new ticket keys are made; tickets are good for half of it."""


MakeContext = Callable[[str], SSL.Context]
"""Makes a context for a listener of this name, with ticket keys of its own."""


def new_context(_: str = "") -> SSL.Context:
    """A context with new ticket keys, which are random."""
    return SSL.Context(SSL.TLS_SERVER_METHOD)


class TLSConnection(SSL.Connection):
    """OpenSSL's side of a connection."""

    def __init__(self, context: SSL.Context, certificates: Sequence[bytes] = ()) -> None:
        """``certificates``: in DER, of which the client knows one as this server's."""
        super().__init__(context, None)
        self.certificates = certificates
        # Its callback may be called again, after the connection has taken another context.
        self._first_context = context


@frozen
class _Generation:
    """What new connections get, until the certificates or the ticket keys change."""

    context: SSL.Context
    """For clients that name no server, or an unknown one.  Its keys encrypt all tickets."""

    contents: tuple[Contents, ...]
    """Of all certificates, in their order."""

    ders: tuple[bytes, ...]
    """All certificates in DER."""


@implementer(IOpenSSLServerConnectionCreator)
class TLSContext:
    """The certificates of a listener with its TLS settings.

    Clients get the certificates for the server name that they ask for.  Of a certificate with an
    RSA key and one with an ECDSA key for the same name a client gets the better one that it knows.
    """

    def __init__(
        self,
        certificates: Sequence[Certificate],
        *,
        minimum: str,
        ciphers: str = "",
        name: str = "",
        ticket_key_lifetime: float = TICKET_KEY_LIFETIME,
        make: MakeContext = new_context,
    ) -> None:
        """``minimum``: the oldest version, such as ``1.2``; ``ciphers`` empty: the default.

        ``name``: of the listener; sessions of another one are not resumed.
        ``ticket_key_lifetime``: in seconds, after which somebody calls ``renew``; 0: clients
        cannot resume sessions.  ``make`` makes what has the ticket keys.

        Raises ``ConfigError`` if certificates or ciphers are no good.
        """
        self.certificates = tuple(certificates)
        self._prepare = partial(prepare_context, minimum, ciphers)
        self._make = make
        self._name = name
        self._lifetime = ticket_key_lifetime
        self._kept: dict[object, SSL.Context] = {}
        """The contexts for server names, by their certificates as last read."""
        self._generation = self._made()

    def reload(self) -> None:
        """Read all certificates again, for new connections; open ones continue.

        Raises ``ConfigError`` for those that are no good, and these stay as they were.
        """
        problems = []
        for certificate in self.certificates:
            try:
                found = certificate.read()
                if found is not None:
                    self.try_out(found)
                    certificate.contents = found
            except ConfigError as error:
                problems += error.problems
        self.renew()
        if problems:
            raise ConfigError(problems)

    def renew(self) -> None:
        """Take the certificates as last read, and new ticket keys, for new connections.

        A client with a ticket from before makes a full handshake: it knows a certificate that may
        be gone.  Raises ``ConfigError``, and then all stays as it was.
        """
        self._generation = self._made()

    def try_out(self, contents: Contents) -> None:
        """Raise ``ConfigError`` if it could not show these: their key may be too short for it."""
        context = new_context()
        self._prepare(context)
        contents.load_into(context)

    @property
    def is_outdated(self) -> bool:
        """Whether its certificates have other contents since it was made or renewed."""
        return self._generation.contents != tuple(one.contents for one in self.certificates)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: ARG002
        """One connection's OpenSSL object."""
        generation = self._generation
        return TLSConnection(generation.context, generation.ders)

    def _made(self) -> _Generation:
        first = first_choice(self.certificates)
        contexts = {first: self._context(first, self._make(self._name))}
        by_name: dict[str, SSL.Context | None] = {}
        kept: dict[object, SSL.Context] = {}
        for name, group in choices(self.certificates).items():
            if group not in contexts:
                # Ticket keys are those of the first, so these need not be new.
                contents = tuple(one.contents for one in group)
                known = self._kept.get(contents)
                kept[contents] = contexts[group] = known or self._context(group, new_context())
            by_name[name] = None if group == first else contexts[group]
        if len(contexts) > 1:
            contexts[first].set_tlsext_servername_callback(partial(_choose, by_name))
        self._kept = kept
        contents = tuple(one.contents for one in self.certificates)
        return _Generation(contexts[first], contents, tuple(one.der for one in self.certificates))

    def _context(self, certificates: Sequence[Certificate], context: SSL.Context) -> SSL.Context:
        self._prepare(context)
        # At most 32 octets.
        context.set_session_id(hashlib.sha256(self._name.encode()).digest())
        if self._lifetime:
            context.set_timeout(max(1, int(self._lifetime / 2)))
        else:
            context.set_options(SSL.OP_NO_TICKET)
        for certificate in certificates:
            certificate.load_into(context)
        return context


def prepare_context(minimum: str, ciphers: str, context: SSL.Context) -> None:
    """All but names and certificates; raises ``ConfigError`` for unknown ciphers."""
    context.set_min_proto_version(VERSIONS[minimum])
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(_RELEASE_BUFFERS)
    # Sessions are in the tickets that clients keep, not in memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    old = minimum in ("1.0", "1.1")
    ciphers = ciphers or (OLD_CIPHERS if old else CIPHERS)
    try:
        context.set_cipher_list(ciphers.encode())
    except SSL.Error as error:
        raise ConfigError([f"ciphers {ciphers!r}: {reasons_of(error)}"]) from None


def _choose(by_name: Mapping[str, SSL.Context | None], connection: SSL.Connection) -> None:
    context = find_choice(by_name, connection.get_servername())
    if context is not None:
        connection.set_context(context)
