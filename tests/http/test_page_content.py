"""What each page shows and does, at the HTTP seam."""

from __future__ import annotations

from urllib.parse import quote

from attrs import evolve
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from gateway.config.retention import Audit
from gateway.errors import DirectoryDown
from gateway.events import OperationDone
from gateway.http.page.table import PATHS
from page_browser import READ, PageBrowser, PageServer
from page_samples import BOB, CAROL, NAMES, ODD, STOPPED, fill

QUERIES = {
    "/mailbox": f"?name={quote(ODD)}",
    "/hidden": f"?mailbox={quote(ODD)}",
    "/retention/release": f"?mailbox={quote(ODD)}",
    "/sessions/kick": f"?session={quote(ODD)}&user={quote(ODD)}",
}
"""What a page has to be asked for."""


class PageCase(SynchronousTestCase):
    """An operator who has logged in."""

    def setUp(self) -> None:
        self.server = PageServer()
        fill(self.server)
        self.browser = PageBrowser(self.server)
        self.browser.log_in()

    def done(self) -> list[OperationDone]:
        """What was changed, without the login."""
        events = self.server.events
        return [one for one in events if isinstance(one, OperationDone)][1:]

    def page(self, path: str) -> str:
        """A page that is there."""
        answer = self.browser.get(path)
        self.assertEqual(answer.status, 200, f"{path}: {answer.text}")
        return answer.text


class EveryPageTests(PageCase):
    def test_every_page_shows_in_both_languages_whole_and_as_a_fragment(self) -> None:
        for language in ("en", "de"):
            for path in PATHS:
                if path.method == "GET":
                    where = path.path + QUERIES.get(path.path, "")
                    with_language = f"{where}{'&' if '?' in where else '?'}language={language}"
                    whole = self.page(with_language)
                    self.assertIn(f'<html lang="{language}">', whole)
                    self.assertEqual(whole.count("<main"), 1)
                    self.assertNotIn("<script>", whole, path.path)
                    self.assertNotIn(" style=", whole)
                    self.assertNotIn("http://", whole.replace("http://www.w3.org", ""))

    def test_a_fragment_is_the_live_part_alone(self) -> None:
        for path in PATHS:
            where = path.path + QUERIES.get(path.path, "")
            if path.method == "GET" and "data-every" in self.page(where):
                part = self.browser.get(where, x_fragment="live").text
                self.assertIn("data-every", part)
                self.assertNotIn("<html", part)

    def test_a_reader_finds_no_form_that_changes_something(self) -> None:
        reader = PageBrowser(self.server)
        reader.log_in(READ)
        for path in ("/", "/sessions", "/throttle", "/mailboxes", "/retention", "/logins"):
            text = reader.get(path).text
            self.assertEqual(text.count('method="post"'), 1, path)
        self.assertNotIn("Hide the chosen", reader.get(f"/mailbox?name={BOB}").text)


class OverviewTests(PageCase):
    def test_it_shows_health_figures_plots_and_the_fullest_mailboxes(self) -> None:
        text = self.page("/")
        for part in (
            "Works, with warnings",
            "91 % of /var/mail is used",
            "Retention has stopped in 1 mailbox.",
            "most: wrong password",
            "Logins in the last hour",
            "Deliveries in the last hour",
            "Retention in the next 90 days",
            BOB,
        ):
            self.assertIn(part, text)
        self.assertEqual(text.count('<svg viewBox="0 0 600 120"'), 3)

    def test_each_plot_has_its_numbers_as_a_table(self) -> None:
        text = self.page("/")
        for name in ("logins", "deliveries", "forecast"):
            table = text.partition(f'id="table-{name}"')[2].partition("</table>")[0]
            self.assertEqual(table.count('<th scope="row">'), 90 if name == "forecast" else 60)

    def test_a_part_that_fails_leaves_the_others(self) -> None:
        down = fail(DirectoryDown("no answer of <ldap1>"))
        self.server.questions.answer("history", lambda _: down)
        text = self.page("/")
        self.assertIn("This part is not available now.", text)
        self.assertIn("no answer of &lt;ldap1&gt;", text)
        self.assertIn("Fullest mailboxes", text)

    def test_a_new_server_says_what_will_come(self) -> None:
        server = PageServer()
        fill(server, ())
        server.questions.answer("history", lambda _: [])
        browser = PageBrowser(server)
        browser.log_in()
        text = browser.get("/").text
        for part in ("Nobody has logged in.", "No mail has come.", "There is no mailbox yet."):
            self.assertIn(part, text)


class SessionsTests(PageCase):
    def test_sessions_are_found_by_user_and_by_address(self) -> None:
        self.assertIn(f"{len(NAMES)} open sessions", self.page("/sessions"))
        self.assertIn("1 open session<", self.page(f"/sessions?search={BOB}"))
        self.assertIn("No session fits", self.page("/sessions?search=192.0.2.254"))

    def test_a_kick_without_a_session_is_refused(self) -> None:
        kicked: list[object] = []
        self.server.questions.answer("kick", lambda asked: kicked.append(asked) or [])
        for fields in ({"session": ""}, {"session": " "}, {}):
            answer = self.browser.act("/sessions/kick", **fields)
            self.assertEqual((answer.status, kicked), (422, []))

    def test_a_kick_asks_first(self) -> None:
        text = self.page("/sessions")
        self.assertIn('href="/sessions/kick?session=k3jq7x2m9p0', text)
        asked = self.page(f"/sessions/kick?session=k3jq7x2m9p0&user={BOB}")
        self.assertIn("Kick this session", asked)
        self.assertEqual(self.done(), [])
        answer = self.browser.act("/sessions/kick", session="k3jq7x2m9p0")
        self.assertIn("1 session was closed.", self.browser.follow(answer).text)
        self.assertEqual([one.operation for one in self.done()], ["kick_session"])

    def test_a_session_that_has_ended_is_no_error_of_the_server(self) -> None:
        self.server.questions.answer("kick", lambda _: [])
        answer = self.browser.act("/sessions/kick", session="gone")
        self.assertEqual(answer.status, 404)
        self.assertIn("it may have ended", answer.text)


class MailTests(PageCase):
    def test_mailboxes_are_found_by_a_part_of_their_name(self) -> None:
        self.assertIn(f"{len(NAMES)} mailboxes", self.page("/mailboxes"))
        text = self.page("/mailboxes?search=must")
        self.assertIn("erika.mustermann", text)
        self.assertIn("1 mailbox<", text)
        self.assertIn("No mailbox has", self.page("/mailboxes?search=zzz"))
        for sort in ("octets", "share", "messages", "mailbox", "last_login", "x"):
            self.page(f"/mailboxes?sort={sort}")

    def test_a_mailbox_shows_its_messages_and_what_goes_when(self) -> None:
        text = self.page(f"/mailbox?name={BOB}")
        self.assertEqual(text.count('name="uid"'), 3)
        for part in ("unread 60d, read 7d", "in 2 months"):
            self.assertIn(part, text)
        self.assertEqual(self.browser.get("/mailbox?name=nobody@example.org").status, 404)
        self.assertEqual(self.browser.get("/mailbox").status, 404)

    def test_messages_are_hidden_restored_and_removed(self) -> None:
        uids = [str(uid) for uid in self.server.store.mailboxes[BOB].messages]
        hide = self.browser.act("/mailbox/hide", mailbox=BOB, uid=uids[:2])
        self.assertIn("2 messages are hidden now.", self.browser.follow(hide).text)
        self.assertIn("2 hidden messages", self.page(f"/hidden?mailbox={BOB}"))
        back = self.browser.act("/hidden/restore", mailbox=BOB, uid=uids[:1])
        self.assertIn("1 message is back in the mailbox.", self.browser.follow(back).text)
        late = self.browser.act("/hidden/restore", mailbox=BOB, uid=uids[:1])
        self.assertIn("not there any more", self.browser.follow(late).text)
        asked = self.browser.act("/mailbox/remove", mailbox=BOB, uid=uids[2:])
        self.assertIn("Remove 1 message from", asked.text)
        self.assertIn(f'value="{uids[2]}"', asked.text)
        self.assertIn("1 hidden message<", self.page(f"/hidden?mailbox={BOB}"))
        self.assertIn(int(uids[2]), self.server.store.mailboxes[BOB].messages)
        gone = self.browser.act("/mailbox/remove", mailbox=BOB, uid=uids[2:], sure="yes")
        self.assertIn("1 message was removed.", self.browser.follow(gone).text)
        again = self.browser.act("/mailbox/remove", mailbox=BOB, uid=uids[2:], sure="yes")
        self.assertIn("not there any more", self.browser.follow(again).text)
        self.assertEqual(self.done()[0].target, BOB)

    def test_without_a_choice_nothing_is_done(self) -> None:
        for path in ("/mailbox/hide", "/mailbox/remove", "/hidden/restore"):
            answer = self.browser.act(path, mailbox=BOB)
            self.assertIn("Nothing was chosen", self.browser.follow(answer).text)

    def test_a_page_of_ten_thousand_mailboxes_has_fifty_rows(self) -> None:
        server = PageServer()
        fill(server, tuple(f"user{number:05}@example.org" for number in range(10_000)))
        browser = PageBrowser(server)
        browser.log_in()
        text = browser.get("/mailboxes").text
        self.assertIn("10,000 mailboxes", text)
        self.assertEqual(text.count('<tr role="row">'), 51)
        self.assertIn("1 to 50 of 10,000", text)
        self.assertLess(len(text), 100_000)
        self.assertIn("9,951 to 10,000 of 10,000", browser.get("/mailboxes?page=199").text)


class RetentionTests(PageCase):
    def test_a_stopped_run_is_released_after_a_question(self) -> None:
        text = self.page("/retention")
        self.assertIn(STOPPED, text)
        self.assertIn(
            "Release, and remove what is due", self.page(f"/retention/release?mailbox={CAROL}")
        )
        answer = self.browser.act("/retention/release", mailbox=CAROL)
        self.assertIn("1 mailbox is released", self.browser.follow(answer).text)
        orders = self.successResultOf(self.server.state.orders())
        self.assertEqual(
            {name: one.released_at is not None for name, one in orders.items()}, {CAROL: True}
        )

    def test_a_preview_changes_nothing_and_says_what_would_go(self) -> None:
        text = self.page("/retention/preview")
        self.assertIn("mailboxes looked at", text)
        self.assertIn("lets it go", text)


class PeopleTests(PageCase):
    def test_mailboxes_without_a_login_for_ninety_days_come_first(self) -> None:
        ninety, all_of_them = self.page("/logins"), self.page("/logins?days=0")
        self.assertIn("none known", ninety)
        self.assertIn(f"{len(NAMES)} mailboxes", all_of_them)
        self.assertNotIn(f"{len(NAMES)} mailboxes", ninety)

    def test_who_waits_is_forgiven(self) -> None:
        text = self.page("/throttle")
        for part in ("198.51.100.0/24", "waits 16 seconds", "refused", "LOGIN-DELAY"):
            self.assertIn(part, text)
        answer = self.browser.act("/throttle/forgive", user=CAROL, address="198.51.100.0/24")
        self.assertIn("1 wait has ended", self.browser.follow(answer).text)

    def test_the_audit_log_is_searched_by_fields_and_times(self) -> None:
        self.assertIn("Nothing fits.", self.page("/audit?mailbox=nobody"))
        for query in ("since=2026-01-01T00:00", "since=x&until=9999999-01-01T00:00", "action=x"):
            self.page(f"/audit?{query}")
        odd = self.browser.get("/audit?cursor=x")
        self.assertEqual(odd.status, 422)
        self.assertIn("A value is wrong", odd.text)

    def test_without_an_audit_log_the_page_says_how_to_get_one(self) -> None:
        self.server.settings = evolve(self.server.settings, audit=Audit(path=""))
        self.browser.site = self.server.site()
        self.assertIn("There is no audit log.", self.page("/audit"))
