"""What entries of different schemas say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.entry_map import MAPS, languages_of, read_entry
from gateway.directory.ldap_filters import login_attributes
from gateway.model import UNLIMITED, Account, Quota


def quota(schema: str, **attributes: bytes) -> Quota:
    """The quota of an entry with these attributes."""
    values = {name.lower(): [value] for name, value in attributes.items()}
    return read_entry("cn=x", {"mail": [b"x@y"]} | values, MAPS[schema], 0.0).account.quota


def account(schema: str, dn: str = "cn=x", **attributes: bytes) -> Account:
    """The account of an entry with these attributes."""
    values = {name.lower(): [value] for name, value in attributes.items()}
    return read_entry(dn, {"mail": [b"x@y"]} | values, MAPS[schema], 2.0).account


class TwoFactsTests(SynchronousTestCase):
    def test_each_schema_tells_apart_who_may_log_in_and_who_gets_mail(self) -> None:
        for schema, name, value, may_log_in, gets_mail in (
            ("openldap", "pop3gwEnabled", b"FALSE", False, False),
            ("openldap", "pop3gwLogin", b"FALSE", False, True),
            ("openldap", "pop3gwReceives", b"FALSE", True, False),
            ("activedirectory", "userAccountControl", b"514", False, True),
            ("activedirectory", "userAccountControl", b"512", True, True),
            ("qmail-ldap", "accountStatus", b"NoAccess", False, True),
            ("qmail-ldap", "accountStatus", b"nopop", False, True),
            ("qmail-ldap", "accountStatus", b"disabled", False, False),
            ("qmail-ldap", "accountStatus", b"deleted", False, False),
            ("qmail-ldap", "accountStatus", b"active", True, True),
            ("samba", "sambaAcctFlags", b"[UL         ]", False, True),
            ("samba", "sambaAcctFlags", b"[W          ]", False, False),
            ("samba", "sambaAcctFlags", b"[U          ]", True, True),
            # Samba takes 0 for no time; 1 is long past.
            ("samba", "sambaKickoffTime", b"0", True, True),
            ("samba", "sambaKickoffTime", b"1", False, True),
            # Directories ignore spaces around a value.
            ("openldap", "pop3gwEnabled", b" FALSE ", False, False),
            ("qmail-ldap", "accountStatus", b" disabled", False, False),
        ):
            with self.subTest(schema=schema, name=name, value=value):
                found = account(schema, **{name: value})
                self.assertEqual((found.may_log_in, found.gets_mail), (may_log_in, gets_mail))


class DelegateTests(SynchronousTestCase):
    def test_a_delegate_is_known_by_any_of_his_names_in_any_spelling(self) -> None:
        owner = account(
            "openldap", pop3gwDelegate="GRO\u00df@example.org".encode(), mail=b"owner@example.org"
        )
        delegate = account("openldap", mail="gro\u00df@example.org".encode())
        self.assertTrue(owner.admits(delegate))
        self.assertFalse(owner.admits(account("openldap", mail=b"gro@example.org")))

    def test_what_the_filter_compares_with_a_login_name_is_one(self) -> None:
        for wanted, names in {
            "(uid={login})": ("uid",),
            "(&(a=b)(|(uid={user})( mail = {login} )(proxy=smtp:{login})))": ("uid", "mail"),
            "(&(cn={login}*)(!(mail={login}))(x:rule:={login})(uid={login}))": ("uid",),
        }.items():
            self.assertEqual(login_attributes(wanted), names)


class LanguageTests(SynchronousTestCase):
    def test_they_come_in_the_order_of_their_weight(self) -> None:
        for text, languages in {
            "fr": ("fr",),
            "fr, en-gb;q=0.8, en;q=0.7": ("fr", "en-gb", "en"),
            "en;q=0.5,de-AT , it ; q = 0.9": ("de-at", "it", "en"),
            "": (),
            "*, de;q=0, fr;q=2, x y, en": ("en",),
        }.items():
            self.assertEqual(languages_of(text), languages)

    def test_every_schema_has_them(self) -> None:
        values = {"mail": [b"x@y"], "preferredlanguage": [b"de, en;q=0.1"]}
        for schema in MAPS.values():
            account = read_entry("cn=x", values, schema, 0.0).account
            self.assertEqual(account.languages, ("de", "en"))


class ExchangeQuotaTests(SynchronousTestCase):
    def test_an_own_quota_that_says_nothing_is_unlimited(self) -> None:
        self.assertEqual(
            quota("activedirectory", mDBUseDefaults=b"FALSE"), Quota(UNLIMITED, UNLIMITED, None)
        )
        self.assertEqual(
            quota("activedirectory", mDBUseDefaults=b"FALSE", mDBOverHardQuotaLimit=b"0"),
            Quota(0, UNLIMITED, None),
        )

    def test_an_inherited_one_leaves_it_to_the_defaults(self) -> None:
        for says in ({}, {"mDBUseDefaults": b"TRUE"}):
            self.assertEqual(quota("activedirectory", mDBOverHardQuotaLimit=b"5", **says), Quota())

    def test_schemas_that_cannot_inherit_leave_what_they_do_not_say_to_the_defaults(self) -> None:
        self.assertEqual(quota("openldap", pop3gwQuota=b"5"), Quota(octets=5))
        self.assertEqual(quota("qmail-ldap"), Quota())

    def test_zero_is_no_limit_where_the_schema_has_it_so(self) -> None:
        for schema, name in (("openldap", "pop3gwQuota"), ("qmail-ldap", "mailQuotaSize")):
            self.assertEqual(quota(schema, **{name: b"0"}), Quota(octets=UNLIMITED))

    def test_a_number_of_any_length_makes_no_traceback(self) -> None:
        self.assertEqual(quota("openldap", pop3gwQuota=b"9" * 5000), Quota())
        # Nor is one kept that no file and no database takes.
        self.assertEqual(quota("openldap", pop3gwQuota=b"9" * 30), Quota(octets=UNLIMITED))

    def test_spaces_around_a_number_do_not_matter(self) -> None:
        for value, octets in ((b" 5 ", 5), (b" 0", UNLIMITED), (b" ", None)):
            self.assertEqual(quota("openldap", pop3gwQuota=value), Quota(octets=octets))

    def test_what_is_no_number_leaves_it_to_the_defaults(self) -> None:
        found = quota("activedirectory", mDBUseDefaults=b"FALSE", mDBOverHardQuotaLimit=b"many")
        self.assertIsNone(found.octets)
