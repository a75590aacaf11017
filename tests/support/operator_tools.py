"""The tools of an operator, of parts in memory."""

from __future__ import annotations

from twisted.internet.defer import maybeDeferred

from gateway.app.parts.retention import guard_of, policies_of
from gateway.config.retention import Retention
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.mailboxes.owners import AllMailboxes
from gateway.mailboxes.survey import Survey
from gateway.model import Account
from gateway.operations.tools import Tools
from gateway.state.memory import MemoryState
from kept_mail import KeptMail


class Desk:
    """A store, and what an operator does with it."""

    def __init__(self, section: Retention, *, now: float) -> None:
        self.now = now
        self.seconds_each_call = 0.0
        """By how much time passes at each look at the clock."""
        self.store = KeptMail(lambda: self.now)
        self.state = MemoryState()
        self.accounts: dict[str, Account] = {}
        self.section = section

    @property
    def tools(self) -> Tools:
        """What operations work with."""
        directory = MemoryDirectory({}, self.accounts)
        mailboxes = AllMailboxes(directory, self.store, maybeDeferred, hosts=())
        return Tools(
            directory=directory,
            store=self.store,
            state=self.state,
            mailboxes=mailboxes,
            policies=policies_of(self.section),
            guard=guard_of(self.section),
            settings=Settings(retention=self.section),
            recipients=None,  # type: ignore[arg-type]
            processes=None,  # type: ignore[arg-type]
            survey=Survey(mailboxes, None, maybeDeferred, self.look),  # type: ignore[arg-type]
            run=maybeDeferred,
            now=self.look,
            operator="uid 0",
        )

    def look(self) -> float:
        """The time of day."""
        self.now += self.seconds_each_call
        return self.now

    def add(self, mailbox: str, count: int, age: float) -> list[str]:
        """Messages, unread."""
        self.accounts[mailbox] = Account(name=mailbox, mailbox=mailbox)
        return self.store.add(mailbox, count, age=age)
