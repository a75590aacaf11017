"""Parts of a server, and what a reload keeps of them."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from gateway.app.parts.parts import Life, Parts
from gateway.events import ListenerStopped
from gateway.observe.bus import EventBus


class PartsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = EventBus()
        self.told: list[str] = []
        self.stopping: dict[str, Deferred[None]] = {}

    def part(self, parts: Parts, name: str, made_of: object, mark: str) -> str:
        """A part that tells of its life under this mark."""

        def make() -> str:
            self.told.append(f"make {mark}")
            return mark

        def stop() -> Deferred[None]:
            self.told.append(f"stop {mark}")
            return self.stopping.get(mark, succeed(None))

        def life(made: str) -> Life:
            return Life(
                lambda: self.told.append(f"start {made}"),
                stop,
                {ListenerStopped: lambda event: self.told.append(f"{made} {event.name}")},
            )

        return parts.part(name, made_of, make, life)

    def begun(self, parts: Parts) -> Parts:
        """Parts that work."""
        parts.subscribe()
        parts.start()
        return parts

    def test_a_part_is_made_once_however_often_it_is_wanted(self) -> None:
        parts = Parts(self.bus)
        self.assertEqual([self.part(parts, "a", 1, mark) for mark in ("x", "y")], ["x", "x"])
        self.begun(parts)
        self.assertEqual(self.told, ["make x", "start x"])

    def test_one_made_of_the_same_is_kept_and_another_one_replaced(self) -> None:
        first = Parts(self.bus)
        for name in ("a", "b", "gone"):
            self.part(first, name, 1, name)
        self.begun(first)
        self.told.clear()
        second = Parts(self.bus, first)
        self.assertEqual(self.part(second, "a", 1, "other"), "a")
        self.assertEqual(self.part(second, "b", 2, "new b"), "new b")
        self.assertEqual(self.told, ["make new b"])
        self.begun(second)
        self.assertEqual(self.told, ["make new b", "stop b", "start new b", "stop gone"])
        self.told.clear()
        self.bus.emit(ListenerStopped("told"))
        self.assertEqual(self.told, ["a told", "new b told"])

    def test_what_was_made_in_vain_is_ended_and_the_old_parts_go_on(self) -> None:
        first = Parts(self.bus)
        self.part(first, "a", 1, "a")
        self.begun(first)
        second = Parts(self.bus, first)
        self.part(second, "a", 2, "vain")
        second.drop()
        self.told.clear()
        third = Parts(self.bus, first)
        self.assertEqual(self.part(third, "a", 1, "other"), "a")
        self.bus.emit(ListenerStopped("told"))
        self.assertEqual(self.told, ["a told"])

    def test_a_new_part_starts_when_the_old_one_has_ended_unless_it_is_replaced_meanwhile(
        self,
    ) -> None:
        slow = self.stopping["1"] = Deferred()
        parts = Parts(self.bus)
        self.part(parts, "a", 1, "1")
        self.begun(parts)
        for number in (2, 3):
            parts = Parts(self.bus, parts)
            self.part(parts, "a", number, str(number))
            self.begun(parts)
        self.assertNotIn("start 3", self.told)
        stopped: list[object] = []
        slow.callback(None)
        self.assertEqual(
            [one for one in self.told if one.startswith("start")], ["start 1", "start 3"]
        )
        parts.stop().addCallback(stopped.append)
        self.assertEqual((self.told[-1], len(stopped)), ("stop 3", 1))

    def test_the_end_waits_for_parts_that_were_replaced(self) -> None:
        slow = self.stopping["1"] = Deferred()
        first = Parts(self.bus)
        self.part(first, "a", 1, "1")
        self.begun(first)
        second = Parts(self.bus, first)
        self.part(second, "a", 2, "2")
        self.begun(second)
        ended = second.stop()
        self.assertNoResult(ended)
        slow.callback(None)
        self.successResultOf(ended)
        self.assertNotIn("start 2", self.told)
