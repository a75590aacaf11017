"""What retention does to a Maildir, and Dovecot's IMAP and POP3 on the same one."""

from __future__ import annotations

import time

import pytest
from test_shared_maildir import Shared, agree, shared

from gateway.model import StoredMessage
from gateway.store.audited import no_audit
from gateway.store.maildir.listing.snapshot import MaildirOptions
from gateway.store.maildir.removal.expiry import MaildirRetention
from gateway.testing.retention_store_contract import RULE
from servers import OWNER, USER

__all__ = ["shared"]

pytestmark = pytest.mark.interop


def keeping_in(place: Shared) -> MaildirRetention:
    return MaildirRetention(str(place.maildir), USER, MaildirOptions(), no_audit)


def scanned(place: Shared) -> dict[str, StoredMessage]:
    return {kept.uid: kept for kept in keeping_in(place).scan()}


def test_what_imap_marks_as_read_has_been_read_since(shared: Shared) -> None:
    shared.deliver(3)
    uids = list(agree(shared))
    assert [scanned(shared)[uid].read for uid in uids] == [None] * 3
    begun = time.time()
    with shared.imap() as client:
        assert client.store("2", "+FLAGS", r"(\Seen)")[0] == "OK"
    read = [scanned(shared)[uid].read for uid in uids]
    assert read[0] is read[2] is None
    assert read[1] is not None
    assert begun - 1 <= read[1] <= time.time() + 1


def test_what_is_hidden_dovecot_does_not_show_and_what_comes_back_has_its_old_id(
    shared: Shared,
) -> None:
    shared.deliver(4)
    before = agree(shared)
    uids = list(before)
    with shared.imap() as client:
        assert keeping_in(shared).hide(uids[1:3], RULE) == 2
        assert client.noop()[0] == "OK"
    assert agree(shared) == {uid: before[uid] for uid in (uids[0], uids[3])}
    # Dovecot writes a new list in which the hidden ones no longer are.
    shared.deliver(2)
    with_new = agree(shared)
    assert set(with_new).isdisjoint(uids[1:3])
    assert keeping_in(shared).restore(uids[1:3]) == 2
    with shared.imap() as client:
        assert len(client.search(None, "ALL")[1][0].split()) == 6
    after = agree(shared)
    assert after == before | with_new
    shared.deliver()
    assert after.items() < agree(shared).items()
    for path in (shared.maildir / ".Expired").rglob("*"):
        assert path.stat().st_uid == OWNER, path


def test_what_comes_back_at_once_keeps_its_id_though_dovecot_still_lists_it(shared: Shared) -> None:
    shared.deliver(3)
    before = agree(shared)
    uids = list(before)
    with shared.imap() as client:
        assert keeping_in(shared).hide(uids[:2], RULE) == 2
        # It sees that they are gone, and that they are back.
        assert client.noop()[0] == "OK"
        assert keeping_in(shared).restore(uids[:2]) == 2
        assert client.noop()[0] == "OK"
    assert agree(shared) == before
