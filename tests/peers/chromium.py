"""A real browser, Debian's chromium, driven by playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from programs import SYSTEM_PATH, find, need

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; it has no window."""
    need("chromium", FONT)
    with sync_playwright() as playwright:
        yield _launch(playwright)


def _launch(playwright: Playwright) -> Browser:
    # Its start is a script of the shell. Root has no sandbox for it.
    return playwright.chromium.launch(
        executable_path=find("chromium"),
        args=["--no-sandbox", "--disable-dev-shm-usage"],
        env={**os.environ, "PATH": SYSTEM_PATH},
    )


class Window:
    """A visitor of one server, and all that the browser complains of."""

    def __init__(self, browser: Browser, base: str, **how: Any) -> None:
        """``how``: of the visitor, such as ``locale`` and ``color_scheme``."""
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True, base_url=base, **{"locale": "en-GB", **how}
        )
        self.context.set_default_timeout(60_000)
        self.base = base
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.context.on("console", lambda message: self._said(message.type, message.text))
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.on("request", lambda request: self._asked(request.url))
        self.page: Page = self.context.new_page()

    def _said(self, kind: str, text: str) -> None:
        # A status of 4xx that a test asks for is in the browser's log, too.
        if kind in ("error", "warning") and "the server responded with a status of" not in text:
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(self.base):
            self.elsewhere.append(url)

    def go(self, path: str) -> None:
        """Go to a page."""
        self.page.goto(path)

    def text(self) -> str:
        """What the page shows."""
        return self.page.inner_text("body")

    def see(self, text: str) -> None:
        """Wait for a text."""
        self.page.get_by_text(text).first.wait_for()

    def log_in_with(self, token: str) -> None:
        """Log in with a token."""
        self.go("/login")
        self.page.fill("#token", token)
        self.page.locator("form:has(#token) button").click()
        self.page.wait_for_url(lambda url: "/login" not in url)

    def log_in_as(self, login: str, password: str) -> None:
        """Send the form of a login name and a password."""
        self.go("/login")
        self.page.fill("#login", login)
        self.page.fill("#password", password)
        self.page.locator("form:has(#login) button").click()

    def close(self) -> None:
        """Close it; it complained of nothing, and asked no other host."""
        self.context.close()
        assert self.complaints == [], self.complaints
        assert self.elsewhere == [], self.elsewhere
