"""Many logins against a real OpenLDAP that is killed, started anew, and hung."""

from __future__ import annotations

import poplib
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ldap_people import settings
from servers import Gateway, Slapd, need

pytestmark = pytest.mark.interop

USERS = {f"user{number:04d}@example.org": f"pw-{number}" for number in range(1000)}


class Load:
    """Clients that log in, one user after the other, until they are told to end."""

    def __init__(self, gateway: Gateway, clients: int) -> None:
        self._gateway = gateway
        self._changed = threading.Condition()
        self._over = False
        self.replies: Counter[str] = Counter()
        self.odd: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        while not self._over:
            name, password = chance.choice(list(USERS.items()))
            reply = self._log_in(name, password)
            with self._changed:
                self.replies[reply] += 1
                self._changed.notify_all()

    def _log_in(self, name: str, password: str) -> str:
        client = poplib.POP3("127.0.0.1", self._gateway.plain, timeout=60)
        try:
            client.user(name)
            client.pass_(password)
        except poplib.error_proto as error:
            said = bytes(error.args[0])
            if said.startswith(b"-ERR [SYS/TEMP] "):
                return "temporary"
            self.odd.append(said)
            return "odd"
        else:
            return "fine"
        finally:
            client.quit()

    def wait_for(self, kind: str, more: int) -> None:
        """Until so many more have had such a reply."""
        with self._changed:
            wanted = self.replies[kind] + more
            assert self._changed.wait_for(lambda: self.replies[kind] >= wanted, 120), self.replies

    def stop(self) -> None:
        """End, and tell what was odd."""
        self._over = True
        for thread in self._threads:
            thread.join(120)
        assert self.odd == []


@pytest.fixture
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A server with a thousand people, for each test its own."""
    need("slapd")
    server = Slapd(tmp_path_factory.mktemp("slapd"), USERS).run()
    yield server
    server.stop()


def test_an_outage_under_load_is_an_outage_for_all_and_a_wrong_password_for_none(
    tmp_path: Path, slapd: Slapd
) -> None:
    quick = settings(slapd, directory={"cache_ttl": 0.0, "threads": 4}, timeout=1, retry_after=0.2)
    gateway = Gateway(tmp_path, quick).run()
    load = Load(gateway, clients=8)
    outages: list[Callable[[], object]] = [
        lambda: slapd.stop(signal.SIGKILL),
        slapd.halt,
    ]
    ends: list[Callable[[], object]] = [slapd.run, lambda: slapd.send(signal.SIGCONT)]
    try:
        load.wait_for("fine", 40)
        for begin, end in zip(outages, ends, strict=True):
            begin()
            load.wait_for("temporary", 20)
            end()
            load.wait_for("fine", 40)
    finally:
        slapd.send(signal.SIGCONT)
        load.stop()
        gateway.stop()
    assert "Traceback" not in gateway.log
    assert "pw-" not in gateway.log


def test_wrong_passwords_and_unknown_names_among_a_thousand_are_refused_alike(
    tmp_path: Path, slapd: Slapd
) -> None:
    over_tls = settings(slapd, uris=[f"ldaps://localhost:{slapd.tls}"], start_tls=False)
    gateway = Gateway(tmp_path, f"{over_tls}[throttle]\ndelay = 0.0\n").run()
    try:
        said = set()
        for name in ("user0001@example.org", "nobody@example.org", "user0002@example.org", "*"):
            client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
            client.user(name)
            with pytest.raises(poplib.error_proto) as refused:
                client.pass_("wrong")
            said.add(bytes(refused.value.args[0]))
            client.quit()
        assert said == {b"-ERR [AUTH] Wrong name or password."}
    finally:
        gateway.stop()
