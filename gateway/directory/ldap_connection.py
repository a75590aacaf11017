"""One connection to an LDAP server: TLS, the time limit of each answer, requests.

All functions block: call them in a thread.  ldap3's defaults would fetch the schema
at every bind, follow referrals with the service account's password, and accept any
certificate; all three are off.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import ldap3
from attrs import frozen
from ldap3.core.exceptions import LDAPException, LDAPStartTLSError

from gateway.directory.ldap_messages import (
    SEARCHED,
    Entry,
    Reference,
    Request,
    Result,
    bind_request,
    message_length,
    read_response,
    start_tls_request,
)

_START_TLS = start_tls_request()
_BIND = bind_request()


@frozen
class Reach:
    """Parameters of connections."""

    uris: Sequence[str]
    """``ldap://`` or ``ldaps://`` with host and port, in order of preference."""

    start_tls: bool = False
    ca_file: str = ""
    """File of CA certificates (PEM); empty: those of the system."""

    timeout: int = 5
    """Timeout of connecting, and of each complete answer, in seconds."""

    retry_after: float = 10.0
    """Seconds for which a failed server is not tried."""


class _Punctual:
    """A socket with a timeout for each complete answer.

    ldap3's timeout restarts with every octet: a server that sends slowly could
    block a thread for ever.
    """

    def __init__(self, inner: Any, timeout: float, monotonic: Callable[[], float]) -> None:
        self.inner = inner
        self._timeout = timeout
        self._monotonic = monotonic
        self._until = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sendall(self, data: bytes) -> None:
        """Send a request; the timeout of its answer starts now."""
        self._until = self._monotonic() + self._timeout
        self.inner.settimeout(self._timeout)
        self.inner.sendall(data)

    def recv(self, size: int) -> bytes:
        """Octets of the answer; raises ``TimeoutError``."""
        left = self._until - self._monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self.inner.settimeout(left)
        return bytes(self.inner.recv(size))


class _Tls(ldap3.Tls):
    """TLS with names verified by OpenSSL, and with SNI.

    ldap3 verifies names itself since Python 3.12 has no ``ssl.match_hostname``, but
    no IP addresses, and sends no SNI.
    """

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Begin TLS on a connection's socket."""
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        # The same on each Python: 3.13 rejects certificates of many private CAs
        # that lack extensions; no LDAP client requires them.
        context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
        connection.socket = context.wrap_socket(
            connection.socket,
            # The zone of an IPv6 address is local to this machine.
            server_hostname=connection.server.host.partition("%")[0],
            do_handshake_on_connect=do_handshake,
        )


class Address(NamedTuple):
    """Where a server is."""

    host: str
    port: int
    is_ldaps: bool


def address_of(uri: str) -> Address:
    """The address in a URI (``ldap`` or ``ldaps``); raises ``ValueError`` for a bad one."""
    parts = urlsplit(uri)
    is_ldaps = parts.scheme == "ldaps"
    return Address(parts.hostname or "", parts.port or (636 if is_ldaps else 389), is_ldaps)


def open_connection(address: Address, reach: Reach, monotonic: Callable[[], float]) -> Any:
    """A new connection, with TLS as ``reach`` wants it, not bound.

    Raises ldap3's errors and ``OSError``.
    """
    tls = _Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=reach.ca_file or None)
    server = ldap3.Server(
        address.host,
        port=address.port,
        use_ssl=address.is_ldaps,
        tls=tls,
        get_info=ldap3.NONE,
        connect_timeout=reach.timeout,
    )
    connection = ldap3.Connection(
        server,
        client_strategy=ldap3.SAFE_SYNC,
        receive_timeout=reach.timeout,
        auto_referrals=False,
        check_names=False,
        read_only=True,
    )
    connection.open(read_server_info=False)
    # Without it StartTLS and a bind wait for delayed ACKs, 50 ms.
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.socket = _Punctual(connection.socket, reach.timeout, monotonic)
    if reach.start_tls and not address.is_ldaps:
        _start_tls(connection, tls, reach.timeout)
        connection.socket = _Punctual(connection.socket, reach.timeout, monotonic)
    return connection


def _start_tls(connection: Any, tls: _Tls, timeout: int) -> None:
    """StartTLS without ldap3, which does not check that the response matches."""
    _, result = ask(connection, _START_TLS, ())
    if result.code != 0:
        raise LDAPStartTLSError(f"StartTLS failed: {result.code} {result.words}")
    connection.socket = connection.socket.inner
    connection.socket.settimeout(timeout)
    tls.wrap_socket(connection, do_handshake=True)


def ask(
    connection: Any, request: Request, values: Sequence[bytes], controls: bytes = b""
) -> tuple[list[Entry], Result]:
    """Send a request with these values, and read its responses.

    Raises ``OSError`` if the server closes, times out, sends no LDAP, or answers
    another request.
    """
    identity = connection.server.next_message_id()
    connection.socket.sendall(request.filled(identity, values, controls))
    entries: list[Entry] = []
    referrals: list[str] = []
    data = bytearray()
    while True:
        length = message_length(data)
        if not length or len(data) < length:
            more = connection.socket.recv(65_536)
            if not more:
                raise ConnectionError("the server has closed the connection")
            data += more
            continue
        answered, said = read_response(bytes(data[:length]))
        del data[:length]
        if answered != identity:
            # 0: Notice of Disconnection (RFC 4511 section 4.4.1).
            raise ConnectionError(f"the server answers {answered}, not {identity}: {_kind(said)}")
        if isinstance(said, Result) and said.kind == request.ends:
            return entries, said._replace(referrals=(*referrals, *said.referrals))
        if isinstance(said, Result) or request.ends != SEARCHED:
            # The success of another operation is not that of this one.
            raise ConnectionError(f"the server answers another request: {_kind(said)}")
        if isinstance(said, Reference):
            referrals += said.uris
        elif said is not None:
            entries.append(said)


def bind(connection: Any, dn: str, password: bytes) -> Result:
    """Bind by a name and a password, or anonymously by two empty ones.

    Raises ``OSError`` as ``ask`` does.
    """
    # Octet for octet as the server wrote it, UTF-8 or not.
    return ask(connection, _BIND, (dn.encode("utf-8", "surrogateescape"), password))[1]


def _kind(said: Entry | Reference | Result | None) -> str:
    """The kind of a response, for the log: entries may contain private data."""
    return str(said) if isinstance(said, Result) else type(said).__name__


def close_connection(connection: Any) -> None:
    """Unbind and close; failures count for nothing."""
    try:
        connection.unbind()
    except (LDAPException, OSError):
        return
