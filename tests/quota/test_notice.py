"""Warnings and digests as messages."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.model import Level, Limits, Usage
from gateway.quota.notice import MOST_ROWS, Figures, Origin, Row, Stamp, digest, figures, warning
from gateway.quota.texts import (
    BUILT_IN,
    ENGLISH,
    GERMAN,
    LANGUAGES,
    Template,
    check_template,
    language_for,
    own_templates,
    template_for,
)

KB, MB, GB = 1024, 1024**2, 1024**3
ORIGIN = Origin("postmaster@example.org", "Mail Administration")
STAMP = Stamp(1_700_000_000.7, "1700000000.0badcafe")
HALF = Usage(512 * MB, 100), Limits(octets=GB)

LONG = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.example"

NAMES = st.text(max_size=60)
ADDRESSES = (
    st.builds("{}@{}".format, NAMES, st.from_regex(r"[a-z0-9-]{1,60}\.[a-z]{2,60}", fullmatch=True))
    | NAMES
)


def sent(to: str = "alice@example.org", *, template: Template | None = None, **more: Any) -> bytes:
    """A warning, in English unless said otherwise."""
    usage, limits = HALF
    arguments: dict[str, Any] = {
        "template": template or BUILT_IN["en"][Level.WARN],
        "language": ENGLISH,
        "origin": ORIGIN,
        "stamp": STAMP,
    }
    return warning(to, usage, limits, **(arguments | more))


def read(data: bytes) -> EmailMessage:
    """As a client reads it."""
    return cast(EmailMessage, message_from_bytes(data, policy=default))


def parts(message: EmailMessage) -> list[str]:
    """The texts of all parts."""
    return [
        part.get_content().replace("\r\n", "\n")  # type: ignore[attr-defined]
        for part in message.iter_parts()
    ]


def said(usage: Usage, limits: Limits) -> tuple[str, str, int]:
    """Figures in English."""
    return tuple(figures(usage, limits, ENGLISH))  # type: ignore[return-value]


class FiguresTests(SynchronousTestCase):
    def test_octets_are_told_in_units_that_people_read(self) -> None:
        for octets, text in {
            0: "0 bytes",
            1: "1 byte",
            1023: "1023 bytes",
            KB: "1 KB",
            KB + 512: "1.5 KB",
            100 * KB + 512: "100 KB",
            GB - 1: "1023 MB",
            GB: "1 GB",
            1024**4 * 2: "2 TB",
            1024**6: "1 EB",
            1024**7: "1024 EB",
            -5: "-5 bytes",
        }.items():
            self.assertEqual(said(Usage(octets), Limits(octets=1))[0], text)

    def test_german_has_commas_where_english_has_points(self) -> None:
        self.assertEqual(
            figures(Usage(3 * KB // 2), Limits(octets=2 * KB), GERMAN), ("1,5 KB", "2 KB", 75)
        )
        self.assertEqual(
            figures(Usage(0, 1), Limits(messages=1000), GERMAN),
            ("1 Nachricht", "1.000 Nachrichten", 0),
        )

    def test_what_is_nearest_to_its_limit_is_told(self) -> None:
        limits = Limits(octets=1000, messages=1000)
        self.assertEqual(said(Usage(900, 10), limits), ("900 bytes", "1000 bytes", 90))
        self.assertEqual(said(Usage(10, 900), limits), ("900 messages", "1,000 messages", 90))

    def test_a_part_is_rounded_down_and_may_be_more_than_all(self) -> None:
        self.assertEqual(said(Usage(999), Limits(octets=1000))[2], 99)
        self.assertEqual(said(Usage(1100), Limits(octets=1000))[2], 110)
        self.assertEqual(said(Usage(0), Limits(octets=0))[2], 100)
        self.assertEqual(said(Usage(-9), Limits(octets=10))[2], 0)

    def test_without_a_limit_the_figure_that_warns_is_taken_for_it(self) -> None:
        self.assertEqual(said(Usage(300), Limits(warn_octets=200)), ("300 bytes", "200 bytes", 150))
        self.assertEqual(said(Usage(300), Limits()), Figures("300 bytes", "∞", 0))


class WarningTests(SynchronousTestCase):
    def test_the_user_reads_the_figures_in_both_parts(self) -> None:
        message = read(sent())
        self.assertEqual(message["Subject"], "Your mailbox is 50% full")
        self.assertEqual(message["To"], "alice@example.org")
        self.assertEqual(message["From"], "Mail Administration <postmaster@example.org>")
        self.assertEqual(message.get_content_type(), "multipart/alternative")
        kinds = [part.get_content_type() for part in message.iter_parts()]
        self.assertEqual(kinds, ["text/plain", "text/html"])
        for text in parts(message):
            words = " ".join(text.split())
            self.assertIn("alice@example.org holds 512 MB: 50% of its limit of 1 GB.", words)

    def test_no_program_is_invited_to_answer(self) -> None:
        message = read(sent())
        self.assertEqual(message["Auto-Submitted"], "auto-generated")
        self.assertEqual(message["Return-Path"], "<>")
        self.assertEqual(message["Precedence"], "bulk")

    def test_clients_can_filter_it_by_list(self) -> None:
        self.assertEqual(read(sent())["List-Id"], "<quota.example.org>")
        origin = Origin("a@example.org", list_id="full.lists.example.org")
        self.assertEqual(read(sent(origin=origin))["List-Id"], "<full.lists.example.org>")

    def test_it_has_an_id_and_the_date_it_was_given(self) -> None:
        message = read(sent())
        self.assertEqual(message["Message-ID"], "<1700000000.0badcafe@example.org>")
        self.assertEqual(message["Date"], "Tue, 14 Nov 2023 22:13:20 +0000")

    def test_the_same_arguments_make_the_same_message(self) -> None:
        self.assertEqual(sent(), sent())

    def test_every_built_in_text_is_complete(self) -> None:
        self.assertEqual(set(BUILT_IN), set(LANGUAGES))
        for tag, templates in BUILT_IN.items():
            self.assertEqual(set(templates), {Level.WARN, Level.OVER})
            for template in templates.values():
                message = read(sent(template=template, language=LANGUAGES[tag]))
                self.assertNotIn("{", "".join([message["Subject"], *parts(message)]))

    def test_german_survives_every_way(self) -> None:
        template = BUILT_IN["de"][Level.OVER]
        data = sent(template=template, origin=Origin("chef@example.org", "Jörg Müller, Chef"))
        data.decode("ascii")
        message = read(data)
        self.assertEqual(message["From"].addresses[0].display_name, "Jörg Müller, Chef")
        self.assertIn("Bitte löschen", parts(message)[0])

    def test_a_template_of_ones_own_is_filled_and_its_html_escaped(self) -> None:
        template = Template(
            "Größe: {used} von {limit} belegt, und das in einem Betreff von einiger Länge: {name}",
            "{{{name}}} {percent}",
            "<style>p {{ }}</style><p>{name}</p>",
        )
        message = read(sent("<b>&@example.org", template=template))
        self.assertEqual(
            message["Subject"],
            "Größe: 512 MB von 1 GB belegt, und das in einem Betreff von einiger Länge:"
            " <b>&@example.org",
        )
        text, html = parts(message)
        self.assertEqual(text, "{<b>&@example.org} 50\n")
        self.assertEqual(html, "<style>p { }</style><p>&lt;b&gt;&amp;@example.org</p>\n")

    def test_addresses_of_all_kinds_are_written_so_that_they_are_read_back(self) -> None:
        for given_one, address in {
            "alice": "alice@example.org",
            "alice@": "alice@example.org",
            "@example.net": "example.net@example.org",
            "alice smith@example.net": '"alice smith"@example.net',
            '"alice smith"@example.net': '"alice smith"@example.net',
            r'"a\"b"@example.net': r'"a\"b"@example.net',
            "a@müller.example": "a@xn--mller-kva.example",
            "jörg@example.net": "jörg@example.net",
            LONG: LONG,
            "a@..": "a@invalid",
            "a\r\nBcc: b@example.net": '"a??Bcc: b"@example.net',
        }.items():
            with self.subTest(address=given_one):
                (read_back,) = read(sent(given_one))["To"].addresses
                octets = str(read_back).encode("utf-8", "surrogateescape")
                self.assertEqual(octets.decode("utf-8"), address)

    def test_a_sender_who_cannot_be_written_into_a_header_is_refused(self) -> None:
        for address in ("", "postmaster", "a@", "@b", "a b@c", "a@b\r\n", "a@b@c", "a@b,c", "a@.."):
            error = self.assertRaises(ValueError, Origin, address)
            self.assertTrue(str(error).startswith("expected an address"), address)
        for list_id in ("<a>", "a b", "a\r\n", "ü"):
            self.assertRaises(ValueError, Origin, "a@b", list_id=list_id)
        self.assertEqual(Origin("jörg@müller.example").domain, "xn--mller-kva.example")

    @given(ADDRESSES, NAMES, st.integers(0, 2**40), st.sampled_from(["en", "de"]))
    def test_whatever_the_names_the_message_is_internet_text_with_every_header_once(
        self, to: str, name: str, octets: int, tag: str
    ) -> None:
        data = warning(
            to,
            Usage(octets),
            Limits(octets=2**40),
            template=BUILT_IN[tag][Level.WARN],
            language=LANGUAGES[tag],
            origin=Origin("postmaster@example.org", name),
            stamp=STAMP,
        )
        self.assertTrue(data.endswith(b"\r\n"))
        self.assertNotRegex(data, rb"[^\r]\n|\r[^\n]|\0")
        self.assertLessEqual(max(map(len, data.split(b"\r\n"))), 998)
        head = data.partition(b"\r\n\r\n")[0]
        names = [match[1] for match in re.finditer(rb"(?m)^([!-9;-~]+):", head)]
        self.assertEqual(
            names,
            b"Return-Path Auto-Submitted Precedence List-Id Message-ID Date From To Subject"
            b" MIME-Version Content-Type".split(),
        )
        self.assertEqual(len(list(read(data).iter_parts())), 2)


class TemplateTests(SynchronousTestCase):
    def test_a_field_that_is_none_is_named(self) -> None:
        known = "{name} {used} {limit} {percent}"
        for text, found in {
            "{usd}": "found {usd}",
            "{}": "found {}",
            "{name.__class__}": "found {name.__class__}",
            "{name!r}": "found {name}",
            "{percent:>9999999}": "found {percent}",
            "{": "Single '{'",
            "p { color: red }": "found { color}",
        }.items():
            with self.subTest(text=text):
                error = str(self.assertRaises(ValueError, check_template, text))
                self.assertIn(found, error)
                self.assertTrue(error.startswith(f"expected {known}"), error)
        check_template(f"{{{{ {known} }}}}")

    def test_the_part_that_is_wrong_is_named(self) -> None:
        error = self.assertRaises(ValueError, Template, "{name}", "{used}", "{oops}")
        self.assertTrue(str(error).startswith("html: expected "))
        self.assertRaises(ValueError, Template, "two\nlines", "", "")

    def test_ones_own_templates_go_before_those_built_in(self) -> None:
        own = {"de": {Level.WARN: Template("Voll", "Voll", "Voll")}}
        self.assertEqual(template_for(["de"], Level.WARN, own)[0].subject, "Voll")
        self.assertEqual(template_for(["de"], Level.OVER, own)[0], BUILT_IN["de"][Level.OVER])

    def test_what_ones_own_leave_out_is_as_built_in(self) -> None:
        said = {"de_AT": {"warn": {"subject": "Voll", "text": "", "html": ""}}}
        own = own_templates(said)
        self.assertEqual(set(own), {"de-at"})
        built_in = BUILT_IN["de"][Level.WARN]
        self.assertEqual(own["de-at"][Level.WARN], evolve(built_in, subject="Voll"))
        self.assertEqual(template_for(["de-AT"], Level.WARN, own)[0].subject, "Voll")
        self.assertEqual(own_templates({"fr": {"warn": {"subject": "", "text": ""}}}), {})

    def test_a_language_that_is_not_built_in_needs_every_part(self) -> None:
        parts = {"subject": "Pleine", "text": "{name}", "html": "<p>"}
        own = own_templates({"fr": {"over": parts}})
        found = template_for(["fr-CA"], Level.OVER, own)
        self.assertEqual(found, (Template(**parts), LANGUAGES["en"]))
        for part in parts:
            error = self.assertRaises(
                ValueError, own_templates, {"fr": {"over": parts | {part: ""}}}
            )
            self.assertEqual(str(error), f"expected fr.over.{part} too: fr is not built in")

    def test_a_region_and_then_english_are_fallen_back_to(self) -> None:
        for tag, found in {"de-AT": "de", "DE_ch": "de", "fr": "en", "": "en"}.items():
            expected = BUILT_IN[found][Level.WARN], LANGUAGES[found]
            self.assertEqual(template_for([tag], Level.WARN, {}), expected)
            self.assertEqual(language_for(tag), LANGUAGES[found])

    def test_of_several_languages_the_first_is_taken_in_which_there_is_a_text(self) -> None:
        own = {"fr": {Level.WARN: Template("Pleine", "Pleine", "Pleine")}}
        for languages, found in {
            ("fr", "de"): own["fr"][Level.WARN],
            ("it", "de-CH", "fr"): BUILT_IN["de"][Level.WARN],
            ("it", "es"): BUILT_IN["en"][Level.WARN],
            (): BUILT_IN["en"][Level.WARN],
        }.items():
            self.assertEqual(template_for(languages, Level.WARN, own)[0], found)

    def test_there_is_no_warning_of_nothing(self) -> None:
        self.assertRaises(KeyError, template_for, ["en"], Level.NORMAL, {})


class DigestTests(SynchronousTestCase):
    def digest(self, rows: list[Row], tag: str = "en") -> EmailMessage:
        """As the administrator reads it."""
        language = LANGUAGES[tag]
        return read(digest("root@example.org", rows, language=language, origin=ORIGIN, stamp=STAMP))

    def test_the_fullest_mailboxes_come_first(self) -> None:
        limits = Limits(octets=GB, messages=10)
        rows = [
            Row("carol", Level.WARN, Usage(900 * MB), limits),
            Row("alice", Level.OVER, Usage(GB), limits),
            Row("bob", Level.OVER, Usage(2 * GB), limits),
            Row("<dave>", Level.OVER, Usage(0, 10), limits),
        ]
        message = self.digest(rows)
        self.assertEqual(message["Subject"], "Mailboxes that are full or nearly so: 4")
        text, html = parts(message)
        self.assertEqual(
            text.split("\n"),
            [
                "full          200 %  bob  (2 GB of 1 GB)",
                "full          100 %  <dave>  (10 messages of 10 messages)",
                "full          100 %  alice  (1 GB of 1 GB)",
                "nearly full    87 %  carol  (900 MB of 1 GB)",
                "",
            ],
        )
        self.assertIn("<td>&lt;dave&gt;</td>", html)
        self.assertEqual(html.count("<tr>"), 4)

    def test_a_list_has_an_end(self) -> None:
        row = Row("müller", Level.OVER, Usage(GB), Limits(octets=GB))
        text, html = parts(self.digest([row] * (MOST_ROWS + 3), "de"))
        self.assertEqual(html.count("<tr>"), MOST_ROWS)
        self.assertIn("Und 3 weitere.", text)
        self.assertIn("Und 3 weitere.", html)
        self.assertIn("voll          100 %  müller  (1 GB von 1 GB)", text)

    def test_an_empty_list_is_a_message_too(self) -> None:
        self.assertEqual(self.digest([])["Subject"], "Mailboxes that are full or nearly so: 0")
