"""Whether the listeners of a configuration answer: each is asked as its clients would ask it."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Iterator, Mapping

from attrs import frozen

from gateway.config.settings import Settings
from gateway.endpoints import Endpoint, parse
from gateway.events import HEALTH_CHECK
from gateway.networks import within

LONGEST = 512
"""Most octets of an answer: a line of POP3, LMTP (RFC 5321 section 4.5.3.1.5) or HTTP."""

_PROXY_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
"""The header of a proxy that speaks for itself: PROXY protocol version 2, LOCAL, no addresses."""

_CURES: Mapping[int, str] = {
    errno.ECONNREFUSED: "nothing listens there; is the server running with this configuration?",
    errno.ENOENT: "no such socket; is the server running with this configuration?",
    errno.EACCES: "run this as the user of the server",
}


@frozen
class _Protocol:
    """How a client learns that a server of this protocol serves."""

    asks: bytes
    """Sent first; empty: the server begins."""

    answer: re.Pattern[bytes]
    """What the first line of the answer begins with.  A server that is full answers too."""

    leaves: bytes = b""
    """Sent after the answer, so that the server takes the connection for a health check."""


_PROTOCOLS: Mapping[str, _Protocol] = {
    "pop3": _Protocol(b"", re.compile(rb"\+OK|-ERR \[SYS/TEMP\]"), b"QUIT\r\n"),
    "lmtp": _Protocol(b"", re.compile(rb"220 |421 |554 "), b"QUIT\r\n"),
    # A request without a recipient is answered without a look into the directory.
    "policy": _Protocol(b"request=smtpd_access_policy\n\n", re.compile(rb"action=")),
    "http": _Protocol(
        b"GET /healthz/live HTTP/1.0\r\nUser-Agent: %b\r\n\r\n" % HEALTH_CHECK.encode(),
        re.compile(rb"HTTP/1\.[01] 200"),
    ),
}


@frozen
class Question:
    """One listener, and how it is asked."""

    name: str
    protocol: str
    endpoint: Endpoint
    text: str
    """The endpoint as it is configured."""

    tls: bool = False
    """Whether TLS begins at once."""

    proxied: bool = False
    """Whether a PROXY header begins the connection."""

    turns_away: bool = False
    """Whether it is for other networks only, and closes a connection from this machine."""


@frozen
class Health:
    """What became of a question."""

    name: str
    endpoint: str
    serves: bool | None
    """None: it could not be asked."""

    answer: str
    """The first line of its answer, or why there is none."""

    seconds: float


def questions(settings: Settings) -> Iterator[Question]:
    """Every listener of the configuration, in its order."""
    for name, listener in settings.listeners.items():
        proxied = bool(getattr(listener, "proxy_protocol", False))
        endpoint, tls = parse(listener.endpoint), listener.tls == "implicit"
        yield Question(name, "pop3", endpoint, listener.endpoint, tls, proxied)
    for name in ("lmtp", "policy", "http"):
        section = getattr(settings, name)
        if section.endpoint:
            endpoint = parse(section.endpoint)
            networks = getattr(section, "allowed_networks", None)
            turned_away = networks is not None and not within(networks)(_host_of(endpoint))
            proxied = bool(getattr(section, "proxy_protocol", False))
            tls = getattr(section, "tls", "none") == "implicit"
            yield Question(name, name, endpoint, section.endpoint, tls, proxied, turned_away)


def ask_all(settings: Settings, timeout: float) -> Iterator[Health]:
    """The health of every listener, in ``timeout`` seconds in all.

    One that does not answer leaves the others their share of the time.
    """
    until = time.monotonic() + timeout
    asked = list(questions(settings))
    for left, question in zip(range(len(asked), 0, -1), asked, strict=True):
        yield ask(question, max((until - time.monotonic()) / left, 0.0))


def ask(question: Question, timeout: float) -> Health:
    """The health of one listener, within ``timeout`` seconds."""
    begun = time.monotonic()

    def health(serves: bool | None, answer: str) -> Health:
        seconds = time.monotonic() - begun
        return Health(question.name, question.text, serves, answer, seconds)

    if not (question.endpoint.port or question.endpoint.path):
        return health(None, "not asked: the configuration does not say where it listens")
    try:
        answer = _answer(question, begun + timeout)
    except TimeoutError:
        return health(False, "no answer in time")
    except ConnectionResetError:
        # Only a server that accepts connections can reset one.
        return health(True, "closed the connection, as a server does that is full or stops")
    except OSError as error:
        cure = _CURES.get(error.errno or 0)
        return health(False, cure or error.strerror or str(error))
    text = answer.decode("latin-1").encode("unicode_escape").decode("ascii")
    if not answer and question.turns_away:
        return health(True, "closed the connection, as its allowed_networks say")
    if not answer:
        return health(False, "it closed the connection without an answer")
    if not _PROTOCOLS[question.protocol].answer.match(answer):
        return health(False, f"unexpected answer: {text}")
    return health(True, text)


def _answer(question: Question, until: float) -> bytes:
    """The first line of the answer, without its end; raises ``OSError``."""
    protocol = _PROTOCOLS[question.protocol]
    with _connected(question.endpoint, until) as plain:
        if question.proxied:
            plain.sendall(_PROXY_LOCAL)
        line = _with_tls(plain) if question.tls else plain
        with line:
            if protocol.asks:
                line.sendall(protocol.asks)
            answer = _read_line(line, until)
            if protocol.leaves and answer:
                line.sendall(protocol.leaves)
                # The server ends the connection; nothing is wrong if it has done so already.
                _read_line(line, until)
            return answer


def _connected(endpoint: Endpoint, until: float) -> socket.socket:
    if endpoint.path:
        made = socket.socket(socket.AF_UNIX)
        where: object = endpoint.path
    else:
        host = _host_of(endpoint)
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        where = (host, endpoint.port)
    try:
        made.settimeout(_left(until))
        made.connect(where)  # type: ignore[arg-type]
    except OSError:
        made.close()
        raise
    return made


def _host_of(endpoint: Endpoint) -> str:
    """An address of this machine at which the endpoint listens; empty: a UNIX socket."""
    known = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}
    return "" if endpoint.path else known.get(endpoint.interface, endpoint.interface)


def _with_tls(line: socket.socket) -> socket.socket:
    """TLS with whatever certificate: the log reports one that expires."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Whatever the server may be configured for.
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context.wrap_socket(line)


def _read_line(line: socket.socket, until: float) -> bytes:
    """The first line; less if the connection ends or the line is too long."""
    data = b""
    while b"\n" not in data and len(data) < LONGEST:
        line.settimeout(_left(until))
        received = line.recv(LONGEST - len(data))
        if not received:
            break
        data += received
    return data.partition(b"\n")[0].rstrip(b"\r")


def _left(until: float) -> float:
    """Seconds left; raises ``TimeoutError`` where there are none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
