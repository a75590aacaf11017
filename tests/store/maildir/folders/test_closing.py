"""Closed Maildirs: a file that is held, and a mark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import MaildropBusy
from gateway.store.maildir.folders.closing import (
    NAME,
    check_open,
    hold,
    mark,
    mark_of,
    may_be_closed,
    release,
)
from gateway.store.maildir.folders.dotlock import flocked
from gateway.store.maildir.folders.place import Place, make_maildir, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A Maildir."""
    make_maildir(f"{tmp_path}/alice")
    with opened(f"{tmp_path}/alice") as found:
        yield found


def check_closed(place: Place) -> None:
    with pytest.raises(MaildropBusy):
        check_open(place)


def test_who_waited_for_a_file_that_was_removed_meanwhile_holds_the_next(place: Place) -> None:
    first = hold(place)

    def sleep(_: float) -> None:
        # As an older version releases it.
        if not waited:
            os.unlink(f"{place}/{NAME}")
            os.close(first)
        waited.append(True)

    waited: list[bool] = []
    second = hold(place, sleep=sleep)
    check_closed(place)
    release(str(place), second)
    check_open(place)


def test_a_file_that_is_removed_right_before_it_is_locked_is_not_held(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = os.open

    def then_removed(path: str, *rest: int, **more: int) -> int:
        file = really_open(path, *rest, **more)
        if str(path).endswith(NAME):
            monkeypatch.undo()
            os.unlink(f"{place}/{NAME}")
        return file

    monkeypatch.setattr(os, "open", then_removed)
    file = hold(place, sleep=lambda _: None)
    check_closed(place)
    release(str(place), file)


def test_a_release_removes_the_file_under_the_flock_of_the_maildir_only(place: Place) -> None:
    file = hold(place)
    with flocked(place, timeout=1):
        release(str(place), file)
        # Who waits for it may have it open by now.
        assert may_be_closed(str(place))
        check_open(place)
    release(str(place), hold(place))
    assert not may_be_closed(str(place))


def test_a_release_leaves_a_mark_that_came_meanwhile(place: Place) -> None:
    file = hold(place)
    mark(place, "elsewhere")
    release(str(place), file)
    assert mark_of(place) == "elsewhere"
    check_closed(place)
