"""Recipients before a store of Maildirs."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.memory import MemoryDirectory
from gateway.errors import MaildropBusy
from gateway.mailboxes.recipients import Recipients, admit
from gateway.model import Account, Limits
from gateway.store.maildir.store import MaildirStore
from gateway.testing.store_contract import ALICE, run_now


class ClosedTests(SynchronousTestCase):
    def test_a_closed_mailbox_is_refused_at_rcpt_with_a_quota_and_without(self) -> None:
        root = self.mktemp()
        os.mkdir(root)

        def store() -> MaildirStore:
            return MaildirStore(root, "{name}", run_now, admit=admit)

        self.successResultOf(store().mark_away(ALICE, "elsewhere"))
        for limits in (Limits(), Limits(octets=1000)):

            def limits_of(_: Account, limits: Limits = limits) -> Limits:
                return limits

            recipients = Recipients(MemoryDirectory({}), store(), limits_of)
            self.failureResultOf(recipients.make_room(ALICE, 10), MaildropBusy)
