"""Behind real proxies, configured as docs/behind-a-proxy.md says, clients count as themselves."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_process import run
from commands import PROGRAM
from programs import need
from proxies import DovecotProxy, Haproxy, Nginx, moved, snippets
from servers import PASSWORD, USER, Gateway, Server, fill, free_port

pytestmark = pytest.mark.interop

MAIL = b"Subject: hello\r\n\r\nhello\r\n"
CLIENT, PROXY = "127.0.0.9", "127.0.0.1"
"""Addresses of this machine from which the client and the proxy connect."""

NO_TRUST = "[pop3]\nsecure_networks = []\n"
WRONG = "-ERR [AUTH] Wrong name or password."


class Site:
    """The servers of a test, and the ports of the examples."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = self.folder("home")
        self.backs = {port: free_port() for port in (110, 995, 1110)}
        self.fronts = {port: free_port() for port in (110, 995)}
        self.running: list[Server] = []

    def folder(self, name: str) -> Path:
        """A new directory."""
        made = self.directory / name
        made.mkdir()
        return made

    def moved(self, text: str) -> str:
        """An example of the page with the ports of this test."""
        return moved(text, self.fronts, self.backs)

    def gateway(self, *tables: str) -> Gateway:
        """The gateway with these settings besides, not started, and one message."""
        gateway = Gateway(self.folder("gateway"), self.moved("\n".join(tables)))
        fill(gateway.maildir, [MAIL])
        self.running.append(gateway)
        return gateway

    def started(self, server: Server) -> None:
        """Have it end with the test."""
        self.running.append(server)

    def fetch(self, gateway: Gateway, front: int, *options: str, password: str = PASSWORD) -> str:
        """The first message by curl through a port of the proxy, or what was said."""
        need("curl")
        scheme = "pop3s" if front == 995 else "pop3"
        done = run(
            self.home,
            *("curl", "--disable", "--silent", "--show-error", "--verbose", "--max-time", "60"),
            *("--interface", CLIENT, "--user", f"{USER}:{password}", *options),
            *("--cacert", str(gateway.certificate)),
            *("--output", "message", f"{scheme}://127.0.0.1:{self.fronts[front]}/1"),
        )
        if done.returncode:
            return done.stdout
        message = self.home / "message"
        assert message.read_bytes() == MAIL, done.stdout
        message.unlink()
        return "fetched"

    def sessions(self, gateway: Gateway, count: int = 1) -> list[str]:
        """The lines of this many sessions that logged in."""
        # Each has a line at its login, and one at its end.
        gateway.wait_for(f" user={USER} ".encode(), times=2 * count)
        lines = [line for line in gateway.log.splitlines() if f" user={USER} " in line]
        return [line for line in lines if " session_end: " in line]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Ends what a test has started."""
    made = Site(tmp_path)
    yield made
    for server in reversed(made.running):
        if server.process is not None:
            server.stop(signal.SIGTERM)
            assert "Traceback" not in server.log


# -- HAProxy ------------------------------------------------------------------


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_haproxy_passes_the_client_and_its_tls_on(site: Site, version: str) -> None:
    gateway = site.gateway(snippets("toml")[0]).run()
    config = site.moved(snippets("haproxy")[0]).replace("send-proxy-v2", version)
    site.started(Haproxy(site.folder("haproxy"), config).run())
    for front, options in ((110, ()), (110, ("--ssl-reqd",)), (995, ())):
        assert site.fetch(gateway, front, *options) == "fetched"
    lines = site.sessions(gateway, 3)
    assert all(f" from={CLIENT} via={PROXY} " in line for line in lines), lines
    assert [" tls=no " in line for line in lines] == [True, False, False]


@pytest.mark.parametrize("workers", [1, 2])
def test_behind_haproxy_the_audit_and_the_limits_see_the_client(site: Site, workers: int) -> None:
    more = f"[limits]\nconnections_per_address = 1\n[processes]\nworkers = {workers}\n"
    gateway = site.gateway(snippets("toml")[0], more)
    gateway.start(gateway.command, b" info ready: ")
    site.started(Haproxy(site.folder("haproxy"), site.moved(snippets("haproxy")[0])).run())
    with contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", site.fronts[110]), 30, (client, 0))
            )
            for client in (CLIENT, "127.0.0.10", CLIENT)
        ]
        files = [stack.enter_context(line.makefile("rwb")) for line in lines]
        greetings = sorted(file.readline() for file in files)
        assert greetings[2] == b"-ERR [SYS/TEMP] Too many connections.\r\n", gateway.log
        assert {*greetings[:2]} == {b"+OK POP3 server ready.\r\n"}
        for command in (f"USER {USER}", f"PASS {PASSWORD}", "DELE 1", "QUIT"):
            files[1].write(f"{command}\r\n".encode())
            files[1].flush()
            assert files[1].readline().startswith(b"+OK")
    gateway.wait_for(f"connection_refused: from={CLIENT} via={PROXY} ".encode())
    (entry,) = map(json.loads, (gateway.directory / "audit.log").read_text().splitlines())
    assert entry["client"] == "127.0.0.10", entry


def test_the_checksum_and_the_id_that_haproxy_sends_are_read(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[0]).run()
    options = "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"
    config = site.moved(snippets("haproxy")[0]).replace("send-proxy-v2", options)
    config = config.replace(
        "    default_backend", "    unique-id-format %pid-%rt\n    default_backend"
    )
    site.started(Haproxy(site.folder("haproxy"), config).run())
    assert site.fetch(gateway, 110) == "fetched"
    assert site.fetch(gateway, 995) == "fetched"
    for line in site.sessions(gateway, 2):
        assert re.search(rf" via={PROXY} proxy_session=\d+-\d+ tls=", line), line


def test_a_reload_takes_other_proxies_and_health_needs_to_be_none(site: Site) -> None:
    listed = snippets("toml")[0]
    gateway = site.gateway(listed).run()
    config = gateway.config.read_text()
    site.started(Haproxy(site.folder("haproxy"), site.moved(snippets("haproxy")[0])).run())
    assert site.fetch(gateway, 110) == "fetched"
    gateway.config.write_text(config.replace(f'["{PROXY}"]', '["192.0.2.1"]'))
    gateway.send(signal.SIGHUP)
    gateway.wait_for(b"listeners.pop3.proxy_networks")
    assert site.fetch(gateway, 110) != "fetched"
    gateway.wait_for(b'reason="listeners.pop3: proxy_net')
    lines = gateway.log.splitlines()
    health = [*PROGRAM, "health", "--config", str(gateway.config)]
    done = subprocess.run(health, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "listener pop3s at" in done.stdout
    assert [line for line in gateway.log.splitlines()[len(lines) :] if "session" in line] == []


def test_haproxy_reaches_a_unix_socket_which_needs_no_networks(site: Site) -> None:
    path = site.directory / "pop3"
    gateway = site.gateway(
        f'[listeners.a]\nendpoint = "unix:{path}"\nproxy_protocol = true\n'
    ).run()
    config = site.moved(snippets("haproxy")[0])
    config = config.replace(f"127.0.0.1:{site.backs[110]}", f"unix@{path}")
    site.started(Haproxy(site.folder("haproxy"), config).run())
    assert site.fetch(gateway, 110) == "fetched"
    (line,) = site.sessions(gateway)
    assert f" from={CLIENT} via=- " in line


def test_haproxy_passes_a_client_of_ipv6_on(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[0], '[pop3]\nsecure_networks = ["::1"]\n').run()
    config = site.moved(snippets("haproxy")[0])
    here = f"bind 127.0.0.1:{site.fronts[110]}"
    config = config.replace(here, f"{here}\n    bind [::1]:{site.fronts[110]}")
    site.started(Haproxy(site.folder("haproxy"), config).run())
    url = f"pop3://[::1]:{site.fronts[110]}/1"
    done = run(site.home, "curl", "--disable", "-sS", "--user", f"{USER}:{PASSWORD}", "-g", url)
    assert done.stdout.encode() == MAIL.replace(b"\r\n", b"\n"), done.stdout
    (line,) = site.sessions(gateway)
    assert f" from=::1 via={PROXY} " in line


def test_tls_that_ends_at_haproxy_counts_for_its_own_clients_only(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[1], NO_TRUST).run()
    plain, folder = free_port(), site.folder("haproxy")
    names = ("cert.pem", "key.pem")
    pem = b"".join((gateway.directory / name).read_bytes() for name in names)
    (folder / "mail.pem").write_bytes(pem)
    defaults = snippets("haproxy")[0].partition("\n\n")[0]
    config = site.moved(f"{defaults}\n{snippets('haproxy')[1]}")
    config = config.replace("/etc/haproxy/mail.pem", f"{folder}/mail.pem")
    config = config.replace("frontend tls", f"frontend tls\n    bind 127.0.0.1:{plain}")
    site.started(Haproxy(folder, config).run())
    assert site.fetch(gateway, 995) == "fetched"
    (line,) = site.sessions(gateway)
    assert f" from={CLIENT} via={PROXY} tls=yes " in line
    site.fronts[110] = plain
    # Two versions of curl.
    no_mechanism = "No known authentication mechanisms supported|no auth mechanism was offered"
    assert re.search(no_mechanism, site.fetch(gateway, 110))


def test_the_health_checks_of_haproxy_leave_no_line_in_the_log(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[0])
    config = site.moved(snippets("haproxy")[0])
    config = config.replace("check check-send-proxy", "check check-send-proxy inter 100ms rise 5")
    config = config.replace("    server", "    option log-health-checks\n    server")
    haproxy = Haproxy(site.folder("haproxy"), config).run()
    site.started(haproxy)
    for name in ("pop3", "pop3s"):
        haproxy.wait_for(f"Server {name}/mail1 is DOWN".encode())
    gateway.run()
    for name in ("pop3", "pop3s"):
        haproxy.wait_for(f"Server {name}/mail1 is UP".encode())
    log = gateway.log
    assert "session" not in log.replace("sessions", ""), log
    assert "refused" not in log, log


def test_lmtp_behind_haproxy_traces_the_client(site: Site) -> None:
    port, front = free_port(), free_port()
    lmtp = f'[lmtp]\nendpoint = "tcp:{port}:interface=127.0.0.1"\nallowed_networks = ["{CLIENT}"]'
    behind = f'proxy_protocol = true\nproxy_networks = ["{PROXY}"]\n'
    gateway = site.gateway(f"{lmtp}\n{behind}").run()
    defaults = snippets("haproxy")[0].partition("\n\n")[0]
    config = (
        f"{defaults}\nlisten lmtp\n    bind 127.0.0.1:{front}\n"
        f"    server mail1 127.0.0.1:{port} send-proxy-v2\n"
    )
    site.started(Haproxy(site.folder("haproxy"), config).run())
    with smtplib.LMTP("127.0.0.1", front, source_address=(CLIENT, 0)) as client:
        client.sendmail("sender@example.net", [USER], MAIL)
    (file,) = [path for path in (gateway.maildir / "new").iterdir() if path.stat().st_size > 100]
    assert f"([{CLIENT}])" in file.read_text()


# -- curl ---------------------------------------------------------------------


def test_curls_own_header_is_taken_by_pop3_and_http(site: Site) -> None:
    port, web = free_port(), free_port()
    behind = 'proxy_protocol = true\nproxy_networks = ["127.0.0.0/8"]\n'
    gateway = site.gateway(
        f'[listeners.a]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n{behind}'
        f'[http]\nendpoint = "tcp:{web}:interface=127.0.0.1"\ntoken = "t0ken"\n{behind}'
    ).run()
    site.fronts[110] = port
    assert site.fetch(gateway, 110, "--haproxy-protocol") == "fetched"
    assert site.fetch(gateway, 110, "--haproxy-protocol", "--ssl-reqd") == "fetched"
    lines = site.sessions(gateway, 2)
    assert all(f" from={CLIENT} via={CLIENT} " in line for line in lines), lines
    asked = ("curl", "--disable", "-sS", "--interface", CLIENT, "-H", "Authorization: Bearer t0ken")
    url = f"http://127.0.0.1:{web}/v1/quota/{USER}"
    assert '"mailbox"' in run(site.home, *asked, "--haproxy-protocol", url).stdout
    assert run(site.home, *asked, url).returncode
    gateway.wait_for(b"http: the connection begins without a PROXY header")


def test_without_a_header_a_client_is_closed_in_time(site: Site) -> None:
    port = free_port()
    gateway = site.gateway(
        f'[listeners.a]\nendpoint = "tcp:{port}:interface=127.0.0.1"\nproxy_protocol = true\n'
        f'proxy_networks = ["{PROXY}"]\n[limits]\nproxy_timeout = 0.5\n'
    ).run()

    def say(data: bytes) -> bytes:
        with socket.create_connection((PROXY, port), timeout=30) as plain:
            plain.sendall(data)
            return plain.recv(1)

    for data in (b"", b"CAPA\r\n"):
        with pytest.raises(ConnectionResetError):
            say(data)
    gateway.wait_for(b'reason="listeners.a: no whole PROXY header')
    gateway.wait_for(b"listeners.a: the connection begins without a PROXY header")


# -- nginx --------------------------------------------------------------------


def test_nginx_as_a_tcp_proxy(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[0]).run()
    stream = site.moved(snippets("nginx")[0])
    site.started(Nginx(site.folder("nginx"), stream, "stream").run())
    assert site.fetch(gateway, 110, "--ssl-reqd") == "fetched"
    (line,) = site.sessions(gateway)
    assert f" from={CLIENT} via={PROXY} tls=TLSv1.3 " in line


def test_nginx_as_a_mail_proxy_that_ends_tls(site: Site) -> None:
    ended = snippets("toml")[1].replace('"stated"', '"always"')
    gateway = site.gateway(ended, NO_TRUST).run()
    answers = free_port()
    config = site.moved(snippets("nginx")[1]).replace("127.0.0.1:8143", f"127.0.0.1:{answers}")
    port = f"Auth-Port {site.backs[1110]};"
    config = config.replace("Auth-Port 1110;", port)
    for name, file in (("mail.pem", "cert.pem"), ("mail.key", "key.pem")):
        config = config.replace(f"/etc/nginx/{name}", str(gateway.directory / file))
    site.started(Nginx(site.folder("nginx"), config, "mail").run())
    assert site.fetch(gateway, 995) == "fetched"
    assert WRONG in site.fetch(gateway, 995, password="wrong")
    line = site.sessions(gateway, 2)[0]
    assert f" from={CLIENT} via={PROXY} tls=yes method=PASS " in line


# -- Dovecot ------------------------------------------------------------------


def test_dovecot_as_a_pop3_proxy_names_its_client(site: Site) -> None:
    gateway = site.gateway(snippets("toml")[2], NO_TRUST).run()
    config = site.moved(snippets("dovecot")[0]).replace("port=110", f"port={site.backs[110]}")
    config = config.replace("/etc/dovecot/pop3gw-ca.pem", str(gateway.certificate))
    dovecot = DovecotProxy(site.folder("d"), config).run()
    site.started(dovecot)
    site.fronts[110] = dovecot.plain
    assert site.fetch(gateway, 110) == "fetched", dovecot.log
    assert "[AUTH]" in site.fetch(gateway, 110, password="wrong")
    line = site.sessions(gateway, 2)[0]
    assert f" from={CLIENT} via={PROXY} proxy_session=" in line
    assert " tls=TLSv1.3 " in line
    said = re.search(r" proxy_session=(\S+) ", line)
    assert said is not None
    dovecot.wait_for(f"session=<{said[1]}>".encode())
    (refused,) = [one for one in gateway.log.splitlines() if "login_failed" in one]
    assert f" from={CLIENT} " in refused


def test_dovecot_without_tls_needs_a_word_about_that_of_its_clients(site: Site) -> None:
    toml = snippets("toml")[2]
    gateway = site.gateway(f'{toml}proxy_tls = "always"\n', NO_TRUST).run()
    config = site.moved(snippets("dovecot")[0]).replace("port=110", f"port={site.backs[110]}")
    config = config.replace("/etc/dovecot/pop3gw-ca.pem", str(gateway.certificate))
    dovecot = DovecotProxy(site.folder("d"), config.replace(" starttls=yes", "")).run()
    site.started(dovecot)
    site.fronts[110] = dovecot.plain
    assert site.fetch(gateway, 110) == "fetched"
    (line,) = site.sessions(gateway)
    assert f" from={CLIENT} via={PROXY} proxy_session=" in line
    assert " tls=yes " in line
