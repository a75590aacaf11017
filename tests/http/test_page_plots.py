"""The plots: columns that fit into their picture, whatever the numbers are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.http.page.plots import HEIGHT, WIDTH, Series, bar, plot

NUMBERS = st.floats(min_value=0, max_value=1e15)


class PlotTests(SynchronousTestCase):
    @given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=90))
    def test_every_column_is_inside_the_picture(self, rows: list[tuple[float, float]]) -> None:
        first, second = zip(*rows, strict=True)
        drawn = plot("p", ["x"] * len(rows), Series("a", "one", first), Series("b", "two", second))
        for column, values in zip(drawn.columns, rows, strict=True):
            self.assertLessEqual(sum(values), drawn.top * 1.000001)
            for block in column.blocks:
                self.assertGreaterEqual(block.y, -0.5)
                self.assertLessEqual(block.y + block.height, HEIGHT + 0.5)
                self.assertLessEqual(block.x + block.width, WIDTH + 0.5)
                self.assertGreater(block.height, 0)

    def test_the_axis_ends_at_a_round_number(self) -> None:
        for highest, top in (
            (0, 2),
            (1, 2),
            (3, 4),
            (5, 6),
            (7, 10),
            (11, 20),
            (52, 60),
            (61, 100),
        ):
            drawn = plot("p", ["x"], Series("a", "one", (float(highest),)))
            self.assertEqual(drawn.ticks, (top, top / 2, 0), highest)

    def test_a_plot_of_nothing_is_empty(self) -> None:
        self.assertTrue(plot("p", ["x", "y"], Series("a", "one", (0.0, 0.0))).is_empty)
        self.assertTrue(plot("p", [], Series("a", "one", ())).is_empty)
        self.assertFalse(plot("p", ["x"], Series("a", "one", (1.0,))).is_empty)


class BarTests(SynchronousTestCase):
    def test_a_bar_is_never_longer_than_full(self) -> None:
        self.assertEqual(bar(0, 100), 0)
        self.assertEqual(bar(1, 1000), 1)
        self.assertEqual(bar(50, 100), 50)
        self.assertEqual(bar(150, 100), 100)
        self.assertEqual(bar(1, None), 0)
        self.assertEqual(bar(1, 0), 100)
