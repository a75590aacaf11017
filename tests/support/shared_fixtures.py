"""What tests of several modules are given."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_engines import ENGINES, Engines
from cluster_gateway import ClusterMail
from doomed import Doomed, doomed_children
from gateway.store.maildir.folders.place import open_place
from gateway.testing.directory_contract import PASSWORDS
from mail_places import Mail, MaildirMail, MailOf
from servers import Gateway, Slapd, fill, need
from whole_corpus import MESSAGES


@pytest.fixture
def home() -> Iterator[Path]:
    """A client's directory, below one that every user may enter."""
    directory = tempfile.mkdtemp(prefix="pop3gw-client-")
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that Dovecot's own user may enter, of a short name as UNIX sockets want it."""
    path = Path(tempfile.mkdtemp(prefix="pop3gw-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """One server with the contract suite's people, for all tests that leave it alone."""
    need("slapd")
    server = Slapd(tmp_path_factory.mktemp("slapd"), PASSWORDS).run()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """PostgreSQL and an S3, both real: of the one worker that runs all tests that need them."""
    ENGINES.append(Engines(tmp_path_factory.mktemp("engines")))
    yield ENGINES[0]
    ENGINES.pop().stop()


IN_CLUSTER = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module", params=["maildir", pytest.param("cluster", marks=IN_CLUSTER)])
def mail_of(request: pytest.FixtureRequest) -> MailOf:
    """A place of mail, of each store."""
    return _mail_of(request.param, request)


@pytest.fixture(
    params=[("maildir", 1), ("maildir", 2), pytest.param(("cluster", 2), marks=IN_CLUSTER)],
    ids=["one process", "workers", "cluster"],
)
def mail_and_workers(request: pytest.FixtureRequest) -> tuple[MailOf, int]:
    """The same, and the number of workers; a cluster is slow, and is tried with several only."""
    store, workers = request.param
    return _mail_of(store, request), workers


def _mail_of(store: str, request: pytest.FixtureRequest) -> MailOf:
    if store == "maildir":
        return MaildirMail
    engines: Engines = request.getfixturevalue("engines")

    def made(directory: Path) -> Mail:
        engines.clear()
        return ClusterMail(engines, engines.make_bucket(), directory)

    return made


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that has the corpus; where tests want another, their module has it."""
    gateway = Gateway(tmp_path)
    fill(gateway.maildir, MESSAGES)
    try:
        yield gateway.run()
    finally:
        gateway.stop()
    gateway.wait_for(b"Server Shut Down")
    assert "Traceback" not in gateway.log


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel outlives the process that dies: syncing would cost time and show nothing."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(params=[0o022, 0o002], ids=["by paths", "from open directories"])
def reached(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The store reaches the Maildirs of a test so: where the group may write, paths do not stay."""
    before = os.umask(request.param)
    try:
        (tmp_path / "group").mkdir()
        place = open_place(f"{tmp_path}/group/maildir", (), make=True)
        place.close()
        assert place.stays is (request.param == 0o022)
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def doomed(request: pytest.FixtureRequest) -> Iterator[Doomed]:
    """Children of the module, which as a program says what they are to do."""
    yield from doomed_children(str(request.path))
