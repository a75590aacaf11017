"""Sessions: which are open, and how an operator ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from operator import attrgetter
from typing import Annotated, Any, Literal

from attrs import frozen

from gateway.errors import BadValue, NotFound
from gateway.model import OpenSession
from gateway.networks import within
from gateway.operations.tools import Tools
from gateway.operations.values import Bounds, Page

Protocol = Literal["pop3", "lmtp", "policy"]


@frozen
class SessionRow:
    """A session that is open now."""

    session: str
    """Its id, as in the log."""

    protocol: str
    """``pop3``, ``lmtp`` or ``policy``."""

    user: str
    """The login name; empty: nobody has logged in."""

    address: str
    """The client's IP address; empty: of a UNIX socket."""

    listener: str
    secure: bool
    """Whether TLS protects it, here or at a proxy."""

    since: float
    """When it began, in Unix seconds."""

    mailbox: str
    """The mailbox that it has open; empty: none."""

    mechanism: str
    """``PASS`` or the SASL mechanism of the login; empty: none yet."""

    tls: str
    """The version of TLS, such as ``TLSv1.3``; empty: none here."""

    state: str
    """``before login``, ``logging in``, ``logged in``, ``sending`` a message, ``removing`` after
    QUIT, ``closing``; of LMTP ``idle``, ``receiving``, ``delivering``."""

    octets: int
    """Of the messages that it has sent, or received by LMTP."""


@frozen
class Kicked:
    """A session that an operator has ended."""

    session: SessionRow
    ended: bool
    """False: it ends once its removal or delivery is done, which is never cut."""


@frozen
class Kicks:
    """The sessions that an operator has ended."""

    sessions: tuple[Kicked, ...]


def are_all_meant(asked: Mapping[str, Any]) -> bool:
    """Whether nothing is asked for by which ``is_meant`` tells sessions apart."""
    return not any(asked.get(name) for name in ("session", "user", "protocol", "address"))


def is_meant(asked: Mapping[str, Any]) -> Callable[[OpenSession], bool]:
    """Whether a session has the ``session`` (id), ``user``, ``address`` and ``protocol`` asked for.

    What is empty or missing is not asked for. ``user``: a login name or a mailbox, in any case;
    ``address``: an IP address or a network.
    """
    session, user, protocol = (asked.get(name, "") for name in ("session", "user", "protocol"))
    user, address = user.casefold(), asked.get("address", "")
    inside = within([ip_network(address)]) if address else None

    def meant(one: OpenSession) -> bool:
        return (
            (not session or one.id == session)
            and (not user or user in (one.user.casefold(), one.mailbox.casefold()))
            and (not protocol or one.protocol == protocol)
            and (inside is None or (bool(one.host) and inside(one.host)))
        )

    return meant


async def list_sessions(
    tools: Tools,
    *,
    user: str = "",
    address: str = "",
    protocol: Protocol | None = None,
    page: Annotated[int, Bounds(0, 1000)] = 0,
    per_page: Annotated[int, Bounds(1, 1000)] = 100,
) -> Page[SessionRow]:
    """List the open sessions of all processes, the oldest first.

    ``user``: a login name or a mailbox; ``address``: of the client, or a network such as
    192.0.2.0/24.
    """
    asked = {
        "user": user,
        "address": named_network(address),
        "protocol": protocol or "",
        "most": (page + 1) * per_page,
    }
    answers = await tools.processes.ask_each("sessions", asked)
    found = [OpenSession(*one) for answer in answers for one in answer["sessions"]]
    found.sort(key=attrgetter("since"))
    part = found[page * per_page : (page + 1) * per_page]
    total = sum(answer["total"] for answer in answers)
    return Page(tuple(map(_row, part)), page, per_page, total)


async def kick_session(tools: Tools, *, session: str) -> Kicks:
    """End one session, by its id.

    The client gets ``-ERR``, or 421 by LMTP, unless it is amid a reply. A removal after
    QUIT or a delivery ends first. Without QUIT no message is removed.
    """
    if not session:
        raise BadValue(["session: expected the id of a session"])
    kicked = await _kick(tools, session=session)
    if not kicked.sessions:
        raise NotFound("no such session is open; it may have ended")
    return kicked


async def kick_sessions(tools: Tools, *, user: str = "", address: str = "") -> Kicks:
    """End all sessions of a user, of a client's address or network, or of both together.

    ``user``: a login name or a mailbox. As with one session, a removal or a delivery ends
    first. The clients may come back: disable the account, or the network, before.
    """
    if not (user or address):
        raise BadValue(["user: expected a user or an address, or both"])
    return await _kick(tools, user=user, address=named_network(address))


async def _kick(tools: Tools, **asked: str) -> Kicks:
    answers = await tools.processes.ask_each("kick", {**asked, "operator": tools.operator})
    pairs = (pair for answer in answers for pair in answer)
    return Kicks(tuple(Kicked(_row(OpenSession(*one)), ended) for one, ended in pairs))


def named_network(address: str) -> str:
    """The network that is meant, also by an address; empty: none.  Raises ``BadValue``."""
    try:
        return str(ip_network(address, strict=False)) if address else ""
    except ValueError:
        raise BadValue(["address: expected an IP address or a network"]) from None


def _row(one: OpenSession) -> SessionRow:
    return SessionRow(
        session=one.id,
        protocol=one.protocol,
        user=one.user,
        address=one.host,
        listener=one.listener,
        secure=one.secure,
        since=one.since,
        mailbox=one.mailbox,
        mechanism=one.method,
        tls=one.tls,
        state=one.state,
        octets=one.octets,
    )
