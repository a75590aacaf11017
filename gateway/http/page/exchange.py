"""Requests of a browser and answers to it, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self
from urllib.parse import parse_qs, urlencode

from attrs import field, frozen

from gateway.http.site import BoundedRequest
from gateway.model import Connection

_FIELDS = 2000
"""Most fields of a form or a query."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer."""

Fields = Mapping[str, tuple[str, ...]]


class Malformed(Exception):
    """The request cannot be read; ``status``: why, as HTTP has it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@frozen
class Asked:
    """A request."""

    method: str
    path: str
    query: Fields
    form: Fields
    cookies: Mapping[str, str]
    languages: str
    """Accept-Language."""

    is_foreign: bool
    """Whether a browser says that another site has sent the form."""

    is_fragment: bool
    """Whether the script asks, for the live part of the page."""

    connection: Connection

    @classmethod
    def read(cls, request: BoundedRequest) -> Self:
        """Raises ``Malformed``."""
        raw_path, _, query = request.uri.partition(b"?")
        return cls(
            method="GET" if request.method == b"HEAD" else request.method.decode("latin-1"),
            path=raw_path.decode("latin-1"),
            query=_fields(query),
            form=_form(request),
            cookies=_cookies(request),
            languages=_header(request, "accept-language"),
            is_foreign=_is_foreign(request),
            is_fragment=bool(_header(request, "x-fragment")),
            connection=request.connection,
        )

    def one(self, name: str) -> str:
        """The last value of a field of the form, or else of the query; empty: none."""
        return (self.form.get(name) or self.query.get(name) or ("",))[-1].strip()

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a field of the form."""
        return self.form.get(name, ())

    @property
    def shown_query(self) -> dict[str, str]:
        """The query for links to the same page."""
        return {name: values[-1] for name, values in self.query.items() if values[-1]}

    @property
    def address(self) -> str:
        """Path and query."""
        query = self.shown_query
        return f"{self.path}?{urlencode(query)}" if query else self.path


def _header(request: BoundedRequest, name: str) -> str:
    return request.header(name)[:4000]


def _is_foreign(request: BoundedRequest) -> bool:
    if _header(request, "sec-fetch-site") not in ("", "same-origin", "none"):
        return True
    # Under "Referrer-Policy: no-referrer" the Origin of our own forms is "null" (Fetch section
    # 3.2), so that this tells nothing; the token of the form does.
    origin = _header(request, "origin")
    # It has no path (RFC 6454 section 7).
    return origin not in ("", "null") and origin.partition("://")[2] != _header(request, "host")


def _form(request: BoundedRequest) -> Fields:
    if request.method != b"POST":
        return {}
    kind = _header(request, "content-type").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Malformed(415)
    if request.is_too_large:
        raise Malformed(413)
    return _fields(request.sent_body)


def _fields(text: bytes) -> Fields:
    try:
        read = parse_qs(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS
        )
    except ValueError:
        raise Malformed(400) from None
    return {name: tuple(values) for name, values in read.items()}


def _cookies(request: BoundedRequest) -> Mapping[str, str]:
    """All that the browser sends (RFC 6265 section 5.4), as they are: ours have no quotes.

    Browsers send those of all ports of a host, so most may be other programs', of any form and
    length.  A proxy may send several headers (RFC 9113 section 8.2.3).
    """
    said: Sequence[bytes] = request.requestHeaders.getRawHeaders(b"cookie", [])
    pairs = (one.partition("=") for one in b";".join(said).decode("latin-1").split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


@frozen
class Answer:
    """What a browser gets."""

    content: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(factory=dict)
    cookies: tuple[str, ...] = ()
    """Values of Set-Cookie."""

    def write(self, request: BoundedRequest) -> None:
        """Send it and finish the request."""
        request.setResponseCode(self.status)
        for name, value in {**HEADERS, "Content-Type": self.content_type, **self.headers}.items():
            request.set(name, value)
        for cookie in self.cookies:
            request.responseHeaders.addRawHeader("Set-Cookie", cookie)
        request.set("Content-Length", str(len(self.content)))
        if request.method != b"HEAD":
            request.write(self.content)  # type: ignore[no-untyped-call]
        request.finish()  # type: ignore[no-untyped-call]


def redirect(to: str, *cookies: str) -> Answer:
    """Go to another page, with GET (RFC 9110 section 15.4.4)."""
    return Answer(status=303, headers={"Location": to}, cookies=cookies)


def cookie(name: str, value: str, *, secure: bool, seconds: int | None = None) -> str:
    """A Set-Cookie; ``seconds``: how long browsers keep it; None: until they are closed."""
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Strict"]
    parts += ["Secure"] if secure else []
    parts += [] if seconds is None else [f"Max-Age={seconds}"]
    return "; ".join(parts)
