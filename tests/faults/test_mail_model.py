"""The checker of the fault runs finds each kind of wrong history, and takes each right one."""

from __future__ import annotations

import pytest

from mail_model import AFTER_LOSS, SETTLED, Listing, MailboxModel, Rule, Violation


@pytest.fixture
def box() -> MailboxModel:
    """A mailbox to which ``a`` and ``b`` were delivered by second 2."""
    made = MailboxModel("alice")
    deliver(made, "a", "b")
    return made


def deliver(box: MailboxModel, *messages: str) -> None:
    """Sent in second 1, acknowledged in second 2."""
    for message in messages:
        box.send(1, message)
        box.acknowledge(2, message)


def show(box: MailboxModel, begin: float, *, complete: bool = True, **messages: str) -> None:
    """A session of one second; ``messages``: name to unique-id."""
    shown = {unique_id: name for name, unique_id in messages.items()}
    box.show(Listing(begin, begin + 1, shown, complete))


def violated(rule: Rule) -> pytest.RaisesExc[Violation]:
    """What has to be raised."""
    return pytest.RaisesExc(Violation, check=lambda error: error.rule is rule)


def test_an_acknowledged_message_that_is_missing_is_lost(box: MailboxModel) -> None:
    with violated(Rule.LOST) as caught:
        show(box, 3, a="1")
    assert [line.split(": ")[1] for line in caught.value.history[:2]] == ["sent", "acknowledged"]
    assert all(" b: " in line for line in caught.value.history)


def test_a_message_that_was_seen_once_is_lost_when_it_is_missing(box: MailboxModel) -> None:
    box.send(3, "c")
    box.doubt(4, "c", "451")
    show(box, 5, a="1", b="2", c="3")
    with violated(Rule.LOST):
        show(box, 7, a="1", b="2")


def test_a_session_from_before_the_acknowledgement_need_not_show_it(box: MailboxModel) -> None:
    show(box, 1.5)
    show(box, 3, a="1", b="2")


def test_a_message_in_doubt_may_be_there_or_not_and_may_come_later(box: MailboxModel) -> None:
    box.send(3, "c")
    box.doubt(4, "c", "the connection ended")
    show(box, 5, a="1", b="2")
    show(box, 7, a="1", b="2", c="3")


def test_a_listing_that_could_not_be_read_to_its_end_says_nothing_of_losses(
    box: MailboxModel,
) -> None:
    show(box, 3, complete=False, a="1")


def test_a_message_that_was_deleted_with_ok_must_not_return(box: MailboxModel) -> None:
    show(box, 3, a="1", b="2")
    box.mark(5, ["a"])
    box.remove(6, ["a"])
    show(box, 5.5, a="1", b="2")  # it logged in before the answer
    show(box, 7, b="2")
    with violated(Rule.RETURNED):
        show(box, 9, a="1", b="2")


def test_a_message_that_was_missing_after_a_quit_in_doubt_must_not_return(
    box: MailboxModel,
) -> None:
    show(box, 3, a="1", b="2")
    box.mark(5, ["a"])
    box.keep(6, ["a"], "-ERR [SYS/TEMP]")
    show(box, 7, a="1", b="2")
    show(box, 9, b="2")
    with violated(Rule.RETURNED):
        show(box, 11, a="1", b="2")


def test_a_return_is_found_in_whatever_order_sessions_report(box: MailboxModel) -> None:
    show(box, 3, a="1", b="2")
    box.mark(5, ["a"])
    show(box, 9, a="1", b="2")
    with violated(Rule.RETURNED):
        box.remove(6, ["a"])


def test_a_quit_in_doubt_removes_nothing_after_all_time_limits(box: MailboxModel) -> None:
    box.mark(5, ["a"])
    box.keep(6, ["a"], "the connection ended")
    show(box, 7, a="1", b="2")
    show(box, 7 + SETTLED, a="1", b="2")
    with violated(Rule.LOST):
        show(box, 9 + SETTLED, b="2")


def test_a_unique_id_that_changes_is_found(box: MailboxModel) -> None:
    show(box, 3, a="1", b="2")
    with violated(Rule.CHANGED):
        show(box, 5, a="1", b="3")


def test_a_unique_id_of_a_removed_message_that_is_used_again_is_found(box: MailboxModel) -> None:
    show(box, 3, a="1", b="2")
    box.mark(5, ["a"])
    box.remove(6, ["a"])
    box.send(7, "c")
    with violated(Rule.REUSED) as caught:
        show(box, 8, b="2", c="1")
    assert any(" a: " in line for line in caught.value.history)
    assert any(" c: " in line for line in caught.value.history)


def test_a_message_that_is_there_twice_is_found(box: MailboxModel) -> None:
    with violated(Rule.TWICE):
        box.show(Listing(3, 4, {"1": "a", "2": "b", "3": "a"}))


def test_a_message_that_nobody_has_sent_is_found(box: MailboxModel) -> None:
    with violated(Rule.UNKNOWN):
        show(box, 3, a="1", b="2", z="3")


def test_a_message_that_retr_says_was_removed_and_nobody_has_removed_is_lost(
    box: MailboxModel,
) -> None:
    box.mark(3, ["a"])
    box.miss(4, "a")
    with violated(Rule.LOST):
        box.miss(4, "b")


def test_octets_that_change_are_found(box: MailboxModel) -> None:
    box.read(3, "a", "d1")
    box.read(4, "a", "d1")
    with violated(Rule.OCTETS):
        box.read(5, "a", "d2")


@pytest.mark.parametrize(("messages", "octets"), [(1, 30), (3, 30), (2, 29)])
def test_a_wrong_counter_is_found(box: MailboxModel, messages: int, octets: int) -> None:
    box.count([10, 20], 2, 30)
    with violated(Rule.COUNTER):
        box.count([10, 20], messages, octets)


def test_in_a_maildir_a_delivery_in_doubt_may_be_counted_though_it_is_not_there() -> None:
    box = MailboxModel("alice", may_count_removed=True)
    box.send(1.0, "one")
    box.doubt(2.0, "one", "connection lost")
    box.send(1.0, "two")
    box.doubt(2.0, "two", "452 full", answered=True)
    box.count([], 1, 100)
    with violated(Rule.COUNTER):
        box.count([], 2, 200)
    with violated(Rule.COUNTER):
        box.count([100], 0, 0)


def test_in_a_maildir_messages_that_went_without_an_answer_may_still_be_counted() -> None:
    box = MailboxModel("alice", may_count_removed=True)
    deliver(box, "a", "b", "c")
    box.mark(3, ["a"])
    box.keep(4, ["a"], "killed")
    box.count([10, 20], 3, 40)
    for messages, octets in ((4, 50), (3, 30), (1, 10), (2, 40)):
        with violated(Rule.COUNTER):
            box.count([10, 20], messages, octets)
    sure = MailboxModel("bob", may_count_removed=True)
    with violated(Rule.COUNTER):
        sure.count([10, 20], 3, 40)


def test_retention_may_remove_what_is_old_enough_and_nothing_younger() -> None:
    box = MailboxModel("alice", removed_after=10)
    deliver(box, "a", "b")
    show(box, 3, a="1", b="2")
    show(box, 10, b="2")  # ends at 11: sent at 1
    assert box.expired == 1
    with violated(Rule.RETURNED):
        show(box, 12, a="1", b="2")
    box = MailboxModel("alice", removed_after=10)
    deliver(box, "a")
    with violated(Rule.LOST):
        show(box, 9)


def test_after_lost_commits_losses_are_no_violation_and_a_reused_unique_id_is() -> None:
    box = MailboxModel("alice", AFTER_LOSS)
    deliver(box, "a", "b")
    show(box, 3, a="1", b="2")
    box.mark(4, ["a"])
    box.remove(5, ["a"])
    show(box, 6, a="1")
    show(box, 8, a="1", b="1000002")
    assert box.ignored.keys() == {Rule.RETURNED, Rule.LOST, Rule.CHANGED}
    box.send(9, "c")
    with violated(Rule.REUSED):
        show(box, 10, c="2")


def test_what_is_present_follows_what_is_known(box: MailboxModel) -> None:
    assert box.present == {"a", "b"}
    box.mark(3, ["a"])
    assert box.present == {"b"}
    box.keep(4, ["a"], "the connection ended")
    show(box, 5 + SETTLED, a="1", b="2")
    assert box.present == {"a", "b"}
