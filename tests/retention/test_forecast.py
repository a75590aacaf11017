"""What goes on each of the next days: as previews of those days would say."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gateway.model import DueDay, StoredMessage
from gateway.retention.forecast import DAY, end_of, forecast, from_day, total
from gateway.retention.preview import preview
from gateway.retention.removal_guard import Guard
from gateway.retention.rules import Policy

TIMES = st.integers(0, 40 * DAY).map(float) | st.floats(0, 40 * DAY)
MESSAGES = st.lists(
    st.builds(
        StoredMessage,
        received=TIMES,
        uid=st.integers(0, 99).map(str),
        octets=st.integers(0, 9),
        read=st.none() | TIMES,
    ),
    max_size=12,
    unique_by=lambda message: message.uid,
)
AGES = st.none() | st.integers(0, 30 * DAY) | st.integers(0, 30).map(lambda days: days * DAY)
POLICIES = st.builds(
    Policy,
    unread=AGES,
    read=AGES,
    any=AGES,
    newest=st.none() | st.integers(0, 8),
    size=st.none() | st.integers(0, 40),
    floor=AGES,
    hold=st.sampled_from([False, False, False, True]),
)
FORECASTS = st.lists(
    st.builds(DueDay, st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)),
    unique_by=lambda one: one.day,
)


@given(MESSAGES, POLICIES, TIMES, st.integers(1, 30))
def test_a_day_has_what_a_preview_at_its_end_would_remove(
    messages: list[StoredMessage], policy: Policy, now: float, days: int
) -> None:
    left, previews = messages, []
    today = int(now // DAY)
    for day in range(today, today + days):
        one = preview("m", "text", policy, left, [], Guard(), end_of(day), inf)
        if one.gone:
            previews.append(DueDay(day, len(one.gone), one.octets))
            gone = {expired.message.uid for expired in one.gone}
            left = [message for message in left if message.uid not in gone]
    assert forecast(messages, policy, now, days) == previews


def test_what_is_overdue_goes_today_and_what_is_due_later_on_its_day() -> None:
    old, new = StoredMessage(0.0, "a", 1000, None), StoredMessage(97.5 * DAY, "b", 24, None)
    found = forecast([old, new], Policy(any=5 * DAY), 100.5 * DAY)
    assert found == [DueDay(100, 1, 1000), DueDay(102, 1, 24)]


def test_a_message_that_is_due_at_midnight_goes_on_the_day_that_begins() -> None:
    message = StoredMessage(10.0 * DAY, "a", 1, None)
    assert forecast([message], Policy(any=DAY), 10.0 * DAY) == [DueDay(11, 1, 1)]


def test_what_goes_later_than_the_last_day_is_left_out() -> None:
    message = StoredMessage(0.0, "a", 1, None)
    assert forecast([message], Policy(any=90 * DAY), 0.0) == []
    assert forecast([message], Policy(any=90 * DAY - 1), 0.0) == [DueDay(89, 1, 1)]


@given(st.lists(FORECASTS))
def test_forecasts_of_mailboxes_add_up(forecasts: list[list[DueDay]]) -> None:
    everything = [one for due in forecasts for one in due]
    for day, messages, octets in total(forecasts):
        same = [one for one in everything if one.day == day]
        assert messages == sum(one.messages for one in same)
        assert octets == sum(one.octets for one in same)
    assert {one.day for one in total(forecasts)} == {one.day for one in everything}


@given(FORECASTS, st.integers(0, 9))
def test_days_that_are_over_count_for_today_and_no_day_is_left_out(
    due: list[DueDay], today: int
) -> None:
    found = from_day(today, due, 10)
    assert [one.day for one in found] == list(range(today, today + 10))
    assert found[0].messages == sum(one.messages for one in due if one.day <= today)
    assert sum(one.octets for one in found) == sum(one.octets for one in due)
