"""The command moves a user from Maildirs to a cluster and back, while both servers run."""

from __future__ import annotations

import poplib
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_served import deliver, logged_in

from cluster_engines import Engines
from cluster_gateway import ClusterGateway
from commands import PROGRAM
from servers import USER, Gateway, free_port

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("cluster")]

MESSAGE = b"Subject: one\r\n\r\n.dot\r\nbody\r\n"

Place = tuple[Gateway, int]
"""A server, and its port for LMTP."""


@pytest.fixture
def places(engines: Engines, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """A server of Maildirs with three messages, and a gateway of a cluster without mailboxes."""
    engines.clear()
    for name in ("maildirs", "cluster"):
        (tmp_path / name).mkdir()
    lmtp = free_port()
    at = f'[lmtp]\nendpoint = "tcp:{lmtp}:interface=127.0.0.1"\n'
    maildirs = (Gateway(tmp_path / "maildirs", at), lmtp)
    gateway = ClusterGateway(engines, engines.make_bucket(), tmp_path / "cluster")
    cluster = (gateway, gateway.lmtp)
    for gateway, _ in (maildirs, cluster):
        gateway.run()
    for number in range(3):
        deliver(lmtp, MESSAGE + b"%d\r\n" % number)
    yield maildirs, cluster
    for gateway, _ in (maildirs, cluster):
        gateway.stop()
        assert "Traceback" not in gateway.log


def copy(old: Place, new: Place, *more: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    configs = ["--config", str(old[0].config), "--to", str(new[0].config)]
    command = [*PROGRAM, "mailboxes", "copy", *configs, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def listed(place: Place) -> list[bytes]:
    """The unique-ids that a client sees."""
    with closing(logged_in(place[0])) as client:
        lines: list[bytes] = client.uidl()[1]
        client.quit()
    return [line.split()[1] for line in lines]


def refuses(place: Place) -> None:
    """Nobody gets in, and mail waits in Postfix."""
    with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
        logged_in(place[0])
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as refused:
        deliver(place[1], MESSAGE)
    assert "451" in str(refused.value)


def test_a_user_moves_to_the_cluster_and_back_while_both_servers_run(
    places: tuple[Place, Place],
) -> None:
    maildirs, cluster = places
    before = listed(maildirs)
    with closing(logged_in(maildirs[0])) as client:
        done = copy(maildirs, cluster, "--no-switch", "--all")
        assert (done.returncode, done.stderr) == (0, "")
        assert "3 of them copied now, all compared; the old place serves it" in done.stdout
        refuses(cluster)
        client.retr(1)
        client.dele(1)
        client.quit()
    deliver(maildirs[1], MESSAGE)
    before = listed(maildirs)
    with closing(logged_in(maildirs[0])) as client:
        done = copy(maildirs, cluster, USER)
        assert (done.returncode, done.stderr) == (0, "")
        assert "the new place serves it" in done.stdout
        # A session that was open reads on, and removes nothing.
        assert client.retr(1)[1][-2:] == [b"body", b"1"]
        client.dele(1)
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            client.quit()
    refuses(maildirs)
    assert listed(cluster) == before
    deliver(cluster[1], MESSAGE)
    *kept, new = listed(cluster)
    assert kept == before
    again = copy(maildirs, cluster, USER)
    assert again.returncode == 1
    assert "was copied before, and another place serves it" in again.stderr
    done = copy(cluster, maildirs, USER)
    assert (done.returncode, done.stderr) == (0, "")
    refuses(cluster)
    assert listed(maildirs) == [*before, new]
    deliver(maildirs[1], MESSAGE)
    assert int(listed(maildirs)[-1]) > int(new)
