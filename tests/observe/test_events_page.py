"""docs/events.md has every event of the log, with every field and a real example."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from events_page import FIELDS, SAMPLES, of_log, page
from gateway.model import Proxy
from gateway.observe.log_events import ROWS
from gateway.observe.log_form import SECOND

PAGE = Path(__file__).parents[2] / "docs/events.md"


class PageTests(SynchronousTestCase):
    def test_it_is_made_from_the_table(self) -> None:
        self.assertEqual(PAGE.read_text(), page(), "run scripts/make-events")

    def test_each_event_has_a_sample_and_says_when_it_comes(self) -> None:
        self.assertEqual({type(sample).__name__ for sample in SAMPLES}, of_log())
        for sample in SAMPLES:
            self.assertRegex(type(sample).__doc__ or "", r"\A\w.*\.")

    def test_each_field_has_a_meaning_and_each_meaning_a_field(self) -> None:
        proxy = Proxy("10.0.0.1", "x")
        names = set(SECOND.values()) | {"via", "proxy_session"}
        for sample in SAMPLES:
            names |= set(ROWS[type(sample)].fields(sample))
        self.assertIn("via", ROWS[type(SAMPLES[0])].fields(_behind(SAMPLES[0], proxy)))
        self.assertEqual(names, set(FIELDS))


def _behind(sample: object, proxy: Proxy) -> object:
    return sample._replace(connection=sample.connection._replace(proxy=proxy))  # type: ignore[attr-defined]
