"""When a mailbox is looked at again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.model import StoredMessage
from gateway.retention.due import CROWDED, next_look, over
from gateway.retention.rules import Policy, doomed

AGES = st.none() | st.integers(0, 30)
BY_AGE = st.builds(Policy, unread=AGES, read=AGES, any=AGES, floor=AGES)
NOW = 1000.0


def mails(uids: str, least: int, most: int) -> st.SearchStrategy[list[StoredMessage]]:
    """Of so many messages each with a time of its own."""

    def kept(uid: str) -> st.SearchStrategy[StoredMessage]:
        times = st.integers(least, most).map(float)
        return st.builds(StoredMessage, times, st.just(uid), st.just(1), st.none() | times)

    return st.tuples(*map(kept, uids)).map(list)


@given(BY_AGE, mails("abc", 960, 1010), mails("xyz", 1000, 1050))
def test_by_age_nothing_is_due_before_the_next_look_whatever_comes(
    policy: Policy, there: list[StoredMessage], coming: list[StoredMessage]
) -> None:
    gone = {one.message for one in doomed(there, policy, NOW)}
    left = [one for one in there if one not in gone]
    due = next_look(left, [], policy, NOW)
    just_before = NOW + 200 if due is None else due - 0.5
    assert due is None or due >= NOW
    assert doomed([*left, *coming], policy, just_before) == []


@given(BY_AGE, mails("ab", 960, 1000), st.integers(1000, 1050).map(float))
def test_by_age_nothing_is_due_before_the_next_look_whatever_is_read(
    policy: Policy, there: list[StoredMessage], when: float
) -> None:
    unread = [one._replace(read=None) for one in there]
    gone = {one.message for one in doomed(unread, policy, NOW)}
    left = [one for one in unread if one not in gone]
    due = next_look(left, [], policy, NOW)
    later = [one._replace(read=when) for one in left]
    just_before = NOW + 200 if due is None else due - 0.5
    assert doomed(later, policy, just_before) == []


def test_rules_about_room_look_every_day() -> None:
    assert next_look([], [], Policy(newest=5), NOW) == NOW + CROWDED
    assert next_look([], [], Policy(size=5, any=60), NOW) == NOW + 60


def test_a_mailbox_without_a_rule_or_on_hold_is_not_looked_at_again() -> None:
    there = [StoredMessage(1.0, "a", 1, None)]
    assert next_look(there, [], Policy(), NOW) is None
    assert next_look(there, there, Policy(any=1, hide=1, hold=True), NOW) is None


def test_hidden_messages_are_due_after_their_time() -> None:
    hidden = [StoredMessage(990.0, "a", 1, None), StoredMessage(991.0, "b", 1, None)]
    policy = Policy(hide=10)
    assert [one.message.uid for one in over(hidden, policy, NOW)] == ["a"]
    assert next_look([], hidden[1:], policy, NOW) == 1001.0
    assert over(hidden, Policy(hide=10, hold=True), NOW) == []
    assert over(hidden, Policy(any=1), NOW) == []
    assert len(over(hidden, Policy(any=1, hide=0), NOW)) == 2
