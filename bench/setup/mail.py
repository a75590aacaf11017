"""The mail that the rows are about, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from bench.rows import FORMS, OTHERS, Sizes
from bench.setup.maildirs import Copies, Drop, Stored, attachments, letters, notes

Maker = Callable[[], list[Drop]]

STORED = {
    form: Stored(b"\r\n" if form.startswith("crlf") else b"\n", 100 if "dots" in form else 0)
    for form in FORMS
}


def make(copies: Copies, sizes: Sizes, wanted: Iterable[str]) -> dict[str, list[Drop]]:
    """The mail that the wanted names stand for."""
    names = list(dict.fromkeys(wanted))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return dict(zip(names, pool.map(partial(_make_one, copies, sizes), names), strict=True))


def _make_one(copies: Copies, sizes: Sizes, name: str) -> list[Drop]:
    return makers(copies, sizes)[name]()


def makers(copies: Copies, sizes: Sizes) -> dict[str, Maker]:
    """What each name in a row stands for."""

    def some(name: str, count: int, messages: int, octets: int = 1200, new_each: int = 0) -> Maker:
        return lambda: [
            copies.make(f"{name}{number:05d}", letters(messages, octets), new_each)
            for number in range(count)
        ]

    def alike(name: str, count: int, messages: int) -> Maker:
        def made() -> list[Drop]:
            first = copies.make(f"{name}-00", notes(messages))
            return [
                first,
                *(copies.again(first, f"{name}-{number:02d}") for number in range(1, count)),
            ]

        return made

    def of_10k(form: str, stored: Stored) -> Maker:
        return lambda: [
            copies.make(f"10k-{form}-{number}", letters(sizes.letters, 10_000, stored))
            for number in range(8)
        ]

    def of_10m(form: str, stored: Stored) -> Maker:
        return lambda: [copies.make(f"10m-{form}", attachments(4, sizes.large, stored))]

    return {
        OTHERS: some("other", 5, 5),
        "users": some("user", sizes.users, 20, new_each=10),
        "many": some("many", sizes.many, 2, 400),
        "readers": some("reader", sizes.readers, 20),
        "inboxes": some("inbox", 200, 1),
        "long": alike("long", 1, sizes.long),
        "listed": alike("listed", 1, sizes.middle),
        "new-1k": alike("new-1k", 20 * sizes.few, sizes.short),
        "new-10k": alike("new-10k", 5 * sizes.few, sizes.middle),
        "new-100k": alike("new-100k", sizes.few, sizes.long),
        **{f"10k-{form}": of_10k(form, stored) for form, stored in STORED.items()},
        **{f"10m-{form}": of_10m(form, stored) for form, stored in STORED.items()},
    }
