"""A worker that its parent cannot use, and one that has lost its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from channels import Ends
from gateway.app.worker import Worker
from gateway.net.tls.shared_contexts import SharedContexts


class Reactor(MemoryReactorClock):
    """One that can be stopped."""

    stops = 0

    def stop(self) -> None:
        """Count."""
        self.stops += 1


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.ends = Ends(self.reactor)
        self.worker = Worker(self.reactor, self.ends.worker, SharedContexts())
        self.told: list[tuple[str, Any]] = []
        for name in ("beat", "ready", "unusable"):
            self.ends.parent.handle(name, lambda body, name=name: self.told.append((name, body)))

    def serve(self, document: dict[str, Any], **handed: Any) -> None:
        """The parent has it serve."""
        listeners = {"a": {"endpoint": "tcp:0:interface=127.0.0.1", "tls": "none"}}
        whole = {"state_dir": str(Path(self.mktemp()).absolute()), "listeners": listeners}
        sockets = {
            "sockets": {},
            "families": {},
            "number": 0,
            "workers": 2,
            "admission": "",
            "generation": 0,
        }
        begun = {"document": whole | document, "reloaded": None, "auth": [], **sockets, **handed}
        self.ends.parent.tell("serve", begun)
        self.ends.turn()

    def test_it_beats_before_it_serves(self) -> None:
        self.ends.turn()
        self.assertEqual(self.told, [("beat", {})])

    def test_one_that_cannot_serve_says_why_and_ends(self) -> None:
        self.serve({"http": {"endpoint": "tcp:0", "token_file": "/nonexistent"}})
        ((name, problems),) = [one for one in self.told if one[0] != "beat"]
        self.assertEqual(name, "unusable")
        self.assertIn("http.token_file: /nonexistent: cannot be read", problems[0])
        self.assertEqual((self.worker.exit_status, self.reactor.stops), (1, 1))

    def test_an_unforeseen_fault_at_its_start_ends_it_too(self) -> None:
        self.serve({}, number="none")
        ((name, problems),) = [one for one in self.told if one[0] != "beat"]
        self.assertEqual(name, "unusable")
        self.assertIn("internal error: ", problems[0])
        self.assertEqual((self.worker.exit_status, self.reactor.stops), (1, 1))
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_the_loss_of_the_parent_ends_it(self) -> None:
        self.ends.end()
        self.assertEqual((self.worker.exit_status, self.reactor.stops), (0, 1))


def test_what_the_fork_server_imports_installs_no_reactor() -> None:
    # Forked workers would share its epoll descriptor, and none of them could start.
    code = "import gateway.app.worker, sys; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
