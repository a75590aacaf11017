"""Whose policy counts."""

from __future__ import annotations

import pytest

from gateway.errors import RetentionMalformed
from gateway.model import Account
from gateway.retention.rules import Policy
from gateway.retention.said import Policies

POLICIES = Policies("any 1y", {"Example.ORG": "read 7d"})


def account(mailbox: str, retention: str = "") -> Account:
    return Account(name=mailbox, mailbox=mailbox, retention=retention)


@pytest.mark.parametrize(
    ("mailbox", "own", "text"),
    [
        ("alice@example.org", "hold", "hold"),
        ("alice@example.org", "", "read 7d"),
        ("alice@other.example", "", "any 1y"),
        ("alice", "", "any 1y"),
        ("alice@example.org", "never", "never"),
    ],
)
def test_the_mailbox_itself_comes_before_its_domain_and_that_before_the_default(
    mailbox: str, own: str, text: str
) -> None:
    assert POLICIES.text(account(mailbox, own)) == text


def test_where_nothing_is_said_nothing_goes() -> None:
    assert Policies().text(account("alice")) == ""
    assert Policies().policy(account("alice")) == Policy()


def test_a_malformed_policy_of_its_own_is_not_replaced_by_the_default() -> None:
    with pytest.raises(RetentionMalformed, match="column 6: '7x'"):
        POLICIES.policy(account("alice@example.org", "read 7x"))
    assert POLICIES.policy(account("alice@example.org")) == Policy(read=7 * 86_400)
