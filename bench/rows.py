"""The rows of the table, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from bench.figures.results import Goal
from bench.work.delivery import Deliveries, LargeDelivery
from bench.work.floods import CLIENTS, Flooded
from bench.work.mailboxes import FirstOpen, InTurn, NewMail
from bench.work.work import Connection, Idle, Retrieval, Sessions, SmallReplies, Work

OTHERS = "others"
"""The mail of those whose sessions are held up by what a row does."""


class Others(Enum):
    """Whether it is measured how long other sessions wait meanwhile."""

    NO = auto()
    APART = auto()
    """In a pass of its own, since to ask costs the server something too."""
    ALONG = auto()
    """In the same pass, where the row takes so long that asking costs less than a hundredth."""


@dataclass(frozen=True)
class Row:
    """One line: what is done, to which mail, and what is to be reached."""

    name: str
    title: str
    unit: str
    work: Work
    mail: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
    others: Others = Others.NO
    traced: bool = True
    """System calls are counted, in a pass of its own of the first round."""
    rounds: int = 1000
    """At most, where a round takes long."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int = 3
    users: int = 200
    sessions: int = 1500
    tls_sessions: int = 400
    long: int = 100_000
    middle: int = 10_000
    short: int = 1000
    few: int = 1
    """Mailboxes of ``long``; of ``middle`` five times as many, of ``short`` twenty times."""
    polls: int = 5
    many: int = 10_000
    fetches: int = 150
    readers: int = 40
    letters: int = 100
    letter_passes: int = 2
    large: int = 10_000_000
    large_passes: int = 2
    idle: int = 1000
    cycles: int = 400
    flooded: float = 2.0
    deliveries: int = 400
    saturated: float = 4.0
    soak: int = 20_000


LONG = Sizes(
    rounds=5,
    sessions=3000,
    tls_sessions=1000,
    few=2,
    fetches=300,
    deliveries=1000,
    soak=200_000,
)
QUICK = Sizes(
    rounds=2,
    users=20,
    sessions=300,
    tls_sessions=100,
    long=10_000,
    middle=2000,
    short=500,
    many=300,
    fetches=50,
    readers=10,
    letters=50,
    idle=200,
    cycles=100,
    flooded=2.0,
    deliveries=100,
    saturated=2.0,
    soak=1000,
)

SAME = 1.05
"""Ratios of two commits that differ by less are noise."""

POLL = ("STAT", "UIDL", "LIST")
FETCH = ("STAT", *(f"RETR {number}" for number in range(1, 21)))

FORMS = {
    "lf": "LF-stored",
    "lf-dots": "LF-stored, with dot lines",
    "crlf": "CRLF-stored",
    "crlf-dots": "CRLF-stored, with dot lines",
}


def rows(sizes: Sizes) -> list[Row]:
    """All rows, in the order of the table."""
    return [
        *_login_rows(sizes),
        *_mailbox_rows(sizes),
        *_retrieval_rows(sizes),
        *_delivery_rows(sizes),
        *_idle_rows(sizes),
        *_flood_rows(sizes),
    ]


def beside_other_commit(row: Row) -> Row:
    """The row with what a commit has to reach beside another one: to cost no more."""
    goals = (
        goal if not goal.beside else replace(goal, bound=1 / SAME if goal.at_least else SAME)
        for goal in row.goals
    )
    return replace(row, goals=tuple(goals))


def _cpu(bound: float) -> Goal:
    return Goal("cpu_us", bound)


def _login_rows(sizes: Sizes) -> list[Row]:
    def row(name: str, title: str, over: Connection, bound: float) -> Row:
        count = sizes.sessions if over == "plain" else sizes.tls_sessions
        work = Sessions("users", ("STAT",), count, at_once=50, over=over)
        return Row(name, title, "session", work, ("users",), (_cpu(bound),))

    cold = Sessions("users", ("STAT",), sizes.users - 1, cold=True)
    return [
        row("login", f"login, STAT, QUIT; {sizes.users} users, 50 at once", "plain", 0.35),
        Row(
            "login-cold",
            "the first login of each user after a start: nothing is cached",
            "session",
            cold,
            ("users",),
            (_cpu(1.0),),
        ),
        row("login-rsa", "login over TLS 1.3, full handshake, RSA 2048", "rsa", 0.65),
        row("login-ecdsa", "the same with an ECDSA certificate, P-256", "ecdsa", 0.45),
        row("login-resumed", "the same, TLS session resumed by a ticket", "resumed", 0.35),
    ]


def _mailbox_rows(sizes: Sizes) -> list[Row]:
    def new(name: str, messages: int, others: Others) -> Row:
        title = f"login, STAT, QUIT after one new message among {messages:,}; then without"
        goals = (_cpu(0.3), Goal("again_us", 0.3))
        return Row(
            name, title, "session", NewMail(name, octets=1200), (name, OTHERS), goals, others
        )

    long = f"{sizes.long:,} messages"
    return [
        Row(
            "poll",
            f"login, STAT, UIDL, LIST, QUIT; {long}, unchanged",
            "session",
            Sessions("long", POLL, sizes.polls, at_once=1),
            ("long", OTHERS),
            (_cpu(0.02),),
            Others.APART,
        ),
        Row(
            "first-open",
            f"the same as the first session ever; {long}",
            "session",
            FirstOpen("long", OTHERS, POLL),
            ("long", OTHERS),
            (_cpu(0.8), Goal("hold_up_ms", 30, beside=False)),
            Others.APART,
        ),
        new("new-1k", sizes.short, Others.NO),
        new("new-10k", sizes.middle, Others.NO),
        new("new-100k", sizes.long, Others.APART),
        Row(
            "many",
            f"login, STAT, QUIT in each of {sizes.many:,} mailboxes never opened; then again",
            "session",
            InTurn("many"),
            ("many", OTHERS),
            (_cpu(0.8), Goal("again_us", 0.5), Goal("hold_up_ms", 30, beside=False)),
            Others.ALONG,
            traced=False,
            rounds=1,
        ),
    ]


def _retrieval_rows(sizes: Sizes) -> list[Row]:
    def fetch(form: str) -> Row:
        title = f"login, STAT, RETR of 20 messages of 10 KB, QUIT; 8 at once; {FORMS[form]}"
        work = Sessions(f"10k-{form}", FETCH, sizes.fetches)
        return Row(f"fetch-{form}", title, "session", work, (work.mail,), (_cpu(0.6),))

    def new(name: str, title: str, *, delete: bool) -> Row:
        title = f"login, STAT, RETR of 5 new messages of 10 KB, {title}; then a login"
        work = NewMail("readers", 5, 10_000, retrieve=True, delete=delete)
        return Row(name, title, "session", work, ("readers",), (_cpu(0.6),))

    def retr(size: str, form: str, over: Connection = "plain") -> Row:
        large = size == "10m"
        work = Retrieval(
            f"{size}-{form}", sizes.large_passes if large else sizes.letter_passes, over
        )
        name = f"retr-{work.mail}" + ("-tls" if over == "rsa" else "")
        what = f"{sizes.large / 1e6:.0f} MB" if large else "10 KB, 8 at once"
        title = f"RETR {what}, {FORMS[form]}" + (" over TLS" if over == "rsa" else "")
        others = Others.APART if large else Others.NO
        bound = 0.65 if over == "rsa" else 0.55 if large else 0.6
        # Over TLS strace would take longer than all of the row, for the same calls and OpenSSL's.
        traced = over == "plain"
        goals = (_cpu(bound),)
        return Row(name, title, "message", work, (work.mail, OTHERS), goals, others, traced)

    return [
        *map(fetch, ("lf", "lf-dots", "crlf-dots")),
        new("fetch-new", "which stay and are marked as read", delete=False),
        new("fetch-delete", "DELE of each", delete=True),
        *(retr(size, form) for size in ("10k", "10m") for form in FORMS),
        retr("10m", "lf", "rsa"),
    ]


def _delivery_rows(sizes: Sizes) -> list[Row]:
    def row(at_once: int, bound: float) -> Row:
        return Row(
            f"lmtp-{at_once}",
            f"LMTP of 10 KB with fsync, {at_once} at once",
            "message",
            Deliveries("inboxes", at_once, sizes.deliveries),
            ("inboxes", OTHERS),
            (_cpu(bound), Goal("rate", 1.0, at_least=True)),
            Others.APART,
        )

    def large(megabytes: int) -> Row:
        return Row(
            f"lmtp-{megabytes}m",
            f"LMTP of one message of {megabytes} MB: growth of the peak of memory",
            "message",
            LargeDelivery("inboxes", megabytes),
            ("inboxes",),
            (Goal("memory_kib", 4096, beside=False),),
            traced=False,
            rounds=1,
        )

    return [row(1, 0.5), row(8, 0.45), large(1), large(100)]


def _idle_rows(sizes: Sizes) -> list[Row]:
    def row(name: str, title: str, over: Connection, bound: float) -> Row:
        title = f"{title}; {sizes.idle} of {sizes.users} users"
        goals = (Goal("memory_kib", bound, beside=False),)
        work = Idle("users", sizes.idle, over)
        return Row(name, title, "connection", work, ("users",), goals, traced=False, rounds=2)

    return [
        row("idle", "memory of an idle logged-in connection", "plain", 5),
        row("idle-tls", "the same over TLS 1.3", "rsa", 31),
        Row(
            "small",
            "short replies one by one: nobody waits 40 ms for a delayed ACK",
            "reply",
            SmallReplies("users", sizes.cycles),
            ("users",),
            (Goal("noop_p99_ms", 20, beside=False), Goal("p99_ms", 20, beside=False)),
        ),
    ]


def _flood_rows(sizes: Sizes) -> list[Row]:
    def row(name: str, command: str, when: str, *, logged_in: bool) -> Row:
        return Row(
            name,
            f"others' sessions while {CLIENTS} clients send {command} without end, {when} login",
            "session",
            Flooded("users", command, logged_in, sizes.flooded),
            ("users",),
            (Goal("p99_ms", 100, beside=False),),
            traced=False,
            rounds=2,
        )

    return [
        row("flood-capa", "CAPA", "before", logged_in=False),
        row("flood-noop", "NOOP", "after", logged_in=True),
        row("flood-retr", "RETR 1", "after", logged_in=True),
    ]
