"""What holds for a copy of a mailbox, whatever two stores it goes between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from gateway.app.parts.retention import guard_of, policies_of
from gateway.config.settings import Settings
from gateway.directory.memory import MemoryDirectory
from gateway.errors import (
    CopyDiffers,
    MailboxExists,
    MaildropBusy,
    NotSupported,
    ServedElsewhere,
    StoreDown,
)
from gateway.interfaces import IMailboxClosing, IMailboxTransfer
from gateway.mailboxes.owners import AllMailboxes
from gateway.model import Form, LastLogin, Level, MailboxImage
from gateway.operations.mail.copy import CopiedMailbox, copy_mailbox
from gateway.operations.tools import Tools
from gateway.state.memory import MemoryState
from gateway.store.memory_mailbox import BytesBody
from gateway.testing.retention_store_contract import RULE
from gateway.testing.store_contract import ALICE, NO_LIMITS, read_all
from gateway.testing.transfer_contract import image_of, message

STEPS = ("inspect", "open_message", "take", "adjust", "hold", "mark_away")


@frozen
class Pair:
    """Two places; the old one has a mailbox for Alice."""

    old: Any
    new: Any


class Near(float):
    """A time, which equals those that stores keep of it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 0.01

    __hash__ = None  # type: ignore[assignment]


class Watched:
    """A store of which each call for a copy is seen before it is done."""

    def __init__(self, store: Any, see: Callable[[str], None]) -> None:
        self._store = store
        self._see = see
        directlyProvides(self, IMailboxTransfer, IMailboxClosing)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in STEPS:
            return found

        def call(*arguments: Any) -> Any:
            def work() -> Any:
                self._see(name)
                return found(*arguments)

            return maybeDeferred(work)

        return call


def tools_of(store: Any, name: str) -> Tools:
    """What an operator has at one place."""
    directory = MemoryDirectory({}, {})
    settings = Settings(state_dir=f"/{name}")
    return Tools(
        directory=directory,
        store=store,
        state=MemoryState(),
        mailboxes=AllMailboxes(directory, store, maybeDeferred, hosts=()),
        policies=policies_of(settings.retention),
        guard=guard_of(settings.retention),
        settings=settings,
        recipients=None,  # type: ignore[arg-type]
        processes=None,  # type: ignore[arg-type]
        survey=None,  # type: ignore[arg-type]
        run=maybeDeferred,
        now=lambda: 1_800_000_000.0,
        operator="uid 0",
    )


def copy_tests(make_pair: Callable[[SynchronousTestCase], Pair]) -> type[SynchronousTestCase]:
    """The suite for two stores."""

    class CopyTests(SynchronousTestCase):
        def setUp(self) -> None:
            pair = make_pair(self)
            self.old, self.new = tools_of(pair.old, "old"), tools_of(pair.new, "new")

        # -- what happens ----------------------------------------------------------

        def ask(self, tools: Tools, what: str, *arguments: Any) -> Any:
            return self.successResultOf(getattr(tools.store, what)(ALICE, *arguments))

        def run_copy(self, old: Tools, new: Tools, **more: Any) -> Deferred[CopiedMailbox]:
            return Deferred.fromCoroutine(copy_mailbox(old, new, mailbox=ALICE.mailbox, **more))

        def copy(self, *, back: bool = False, **more: Any) -> CopiedMailbox:
            sides = (self.new, self.old) if back else (self.old, self.new)
            done: CopiedMailbox = self.successResultOf(self.run_copy(*sides, **more))
            return done

        def send(self, tools: Tools, text: bytes = b"late\r\n") -> Deferred[None]:
            """Alice gets a message there."""

            async def send() -> None:
                store: Any = tools.store
                incoming = await store.receive(ALICE)
                try:
                    await incoming.write(text)
                    await incoming.commit(ALICE, NO_LIMITS)
                finally:
                    await incoming.close()

            return Deferred.fromCoroutine(send())

        def fill(self, count: int, tools: Tools | None = None) -> list[str]:
            """Alice gets messages; returns the unique-ids of all that she has."""
            tools = tools or self.old
            for number in range(count):
                text = b"Subject: %d\r\n\r\n.dot\r\n%s\r\n" % (number, b"x" * number)
                self.successResultOf(self.send(tools, text))
            return self.listed(tools)

        def listed(self, tools: Tools) -> list[str]:
            """What a login shows."""
            maildrop, give_back = self.ask(tools, "open", None)
            uids = list(self.successResultOf(maildrop.listing()).uids)
            give_back()
            return uids

        def image(self, tools: Tools) -> MailboxImage:
            return self.ask(tools, "inspect")

        def everything(self, tools: Tools) -> list[Any]:
            """All that is kept of a mailbox, hidden mail by unique-id."""
            found: list[Any] = []
            messages = self.image(tools).messages
            shown = [one for one in messages if one.hidden is None]
            hidden = sorted(
                (one for one in messages if one.hidden is not None), key=lambda one: one.uid
            )
            for one in (*shown, *hidden):
                text = read_all(self, self.ask(tools, "open_message", one))
                since = None if one.hidden is None else Near(one.hidden)
                found.append((one.uid, text, Near(one.received), one.read is not None, since))
            return found

        def carry(self, tools: Tools, *uids: str) -> None:
            """Alice has messages there that have brought their unique-ids."""
            self.ask(tools, "mark_away", "carry")
            kept = [message(uid) for uid in uids]
            for one in kept:
                self.ask(tools, "take", "carry", one, BytesBody(b"text\r\n", Form.CANONICAL))
            self.ask(tools, "adjust", "carry", image_of(*kept))
            self.ask(tools, "mark_away", "")

        def read_and_remove(self, tools: Tools, read: set[int], removed: set[int]) -> None:
            """A session."""
            maildrop, give_back = self.ask(tools, "open", None)
            self.successResultOf(maildrop.finish(removed, read))
            give_back()

        # -- what is kept ----------------------------------------------------------

        def test_all_of_a_mailbox_is_the_same_in_the_new_place(self) -> None:
            uids = self.fill(6)
            self.ask(self.old, "hide", uids[1:3], RULE)
            self.read_and_remove(self.old, {0, 2}, {1})
            self.ask(self.old, "restore", uids[2:3])
            before, usage = self.everything(self.old), self.ask(self.old, "usage")
            order = self.listed(self.old)
            done = self.copy()
            self.assertEqual(self.everything(self.new), before)
            self.assertEqual(self.listed(self.new), order)
            self.assertEqual(self.ask(self.new, "usage"), usage)
            self.assertEqual((done.messages, done.hidden_messages, done.copied), (4, 1, 5))
            self.assertTrue(done.is_switched)

        def test_an_empty_mailbox_can_be_copied(self) -> None:
            self.assertEqual(self.copy().copied, 0)
            self.assertEqual(self.listed(self.new), [])

        def test_a_large_message_is_copied_in_pieces(self) -> None:
            line = b"A line of a large message, which is copied in pieces....\r\n"
            self.successResultOf(self.send(self.old, b"\r\n" + line * 20_000))
            before = self.everything(self.old)
            self.copy()
            self.assertEqual(self.everything(self.new), before)

        def test_a_new_message_gets_an_id_that_neither_place_gave(self) -> None:
            uids = self.fill(3)
            self.read_and_remove(self.old, set(), {1, 2})
            self.copy()
            new = self.fill(1, self.new)[-1]
            self.assertGreater(int(new), max(map(int, uids)))

        def test_warnings_and_the_last_login_go_along(self) -> None:
            self.fill(1)
            ask, name = self.successResultOf, ALICE.mailbox
            ask(self.old.state.weigh(name, Level.OVER, 5000.0, 3600.0))
            ask(self.old.state.keep_logins({name: LastLogin(6000.0, "PASS", "10.0.0.0/24")}))
            self.copy()
            state = ask(self.new.state.warning_states(Level.NORMAL))
            self.assertEqual(state, ask(self.old.state.warning_states(Level.NORMAL)))
            self.assertEqual(ask(self.new.state.find_logins([name]))[name].at, 6000.0)
            self.assertIn(name, ask(self.new.state.orders()))

        # -- while it is used ------------------------------------------------------

        def test_the_old_place_is_used_until_the_switch(self) -> None:
            uids = self.fill(5)
            self.assertFalse(self.copy(switch=False).is_switched)
            self.failureResultOf(self.new.store.open(ALICE, None), MaildropBusy)
            self.failureResultOf(self.send(self.new), MaildropBusy)
            self.read_and_remove(self.old, {0}, {1})
            self.ask(self.old, "hide", [uids[2]], RULE)
            self.fill(1)
            before = self.everything(self.old)
            done = self.copy()
            self.assertLessEqual(done.copied, 2)
            self.assertEqual(self.everything(self.new), before)

        def test_nobody_gets_into_the_old_place_during_the_switch_nor_after_it(self) -> None:
            self.fill(2)
            tried: list[str] = []

            def see(step: str) -> None:
                if step == "hold":
                    self.successResultOf(self.send(self.old, b"at the last moment\r\n"))
                elif step == "mark_away" and len(self.image(self.old).messages) == 3:
                    self.failureResultOf(self.old.store.open(ALICE, None), MaildropBusy)
                    self.failureResultOf(self.send(self.old), MaildropBusy)
                    tried.append(step)

            watched = evolve(self.old, store=Watched(self.old.store, see))
            done = self.successResultOf(self.run_copy(watched, self.new))
            self.assertEqual((done.messages, tried), (3, ["mark_away"]))
            self.failureResultOf(self.old.store.open(ALICE, None), MaildropBusy)
            self.failureResultOf(self.send(self.old), MaildropBusy)
            self.assertEqual(len(self.listed(self.new)), 3)

        def test_a_message_that_goes_while_it_is_copied_is_no_error(self) -> None:
            uids = self.fill(3)

            def see(step: str) -> None:
                if step == "take" and uids[2] in self.listed(self.old):
                    self.ask(self.old, "remove", [uids[2]], RULE)

            watched = evolve(self.new, store=Watched(self.new.store, see))
            self.assertEqual(self.successResultOf(self.run_copy(self.old, watched)).messages, 2)
            self.assertEqual(self.listed(self.new), uids[:2])

        def test_a_run_beside_another_that_has_switched_touches_nothing(self) -> None:
            self.fill(3)

            def see(step: str) -> None:
                # The other run ends, and mail comes to the new place.
                if step == "adjust" and self.image(self.new).away:
                    self.copy()
                    self.fill(1, self.new)

            late = evolve(self.new, store=Watched(self.new.store, see))
            self.failureResultOf(self.run_copy(self.old, late), MaildropBusy)
            self.assertEqual(len(self.listed(self.new)), 4)

        def test_an_earlier_run_ends_where_a_later_one_begins(self) -> None:
            self.fill(2)
            for step in ("take", "adjust", "mark_away"):
                begun: list[str] = []

                def see(name: str, step: str = step, begun: list[str] = begun) -> None:
                    # The last mark opens the new place, when the old one is closed.
                    closed = self.old if step == "mark_away" else self.new
                    if name == step and not begun and self.image(closed).away:
                        begun.append(name)
                        self.copy(switch=False)

                self.fill(1)
                self.copy(switch=False)
                self.fill(1)
                earlier = evolve(self.new, store=Watched(self.new.store, see))
                with self.subTest(step=step):
                    self.failureResultOf(self.run_copy(self.old, earlier), MaildropBusy)
                    self.assertEqual(begun, [step])
                    self.assertEqual(self.image(self.old).away, "")
            before = self.everything(self.old)
            self.copy()
            self.assertEqual(self.everything(self.new), before)

        def test_unique_ids_that_look_like_large_numbers_may_go_and_come_back(self) -> None:
            for uids in (("0000001100000001", "0000001200000001"), ("1700000000123", "x", "y")):
                with self.subTest(uids=uids):
                    self.setUp()
                    self.carry(self.old, *uids)
                    self.copy(switch=False)
                    self.read_and_remove(self.old, set(), {0})
                    self.copy()
                    self.assertEqual(self.listed(self.new), [*uids[1:]])
                    self.read_and_remove(self.new, set(), {0})
                    self.copy(back=True)
                    self.assertEqual(self.listed(self.old), [*uids[2:]])

        def test_progress_is_told_message_by_message(self) -> None:
            self.fill(3)
            told: list[tuple[int, int]] = []
            self.copy(progress=lambda done, total: told.append((done, total)), switch=False)
            self.assertEqual(told[:4], [(0, 3), (1, 3), (2, 3), (3, 3)])

        # -- again, and back -------------------------------------------------------

        def test_a_second_run_copies_nothing_twice(self) -> None:
            self.fill(4)
            self.assertEqual(self.copy(switch=False).copied, 4)
            self.assertEqual(self.copy(switch=False).copied, 0)
            self.assertEqual(self.copy().copied, 0)

        def test_what_was_copied_is_not_copied_over_what_came_since(self) -> None:
            self.fill(2)
            self.copy()
            before = self.fill(1, self.new)
            self.failureResultOf(self.run_copy(self.old, self.new), ServedElsewhere)
            self.assertEqual(self.listed(self.new), before)

        def test_a_mailbox_can_come_back_with_what_happened_meanwhile(self) -> None:
            uids = self.fill(4)
            self.copy()
            self.read_and_remove(self.new, {3}, {0})
            self.ask(self.new, "hide", [uids[1]], RULE)
            self.fill(2, self.new)
            before = self.everything(self.new)
            done = self.copy(back=True)
            self.assertEqual(self.everything(self.old), before)
            self.assertEqual(done.messages, 4)
            *_, there = self.listed(self.old)
            self.assertGreater(int(self.fill(1)[-1]), int(there))
            self.failureResultOf(self.new.store.open(ALICE, None), MaildropBusy)

        # -- what is refused -------------------------------------------------------

        def test_mail_of_the_new_place_is_not_touched(self) -> None:
            self.fill(2)
            self.ask(self.new, "mark_away", "")
            self.fill(1, self.new)
            both = [self.everything(tools) for tools in (self.old, self.new)]
            self.failureResultOf(self.run_copy(self.old, self.new), MailboxExists)
            self.assertEqual([self.everything(tools) for tools in (self.old, self.new)], both)
            self.assertEqual((len(self.listed(self.old)), len(self.listed(self.new))), (2, 1))

        def test_mail_that_others_put_into_the_new_place_stops_the_copy(self) -> None:
            self.fill(2)
            self.copy(switch=False)
            # Somebody who does not know that it is closed.
            self.ask(self.new, "mark_away", "")
            self.fill(1, self.new)
            self.ask(self.new, "mark_away", "copy x")
            self.failureResultOf(self.run_copy(self.old, self.new), MailboxExists)
            self.assertEqual(len(self.image(self.new).messages), 3)
            self.assertEqual(len(self.listed(self.old)), 2)

        def test_a_store_is_not_copied_to_itself(self) -> None:
            other = evolve(self.old, settings=evolve(self.old.settings, state_dir="/other"))
            self.failureResultOf(self.run_copy(self.old, self.old), NotSupported)
            self.failureResultOf(self.run_copy(self.old, other), NotSupported)
            self.assertEqual(self.fill(1), self.listed(self.old))
            self.failureResultOf(self.run_copy(self.old, other), MailboxExists)

        def test_a_store_that_cannot_is_named(self) -> None:
            error = self.failureResultOf(
                self.run_copy(evolve(self.old, store=object()), self.new), NotSupported
            )
            self.assertIn("store.kind", str(error.value))

        # -- what goes wrong -------------------------------------------------------

        def test_octets_that_differ_are_copied_again(self) -> None:
            self.fill(3)
            self.copy(switch=False)
            one = self.image(self.new).messages[1]
            other = self.ask(self.new, "open_message", self.image(self.new).messages[2])
            self.successResultOf(self.new.store.take(ALICE, self.image(self.new).away, one, other))
            other.close()
            self.assertEqual(self.copy().copied, 1)
            self.assertEqual(len(self.listed(self.new)), 3)

        def test_octets_that_go_on_differing_end_the_copy_and_the_old_place_serves_on(self) -> None:
            uids = self.fill(3)

            class Changing(Watched):
                def take(self, account: Any, mark: str, message: Any, body: Any) -> Any:
                    wrong = BytesBody(b"wrong\r\n", body.form)
                    return self._store.take(account, mark, message, wrong)

            changing = evolve(self.new, store=Changing(self.new.store, lambda _: None))
            self.failureResultOf(self.run_copy(self.old, changing), CopyDiffers)
            self.assertEqual(self.listed(self.old), uids)
            self.copy()
            self.assertEqual(self.listed(self.new), uids)

        def test_after_a_failure_at_any_step_both_places_read_and_another_run_ends_it(
            self,
        ) -> None:
            uids = self.fill(4)
            self.ask(self.old, "hide", [uids[1]], RULE)
            before = self.everything(self.old)
            failed = 0
            while True:
                left = [failed + 1]

                def see(_: str, left: list[int] = left) -> None:
                    left[0] -= 1
                    if not left[0]:
                        raise StoreDown("the lab has pulled the plug")

                sides = [
                    evolve(tools, store=Watched(tools.store, see)) for tools in (self.old, self.new)
                ]
                result: Deferred[Any] = self.run_copy(*sides)
                self.successResultOf(result.addErrback(lambda failure: failure.trap(StoreDown)))
                if left[0] > 0:
                    break
                failed += 1
                self.assertEqual(self.everything(self.old), before)
                if not self.image(self.old).away:
                    self.assertEqual(len(self.listed(self.old)), 3)
            self.assertGreater(failed, 10)
            self.assertEqual(self.everything(self.new), before)
            self.assertEqual(len(self.listed(self.new)), 3)

    return CopyTests
