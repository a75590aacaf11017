"""What the store does at a login does not grow with messages or mailboxes."""

from __future__ import annotations

import os

from test_store_contract import MaildirBench
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Account
from gateway.testing.store_contract import ALICE
from support.calls import calls_of

LONG_AGO = 1_600_000_000


class OpenCostTests(SynchronousTestCase):
    def _cost(self, messages: int) -> int:
        """Calls that the second login to an unchanged mailbox makes."""
        box = MaildirBench(self)
        for number in range(messages):
            name = f"{LONG_AGO + number}.M{number}P1.host,S=2,W=3:2,S"
            os.utime(
                f"{box.maildir}/cur/{box.deliver(b'a' + bytes([10]), name, 'cur')}", (0, LONG_AGO)
            )
        for folder in ("new", "cur"):
            os.utime(f"{box.maildir}/{folder}", (0, LONG_AGO))

        def log_in() -> None:
            maildrop, give_back = self.successResultOf(box.store.open(ALICE, None))
            listing = self.successResultOf(maildrop.listing())
            self.assertEqual(len(listing.uids), messages)
            give_back()

        log_in()
        return calls_of(log_in)

    def test_a_login_to_an_unchanged_mailbox_costs_the_same_however_many_messages_it_has(
        self,
    ) -> None:
        self.assertEqual(self._cost(5), self._cost(500))

    def test_a_login_costs_the_same_however_many_mailboxes_were_opened(self) -> None:
        def cost(mailboxes: int) -> int:
            box = MaildirBench(self)
            box.deliver(b"a\n")
            for folder in ("new", "cur"):
                os.utime(f"{box.maildir}/{folder}", (0, LONG_AGO))

            def log_in(account: Account = ALICE) -> None:
                self.successResultOf(box.store.open(account, None))[1]()

            for number in range(mailboxes):
                name = f"user{number}"
                for folder in ("tmp", "new", "cur"):
                    os.makedirs(f"{box.root}/{name}/{folder}")
                log_in(Account(name, name))
            log_in()
            return calls_of(log_in)

        self.assertEqual(cost(2), cost(200))
