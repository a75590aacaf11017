"""Names never become paths unchecked."""

from __future__ import annotations

import errno
import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from disks import no_room
from gateway.errors import BadMailboxName
from gateway.model import Account
from gateway.saslprep import login_name
from gateway.store.maildir.folders.paths import mailbox_path, mailboxes


def path_of(mailbox: str, template: str = "mail/{domain}/{local}", home: str | None = None) -> str:
    return mailbox_path(template, "/srv", Account(name="a", mailbox=mailbox, home=home))


class NameTests(SynchronousTestCase):
    def test_the_template_is_filled_in(self) -> None:
        self.assertEqual(path_of("alice@example.org"), "/srv/mail/example.org/alice")
        self.assertEqual(path_of("alice", "m/{name}"), "/srv/m/alice")
        self.assertEqual(path_of("a@b@c.d"), "/srv/mail/c.d/a@b")

    def test_a_home_is_used_where_the_template_says_so(self) -> None:
        self.assertEqual(path_of("a", "{home}/Maildir", "/home/a"), "/home/a/Maildir")

    def test_slashes_that_are_not_needed_are_no_part_of_the_path(self) -> None:
        for template, home in (
            ("/srv/mail/{local}/", None),
            ("mail//{local}", None),
            ("{home}/mail/{local}//", "/srv/"),
            ("{home}/", "//srv/mail/a/"),
        ):
            self.assertEqual(path_of("a", template, home), "/srv/mail/a")
        self.assertEqual(path_of("a", "./mail/../{local}"), "/srv/./mail/../a")

    def test_a_home_that_is_missing_or_relative_is_refused(self) -> None:
        for home in (None, "", "a", "../a", "/a\0b"):
            with self.assertRaises(BadMailboxName):
                path_of("a", "{home}/Maildir", home)

    def test_a_name_that_would_leave_its_place_is_refused(self) -> None:
        bad = (
            "../etc@example.org",
            "alice@../..",
            "..@example.org",
            ".@example.org",
            ".hidden@example.org",
            "alice@.",
            "a/b@example.org",
            "/etc/passwd",
            "a\0b@example.org",
            "a\nb@example.org",
            "@example.org",
            "alice@",
            "alice",
            "",
            "x" * 256 + "@example.org",
            "ü" * 128 + "@example.org",
        )
        for name in bad:
            error = self.assertRaises(BadMailboxName, path_of, name)
            self.assertNotIn("\n", str(error))

    def test_case_and_compatible_characters_make_no_second_mailbox(self) -> None:
        written = ("ALICE@Example.ORG", "ａｌｉｃｅ@example.org", "al\u00adice@example.org")
        for name in written:
            self.assertEqual(path_of(login_name(name.encode())), "/srv/mail/example.org/alice")

    def test_a_slash_in_disguise_is_a_slash(self) -> None:
        with self.assertRaises(BadMailboxName):
            path_of(login_name("．．／etc@example.org".encode()))

    @given(st.text(max_size=40), st.sampled_from(["mail/{domain}/{local}", "{name}"]))
    def test_no_name_leads_out_of_the_root(self, name: str, template: str) -> None:
        try:
            path = path_of(name, template)
        except BadMailboxName:
            return
        self.assertEqual(os.path.normpath(path), path)
        self.assertTrue(path.startswith("/srv/"))
        self.assertEqual(path.count("/"), 2 + template.count("/"))


class MailboxesTests(SynchronousTestCase):
    def test_the_mailboxes_that_are_there_are_found_by_every_template(self) -> None:
        for template, name in (
            ("mail/{domain}/{local}", "alice@example.org"),
            ("mail/{name}", "alice@example.org"),
            ("mail/{name}", "alice"),
            ("m[1]/{local}/Maildir", "alice"),
            ("{domain}/{local}.d/{domain}", "alice@example.org"),
        ):
            root = self.mktemp()
            account = Account(name=name, mailbox=name)
            path = mailbox_path(template, root, account)
            os.makedirs(f"{path}/cur")
            os.makedirs(os.path.join(os.path.dirname(path), "no-maildir"))
            self.assertEqual(list(mailboxes(template, root)), [(name, path)], template)

    def test_a_template_finds_them_however_it_is_written(self) -> None:
        for written in (
            "{top}/vmail/{{domain}}/{{local}}",
            "/{top}/vmail/{{domain}}/{{local}}",
            "{top}/vmail/{{local}}@{{domain}}/Maildir/",
            "{top}//vmail///{{name}}",
            "{top}/./vmail/../mail/{{domain}}/./{{local}}",
            "{top}/.mail/.{{name}}",
            "{top}/{{{{a}}}}[b]*?/{{name}}",
            "vmail//{{domain}}/{{local}}/",
            "./vmail/{{name}}",
            "../vmail/{{name}}",
        ):
            for end in ("", "/"):
                top = os.path.abspath(self.mktemp())
                os.makedirs(f"{top}/vmail")
                os.makedirs(f"{top}/state")
                template, root = written.format(top=top), f"{top}/state{end}"
                found = []
                for name in ("alice@example.org", "bob@example.net"):
                    path = mailbox_path(template, root, Account(name=name, mailbox=name))
                    os.makedirs(os.path.join(path, "cur"))
                    found.append((name, path))
                self.assertEqual(sorted(mailboxes(template, root)), found, written)

    def test_a_directory_that_no_mailbox_leads_to_is_none(self) -> None:
        template, root = "{domain}/{local}/{domain}", self.mktemp()
        for path in ("example.org/alice/example.org", "example.org/alice/example.net"):
            os.makedirs(f"{root}/{path}/cur")
        found = [("alice@example.org", f"{root}/example.org/alice/example.org")]
        self.assertEqual(list(mailboxes(template, root)), found)

    def test_a_name_that_is_no_text_is_none(self) -> None:
        root = self.mktemp()
        for name in (b"\xff@example.org", b"a\nb", b"alice"):
            os.makedirs(os.fsencode(root) + b"/" + name + b"/cur")
        self.assertEqual(list(mailboxes("{name}", root)), [("alice", f"{root}/alice")])

    def test_a_field_may_come_any_number_of_times(self) -> None:
        root = self.mktemp()
        os.makedirs(f"{root}/a/a/a/cur")
        self.assertEqual(list(mailboxes("{name}/{name}/{name}", root)), [("a", f"{root}/a/a/a")])

    def test_homes_are_known_to_the_directory_only(self) -> None:
        self.assertEqual(list(mailboxes("{home}/Maildir", self.mktemp())), [])

    def test_an_outage_is_not_the_absence_of_mailboxes(self) -> None:
        root = self.mktemp()
        os.makedirs(f"{root}/example.org/alice/cur")
        for call, where in (
            ("listdir", root),
            ("listdir", "*/example.org"),
            ("stat", "*/alice/cur"),
        ):
            for number in (errno.EMFILE, errno.EIO, errno.ESTALE):
                with no_room(call, where, number), self.assertRaises(OSError):
                    list(mailboxes("{domain}/{local}", root))

    def test_a_root_that_may_not_be_read_is_not_an_empty_one(self) -> None:
        root = self.mktemp()
        os.makedirs(f"{root}/mail/alice/cur")
        with no_room("listdir", f"{root}/mail", errno.EACCES), self.assertRaises(PermissionError):
            list(mailboxes("mail/{name}", root))

    def test_a_directory_that_may_not_be_entered_hides_no_other_mailbox(self) -> None:
        root = self.mktemp()
        for path in ("lost+found", "example.org/alice/cur", "example.org/bob/cur"):
            os.makedirs(f"{root}/{path}")
        with (
            no_room("listdir", "*/lost+found", errno.EACCES),
            no_room("stat", "*/bob/cur", errno.EACCES),
        ):
            found = [name for name, _ in mailboxes("{domain}/{local}", root)]
        self.assertEqual(found, ["alice@example.org"])

    def test_a_root_that_is_not_made_yet_has_no_mailboxes(self) -> None:
        self.assertEqual(list(mailboxes("mail/{name}", self.mktemp())), [])
