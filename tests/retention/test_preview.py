"""What a preview says of one mailbox."""

from __future__ import annotations

from math import inf
from typing import Any

from gateway.cli.commands.retention_views import due_described, line, message_line, purged_line
from gateway.model import StoredMessage
from gateway.operations.mail.retention import DueMail, due_mail_of
from gateway.retention.preview import preview as preview_of
from gateway.retention.removal_guard import Guard
from gateway.retention.rules import Policy
from gateway.units import time_text

KEPT = [
    StoredMessage(5.0, "a", 1000, None),
    StoredMessage(10.0, "b", 24, 20.0),
    StoredMessage(90.0, "c", 1, None),
]


def preview(mailbox: str, *arguments: Any) -> DueMail:
    """The preview of a mailbox as an operator gets it."""
    return due_mail_of(preview_of(mailbox, *arguments, inf), 0, 100)


def test_each_message_is_shown_with_its_times_and_its_rule() -> None:
    one = preview("m", "text", Policy(unread=50, read=60), KEPT, [], Guard(), 100.0)
    assert one.preview.would_go_octets == 1024
    assert [message_line(gone) for gone in one.due] == [
        "  a: unread, due 1970-01-01T00:00:55Z; came 1970-01-01T00:00:05Z, unread, 1000 octets",
        "  b: read, due 1970-01-01T00:01:20Z; came 1970-01-01T00:00:10Z,"
        " read 1970-01-01T00:00:20Z, 24 octets",
    ]
    said = due_described(one)
    assert [gone["read"] for gone in said["removed"]] == [None, "1970-01-01T00:00:20Z"]
    assert said["next_look"] == "1970-01-01T00:02:20Z"


def test_what_was_hidden_for_long_enough_is_shown_and_the_rest_looked_at_again() -> None:
    one = preview("m", "text", Policy(any=500, hide=40), [], KEPT, Guard(), 100.0)
    assert line(one.preview) == (
        "m: 0 of 0 messages would go, 2 hidden ones for good;"
        " next look 1970-01-01T00:02:10Z; policy text"
    )
    assert [purged_line(kept) for kept in one.purged] == [
        "  a: hidden 1970-01-01T00:00:05Z, 1000 octets",
        "  b: hidden 1970-01-01T00:00:10Z, 24 octets",
    ]
    said = due_described(one)
    assert (said["would_purge"], said["purged"][1]) == (
        2,
        {"uid": "b", "size": 24, "hidden": "1970-01-01T00:00:10Z"},
    )


def test_hidden_mail_that_the_guard_would_stop_is_said() -> None:
    guard = Guard(share=0.5, least=2)
    policy = Policy(any=500, hide=40)
    stops = preview_of("m", "text", policy, [], KEPT, guard, 100.0, inf).stops
    assert str(stops).startswith("2 of 3 messages of the hidden mail of mailbox m would go")
    assert preview_of("m", "text", policy, [], KEPT, guard, 100.0, 10.0).stops is None


def test_nothing_goes_from_a_mailbox_on_hold() -> None:
    one = preview("m", "hold", Policy(any=1, hold=True), KEPT, [], Guard(), 100.0)
    assert line(one.preview) == "m: 0 of 3 messages would go; next look never; policy hold"
    assert due_described(one) == {
        "mailbox": "m",
        "policy": "hold",
        "messages": 3,
        "would_go": 0,
        "would_go_octets": 0,
        "would_purge": 0,
        "hidden": 0,
        "overdue": 0,
        "rules": {},
        "next_look": None,
        "stops": None,
        "removed": [],
        "purged": [],
    }


def test_a_time_beyond_all_calendars_is_shown_as_the_last_there_is() -> None:
    assert time_text(1e30) == "9999-12-31T23:59:59Z"
    assert time_text(-1.0) == "1970-01-01T00:00:00Z"
