"""The operator's page of a running server, in a real browser."""

from __future__ import annotations

import os
import poplib
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from chromium import Window, chromium
from gateway.directory import passwd_entries
from servers import PASSWORD, USER, Gateway, fill, free_port

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("chromium")]

OPERATE, READ = "operate-0123456789abcdef", "read-0123456789abcdef"

OPERATOR, SECRET = "root@example.org", "looking glass"

ODD = "<img src=x onerror=alert(1)>@example.org"

PAGES = (
    "/",
    "/sessions",
    "/deliveries",
    "/throttle",
    "/mailboxes",
    "/mailboxes?search=nobody",
    f"/mailbox?name={quote(USER)}",
    f"/hidden?mailbox={quote(USER)}",
    "/hidden",
    "/retention",
    "/retention/preview",
    f"/retention/release?mailbox={quote(USER)}",
    "/sessions/kick?session=x&user=y",
    f"/users?user={quote(USER)}",
    "/users?user=nobody",
    "/logins?days=0",
    "/audit",
    "/no/such/page",
)


class PageGateway(Gateway):
    """A gateway with the page, over TLS."""

    def __init__(self, directory: Path, more: str = "", *, operators: str = OPERATOR) -> None:
        self.http = free_port()
        settings = f"""
[http]
endpoint = "tcp:{self.http}:interface=127.0.0.1"
tls = "implicit"
page = true
operators = ["{operators}"]
[http.tokens.ops]
token = "{OPERATE}"
scopes = ["operate"]
[http.tokens.watch]
token = "{READ}"
scopes = ["read"]
[retention]
enabled = true
policy = "any 10y, hide 30d"
max_removal_least = 1
check_every = 1.0
{more}"""
        super().__init__(directory, settings)
        passwd_entries.put(str(self.accounts), OPERATOR, SECRET.encode(), "SSHA256")
        passwd_entries.put(str(self.accounts), "bob@example.org", b"secret", "SSHA256")
        fill(self.maildir, [f"Subject: {one}\r\n\r\n{one}\r\n".encode() for one in range(1, 6)])
        fill(directory / "mail" / "bob@example.org", [b"Subject: x\r\n\r\nx\r\n"])

    @property
    def base(self) -> str:
        """The address of the page."""
        return f"https://127.0.0.1:{self.http}"

    def fetch(self) -> list[bytes]:
        """The messages, by POP3."""
        mail = poplib.POP3_SSL("127.0.0.1", self.tls, context=self.context())
        mail.user(USER)
        mail.pass_(PASSWORD)
        found = [b"\r\n".join(mail.retr(number + 1)[1]) for number in range(mail.stat()[0])]
        mail.quit()
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[PageGateway]:
    server = PageGateway(tmp_path)
    yield server
    if server.process is not None:
        assert "Traceback" not in server.log
        assert OPERATE not in server.log
        server.stop(signal.SIGKILL)


@pytest.fixture
def window(gateway: PageGateway, browser: Browser) -> Iterator[Window]:
    gateway.run()
    found = Window(browser, gateway.base)
    yield found
    found.close()


def test_an_operator_logs_in_by_password_and_out_again(window: Window) -> None:
    window.log_in_as(OPERATOR, "wrong")
    window.see("Wrong login name or password")
    window.log_in_as(USER, PASSWORD)
    window.see("Wrong login name or password, or no operator.")
    window.log_in_as(OPERATOR, SECRET)
    window.see(OPERATOR)
    window.see("All is well")
    window.page.get_by_role("button", name="Log out").click()
    window.page.wait_for_url("**/login")
    window.go("/sessions")
    assert "/login" in window.page.url


def test_a_wrong_token_is_told_apart_from_none(window: Window) -> None:
    window.go("/mailboxes")
    assert "/login?to=" in window.page.url
    window.page.fill("#token", "wrong")
    window.page.get_by_role("button", name="Log in with the token").click()
    window.see("Wrong token")
    window.page.fill("#token", READ)
    window.page.get_by_role("button", name="Log in with the token").click()
    window.page.wait_for_url("**/mailboxes")
    window.see("May look, not change")


def test_a_session_is_kicked_and_the_list_shows_it_without_a_reload(
    window: Window, gateway: PageGateway
) -> None:
    window.log_in_with(OPERATE)
    window.go("/sessions")
    window.see("No session is open.")
    mail = poplib.POP3_SSL("127.0.0.1", gateway.tls, context=gateway.context())
    mail.user(USER)
    mail.pass_(PASSWORD)
    # The page looks again by itself.
    window.page.get_by_role("link", name=f"Kick {USER}").click()
    window.see("loses its connection")
    window.page.get_by_role("button", name="Kick this session").click()
    window.see("1 session was closed.")
    with pytest.raises((poplib.error_proto, OSError, ssl.SSLError)):
        mail.noop()
    mail.close()
    window.see("No session is open.")
    gateway.wait_for(b"kick_session")


def test_a_message_is_hidden_and_restored_and_fetched(window: Window, gateway: PageGateway) -> None:
    assert len(gateway.fetch()) == 5
    window.log_in_with(OPERATE)
    window.go("/mailboxes")
    window.page.get_by_role("link", name=USER).click()
    window.page.locator("input[name=uid]").first.check()
    window.page.get_by_role("button", name="Hide the chosen").click()
    window.see("1 message is hidden now.")
    assert [b"Subject: 1" in one for one in gateway.fetch()] == [False] * 4
    window.page.get_by_role("definition").get_by_role("link").click()
    window.see("1 hidden message")
    window.page.locator("input[name=uid]").first.check()
    window.page.get_by_role("button", name="Restore the chosen").click()
    window.see("1 message is back in the mailbox.")
    assert sum(b"Subject: 1" in one for one in gateway.fetch()) == 1
    window.go("/audit")
    window.see("restored")
    assert "token ops" in window.text()


def test_a_message_is_removed_after_a_question(window: Window, gateway: PageGateway) -> None:
    gateway.fetch()
    window.log_in_with(OPERATE)
    window.go(f"/mailbox?name={quote(USER)}")
    window.page.locator("input[name=uid]").nth(1).check()
    window.page.get_by_role("button", name="Remove the chosen").click()
    window.see("Nobody can restore it.")
    assert len(gateway.fetch()) == 5
    window.page.get_by_role("button", name="Remove for good").click()
    window.see("1 message was removed.")
    assert len(gateway.fetch()) == 4


def test_a_stopped_run_is_released(browser: Browser, tmp_path: Path) -> None:
    gateway = PageGateway(tmp_path)
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("any 10y, hide 30d", "any 1d"))
    for file in gateway.maildir.glob("new/*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    gateway.run()
    window = Window(browser, gateway.base)
    try:
        window.log_in_with(OPERATE)
        window.go("/retention")
        window.page.get_by_role("link", name=f"Release {USER}").click()
        window.see("Retention will remove 5 messages of 5")
        window.page.get_by_role("button", name="Release, and remove").click()
        window.see("1 mailbox is released")
        # The leader looks for orders every minute, and the page every half of one.
        window.go(f"/mailbox?name={quote(USER)}")
        window.page.get_by_text("This mailbox is empty.").wait_for(timeout=200_000)
        assert gateway.fetch() == []
    finally:
        window.close()
        gateway.stop(signal.SIGKILL)


def test_a_session_that_was_ended_elsewhere_leads_back_to_the_login(
    window: Window, gateway: PageGateway
) -> None:
    window.log_in_as(OPERATOR, SECRET)
    window.see("All is well")
    window.go("/sessions")
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace(f'operators = ["{OPERATOR}"]', "operators = []"))
    gateway.send(signal.SIGHUP)
    gateway.wait_for(b"reloaded the configuration")
    # The page finds out by itself, and comes back after the next login.
    window.page.wait_for_url("**/login?to=%2Fsessions")
    window.page.fill("#token", OPERATE)
    window.page.get_by_role("button", name="Log in with the token").click()
    window.page.wait_for_url("**/sessions")


def test_a_server_that_does_not_answer_is_told_and_noticed_when_it_is_back(
    window: Window, gateway: PageGateway
) -> None:
    window.log_in_with(OPERATE)
    window.go("/sessions")
    gateway.send(signal.SIGSTOP)
    try:
        window.page.get_by_role("alert").wait_for(timeout=60_000)
        assert "The server does not answer." in window.text()
    finally:
        gateway.send(signal.SIGCONT)
    window.page.get_by_role("alert").wait_for(state="hidden", timeout=60_000)
    window.complaints.clear()


def test_focus_and_choices_stay_when_the_page_updates_itself(
    window: Window, gateway: PageGateway
) -> None:
    gateway.fetch()
    window.log_in_with(OPERATE)
    window.go("/mailboxes")
    link = window.page.get_by_role("link", name=USER)
    link.focus()
    before = window.page.locator(".live").element_handle()
    assert before is not None
    with window.page.expect_response(lambda answer: "/mailboxes" in answer.url, timeout=60_000):
        pass
    window.page.wait_for_function("document.activeElement.textContent.includes('alice')")


def test_everything_works_without_javascript(gateway: PageGateway, browser: Browser) -> None:
    gateway.run()
    gateway.fetch()
    window = Window(browser, gateway.base, java_script_enabled=False)
    window.log_in_with(OPERATE)
    for path in PAGES[:-1]:
        window.go(path)
        assert window.page.locator("h1").count() == 1, path
    window.go(f"/mailbox?name={quote(USER)}")
    window.page.locator("input[name=uid]").first.check()
    window.page.get_by_role("button", name="Hide the chosen").click()
    window.see("1 message is hidden now.")
    window.close()


@pytest.mark.parametrize(
    ("scheme", "locale", "width"),
    [
        ("light", "en-GB", 1440),
        ("dark", "de-DE", 390),
        ("light", "de-DE", 820),
        ("dark", "en", 820),
    ],
)
def test_axe_finds_nothing_and_nothing_overflows(
    gateway: PageGateway, browser: Browser, scheme: str, locale: str, width: int
) -> None:
    fill(gateway.directory / "mail" / ODD, [b"Subject: x\r\n\r\nx\r\n"])
    gateway.run()
    gateway.fetch()
    mail = poplib.POP3_SSL("127.0.0.1", gateway.tls, context=gateway.context())
    how = {"color_scheme": scheme, "locale": locale}
    window = Window(browser, gateway.base, viewport={"width": width, "height": 900}, **how)
    axe = Axe()

    def check(path: str) -> None:
        window.go(path)
        found = axe.run(window.page).response["violations"]
        assert found == [], f"{path}: {[(one['id'], one['nodes'][0]['html']) for one in found]}"
        wide = window.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path} is {wide} wide"

    check("/login")
    window.log_in_with(OPERATE)
    for path in PAGES:
        check(path)
    assert window.page.locator("html").get_attribute("lang") == locale[:2]
    mail.quit()
    window.close()


def test_a_page_is_used_by_keyboard_alone(window: Window) -> None:
    window.log_in_with(OPERATE)
    window.go("/mailboxes")
    window.page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert window.page.evaluate(focused) == "Skip to content"
    window.page.keyboard.press("Enter")
    window.page.keyboard.press("Tab")
    assert window.page.evaluate("document.activeElement.id") == "search"
    window.page.keyboard.type("alice")
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/mailboxes?search=alice**")
    outline = window.page.evaluate(
        "(document.querySelector('.brand').focus(), "
        "getComputedStyle(document.querySelector('.brand')).outlineStyle)"
    )
    assert outline in ("solid", "auto")


def test_a_worker_knows_the_sessions_of_the_others(browser: Browser, tmp_path: Path) -> None:
    gateway = PageGateway(tmp_path, "[processes]\nworkers = 2\n")
    gateway.run()
    window = Window(browser, gateway.base)
    try:
        window.log_in_with(OPERATE)
        for _ in range(8):
            # Another connection each time, and so now and then another worker.
            answer = window.context.request.get("/sessions", headers={"Connection": "close"})
            assert answer.ok
            assert "/login" not in answer.url
        window.page.get_by_role("button", name="Log out").click()
        window.page.wait_for_url("**/login")
    finally:
        window.close()
        gateway.stop(signal.SIGKILL)


def test_ten_thousand_mailboxes_are_fifty_rows(browser: Browser, tmp_path: Path) -> None:
    gateway = PageGateway(tmp_path)
    for number in range(10_000):
        (tmp_path / "mail" / f"user{number:05}@example.org" / "cur").mkdir(parents=True)
        (tmp_path / "mail" / f"user{number:05}@example.org" / "new").mkdir()
        (tmp_path / "mail" / f"user{number:05}@example.org" / "tmp").mkdir()
    gateway.run()
    window = Window(browser, gateway.base)
    try:
        window.log_in_with(READ)
        window.go("/mailboxes?sort=mailbox")
        window.see("10,002 mailboxes")
        assert window.page.locator("tbody tr").count() == 50
        window.page.get_by_role("link", name="Next").click()
        window.see("51 to 100 of 10,002")
        window.page.fill("#search", "user09999")
        window.page.get_by_role("button", name="Search").click()
        window.see("1 mailbox")
        assert window.page.locator("tbody tr").count() == 1
    finally:
        window.close()
        gateway.stop(signal.SIGKILL)
