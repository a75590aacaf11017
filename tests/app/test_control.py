"""The control socket: where it is, and what a client without a server reads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import TestCase

from gateway.app.server.control import ControlSocket
from gateway.cli.client import NoServer, Server
from gateway.operations.server.control import Reloaded, reload_configuration


class PlaceTests(TestCase):
    def listens(self, place: str) -> bool:
        """Whether a server with this state directory has a control socket; it starts anyway."""
        control = ControlSocket(reactor, place)
        port = control.listen(ServerFactory())
        self.addCleanup(control.close)
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
        self.assertTrue(self.listens(place))
        self.assertEqual(os.stat(f"{place}/control").st_mode & 0o777, 0o600)
        self.assertFalse(self.listens(place))


def test_without_a_server_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="is the server running, with this state_dir"):
        Server(str(tmp_path), 1).ask(reload_configuration)
    assert Reloaded().problems == ()
