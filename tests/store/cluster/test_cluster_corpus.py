"""Every message of the corpus comes out as it would from a Maildir, octet for octet."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

from cluster_engines import ClusterBench, Waits
from gateway.store.memory import MemoryStore
from gateway.testing.store_contract import ALICE, NO_LIMITS, read_all
from whole_corpus import MESSAGES, canonical

pytestmark = [pytest.mark.usefixtures("engines"), pytest.mark.xdist_group("cluster")]


class CorpusTests(Waits, SynchronousTestCase):
    def test_the_whole_corpus_comes_out_as_it_went_in(self) -> None:
        store = ClusterBench(self).store
        memory = MemoryStore()
        memory.add(ALICE.mailbox)
        for message in MESSAGES:
            for one in (store, memory):
                incoming = self.successResultOf(one.receive(ALICE))
                self.successResultOf(incoming.write(canonical(message)))
                self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
                self.successResultOf(incoming.close())
        drops = [self.successResultOf(one.open(ALICE, None))[0] for one in (store, memory)]
        ours, theirs = (self.successResultOf(drop.listing()) for drop in drops)
        self.assertEqual(list(ours.sizes), list(theirs.sizes))
        for index, message in enumerate(MESSAGES):
            body, other = (self.successResultOf(drop.retrieve(index)) for drop in drops)
            self.assertEqual(body.form, other.form)
            self.assertEqual(read_all(self, body), canonical(message))

    def test_of_each_the_header_is_kept_beside_it(self) -> None:
        store = ClusterBench(self).store
        for message in MESSAGES[:50]:
            incoming = self.successResultOf(store.receive(ALICE))
            self.successResultOf(incoming.write(canonical(message)))
            self.successResultOf(incoming.commit(ALICE, NO_LIMITS))
            self.successResultOf(incoming.close())
        for uid, message in enumerate(MESSAGES[:50], 1):
            header = self.successResultOf(store.header(ALICE, str(uid)))
            text = canonical(message)
            whole = b"\r\n" if text.startswith(b"\r\n") else text.partition(b"\r\n\r\n")[0]
            self.assertTrue(header.startswith(whole[: 64 * 1024]))
            self.assertTrue(text.startswith(header))
