"""The languages of the page: the catalogue, numbers, sizes and times."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import gateway.http.page
from gateway.http.page.words import NAMES, languages, preferred

ROOT = Path(gateway.http.page.__file__).parent

METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]

KEYWORDS: Any = {"_": None, "text": (1,), "texts": (1, 2), "_n": (1, 2)}

NARROW = "\N{NARROW NO-BREAK SPACE}"


def texts_of_the_page() -> set[Any]:
    """Every text that templates and code have translated; one with a number as a pair."""
    rows = extract_from_dir(str(ROOT), METHODS, {}, KEYWORDS)
    return {message for _, _, message, _, _ in rows if message}


class CatalogueTests(SynchronousTestCase):
    def test_every_text_is_translated_and_no_translation_is_left_over(self) -> None:
        wanted = texts_of_the_page()
        self.assertGreater(len(wanted), 150)
        for name in list(NAMES)[1:]:
            with (ROOT / "locale" / f"{name}.po").open("rb") as source:
                catalogue = read_po(source, locale=name)
            known = {one.id for one in catalogue if one.id}
            self.assertEqual(known ^ wanted, set())
            for one in catalogue:
                if one.id:
                    parts = one.string if one.pluralizable else (one.string,)
                    self.assertTrue(all(parts), f"{one.id} is not translated")
                    self.assertFalse(one.fuzzy, one.id)

    def test_translations_have_the_same_places_for_values(self) -> None:
        with (ROOT / "locale" / "de.po").open("rb") as source:
            catalogue = read_po(source, locale="de")
        for one in catalogue:
            asked = one.id if isinstance(one.id, tuple) else (one.id,)
            given = one.string if isinstance(one.string, tuple) else (one.string,)
            for left, right in zip(asked, given, strict=True):
                if left:
                    self.assertEqual(_places(left), _places(right), left)

    def test_no_template_has_text_outside_the_catalogue(self) -> None:
        for file in (ROOT / "templates").glob("*.html"):
            text = file.read_text()
            # Babel reads calls of names, not of methods.
            self.assertNotIn("words.text", text)
            for taken_out in (r"\{%.*?%\}", r"\{\{.*?\}\}", r"<[^>]*>", r"&\w+;"):
                text = re.sub(taken_out, " ", text, flags=re.S)
            left = Counter(re.findall(r"[A-Za-z0-9]{3,}", text))
            left.pop("pop3gw", None)
            self.assertEqual(left, Counter(), file.name)


def _places(text: str) -> Counter[str]:
    return Counter(re.findall(r"%\((\w+)\)s", text))


class LanguageTests(SynchronousTestCase):
    def test_the_browsers_order_counts(self) -> None:
        for header, language in (
            ("", "en"),
            ("de", "de"),
            ("de-CH, en;q=0.9", "de"),
            ("en-US,en;q=0.9,de;q=0.8", "en"),
            ("fr, de;q=0.1", "de"),
            ("de;q=0, en;q=0.1", "en"),
            ("de;q=x", "en"),
            ("*", "en"),
        ):
            self.assertEqual(preferred(header), language, header)

    @given(st.text())
    def test_no_header_can_break_it(self, header: str) -> None:
        self.assertIn(preferred(header), NAMES)


class NumberTests(SynchronousTestCase):
    def test_numbers_and_sizes_are_those_of_the_language(self) -> None:
        english, german = languages()["en"], languages()["de"]
        self.assertEqual(english.number(1234567), "1,234,567")
        self.assertEqual(german.number(1234567), "1.234.567")
        self.assertEqual(english.size(1536), f"1.5{NARROW}kB")
        self.assertEqual(german.size(1536), f"1,5{NARROW}kB")
        self.assertEqual(english.size(0), f"0{NARROW}B")
        self.assertEqual(english.size(1023), f"1,023{NARROW}B")
        self.assertEqual(english.size(1024**3), f"1.0{NARROW}GB")
        self.assertEqual(english.size(512 * 1024**2), f"512{NARROW}MB")

    @given(st.floats(allow_nan=False))
    def test_every_time_can_be_shown(self, seconds: float) -> None:
        for words in languages().values():
            self.assertIn("<time", words.when(seconds))
            self.assertIn("<time", words.ago(seconds, 0.0))

    def test_a_time_that_is_not_known_is_a_dash(self) -> None:
        self.assertIn("\N{EN DASH}", languages()["en"].when(None))
