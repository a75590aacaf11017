"""Which certificates clients get, by the names in the certificates and their kinds of keys."""

from __future__ import annotations

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.net.tls.server_names import choices, find_choice, first_choice, unused


@frozen
class Some:
    """A certificate, as far as the choice sees it."""

    label: str
    kind: str
    names: frozenset[str]


def some(label: str, *names: str, kind: str = "RSA") -> Some:
    """A certificate with these names."""
    return Some(label, kind, frozenset(names))


def labels(chosen: tuple[Some, ...] | None) -> list[str]:
    """The labels of what was chosen."""
    return [one.label for one in chosen or ()]


class FindTests(SynchronousTestCase):
    def find(self, name: bytes | None, *certificates: Some) -> list[str]:
        """What a client gets that sends this name; none: what clients without a name get."""
        return labels(find_choice(choices(certificates), name))

    def test_a_name_is_found_in_any_case_and_with_a_final_dot(self) -> None:
        one = some("a", "pop.example.org")
        for name in (b"pop.example.org", b"POP.Example.ORG", b"pop.example.org."):
            self.assertEqual(self.find(name, one), ["a"])

    def test_a_wildcard_stands_for_one_label(self) -> None:
        one = some("a", "*.example.org")
        self.assertEqual(self.find(b"pop.example.org", one), ["a"])
        for name in (b"example.org", b"a.pop.example.org", b"pop.example.net", b".example.org."):
            self.assertEqual(self.find(name, one), ["a"] if name[:1] == b"." else [], name)

    def test_an_exact_name_goes_before_a_wildcard(self) -> None:
        wild, exact = some("wild", "*.example.org"), some("exact", "pop.example.org")
        self.assertEqual(self.find(b"pop.example.org", wild, exact), ["exact"])
        self.assertEqual(self.find(b"imap.example.org", wild, exact), ["wild"])

    def test_one_of_each_kind_of_key_is_chosen_the_first_of_each(self) -> None:
        given = (
            some("a", "pop.example.org"),
            some("b", "pop.example.org"),
            some("c", "*.example.org", kind="EllipticCurve"),
        )
        self.assertEqual(self.find(b"pop.example.org", *given), ["a", "c"])
        self.assertEqual(self.find(b"imap.example.org", *given), ["c"])

    def test_no_name_or_an_unknown_or_odd_one_has_no_choice(self) -> None:
        one = some("a", "pop.example.org", "*.example.org")
        for name in (None, b"", b".", b"*", b"localhost", b"p\xf6p.example.net", b"192.0.2.1"):
            self.assertEqual(self.find(name, one), [], name)


class FirstTests(SynchronousTestCase):
    def first(self, *certificates: Some) -> list[str]:
        """What clients get that send no name."""
        return labels(first_choice(certificates))

    def test_it_is_the_first_with_others_that_have_all_of_its_names(self) -> None:
        rsa = some("rsa", "pop.example.org", "mail.example.org")
        ec = some("ec", "*.example.org", kind="EllipticCurve")
        less = some("less", "pop.example.org", kind="EllipticCurve")
        self.assertEqual(self.first(rsa, less, ec), ["rsa", "ec"])
        self.assertEqual(self.first(ec, rsa), ["ec"])

    def test_certificates_without_names_stand_beside_each_other_only(self) -> None:
        rsa, ec = some("rsa"), some("ec", kind="EllipticCurve")
        named = some("named", "pop.example.org", kind="EllipticCurve")
        self.assertEqual(self.first(rsa, named, ec), ["rsa", "ec"])
        self.assertEqual(self.first(named, rsa), ["named"])


class UnusedTests(SynchronousTestCase):
    def test_one_is_unused_if_those_before_it_have_all_its_names_for_its_kind(self) -> None:
        given = (
            some("a", "pop.example.org", "*.example.org"),
            some("b", "pop.example.org"),
            some("c", "pop.example.org", kind="EllipticCurve"),
            some("d", "pop.example.org", "pop.example.net"),
            some("e"),
        )
        self.assertEqual(labels(tuple(unused(given))), ["b", "e"])
        self.assertEqual(unused(given[4:]), [])


NAMES = st.sampled_from(["a.b", "c.b", "*.b", "b", "*.a.b", "x.a.b"])
CERTIFICATES = st.lists(
    st.builds(
        Some, st.text("abc"), st.sampled_from(["RSA", "EC"]), st.frozensets(NAMES, max_size=3)
    ),
    min_size=1,
    max_size=5,
)


class PropertyTests(SynchronousTestCase):
    @given(CERTIFICATES, st.binary(max_size=20) | NAMES.map(str.encode))
    def test_a_choice_has_the_name_and_each_kind_once(
        self, certificates: list[Some], name: bytes
    ) -> None:
        chosen = find_choice(choices(certificates), name)
        for found in (chosen, first_choice(certificates)):
            kinds = [one.kind for one in found or ()]
            self.assertEqual(len(kinds), len(set(kinds)))
        text = name.decode("ascii", "replace").lower().removesuffix(".")
        wanted = {text, f"*.{text.partition('.')[2]}"}
        fitting = [one for one in certificates if wanted & one.names]
        self.assertEqual({one.kind for one in chosen or ()}, {one.kind for one in fitting})
        self.assertLessEqual(set(chosen or ()), set(fitting))


class Counted:
    """A certificate that counts who looks at its names."""

    kind = "RSA"
    looks = 0

    def __init__(self, number: int) -> None:
        self._names = frozenset({f"pop{number}.example.org", f"mail{number}.example.org"})

    @property
    def names(self) -> frozenset[str]:
        """Two."""
        Counted.looks += 1
        return self._names


class ManyTests(SynchronousTestCase):
    def test_hundreds_of_certificates_are_not_compared_with_each_other(self) -> None:
        def looks(number: int) -> int:
            certificates = [Counted(one) for one in range(number)]
            Counted.looks = 0
            choices(certificates)
            self.assertEqual(unused(certificates), [])
            return Counted.looks

        self.assertLess(looks(200), 30 * looks(10))
