"""Retention as it is set up, with a ledger and a lease on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock

from gateway.app.parts.retention import RetentionService, policies_of
from gateway.config.retention import DomainRetention, Retention
from gateway.config.settings import DirectorySettings, Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import ConfigError, DirectoryDown
from gateway.model import Account
from gateway.state.leader import NAME as LOCK
from gateway.state.leader import FlockLeader, LeaderLock
from gateway.state.ledger import LedgerState
from gateway.state.ledger_file import NAME
from kept_mail import KeptMail

DAY = 86_400.0
ALICE, BOB, CAROL = "alice@example.org", "bob@other.example", "carol@example.org"
ACCOUNTS = {
    ALICE: Account(name=ALICE, mailbox=ALICE),
    BOB: Account(name=BOB, mailbox=BOB),
    CAROL: Account(name=CAROL, mailbox=CAROL, retention="hold", host="other"),
}
SAID = Retention(
    enabled=True,
    policy="any 10d",
    domains={"Example.Org": DomainRetention(policy="any 2d")},
)


class Changing(MemoryDirectory):
    """One that an administrator changes, and that is down at times."""

    def __init__(self, told: dict[str, Account]) -> None:
        super().__init__({}, told)
        self.is_down = False
        self._told = told

    def accounts(self) -> Deferred[list[Account]]:
        """All of them, or an outage."""
        return fail(DirectoryDown("x")) if self.is_down else succeed(list(self._told.values()))


class Process(RetentionService):
    """A server that does nothing else."""

    def stop(self) -> Deferred[None]:
        """End as a server does."""
        ended = super().stop()
        return ended.addCallback(lambda _: self._leader.resign()).addCallback(
            lambda _: self._state.close()
        )


class House:
    """Three mailboxes with a message each, and keepers of them."""

    def __init__(self, state: Path, said: Retention = SAID) -> None:
        self.state, self.said, self.clock = state, said, Clock()
        self.store = KeptMail(self.clock.seconds)
        for name in ACCOUNTS:
            self.store.add(name)
        self.accounts = dict(ACCOUNTS)

    def retention_service(self, directory: MemoryDirectory | None = None) -> Process:
        """One more, which begins."""
        settings = Settings(
            state_dir=str(self.state),
            retention=self.said,
            directory=DirectorySettings(hosts=("here",)),
        )
        directory = directory or MemoryDirectory({}, self.accounts)
        retention_service = Process(
            self.clock,
            settings,
            directory,
            self.store,
            LedgerState(str(self.state), maybeDeferred),
            FlockLeader(str(self.state), maybeDeferred),
            queued=lambda: 0,
            run=maybeDeferred,
            policies=policies_of(settings.retention),
            now=self.clock.seconds,
        )
        retention_service.start()
        return retention_service

    def run(self, seconds: float) -> None:
        """Let time pass, five minutes at a time."""
        self.clock.pump([300.0] * int(seconds / 300))

    def left(self) -> list[str]:
        """Mailboxes that still have their message."""
        return [name for name, mail in self.store.mail.items() if mail]


def test_each_mailbox_has_the_policy_of_its_own_domain_or_server(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.accounts[CAROL] = Account(name=CAROL, mailbox=CAROL, host="other")
    retention_service = house.retention_service()
    house.run(1.9 * DAY)
    assert house.left() == [ALICE, BOB, CAROL]
    house.run(0.3 * DAY)
    assert house.left() == [BOB, CAROL]
    house.run(8 * DAY)
    assert house.left() == [CAROL]
    retention_service.stop()


def test_nothing_is_removed_or_made_where_it_is_not_switched_on(tmp_path: Path) -> None:
    house = House(tmp_path, Retention(policy="any 1d"))
    retention_service = house.retention_service()
    assert retention_service.subscription == {}
    house.run(5 * DAY)
    retention_service.stop()
    assert house.left() == [ALICE, BOB, CAROL]
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_retention_is_an_error_before_the_start(tmp_path: Path) -> None:
    house = House(tmp_path)
    store: Any = object.__new__(type("Plain", (), {"names": None}))
    house.store = store
    with pytest.raises(ConfigError, match=r"retention\.enabled: expected false"):
        house.retention_service()


def test_of_two_processes_one_removes_and_the_other_takes_over_at_its_end(tmp_path: Path) -> None:
    house = House(tmp_path)
    first, second = house.retention_service(), house.retention_service()
    house.run(3 * DAY)
    assert house.left() == [BOB, CAROL]
    assert house.store.scans[ALICE] == 2
    first.stop()
    house.run(8 * DAY)
    assert house.left() == [CAROL]
    second.stop()
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOCK, NAME]


def test_while_a_step_hangs_at_the_end_no_other_process_may_begin(tmp_path: Path) -> None:
    house = House(tmp_path)
    answer = Deferred[Any]()
    house.store.scan = lambda _: answer  # type: ignore[method-assign]
    retention_service, lease = house.retention_service(), LeaderLock(str(tmp_path / LOCK))
    house.run(300)
    ended = retention_service.stop()
    ended.addErrback(lambda _: None)
    ended.cancel()
    assert not lease.take()
    answer.callback([])


def test_before_a_login_the_smallest_value_of_any_user_is_told_at_once_by_every_process(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    house.accounts[BOB] = Account(name=BOB, mailbox=BOB, retention="read 1d")
    house.accounts[CAROL] = Account(name=CAROL, mailbox=CAROL, retention="any 0d", host="other")
    keepers = [house.retention_service(), house.retention_service()]
    assert [retention_service.expire() for retention_service in keepers] == ["1 USER"] * 2
    house.accounts[BOB] = ACCOUNTS[BOB]
    for retention_service in keepers:
        retention_service.stop()
    again = house.retention_service()
    assert again.expire() == "2 USER"
    again.stop()


def test_a_changed_policy_is_told_of_after_check_every_seconds(tmp_path: Path) -> None:
    house = House(tmp_path)
    directory = Changing(house.accounts)
    keepers = [house.retention_service(directory), house.retention_service(directory)]
    house.accounts[ALICE] = Account(name=ALICE, mailbox=ALICE, retention="any 1d")
    assert [retention_service.expire() for retention_service in keepers] == ["2 USER"] * 2
    house.run(SAID.check_every)
    assert [retention_service.expire() for retention_service in keepers] == ["1 USER"] * 2
    for retention_service in keepers:
        retention_service.stop()


def test_all_processes_say_the_same_whatever_each_could_ask(tmp_path: Path) -> None:
    house = House(tmp_path)
    directory, silent = Changing(house.accounts), Changing({})
    silent.is_down = True
    first, second = house.retention_service(directory), house.retention_service(silent)
    assert [first.expire(), second.expire()] == ["2 USER"] * 2
    # One that begins while the leader's answer is an hour old asks for no other.
    house.accounts[ALICE] = Account(name=ALICE, mailbox=ALICE, retention="any 1d")
    house.run(SAID.check_every - 600)
    third = house.retention_service(directory)
    assert [one.expire() for one in (first, second, third)] == ["2 USER"] * 3
    house.run(900)
    assert [one.expire() for one in (first, second, third)] == ["1 USER"] * 3
    # The next leader has a directory that is down, and goes on with what was known.
    first.stop()
    house.run(2 * SAID.check_every)
    assert [second.expire(), third.expire()] == ["1 USER"] * 2
    second.stop()
    house.accounts[ALICE] = ACCOUNTS[ALICE]
    house.run(600)
    assert third.expire() == "2 USER"
    third.stop()


def test_what_was_announced_before_a_restart_is_replaced_in_every_process(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.retention_service().stop()
    house.said = Retention(enabled=True, policy="any 1d")
    leader = LeaderLock(str(tmp_path / LOCK))
    leader.take()
    early = house.retention_service()
    assert early.expire() == "2 USER"
    leader.give_back()
    late = house.retention_service()
    house.run(300)
    assert [early.expire(), late.expire()] == ["1"] * 2
    early.stop()
    late.stop()


def test_while_a_directory_cannot_tell_nothing_is_promised(tmp_path: Path) -> None:
    house = House(tmp_path)
    directory = Changing(house.accounts)
    directory.is_down = True
    retention_service = house.retention_service(directory)
    assert retention_service.expire() == ""
    directory.is_down = False
    house.run(300)
    assert retention_service.expire() == "2 USER"
    # What was known stays known.
    directory.is_down = True
    house.run(2 * SAID.check_every)
    assert retention_service.expire() == "2 USER"
    retention_service.stop()


def test_of_retention_that_is_switched_off_nothing_is_told(tmp_path: Path) -> None:
    retention_service = House(tmp_path, Retention(policy="any 1d")).retention_service()
    assert retention_service.expire() == ""
    retention_service.stop()
