"""The control socket: where it is, and what a client without a server reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.server.control import ControlSocket
from gateway.cli.client import NoServer, Server
from gateway.operations.server.control import Reloaded, reload_configuration


class Listening:
    """A reactor that binds nothing."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def listenUNIX(self, path: str, *_: Any, **how: Any) -> object:
        """Remember the place."""
        assert how == {"mode": 0o600}
        self.paths.append(path)
        return object()


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Listening()

    def listens(self, place: str) -> bool:
        """Whether a server with this state directory has a control socket; it starts anyway."""
        port = ControlSocket(self.reactor, place).listen(ServerFactory())
        self.assertEqual(port is not None, bool(self.reactor.paths))
        return port is not None

    def test_where_none_can_be_the_server_starts_without(self) -> None:
        place = tempfile.mkdtemp()
        long = os.path.join(place, "x" * 120)
        os.mkdir(long)
        for bad in (long, os.path.join(place, "missing")):
            self.assertFalse(self.listens(bad))

    def test_a_file_of_that_name_is_left_alone(self) -> None:
        place = Path(tempfile.mkdtemp())
        (place / "control").write_text("mine")
        self.assertFalse(self.listens(str(place)))
        self.assertEqual((place / "control").read_text(), "mine")

    def test_a_second_server_of_the_state_directory_goes_without(self) -> None:
        place = tempfile.mkdtemp()
        first = ControlSocket(self.reactor, place)
        self.assertIsNotNone(first.listen(ServerFactory()))
        self.assertIsNone(ControlSocket(self.reactor, place).listen(ServerFactory()))


def test_without_a_server_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="is the server running, with this state_dir"):
        Server(str(tmp_path), 1).ask(reload_configuration)
    assert Reloaded().problems == ()
