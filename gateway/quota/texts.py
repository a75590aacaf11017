"""The texts of quota warnings and digests in the built-in languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Formatter
from textwrap import fill

from attrs import asdict, frozen

from gateway.model import Level

FIELDS = ("name", "used", "limit", "percent")


def check_template(text: str) -> None:
    """Raise ``ValueError`` unless all braces contain the name of a field."""
    known = " ".join(f"{{{name}}}" for name in FIELDS)
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"expected {known}, and {{{{ or }}}} for braces: {error}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in FIELDS or form or conversion):
            raise ValueError(f"expected {known}, found {{{name}}} with or without a form")


def check_subject(text: str) -> None:
    """As ``check_template``; the text must also be one line."""
    check_template(text)
    if not text.isprintable():
        raise ValueError(f"expected one line, found {text!r}")


@frozen
class Template:
    """A warning with fields in braces.  Raises ``ValueError`` for any but ``FIELDS``."""

    subject: str
    text: str
    html: str
    """A complete document; values are escaped."""

    def __attrs_post_init__(self) -> None:
        for part, text in asdict(self).items():
            try:
                check_subject(text) if part == "subject" else check_template(text)
            except ValueError as error:
                raise ValueError(f"{part}: {error}") from None


Templates = Mapping[str, Mapping[Level, Template]]
"""Warnings by language in lower case, and by level."""


@frozen
class Language:
    """Formats of numbers, and texts of the digest."""

    point: str
    group: str
    octet: str
    octets: str
    message: str
    messages: str
    of: str
    levels: Mapping[Level, str]
    digest: str
    """Subject of the digest, with ``{count}``."""

    more: str
    """Last line of the digest if there are more mailboxes, with ``{count}``."""


ENGLISH = Language(
    point=".",
    group=",",
    octet="byte",
    octets="bytes",
    message="message",
    messages="messages",
    of="of",
    levels={Level.NORMAL: "has room", Level.WARN: "nearly full", Level.OVER: "full"},
    digest="Mailboxes that are full or nearly so: {count}",
    more="And {count} more.",
)

GERMAN = Language(
    point=",",
    group=".",
    octet="Byte",
    octets="Byte",
    message="Nachricht",
    messages="Nachrichten",
    of="von",
    levels={Level.NORMAL: "hat Platz", Level.WARN: "fast voll", Level.OVER: "voll"},
    digest="Volle und fast volle Postfächer: {count}",
    more="Und {count} weitere.",
)

LANGUAGES: Mapping[str, Language] = {"en": ENGLISH, "de": GERMAN}


def _template(language: str, subject: str, *paragraphs: str) -> Template:
    text = "\n\n".join(fill(paragraph, 72) for paragraph in paragraphs)
    html = "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    html = (
        f'<!DOCTYPE html>\n<html lang="{language}">\n'
        f'<head><meta charset="utf-8"><title>{subject}</title></head>\n'
        f"<body>\n{html}\n</body>\n</html>\n"
    )
    return Template(subject, f"{text}\n", html)


BUILT_IN: Templates = {
    "en": {
        Level.WARN: _template(
            "en",
            "Your mailbox is {percent}% full",
            "The mailbox {name} holds {used}: {percent}% of its limit of {limit}.",
            "Once it is full, new mail for you will be refused. Please delete what you no"
            " longer need. Mail that your mail program leaves on the server counts, too.",
        ),
        Level.OVER: _template(
            "en",
            "Your mailbox is full",
            "The mailbox {name} holds {used}; its limit is {limit}.",
            "New mail for you is refused until there is room again. Please delete what you no"
            " longer need. Mail that your mail program leaves on the server counts, too.",
        ),
    },
    "de": {
        Level.WARN: _template(
            "de",
            "Ihr Postfach ist zu {percent} % voll",
            "Das Postfach {name} enthält {used}: {percent} % der erlaubten {limit}.",
            "Sobald es voll ist, wird neue Post an Sie abgewiesen. Bitte löschen Sie, was Sie"
            " nicht mehr brauchen. Auch was Ihr Mailprogramm auf dem Server lässt, zählt mit.",
        ),
        Level.OVER: _template(
            "de",
            "Ihr Postfach ist voll",
            "Das Postfach {name} enthält {used}; erlaubt sind {limit}.",
            "Neue Post an Sie wird abgewiesen, bis wieder Platz ist. Bitte löschen Sie, was Sie"
            " nicht mehr brauchen. Auch was Ihr Mailprogramm auf dem Server lässt, zählt mit.",
        ),
    },
}


KINDS: Mapping[str, Level] = {"warn": Level.WARN, "over": Level.OVER}
"""The names of levels in the configuration."""


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _tags(*languages: str) -> tuple[str, ...]:
    """The languages to try: each, each without its region, then English."""
    known = (tag for tag in map(_tag, languages) for tag in (tag, tag.partition("-")[0]))
    return (*known, "en")


def own_templates(said: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Templates:
    """Templates of the configuration, by language, kind and part; empty parts: the built-in text.

    Raises ``ValueError`` for a missing part in a language that is not built in.
    """
    found: dict[str, dict[Level, Template]] = {}
    for language, kinds in said.items():
        known = next((tag for tag in _tags(language)[:-1] if tag in BUILT_IN), None)
        for kind, parts in kinds.items():
            if not any(parts.values()):
                continue
            level = KINDS[kind]
            default = asdict(BUILT_IN[known][level]) if known else {}
            whole = default | {part: text for part, text in parts.items() if text}
            if missing := [part for part in parts if part not in whole]:
                raise ValueError(
                    f"expected {language}.{kind}.{missing[0]} too: {language} is not built in"
                )
            found.setdefault(_tag(language), {})[level] = Template(**whole)
    return found


def template_for(
    languages: Sequence[str], level: Level, own: Templates
) -> tuple[Template, Language]:
    """The warning of ``level`` in the first of ``languages`` that has one, and its formats.

    Templates in ``own`` take precedence over the built-in ones; the fallback is English.
    Raises ``KeyError`` for ``Level.NORMAL``, which has no warning.
    """
    for tag in _tags(*languages):
        for templates in (own, BUILT_IN):
            if level in templates.get(tag, {}):
                return templates[tag][level], language_for(tag)
    raise KeyError(level)


def is_known(language: str, own: Templates) -> bool:
    """Whether there is a warning in this language, ignoring the region."""
    return any(tag in own or tag in BUILT_IN for tag in _tags(language)[:-1])


def language_for(language: str) -> Language:
    """The formats of a language; those of English if it is unknown."""
    return next(LANGUAGES[tag] for tag in _tags(language) if tag in LANGUAGES)
