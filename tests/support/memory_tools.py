"""The tools of an operator, as the server makes them, with a directory and a store in memory."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.parts.retention import policies_of
from gateway.app.parts.tools import tools_of
from gateway.app.server.questions import Questions, SingleProcess
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.model import Account
from gateway.operations.tools import Tools
from gateway.state.memory import MemoryState
from gateway.store.memory import MemoryStore

NOW = 1_800_000_000.0


class OperationCase(SynchronousTestCase):
    """An operation is asked, and answers at once."""

    settings = Settings()

    def setUp(self) -> None:
        self.now = NOW
        self.accounts: dict[str, Account] = {}
        self.passwords: dict[str, bytes] = {}
        self.state = MemoryState()
        self.store = MemoryStore()
        self.questions = Questions()

    @property
    def tools(self) -> Tools:
        """What operations work with."""
        tools = tools_of(
            self.settings,
            MemoryDirectory(self.passwords, self.accounts),
            self.store,
            self.state,
            policies=policies_of(self.settings.retention),
            processes=SingleProcess(self.questions),
            run=maybeDeferred,
            now=lambda: self.now,
        )
        return evolve(tools, operator="uid 0")

    def ask(self, operation: Any, **arguments: Any) -> Any:
        """What an operation answers."""
        return self.successResultOf(Deferred.fromCoroutine(operation(self.tools, **arguments)))

    def fault(self, operation: Any, **arguments: Any) -> Exception:
        """How an operation fails."""
        asked = Deferred.fromCoroutine(operation(self.tools, **arguments))
        return self.failureResultOf(asked).value
