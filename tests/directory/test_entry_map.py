"""What entries of different schemas say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.directory.entry_map import MAPS, languages_of, read_entry
from gateway.model import UNLIMITED, Quota


def quota(schema: str, **attributes: bytes) -> Quota:
    """The quota of an entry with these attributes."""
    values = {name.lower(): [value] for name, value in attributes.items()}
    return read_entry("cn=x", {"mail": [b"x@y"]} | values, MAPS[schema], 0.0).account.quota


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

    def test_what_is_no_number_leaves_it_to_the_defaults(self) -> None:
        found = quota("activedirectory", mDBUseDefaults=b"FALSE", mDBOverHardQuotaLimit=b"many")
        self.assertIsNone(found.octets)
