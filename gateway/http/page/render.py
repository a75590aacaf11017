"""Templates to HTML, and the files of the style sheet and the script."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from urllib.parse import urlencode

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import gateway
from gateway.http.page.plots import bar
from gateway.http.page.words import NAMES, Words, text


@frozen
class Entry:
    """An entry of the menu."""

    path: str
    name: str
    """A text to translate."""


MENU = (
    (
        text("Now"),
        (
            Entry("/", text("Overview")),
            Entry("/sessions", text("Sessions")),
            Entry("/deliveries", text("Deliveries")),
            Entry("/throttle", text("Throttle")),
        ),
    ),
    (
        text("Mail"),
        (
            Entry("/mailboxes", text("Mailboxes")),
            Entry("/hidden", text("Hidden mail")),
            Entry("/retention", text("Retention")),
        ),
    ),
    (
        text("People"),
        (Entry("/users", text("Users")), Entry("/logins", text("Last logins"))),
    ),
    (text("Records"), (Entry("/audit", text("Audit")),)),
)
"""Groups of pages."""

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@frozen
class StaticFile:
    """A file that browsers may keep, since its name in a page has its digest."""

    content: bytes
    content_type: str
    digest: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """The files by name."""
    found = {}
    for file in (files(__package__) / "static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            found[file.name] = StaticFile(content, f"{kind}; charset=utf-8", digest)
    return found


def _static(name: str) -> str:
    return f"/static/{name}?{static_files()[name].digest}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        menu=MENU,
        version=gateway.__version__,
        language_names=NAMES,
        static=_static,
        filled=bar,
    )
    return environment


def render(
    template: str,
    words: Words,
    *,
    path: str,
    query: Mapping[str, str],
    form_token: str,
    **values: object,
) -> str:
    """A page as HTML.

    ``path`` and ``query`` of the request are for links to the same page; ``form_token``
    goes into each form; ``values`` are what the template shows.
    """

    def with_query(**changes: object) -> str:
        merged = {**query, **{name: str(value) for name, value in changes.items()}}
        shown = {
            name: value
            for name, value in merged.items()
            if value and (name, value) != ("page", "0")
        }
        return f"{path}?{urlencode(shown)}" if shown else path

    hidden = Markup('<input type="hidden" name="form" value="{}">').format(form_token)
    known = {"fragment": False, "done": "", "operator": None, "here": path}
    return (
        _environment()
        .get_template(template)
        .render(
            {
                **known,
                "_": words.text,
                "_n": words.texts,
                "words": words,
                "with_query": with_query,
                "form_token": lambda: hidden,
                **values,
            }
        )
    )
