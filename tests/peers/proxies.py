"""Real proxies in front of the gateway, with the configurations of docs/behind-a-proxy.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bench.setup import dovecot_config
from gateway.net.tls.certificates import make_certificate
from programs import find, need
from servers import Server, free_port, until_listening

PAGE = Path(__file__).parents[2] / "docs" / "behind-a-proxy.md"
FRONT, BACK = "192.0.2.25", "198.51.100.1"
"""The addresses of the proxy and of pop3gw on that page."""

NGINX_MODULES = {
    "mail": "/usr/lib/nginx/modules/ngx_mail_module.so",
    "stream": "/usr/lib/nginx/modules/ngx_stream_module.so",
}


def snippets(language: str) -> list[str]:
    """The examples of the page in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def moved(text: str, fronts: Mapping[int, int], backs: Mapping[int, int]) -> str:
    """An example with loopback addresses, and with these ports in place of the page's."""
    text = re.sub(rf"{FRONT}:(\d+)", lambda at: f"127.0.0.1:{fronts[int(at[1])]}", text)
    text = re.sub(rf"{BACK}:(\d+)", lambda at: f"127.0.0.1:{backs[int(at[1])]}", text)
    text = re.sub(r'"tcp:(\d+)"', lambda at: f'"tcp:{backs[int(at[1])]}:interface=127.0.0.1"', text)
    return text.replace(FRONT, "127.0.0.1").replace(BACK, "127.0.0.1")


class Haproxy(Server):
    """HAProxy in the foreground."""

    def __init__(self, directory: Path, config: str) -> None:
        need("haproxy")
        super().__init__(directory)
        self._ready = free_port()
        ready = (
            f"\nfrontend ready\n    mode http\n    bind 127.0.0.1:{self._ready}\n"
            "    http-request return status 200\n"
        )
        (directory / "haproxy.cfg").write_text(config + ready)

    def run(self) -> Haproxy:
        """Start it; returns once it listens."""
        self.start(["haproxy", "-db", "-V", "-f", "haproxy.cfg"], b"as the polling mechanism")
        # Its last port, to which no server belongs.
        until_listening(self._ready)
        return self


class Nginx(Server):
    """nginx in the foreground."""

    def __init__(self, directory: Path, config: str, module: str) -> None:
        """``module``: ``mail`` or ``stream``."""
        file = NGINX_MODULES[module]
        need("nginx", file)
        super().__init__(directory)
        head = (
            f"load_module {find(file)};\ndaemon off;\npid {directory}/nginx.pid;\n"
            "error_log stderr notice;\nevents {}\n"
        )
        config = config.replace("http {", "http {\n    access_log off;")
        (directory / "nginx.conf").write_text(head + config)

    def run(self) -> Nginx:
        """Start it; returns once it serves."""
        place = ("-p", str(self.directory), "-c", "nginx.conf", "-e", "stderr")
        self.start(["nginx", *place], b"start worker process ")
        return self


class DovecotProxy(Server):
    """Dovecot 2.3 or 2.4 that has no mail and passes POP3 on, in plain text to its clients."""

    def __init__(self, directory: Path, config: str) -> None:
        need("dovecot", "/usr/lib/dovecot/pop3", root=True)
        super().__init__(directory)
        self.plain = free_port()
        (directory / "base").mkdir()
        directory.chmod(0o755)
        make_certificate(f"{directory}/own.pem", f"{directory}/own.key")
        self._settings = f"""\
base_dir = {directory}/base
state_dir = {directory}/base
log_path = /dev/stderr
listen = 127.0.0.1
ssl_cert = <{directory}/own.pem
ssl_key = <{directory}/own.key
disable_plaintext_auth = no
auth_failure_delay = 0
default_vsz_limit = 0
mail_location = maildir:{directory}/none
service pop3-login {{
  inet_listener pop3 {{
    port = {self.plain}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
{config}"""

    def run(self) -> DovecotProxy:
        """Start it; returns once it serves."""
        config = self.directory / "dovecot.conf"
        config.write_text(dovecot_config.configuration(self._settings, dovecot_config.version()))
        self.start(["dovecot", "-F", "-c", str(config)], b"starting up")
        return self
