"""Limits over several worker processes are those of one, whichever workers clients come to."""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_process import Client
from test_workers_process import READY, inode_of, workers

from ldap_people import settings
from servers import PASSWORD, USER, Gateway, Slapd, fill

pytestmark = pytest.mark.interop

AT_ONCE = 90
CONNECTING = 40
"""Clients that connect at once: fewer than a socket's queue takes."""

GUESSES = 1500
Serve = Callable[..., Gateway]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a gateway of so many workers; it is ended, and must have foreseen everything."""
    made: list[Gateway] = []

    def start(more: str = "", *, count: int = 3) -> Gateway:
        server = Gateway(tmp_path, f"[processes]\nworkers = {count}\n{more}\n")
        fill(server.maildir, [b"Subject: 1\r\n\r\none\r\n"])
        server.start(server.command, READY)
        made.append(server)
        return server

    yield start
    for server in made:
        server.send(signal.SIGCONT)
        server.stop()
        assert "Traceback" not in server.log


class Served(Client):
    """A client that has had its first replies."""

    def __init__(self, line: socket.socket, replies: list[bytes]) -> None:
        line.settimeout(30)
        self.line = line
        self.file = line.makefile("rb")
        self.replies = replies


def clients_at_once(
    server: Gateway, count: int, *commands: str, source: str = "127.0.0.1"
) -> list[Served]:
    """Clients, all of them connected, which send ``commands`` at the same time."""
    lines: list[socket.socket] = []
    greetings: dict[socket.socket, bytes] = {}
    for at in range(0, count, CONNECTING):
        more = [socket.socket() for _ in range(min(CONNECTING, count - at))]
        for line in more:
            line.bind((source, 0))
            line.setblocking(False)
            line.connect_ex(("127.0.0.1", server.plain))
        greetings |= received(more, 1)
        lines += more
    replies: dict[socket.socket, bytes] = {}
    if commands:
        inside = [line for line in lines if greetings[line].startswith(b"+OK")]
        for number, line in enumerate(inside):
            script = "".join(f"{command}\r\n" for command in commands)
            line.sendall(script.replace("{}", str(number)).encode())
        replies = received(inside, len(commands))
    return [Served(line, (greetings[line] + replies.get(line, b"")).splitlines()) for line in lines]


def received(clients: list[socket.socket], lines: int) -> dict[socket.socket, bytes]:
    """What each client receives: so many lines, or all until the end."""
    found = dict.fromkeys(clients, b"")
    with selectors.DefaultSelector() as ready:
        for line in clients:
            ready.register(line, selectors.EVENT_READ)
        while ready.get_map():
            events = ready.select(60)
            assert events, "no reply within 60 s"
            for key, _ in events:
                line = key.fileobj
                assert isinstance(line, socket.socket)
                data = line.recv(4096)
                found[line] += data
                if not data or found[line].count(b"\r\n") >= lines:
                    ready.unregister(line)
    return found


def admitted(
    server: Gateway, count: int, *commands: str, source: str = "127.0.0.1"
) -> list[Served]:
    """The clients of so many at once whose last command is answered by +OK; others leave."""
    found = []
    for client in clients_at_once(server, count, *commands, source=source):
        is_in = len(client.replies) > len(commands) and client.replies[-1].startswith(b"+OK")
        if is_in:
            found.append(client)
        else:
            leave([client])
    return found


def leave(clients: list[Served]) -> None:
    """End their connections."""
    for client in clients:
        client.__exit__()


def until_full(server: Gateway, places: int, *commands: str) -> list[Served]:
    """Clients in all places that become free one after the other."""
    found: list[Served] = []
    while len(found) < places:
        found += admitted(server, 1, *commands)
    return found


LOG_IN = (f"USER {USER}", f"PASS {PASSWORD}")


def test_of_many_at_once_as_many_as_may_connect_do_and_again_after_some_left(serve: Serve) -> None:
    server = serve("[limits]\nconnections = 20")
    inside = admitted(server, AT_ONCE)
    assert len(inside) == 20
    for places in (1, 7, 20):
        leave(inside[:places])
        del inside[:places]
        inside += until_full(server, places)
        assert admitted(server, AT_ONCE) == []
    assert {client.ask("QUIT")[:3] for client in inside} == {b"+OK"}


def test_each_address_has_a_limit_of_its_own(serve: Serve) -> None:
    server = serve("[limits]\nconnections_per_address = 10")
    first = admitted(server, AT_ONCE)
    second = admitted(server, AT_ONCE, source="127.0.0.2")
    assert (len(first), len(second)) == (10, 10)
    leave(second)
    assert admitted(server, AT_ONCE) == []


def test_of_many_logins_at_once_a_user_gets_as_many_sessions_as_allowed(serve: Serve) -> None:
    server = serve("[limits]\nsessions_per_user = 4")
    leave(admitted(server, 1, *LOG_IN, "QUIT"))
    inside = admitted(server, AT_ONCE, *LOG_IN)
    assert len(inside) == 4
    assert inside.pop().ask("QUIT").startswith(b"+OK")
    inside += until_full(server, 1, *LOG_IN)
    assert admitted(server, AT_ONCE, *LOG_IN) == []


def of_worker(pid: int, clients: list[Served]) -> list[Served]:
    """Those that this process serves."""
    links = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return [
        client
        for client in clients
        if f"socket:[{inode_of(client.line.getpeername()[1], client.line.getsockname()[1])}]"
        in links
    ]


def test_one_worker_may_have_all_places(serve: Serve) -> None:
    server = serve("[limits]\nconnections = 9")
    pid = workers(server)[1]
    only: list[Served] = []
    while len(only) < 9:
        inside = until_full(server, 9 - len(only))
        only += of_worker(pid, inside)
        leave([client for client in inside if client not in only])
    assert admitted(server, AT_ONCE) == []


def test_the_places_of_a_worker_that_was_killed_are_free_again(serve: Serve) -> None:
    server = serve("[limits]\nconnections = 20")
    inside = admitted(server, AT_ONCE)
    victim = workers(server)[1]
    lost = of_worker(victim, inside)
    os.kill(victim, signal.SIGKILL)
    assert {client.read() for client in lost} == {b""}
    server.wait_for(b" ready: pid=", times=4)
    again = until_full(server, len(lost))
    assert admitted(server, AT_ONCE) == []
    leave(again + inside)


def binds(slapd: Slapd, user: str) -> int:
    """How many passwords of somebody have reached the directory."""
    return len(re.findall(rf'BIND dn="uid={re.escape(user)},[^"]*" method=', slapd.log))


@pytest.mark.parametrize("count", [1, 3])
def test_of_thousands_of_guesses_at_once_no_more_reach_the_directory_than_by_one_process(
    tmp_path_factory: pytest.TempPathFactory, serve: Serve, count: int
) -> None:
    slapd = Slapd(tmp_path_factory.mktemp("slapd"), {USER: "right", "bob@example.org": "b"}).run()
    try:
        more = f"{settings(slapd)}[throttle]\nrefuse_after = 5\ndelay = 0.1\nlongest = 0.2\n"
        server = serve(more + "[limits]\nconnections_per_address = 5000", count=count)
        assert len(admitted(server, 1, "USER bob@example.org", "PASS b")) == 1
        for _ in range(2):
            assert admitted(server, GUESSES, f"USER {USER}", "PASS wrong-{}") == []
        assert binds(slapd, USER) == 5
    finally:
        slapd.stop()


def test_of_logins_at_once_login_delay_lets_one_in_and_keeps_the_others_out(serve: Serve) -> None:
    server = serve('[pop3]\nlogin_delay = "3600"')
    inside = admitted(server, AT_ONCE, *LOG_IN)
    assert len(inside) == 1
    assert inside[0].ask("QUIT").startswith(b"+OK")
    for client in clients_at_once(server, AT_ONCE, *LOG_IN):
        assert client.replies[-1].startswith(b"-ERR [LOGIN-DELAY] ")


def test_of_logins_at_once_one_gets_an_exclusive_mailbox(serve: Serve) -> None:
    server = serve("[pop3]\nexclusive = true")
    inside = admitted(server, AT_ONCE, *LOG_IN)
    assert len(inside) == 1
    for client in clients_at_once(server, AT_ONCE, *LOG_IN):
        assert client.replies[-1].startswith(b"-ERR [IN-USE] ")
    assert inside.pop().ask("QUIT").startswith(b"+OK")
    assert admitted(server, 1, *LOG_IN) != []


def test_while_the_parent_does_not_answer_workers_keep_to_their_shares_and_say_so(
    serve: Serve,
) -> None:
    server = serve("[limits]\nconnections = 9")
    server.halt()
    with ExitStack() as stack:
        inside = [stack.enter_context(client) for client in admitted(server, AT_ONCE)]
        assert len(inside) == 9
        for client in inside:
            assert client.ask(*LOG_IN).startswith(b"+OK")
        assert admitted(server, AT_ONCE) == []
        server.send(signal.SIGCONT)
        server.wait_for(b"the parent process does not answer", times=3)
        server.wait_for(b"the parent process answers again", times=3)
        assert admitted(server, AT_ONCE) == []
    again = until_full(server, 9)
    assert admitted(server, AT_ONCE) == []
    leave(again)
