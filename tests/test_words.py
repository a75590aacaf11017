"""Words that must not come back: signs of text that a mail administrator has to puzzle over."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent

PLACES = ("gateway/**/*.py", "gateway/**/*.toml", "etc/*.service", "docs/*.md", "README.md")

GENERATED = ("docs/conformance.md",)

SIGNS = {
    "so many": "name the number, as in 'messages per batch'",
    "(for|only|after|every) so long": "name the time, as in 'seconds until a retry'",
    "is (said|told)": "use the active voice, or name the reply, the line or the event",
    "in words[.,;]": "name the text",
    "whose": "use 'of' or 'with', or a sentence of its own",
    "(fault|trouble) of ours": "internal error",
    "in as before": "directory down: accepted cached password of NAME",
    "told to stop": "second stop signal: closing remaining sessions",
    "has nobody": "LDAP search under BASE found no mailboxes",
    "retention waits": "retention run postponed",
    "goes by age": "retention",
    "moving in": "migrating",
}
"""A sign, as a regular expression, and what to write in its place."""


class WordsTests(SynchronousTestCase):
    def test_texts_are_in_the_terms_of_the_field(self) -> None:
        wrong = []
        for file in sorted({file for place in PLACES for file in ROOT.glob(place)}):
            name, text = str(file.relative_to(ROOT)), file.read_text()
            if name in GENERATED:
                continue
            for sign, cure in SIGNS.items():
                # A line may end within a sign.
                pattern = r"\b" + sign.replace(" ", r"[\s#]+")
                for found in re.finditer(pattern, text, re.I):
                    line = text.count("\n", 0, found.start()) + 1
                    wrong.append(f"{name}:{line}: {found[0]!r}: {cure}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))
