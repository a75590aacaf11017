"""The messages that POP3 shows, their order and their unique-ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gateway.store.maildir.folders.files import complain
from gateway.store.maildir.uids.uidlines import decimal

if TYPE_CHECKING:
    from gateway.store.maildir.uids.uidlist import UidList


def ordered(uidlist: UidList, there: Collection[str]) -> list[str]:
    """The base names of ``there`` with an id, sorted.

    By Dovecot's order number (the field O) if there is one, then by unique-id.
    """
    bases = [base for base in uidlist.uids if base in there]
    if not uidlist.in_order:
        bases.sort(key=uidlist.uids.__getitem__)
    if not uidlist.fields:
        return bases
    orders = {
        base: order
        for base in uidlist.fields
        if (order := decimal(uidlist.field(base, "O") or "")) is not None
    }
    if orders:
        last = max(orders.values()) + 1
        bases.sort(key=lambda base: orders.get(base, last))
    return bases


def shown_ids(uidlist: UidList, bases: Sequence[str]) -> list[str]:
    """The unique-id of each: a carried-over one (the field P) unchanged, else the number.

    All are different.  ``bases``: the result of ``ordered``.
    """
    uids = uidlist.uids
    ids = [str(uids[base]) for base in bases]
    carried = _carried(uidlist)
    if not carried:
        return ids
    wrong = []
    for index, base in enumerate(bases):
        wanted = carried.get(base)
        if wanted is not None and may_be_id(wanted):
            ids[index] = wanted
        elif wanted is not None:
            wrong.append(repr(wanted))
    complain(uidlist.name, "carried-over ids cannot be unique-ids", wrong)
    twice = []
    renamed = renamed_ids(uidlist)
    for index, base in enumerate(bases):
        if base in renamed:
            twice.append(repr(ids[index]))
            ids[index] = renamed[base]
    complain(uidlist.name, "unique-ids are there twice", twice)
    return ids


def renamed_ids(uidlist: UidList) -> dict[str, str]:
    """New ids for base names with the id of an earlier message.

    Removed messages count while they have a line: else the later message would get the
    id of one that clients have seen and deleted.
    """
    carried = _carried(uidlist)
    if not carried:
        return {}
    shown: set[str] = set()
    renamed = {}
    for base in ordered(uidlist, uidlist.uids):
        wanted = carried.get(base)
        uid = wanted if wanted is not None and may_be_id(wanted) else str(uidlist.uids[base])
        if uid in shown:
            uid = renamed[base] = _another(uid, uidlist.uids[base], shown)
        shown.add(uid)
    return renamed


def _another(uid: str, number: int, shown: Collection[str]) -> str:
    other, count = f"{uid[:58]}.{number}", 1
    while other in shown:
        count += 1
        other = f"{uid[:47]}.{number}.{count}"
    return other


def _carried(uidlist: UidList) -> dict[str, str]:
    """Base name to carried-over id."""
    found = ((base, uidlist.field(base, "P")) for base in uidlist.fields)
    return {base: wanted for base, wanted in found if wanted is not None}


def may_be_id(text: str) -> bool:
    """Whether this is a valid unique-id (RFC 1939 section 7)."""
    return 1 <= len(text) <= 70 and all("!" <= char <= "~" for char in text)
