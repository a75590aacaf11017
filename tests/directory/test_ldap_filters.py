"""From a filter for one name to a filter for everybody."""

from __future__ import annotations

import pytest

from gateway.directory.entry_map import MAPS
from gateway.directory.ldap_filters import any_of, check_filter, everybody
from gateway.directory.ldap_messages import search_request


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("(uid={login})", "(uid=*)"),
        ("(|(uid={user})(mail={login}))", "(|(uid=*)(mail=*))"),
        # What restricts the names still does.
        ("(mail={user}@example.org)", "(mail=*@example.org)"),
        ("(&(a=b)(proxyAddresses=smtp:{login}))", "(&(a=b)(proxyAddresses=smtp:*))"),
        ("(mail=*{login}*)", "(mail=*)"),
        ("(cn={login}{user})", "(cn=*)"),
        ("(uid:caseExactMatch:={login})", "(uid=*)"),
        ("(ou:dn:caseIgnoreMatch:={login})", "(ou=*)"),
        ("(:caseIgnoreMatch:={login})", "(objectClass=*)"),
        ("(uid~={login})", "(uid=*)"),
        ("(&(uid={login})(!(mail={user})))", "(&(uid=*)(!(!(objectClass=*))))"),
        ("(&(uid={login})(!(status=off)))", "(&(uid=*)(!(status=off)))"),
        ("(&( mail ={user}@a.example)(my_name={login}))", "(&(mail=*@a.example)(my_name=*))"),
        (r"(cn=\28{login}\29)", r"(cn=\28*\29)"),
    ],
)
def test_a_name_may_be_anything_and_all_else_stays(wanted: str, found: str) -> None:
    assert everybody(wanted) == found
    check_filter(wanted)


def test_every_map_has_a_filter_for_everybody_that_can_be_sent() -> None:
    for entries in MAPS.values():
        wanted = f"(&{everybody(entries.filter)}{any_of(entries.mailbox, '*')})"
        assert "{" not in wanted
        search_request("dc=x", wanted, ["mail"], (), seconds=1)
