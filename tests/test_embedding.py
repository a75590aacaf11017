"""The program in docs/embedding.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.application.service import IServiceCollection
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harness import Line

DOCUMENT = Path(__file__).parent.parent / "docs" / "embedding.md"


class EmbeddingTests(SynchronousTestCase):
    def test_the_program_serves_its_message_to_alice(self) -> None:
        program = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)[0]
        names: dict[str, object] = {}
        exec(compile(program, str(DOCUMENT), "exec"), names)
        (service,) = IServiceCollection(names["application"])
        # A slow machine would leave the last commands to a turn of the reactor.
        service.factory._clock = Clock()
        protocol = service.factory.buildProtocol(None)
        line = Line("127.0.0.1")
        protocol.makeConnection(line)
        self.addCleanup(protocol.connectionLost)
        protocol.dataReceived(b"USER alice\r\nPASS wonderland\r\nRETR 1\r\nUIDL 1\r\n")
        self.assertIn(b"\r\nSubject: hello\r\n\r\nA message from an", line.value())
        self.assertTrue(line.value().endswith(b"+OK 1 1\r\n"))
