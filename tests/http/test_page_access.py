"""Logging in, cookies, form tokens and rights of the page, at the HTTP seam."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from gateway.events import LoginFailed, OperationDone
from gateway.http.access import MOST_WRONG
from gateway.http.page.cookies import IDLE, LONGEST, RENEW
from page_browser import ALICE, HOST, OPERATE, PASSWORD, QUOTA, READ, PageBrowser, PageServer

SESSION = "__Host-pop3gw"


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = PageServer()
        self.browser = PageBrowser(self.server)

    def test_who_has_not_logged_in_is_asked_to_and_comes_back_to_the_page(self) -> None:
        asked = self.browser.get("/hidden?mailbox=bob%40example.org")
        self.assertEqual(asked.status, 303)
        form = self.browser.follow(asked)
        self.assertEqual(form.status, 200)
        to = "/hidden?mailbox=bob%40example.org"
        self.assertIn(f'name="to" value="{to}"', form.text)
        fields = {"form": form.form_token, "token": OPERATE.secret, "to": to}
        self.assertEqual(self.browser.post("/login", fields).location, to)

    def test_a_token_logs_in_with_its_own_scope(self) -> None:
        for token, said in ((OPERATE, "May look and change"), (READ, "May look, not change")):
            browser = PageBrowser(self.server)
            self.assertEqual(browser.log_in(token).location, "/")
            self.assertIn(said, browser.get("/retention").text)

    def test_a_wrong_token_and_one_without_the_scope_get_the_same_answer(self) -> None:
        wrong = self.browser.log_in(evolve(OPERATE, secret="wrong"))
        short = self.browser.log_in(QUOTA)
        self.assertEqual((wrong.status, short.status), (403, 403))
        self.assertIn("Wrong token", wrong.text)
        self.assertNotIn(SESSION, self.browser.cookies)
        self.assertNotIn(QUOTA.secret, short.text)

    def test_many_wrong_tokens_close_the_door_for_that_address_only(self) -> None:
        for _ in range(MOST_WRONG):
            self.browser.log_in(evolve(OPERATE, secret="wrong"))
        self.assertEqual(self.browser.log_in().status, 429)
        self.assertEqual(PageBrowser(self.server, "192.0.2.2").log_in().status, 303)

    def test_an_account_of_the_operators_logs_in_by_its_password(self) -> None:
        self.assertEqual(self.browser.log_in_as(ALICE).status, 303)
        self.assertIn(f"<strong>{ALICE}</strong>", self.browser.get("/retention").text)
        done = [one for one in self.server.events if isinstance(one, OperationDone)]
        self.assertEqual(done, [OperationDone(f"account {ALICE}", "log_in", "", "done")])

    def test_an_account_that_is_no_operator_learns_nothing_of_its_password(self) -> None:
        self.server.accounts["bob"] = evolve(self.server.accounts[ALICE], name="bob")
        right = self.browser.log_in_as("bob")
        wrong = self.browser.log_in_as("bob", "wrong")
        self.assertEqual((right.status, wrong.status), (403, 403))
        self.assertEqual(*[page.text.replace(page.form_token, "") for page in (right, wrong)])

    def test_an_operator_may_log_in_by_another_name_than_that_of_the_account(self) -> None:
        known = self.server.accounts
        known["a.liddell"] = known[ALICE]
        self.browser.site = self.server.site()
        self.assertEqual(self.browser.log_in_as("a.liddell").status, 303)
        self.assertIn(f"<strong>{ALICE}</strong>", self.browser.get("/retention").text)

    def test_a_failed_login_is_an_event_without_the_password(self) -> None:
        self.browser.log_in_as("mallory\N{RIGHT-TO-LEFT OVERRIDE}", "hunter2")
        (failed,) = [one for one in self.server.events if isinstance(one, LoginFailed)]
        self.assertEqual(failed.method, "page")
        self.assertNotIn("hunter2", repr(self.server.events))
        self.assertTrue(failed.user.isprintable())

    def test_a_target_on_another_host_is_not_followed(self) -> None:
        for to in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/nothing", "x"):
            form = self.browser.get("/login").form_token
            fields = {"form": form, "token": OPERATE.secret, "to": to}
            self.assertEqual(self.browser.post("/login", fields).location, "/", to)
            del self.browser.cookies[SESSION]

    def test_without_tokens_and_operators_the_form_says_what_to_do(self) -> None:
        self.server.tokens, self.server.operators = [], ()
        page = PageBrowser(self.server).get("/login").text
        self.assertIn("Nobody may log in yet", page)
        self.assertNotIn("<input id=", page)


class CookieTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = PageServer()
        self.browser = PageBrowser(self.server)
        self.browser.log_in()

    def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(self) -> None:
        cookie = PageBrowser(self.server).log_in().headers["set-cookie"][0]
        for part in (f"{SESSION}=", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"):
            self.assertIn(part, cookie)
        self.assertNotIn("Domain", cookie)

    def test_without_tls_the_cookie_has_another_name_and_is_not_secure(self) -> None:
        plain = PageServer(secure=False)
        cookie = PageBrowser(plain).log_in().headers["set-cookie"][0]
        self.assertTrue(cookie.startswith("pop3gw="))
        self.assertNotIn("Secure", cookie)

    def test_a_cookie_that_was_changed_is_nobody(self) -> None:
        content, _, signature = self.browser.cookies[SESSION].partition(".")
        found = json.loads(urlsafe_b64decode(content))
        found["name"] = "watch"
        forged = urlsafe_b64encode(json.dumps(found).encode()).decode()
        for value in (
            f"{forged}.{signature}",
            f"{content}.{signature[:-1]}",
            f"{content}.",
            content,
            ".",
            "x" * 5000,
            f"{content}.{signature}\N{LATIN SMALL LETTER E WITH ACUTE}",
        ):
            self.browser.cookies[SESSION] = value
            self.assertEqual(self.browser.get("/retention").status, 303, value[:80])

    def test_a_cookie_of_another_server_is_nobody(self) -> None:
        other = PageServer(key=b"x" * 32)
        browser = PageBrowser(other)
        browser.cookies = dict(self.browser.cookies)
        self.assertEqual(browser.get("/retention").status, 303)

    def test_every_worker_knows_the_session_and_its_end(self) -> None:
        other = PageBrowser(self.server)
        other.cookies = dict(self.browser.cookies)
        self.assertEqual(other.get("/retention").status, 200)
        form = self.browser.get("/retention").form_token
        self.browser.post("/logout", {"form": form})
        self.assertNotIn(SESSION, self.browser.cookies)
        # Somebody has kept a copy of the cookie.
        self.assertEqual(other.get("/retention").status, 303)

    def test_a_login_begins_another_session_than_the_form_had(self) -> None:
        browser = PageBrowser(self.server)
        form = browser.get("/login").form_token
        fixed = PageBrowser(self.server)
        fixed.cookies = dict(browser.cookies)
        browser.post("/login", {"form": form, "token": OPERATE.secret})
        self.assertEqual(fixed.get("/retention").status, 303)
        fixed.cookies[SESSION] = next(iter(fixed.cookies.values()))
        self.assertEqual(fixed.get("/retention").status, 303)

    def test_a_link_from_another_site_does_not_end_the_session(self) -> None:
        kept = self.browser.cookies.pop(SESSION)
        self.assertEqual(self.browser.get("/login").status, 200)
        self.assertNotIn(SESSION, self.browser.cookies)
        self.browser.cookies[SESSION] = kept
        self.assertEqual(self.browser.get("/retention").status, 200)
        self.assertEqual(self.browser.get("/login").location, "/")

    def test_a_session_ends_when_it_is_idle(self) -> None:
        self.server.now += IDLE - 1
        self.assertEqual(self.browser.get("/retention").status, 200)
        self.server.now += IDLE - 1
        self.assertEqual(self.browser.get("/retention").status, 200)
        self.server.now += IDLE
        self.assertEqual(self.browser.get("/retention").status, 303)

    def test_a_page_that_updates_itself_keeps_no_session(self) -> None:
        self.server.now += RENEW + 1
        answer = self.browser.get("/retention", x_fragment="live")
        self.assertEqual((answer.status, answer.headers.get("set-cookie")), (200, None))
        self.server.now += IDLE
        self.assertEqual(self.browser.get("/retention", x_fragment="live").status, 401)

    def test_a_session_ends_after_half_a_day_however_busy_it_is(self) -> None:
        for _ in range(int(LONGEST / IDLE * 2) - 1):
            self.server.now += IDLE / 2
            self.assertEqual(self.browser.get("/retention").status, 200)
        self.server.now += IDLE / 2
        self.assertEqual(self.browser.get("/retention").status, 303)

    def test_a_cookie_from_the_future_is_nobody(self) -> None:
        self.server.now -= 10
        self.assertEqual(self.browser.get("/retention").status, 303)


class RightsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = PageServer()
        self.browser = PageBrowser(self.server)

    def reload(self) -> None:
        """The settings have changed."""
        self.browser.site = self.server.site()

    def test_a_removed_operator_is_out_after_a_reload(self) -> None:
        self.browser.log_in_as(ALICE)
        self.server.operators = ()
        self.reload()
        self.assertEqual(self.browser.get("/retention").status, 303)

    def test_a_removed_token_and_a_changed_one_are_out_after_a_reload(self) -> None:
        for tokens in ([READ], [evolve(OPERATE, secret="another"), READ]):
            self.server.tokens = [OPERATE, READ]
            self.browser = PageBrowser(self.server)
            self.browser.log_in()
            self.server.tokens = tokens
            self.reload()
            self.assertEqual(self.browser.get("/retention").status, 303)

    def test_an_account_that_may_not_log_in_any_more_is_out_at_once(self) -> None:
        self.browser.log_in_as(ALICE)
        known = self.server.accounts
        known[ALICE] = evolve(known[ALICE], may_log_in=False)
        self.reload()
        self.assertEqual(self.browser.get("/retention").status, 303)

    def test_who_may_only_look_changes_nothing(self) -> None:
        self.server.store.add("bob").deliver(b"x")
        self.browser.log_in(READ)
        page = self.browser.get("/retention")
        self.assertNotIn("/retention/run", page.text)
        refused = self.browser.act("/hidden/restore", mailbox="bob", uid="1")
        self.assertEqual(refused.status, 403)
        self.assertIn("You may look, not change", refused.text)


class FormTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = PageServer()
        self.browser = PageBrowser(self.server)
        self.browser.log_in()

    def refused(self, fields: dict[str, str], **headers: str) -> None:
        """The form changes nothing."""
        answer = self.browser.post("/retention/run", fields, **headers)
        self.assertEqual(answer.status, 403)
        self.assertIn("This form is out of date", answer.text)

    def test_a_form_without_its_token_changes_nothing(self) -> None:
        self.refused({"mailbox": "bob"})
        self.refused({"mailbox": "bob", "form": ""})
        self.refused({"mailbox": "bob", "form": "wrong"})

    def test_a_form_of_another_session_changes_nothing(self) -> None:
        other = PageBrowser(self.server)
        other.log_in()
        self.refused({"mailbox": "bob", "form": other.get("/retention").form_token})

    def test_a_form_from_another_site_changes_nothing(self) -> None:
        form = self.browser.get("/retention").form_token
        for origin in ("https://evil.example", f"https://{HOST}.evil.example", "x"):
            self.refused({"form": form}, origin=origin)
        for site in ("cross-site", "same-site"):
            self.refused({"form": form}, origin="null", sec_fetch_site=site)

    def test_forms_are_taken_as_browsers_send_them_without_a_referrer(self) -> None:
        form = self.browser.get("/retention").form_token
        for headers in (
            {},
            {"origin": f"https://{HOST}"},
            {"origin": "null"},
            {"origin": "null", "sec_fetch_site": "same-origin"},
        ):
            answer = self.browser.post("/retention/run", {"form": form}, **headers)
            self.assertEqual(answer.status, 303, headers)

    def test_a_login_form_without_its_token_logs_nobody_in(self) -> None:
        browser = PageBrowser(self.server)
        fields = {"login": ALICE, "password": PASSWORD}
        self.assertEqual(browser.post("/login", fields).status, 403)

    def test_a_get_changes_nothing(self) -> None:
        form = self.browser.get("/retention").form_token
        self.assertEqual(self.browser.get(f"/retention/run?form={form}").status, 404)
        self.assertEqual(self.browser.get("/logout").status, 404)


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = PageServer()
        self.browser = PageBrowser(self.server)
        self.browser.log_in()

    def test_every_answer_forbids_scripts_frames_and_other_hosts(self) -> None:
        stranger = PageBrowser(self.server)
        for page in (
            self.browser.get("/retention"),
            self.browser.get("/nothing"),
            stranger.get("/login"),
            stranger.get("/retention"),
            stranger.get("/static/page.css"),
            stranger.get("/%ff?%ff"),
        ):
            policy = page.headers["content-security-policy"][0]
            for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
                self.assertIn(part, policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(page.headers["x-content-type-options"], ["nosniff"])
            self.assertEqual(page.headers["referrer-policy"], ["no-referrer"])
            self.assertNotIn(" style=", page.text)

    def test_pages_are_not_stored_and_static_files_are(self) -> None:
        self.assertEqual(self.browser.get("/retention").headers["cache-control"], ["no-store"])
        kept = self.browser.get("/static/page.css").headers["cache-control"][0]
        self.assertIn("immutable", kept)

    def test_a_path_is_never_a_file(self) -> None:
        for path in ("/static/../render.py", "/static/%2e%2e/render.py", "/static/", "/static/x"):
            self.assertEqual(self.browser.get(path).status, 404, path)

    def test_a_name_with_html_in_it_shows_as_text(self) -> None:
        name = "<script>alert(1)</script>\"'@example.org"
        self.server.store.add(name).deliver(b"x")
        for path in ("/hidden?mailbox=", "/retention/release?mailbox="):
            for asked in (name, "<script>alert(1)"):
                page = self.browser.get(path + quote(asked))
                self.assertNotIn("<script>alert", page.text)
                self.assertIn("&lt;script&gt;", page.text)

    def test_bad_requests_get_a_clear_answer(self) -> None:
        for path in ("/hidden?mailbox=%ff", "/hidden?" + "a=1&" * 3000):
            self.assertEqual(self.browser.get(path).status, 400, path[:40])
        self.assertEqual(self.browser.ask("DELETE", "/", b"", {}).status, 405)
        odd = self.browser.ask("POST", "/login", b"{}", {"content_type": "application/json"})
        self.assertEqual(odd.status, 415)
        large = {"form": "x" * 70_000}
        self.assertEqual(self.browser.post("/login", large).status, 413)
        for page in ("-1", "x", "9" * 30, "1.5"):
            self.assertEqual(self.browser.get(f"/retention?page={page}").status, 200)

    def test_a_header_that_cannot_be_read_is_no_internal_error(self) -> None:
        names = ("accept_language", "cookie", "origin", "sec_fetch_site", "x_fragment", "host")
        for name in names:
            for value in ("http://[", "http://[::1", 'a="', "\ud800"):
                self.browser.get("/login", **{name: value})
                self.assertLess(self.browser.post("/login", {}, **{name: value}).status, 500)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cookies_of_other_programs_at_other_ports_lock_nobody_out(self) -> None:
        for value in ('{"a":1}', "[", "a b", "caf\u00e9", "x" * 5000, 'one; two="; three'):
            browser = PageBrowser(self.server)
            browser.cookies = {"prefs": value}
            self.assertEqual(browser.log_in().status, 303, value[:20])
            browser.cookies = {"prefs": value, **browser.cookies}
            self.assertEqual(browser.get("/retention").status, 200, value[:20])

    def test_head_is_get_without_a_body(self) -> None:
        answer = self.browser.ask("HEAD", "/retention", b"", {})
        self.assertEqual((answer.status, answer.text), (200, ""))

    def test_the_language_is_the_browsers_until_one_is_chosen(self) -> None:
        self.browser.language = "fr, de-AT;q=0.8, en;q=0.7"
        self.assertIn('<html lang="de">', self.browser.get("/retention").text)
        self.assertIn('<html lang="en">', self.browser.get("/retention?language=en").text)
        self.assertIn('<html lang="en">', self.browser.get("/retention").text)
        self.browser.get("/retention?language=xx")
        self.assertIn('<html lang="en">', self.browser.get("/retention").text)
