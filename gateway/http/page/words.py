"""The languages of the page: texts, numbers, sizes, dates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from io import BytesIO

from babel import Locale
from babel.dates import format_datetime, format_skeleton, format_time, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations
from markupsafe import Markup

NAMES = {"en": "English", "de": "Deutsch"}
"""The languages, in their own words; the first is that of the source."""

_LOCALES = {"en": "en_GB", "de": "de_DE"}

_UNITS = ("kB", "MB", "GB", "TB", "PB")

_NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"

_LATEST = 253_402_214_400.0
"""The last day of the year 9999: no later one can be shown."""


def text(message: str) -> str:
    """Mark a text that is translated later."""
    return message


def preferred(header: str) -> str:
    """The language that a browser prefers by its Accept-Language (RFC 9110 section 12.5.4)."""
    weighed = []
    for part in header[:1000].split(","):
        tag, _, weight = part.strip().partition(";")
        name = tag.strip().lower().partition("-")[0]
        if name in NAMES:
            weighed.append((_weight(weight), name))
    best = max(weighed, key=lambda pair: pair[0], default=(0.0, ""))
    return best[1] if best[0] > 0 else "en"


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    try:
        return float(value) if name.strip().lower() == "q" else 1.0
    except ValueError:
        return 0.0


class Words:
    """One language: texts, and how it writes numbers and times."""

    def __init__(self, language: str, translations: NullTranslations) -> None:
        self.language = language
        self._locale = Locale.parse(_LOCALES[language])
        self._translations = translations

    def text(self, message: str, **values: object) -> str:
        """A text in this language."""
        found: str = self._translations.gettext(message)
        return found % values if values else found

    def texts(self, one: str, many: str, count: int, **values: object) -> str:
        """A text with a number in it, as ``%(num)s``."""
        found: str = self._translations.ngettext(one, many, count)
        return found % {"num": self.number(count), **values}

    def number(self, value: float) -> str:
        """A whole number."""
        return str(format_decimal(value, format="#,##0", locale=self._locale))

    def percent(self, share: float) -> str:
        """A share of 1."""
        return str(format_percent(share, locale=self._locale))

    def size(self, octets: float) -> str:
        """Octets in the largest unit that fits; 1 kB has 1024, as in the settings."""
        value, unit = float(octets), "B"
        for larger in _UNITS:
            if value < 1024:
                break
            value, unit = value / 1024, larger
        form = "#,##0" if unit == "B" or value >= 99.95 else "#,##0.0"
        number = format_decimal(value, format=form, locale=self._locale)
        return f"{number}{_NARROW_SPACE}{unit}"

    def when(self, seconds: float | None) -> Markup:
        """A date and a time in the server's time zone; None: a dash."""
        return self._time(
            seconds, lambda moment: format_datetime(moment, "short", locale=self._locale)
        )

    def clock(self, seconds: float | None) -> Markup:
        """A time of day."""
        return self._time(
            seconds, lambda moment: format_time(moment, "medium", locale=self._locale)
        )

    def minute(self, seconds: float) -> str:
        """A time of day without seconds."""
        return str(format_time(_local(seconds), "short", locale=self._locale))

    def day(self, seconds: float) -> str:
        """The date of a day of UTC, without its year."""
        moment = datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)
        return str(format_skeleton("MMMd", moment, locale=self._locale))

    def ago(self, seconds: float | None, now: float) -> Markup:
        """How long ago something was, or in how long it will be."""
        if seconds is not None and abs(seconds - now) < 1:
            return self._time(seconds, lambda _: self.text("now"))
        return self._time(
            seconds,
            lambda moment: format_timedelta(
                round(moment.timestamp() - now), add_direction=True, locale=self._locale
            ),
        )

    def span(self, seconds: float) -> str:
        """How long something takes."""
        return str(format_timedelta(max(round(seconds), 0), locale=self._locale))

    def _time(self, seconds: float | None, tell: Callable[[datetime], str]) -> Markup:
        if seconds is None:
            return Markup('<span class="none">\N{EN DASH}</span>')
        moment = _local(seconds)
        whole = format_datetime(moment, "long", locale=self._locale)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            moment.isoformat(timespec="seconds"), whole, tell(moment)
        )

    def zone(self) -> str:
        """The server's time zone, for the foot of the page."""
        return time.strftime("%Z (UTC%z)")


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC).astimezone()


@cache
def languages() -> Mapping[str, Words]:
    """Every language, read once."""
    return {name: Words(name, _translations(name)) for name in NAMES}


def _translations(name: str) -> NullTranslations:
    if name == next(iter(NAMES)):
        return NullTranslations()
    file = files(__package__) / "locale" / f"{name}.po"
    compiled = BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=name))
    compiled.seek(0)
    return Translations(compiled)
