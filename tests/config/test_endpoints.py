"""Endpoints as text: what they say, which are refused and why, and which two cannot be together."""

from __future__ import annotations

import os
import socket
import stat
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.service import Listener, Server, endpoint_of
from gateway.endpoints import find, parse
from gateway.errors import ConfigError
from servers import free_port


class ParseTests(SynchronousTestCase):
    def test_names_may_stand_or_be_left_out_as_twisted_has_it(self) -> None:
        for text in (
            r"tcp:110:interface=\:\:1",
            r"tcp:interface=\:\:1:110",
            r"tcp:port=110:interface=\:\:1:backlog=5",
            r"tcp6:110:5:\:\:1",
        ):
            endpoint = parse(text)
            self.assertEqual((endpoint.port, endpoint.interface), (110, "::1"), text)
        self.assertEqual(parse(r"unix:/a\:b\\c:mode=600").path, "/a:b\\c")
        self.assertEqual(parse("tcp6:110").interface, "::")
        self.assertEqual(parse("systemd:domain=INET:name=pop3").given["name"], "pop3")

    def test_each_that_is_refused_says_what_was_expected(self) -> None:
        for text, words in (
            ("tcp:pop3", "a port as a number, such as tcp:110"),
            ("tcp:", "a port as a number"),
            ("tcp:-1", "a port as a number"),
            ("tcp:\u0661\u0661\u0660", "a port as a number"),
            ("tcp:99999", "a port from 0 to 65535"),
            ("tcp:interface=127.0.0.1", "a port from 0 to 65535"),
            ("tcp:110:interface=300.1.1.1", "interface as an address"),
            ("tcp:110:interface=eth0", "interface as an address"),
            ("tcp:110:interface=\\:\\:x", "interface as an address"),
            ("tcp:110:backlog=many", "backlog as a number"),
            ("tcp:110:backlog=0", "backlog as a number"),
            ("tcp:110:mode=660", "expected only port, interface, backlog after tcp:"),
            ("tcp:110::5:6", "expected only port, interface, backlog after tcp:"),
            ("tcp:110:port=111", "expected only port"),
            ("unix:run/lmtp", "an absolute path"),
            ("unix:", "an absolute path"),
            (f"unix:/{'x' * 107}", "at most 107 octets"),
            ("unix:/x:mode=rw", "mode as octal digits"),
            ("unix:/x:mode=888", "mode as octal digits"),
            ("unix:/x:lockfile=no", "lockfile=0 or lockfile=1"),
            ("systemd:domain=INET", ":index= or :name="),
            ("systemd:domain=INET:index=0:name=a", ":index= or :name="),
            ("systemd:domain=LOCAL:index=0", "domain=INET, domain=INET6 or domain=UNIX"),
            ("systemd:domain=INET:index=x", "index as a number"),
            ("haproxy:tcp:110", "use tcp: with proxy_protocol = true"),
            ("ssl:995:privateKey=x", 'tls = "implicit"'),
            ("tls:995", "expected tcp:PORT, tcp6:PORT, unix:/PATH"),
            ("stdio:", "expected tcp:PORT"),
            ("tcp", "expected tcp:PORT"),
            ("", "expected tcp:PORT"),
        ):
            with self.assertRaises(ValueError) as caught:
                parse(text)
            self.assertIn(words, str(caught.exception), text)

    @given(
        st.text(alphabet=st.sampled_from("tcp6unixsystemd:=\\/0123456789.,-modeinterfacebacklog"))
    )
    def test_what_is_taken_is_what_twisted_takes(self, text: str) -> None:
        if (endpoint := find(text)) is not None and endpoint.kind != "systemd":
            serverFromString(reactor, text)

    def test_only_ports_made_after_995_say_tls(self) -> None:
        for port, says in (("995", True), ("1995", True), ("110", False), ("9950", False)):
            self.assertEqual(parse(f"tcp:{port}").says_tls, says, port)
        self.assertFalse(parse("unix:/run/995").says_tls)


class ClashTests(SynchronousTestCase):
    def test_two_clash_where_the_kernel_lets_only_one_listen(self) -> None:
        places = ("", "0.0.0.0", "127.0.0.1", "127.0.0.2", "localhost", r"\:\:1", r"\:\:")
        for first, second in product(places, places):
            port = free_port()
            texts = [f"tcp:{port}:interface={place}" for place in (first, second)]
            one, other = map(parse, texts)
            self.assertEqual(one.clashes_with(other), not self.both_listen(texts), texts)

    def both_listen(self, texts: list[str]) -> bool:
        ports = []
        try:
            for text in texts:
                listening = serverFromString(reactor, text).listen(Factory.forProtocol(Protocol))
                listening.addCallbacks(ports.append, lambda _: None)
            return len(ports) == 2
        finally:
            for port in ports:
                port.stopListening()

    def test_another_port_or_path_never_clashes_and_any_free_port_is_another(self) -> None:
        for one, other, clash in (
            ("tcp:110", "tcp:111", False),
            ("tcp:0", "tcp:0", False),
            ("unix:/a", "unix:/b", False),
            ("unix:/a/../b", "unix:/b:mode=600", True),
            ("unix:/a", "tcp:110", False),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", True),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1", False),
            ("systemd:domain=INET:index=0", "tcp:0", False),
        ):
            self.assertEqual(parse(one).clashes_with(parse(other)), clash, (one, other))


class PlaceTests(SynchronousTestCase):
    """What keeps an endpoint from being listened at is found before anything listens."""

    def refused(self, text: str) -> str:
        with self.assertRaises(ConfigError) as caught:
            endpoint_of(reactor, "lmtp.endpoint", text)
        (problem,) = caught.exception.problems
        self.assertTrue(problem.startswith("lmtp.endpoint: "), problem)
        return problem

    def test_a_unix_sockets_directory_must_be_there(self) -> None:
        missing = os.path.abspath("no/such")
        self.assertIn(
            f"{missing}: no such directory; make it", self.refused(f"unix:{missing}/lmtp")
        )

    def test_a_file_in_a_sockets_place_is_never_taken_for_one(self) -> None:
        path = os.path.abspath("file")
        with open(path, "w"):
            pass
        self.assertIn("is there and is no socket", self.refused(f"unix:{path}"))
        self.assertTrue(os.path.exists(path))

    def test_an_address_of_another_machine_is_named(self) -> None:
        self.assertIn("this machine has no such address", self.refused("tcp:0:interface=192.0.2.1"))

    def test_a_unix_socket_is_its_owners_and_its_groups_unless_its_mode_says_else(self) -> None:
        for more, mode in (("", 0o660), (":mode=600", 0o600), (":backlog=5", 0o660)):
            path = os.path.abspath(f"socket{mode}{len(more)}")
            listening = endpoint_of(reactor, "http.endpoint", f"unix:{path}{more}").listen(
                Factory.forProtocol(Protocol)
            )
            port = self.successResultOf(listening)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode, more)
            port.stopListening()

    def test_a_place_that_another_program_has_is_named_by_its_section_with_the_cure(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            endpoint = endpoint_of(reactor, "x", f"tcp:{port}:interface=127.0.0.1")
            for section, shown in (("lmtp", "lmtp"), ("listeners.a", "listeners.a"), ("", "name")):
                listener = Listener(
                    "name", endpoint, Factory.forProtocol(Protocol), section=section
                )
                server = Server(
                    *(reactor, [listener], []),
                    drain_timeout=1.0,
                )
                with self.assertRaises(ConfigError) as caught:
                    server.privilegedStartService()
                (problem,) = caught.exception.problems
                self.assertTrue(problem.startswith(f"{shown}: Couldn't listen on "), problem)
                self.assertTrue(problem.endswith("which ss -ltnxp shows)"), problem)
