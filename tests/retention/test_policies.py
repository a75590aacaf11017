"""Whose policy counts."""

from __future__ import annotations

import pytest

from gateway.errors import RetentionMalformed
from gateway.model import Account
from gateway.retention.policies import Policies
from gateway.retention.rules import Policy

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


def test_without_a_policy_nothing_is_removed() -> None:
    assert Policies().text(account("alice")) == ""
    assert Policies().policy(account("alice")) == Policy()


def test_a_malformed_policy_of_its_own_is_not_replaced_by_the_default() -> None:
    with pytest.raises(RetentionMalformed, match="column 6: '7x'"):
        POLICIES.policy(account("alice@example.org", "read 7x"))
    assert POLICIES.policy(account("alice@example.org")) == Policy(read=7 * 86_400)


def test_a_malformed_policy_counts_as_a_hold() -> None:
    held = {"hold": True, "read 7d, hold": True, "read 7x": True, "read 7d": False, "never": False}
    assert {text: POLICIES.is_held(account("alice", text)) for text in held} == held


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("unread 60d, read 7d", "7"),
        ("never", "NEVER"),
        ("hold, any 1d", "NEVER"),
        ("any 7x", "NEVER"),
    ],
)
def test_expire_after_login_is_that_of_the_user(own: str, says: str) -> None:
    assert POLICIES.expire(account("alice", own)) == says


@pytest.mark.parametrize(
    ("default", "texts", "says"),
    [
        ("any 60d", [], "60"),
        ("any 60d", ["any 60d", "read 60d"], "60"),
        ("any 60d", ["any 60d", "read 7d"], "7 USER"),
        ("any 60d", ["any 60d", "any 7x"], "60 USER"),
        ("", [], "NEVER"),
        # There may be users for whom nothing is said.
        ("", ["read 7d"], "7 USER"),
        ("any 60d", ["", ""], "60"),
        ("any 60d", ["read 90d"], "60 USER"),
    ],
)
def test_expire_before_login_is_the_smallest_of_all_users(
    default: str, texts: list[str], says: str
) -> None:
    assert Policies(default).expire_of_all(texts) == says


def test_policies_of_domains_count_before_login() -> None:
    assert POLICIES.expire_of_all([]) == "7 USER"
    assert POLICIES.expire_of_all(["read 1d"]) == "1 USER"
    assert Policies("any 7d", {"e": "", "f": "read 7d"}).expire_of_all([]) == "7"
