"""Which messages POP3 shows, in which order, and under which unique-ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.store.complaint import complain
from gateway.store.uidlist import UidList


def ordered(uidlist: UidList, there: Collection[str]) -> list[str]:
    """Those base names of ``there`` that have an id.

    By unique-id, but first of all by Dovecot's order number where there is one.
    """
    bases = [base for base in uidlist.uids if base in there]
    if not uidlist.in_order:
        bases.sort(key=uidlist.uids.__getitem__)
    if not uidlist.fields:
        return bases
    orders = {
        base: int(order)
        for base in uidlist.fields
        if (order := uidlist.field(base, "O")) and order.isdecimal()
    }
    if orders:
        last = max(orders.values()) + 1
        bases.sort(key=lambda base: orders.get(base, last))
    return bases


def shown_ids(uidlist: UidList, bases: Sequence[str]) -> list[str]:
    """The unique-id of each: a carried-over one verbatim, else the number; no two are the same.

    ``bases`` is what ``ordered`` said.
    """
    ids = [str(uidlist.uids[base]) for base in bases]
    if not uidlist.fields:
        return ids
    carried = {base: uidlist.field(base, "P") for base in uidlist.fields}
    if not any(carried.values()):
        return ids
    wrong = []
    for index, base in enumerate(bases):
        wanted = carried.get(base)
        if wanted is not None and may_be_id(wanted):
            ids[index] = wanted
        elif wanted is not None:
            wrong.append(repr(wanted))
    complain(uidlist.path, "carried-over ids cannot be unique-ids", wrong)
    _make_unique(ids, bases, uidlist)
    return ids


def _make_unique(ids: list[str], bases: Sequence[str], uidlist: UidList) -> None:
    """Of ids that are there twice the later ones get a suffix."""
    shown: set[str] = set()
    twice = []
    for index, base in enumerate(bases):
        if ids[index] in shown:
            twice.append(repr(ids[index]))
            ids[index] = f"{ids[index][:58]}.{uidlist.uids[base]}"
        shown.add(ids[index])
    complain(uidlist.path, "unique-ids are there twice", twice)


def may_be_id(text: str) -> bool:
    """Whether RFC 1939 section 7 lets this be a unique-id."""
    return 1 <= len(text) <= 70 and all("!" <= char <= "~" for char in text)
