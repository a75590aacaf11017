"""Many requests on a few connections: each has its own answer, whatever becomes of the others."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.s3.answers import Collector, Response
from gateway.s3.connection import Content
from gateway.s3.transport import Connections
from played_server import Server, Transport

WITHIN = 10.0


class Asked:
    """A request, and what has come of it."""

    def __init__(self, number: int, transport: Transport, answer: Deferred[Response]) -> None:
        body = b"the answer to %d" % number
        self.text = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        self.body = body
        self.sent = 0
        """Octets of its answer that the server has sent."""
        self.transport = transport
        self.answer = answer
        self.found: list[bytes] = []
        self.is_over = False
        answer.addCallback(self._collect).addCallbacks(self._collected, self._failed)

    def _collect(self, response: Response) -> Deferred[bytes]:
        return Collector(response, 100).whole

    def _collected(self, body: bytes) -> None:
        self.is_over = True
        self.found.append(body)

    def _failed(self, _: Failure) -> None:
        self.is_over = True


class KeptConnections(RuleBasedStateMachine):
    """Sessions that ask, give up, and read, beside a server that answers, breaks and is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.server = Clock(), Server()
        self.connections = Connections(self.clock, self.server, "s3", most=2)
        self.asked: list[Asked] = []

    @property
    def open(self) -> list[Asked]:
        """Requests that wait for octets."""
        return [one for one in self.asked if not one.is_over]

    @rule()
    def ask(self) -> None:
        """A request finds a connection that no other one uses."""
        head = b"GET /%d HTTP/1.1\r\n\r\n" % len(self.asked)
        in_use = {id(one.transport) for one in self.open}
        answer = self.connections.ask(head, Content(), WITHIN)
        (transport,) = (one for one in self.server.transports if one.value().endswith(head))
        assert not transport.aborted
        assert id(transport) not in in_use
        self.asked.append(Asked(len(self.asked), transport, answer))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), octets=st.integers(1, 80))
    def send(self, data: st.DataObject, octets: int) -> None:
        """The server sends a part of an answer, or the rest of it."""
        one = data.draw(st.sampled_from(self.open))
        piece = one.text[one.sent : one.sent + octets]
        one.sent += len(piece)
        one.transport.protocol.dataReceived(piece)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A session does not want its answer any more."""
        one = data.draw(st.sampled_from(self.open))
        one.answer.cancel()
        assert one.is_over
        assert one.transport.aborted

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A connection breaks."""
        one = data.draw(st.sampled_from(self.open))
        one.transport.protocol.connectionLost(Failure(ConnectionDone()))
        one.transport.aborted = True
        assert one.is_over

    @rule(seconds=st.sampled_from([1.0, WITHIN / 2, WITHIN]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @invariant()
    def each_has_its_own_answer(self) -> None:
        """Whole, or none."""
        for one in self.asked:
            assert one.found in ([], [one.body])
            if one.sent == len(one.text):
                assert one.is_over

    def teardown(self) -> None:
        """Nothing is left: no connection, and no timer."""
        for one in self.open:
            one.answer.cancel()
        self.connections.close()
        assert all(one.aborted for one in self.server.transports)
        assert not self.clock.getDelayedCalls()


KeptConnections.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestKeptConnections = KeptConnections.TestCase
