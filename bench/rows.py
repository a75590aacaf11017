"""The rows of the table, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.floods import CLIENTS, Flooded
from bench.maildirs import Copies, Drop, attachments, letters, notes
from bench.work import FirstOpen, Idle, Retrieval, Sessions, SmallReplies, Work


@dataclass(frozen=True)
class Goal:
    """The most that ``figure`` may be: a ratio to Dovecot, or with ``beside`` off a value."""

    figure: str
    most: float
    beside: bool = True


@dataclass(frozen=True)
class Row:
    """One line: what is done, to which mail, and what is to be reached."""

    name: str
    title: str
    unit: str
    work: Work
    mail: tuple[str, ...]
    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int = 5
    users: int = 200
    sessions: int = 2000
    tls_sessions: int = 600
    long: int = 100_000
    polls: int = 5
    fetches: int = 200
    letters: int = 250
    letter_passes: int = 2
    large: int = 10_000_000
    large_passes: int = 5
    idle: int = 1000
    cycles: int = 400
    flooded: float = 5.0
    saturated: float = 4.0


QUICK = Sizes(
    rounds=2,
    users=20,
    sessions=300,
    tls_sessions=100,
    long=10_000,
    fetches=50,
    letters=100,
    large_passes=2,
    idle=200,
    cycles=100,
    flooded=2.0,
    saturated=2.0,
)

POLL = ("STAT", "UIDL", "LIST")


def rows(sizes: Sizes) -> list[Row]:
    """All rows, in the order of the table."""
    return [
        *_session_rows(sizes),
        *_retrieval_rows(sizes),
        *_idle_rows(sizes),
        *_flood_rows(sizes),
    ]


def _session_rows(sizes: Sizes) -> list[Row]:
    ratio = {name: (Goal("cpu_us", most),) for name, most in (("l", 0.35), ("t", 0.65))}
    long = f"{sizes.long:,} messages"
    return [
        Row(
            "login",
            f"login, STAT, QUIT; {sizes.users} users x 20 messages",
            "session",
            Sessions("users", ("STAT",), sizes.sessions),
            ("users",),
            ratio["l"],
        ),
        Row(
            "login-tls",
            "the same over TLS 1.3, full handshake, RSA 2048",
            "session",
            Sessions("users", ("STAT",), sizes.tls_sessions, tls=True),
            ("users",),
            ratio["t"],
        ),
        Row(
            "poll",
            f"login, STAT, UIDL, LIST, QUIT; {long}, unchanged",
            "session",
            Sessions("long", POLL, sizes.polls, at_once=1),
            ("long",),
            (Goal("cpu_us", 0.02),),
        ),
        Row(
            "first-open",
            f"the same as the first session ever; {long}",
            "session",
            FirstOpen("unopened", "users", POLL),
            ("long", "unopened", "users"),
            (Goal("cpu_us", 1.0), Goal("hold_up_ms", 50, beside=False)),
        ),
    ]


def _retrieval_rows(sizes: Sizes) -> list[Row]:
    def row(name: str, title: str, work: Retrieval, most: float) -> Row:
        return Row(name, title, "message", work, (work.mail,), (Goal("cpu_us", most),))

    passes = sizes.large_passes
    size = f"{sizes.large / 1e6:.0f} MB"
    fetch = ("STAT", *(f"RETR {number}" for number in range(1, 21)))
    return [
        Row(
            "fetch-10k",
            "login, STAT, RETR of 20 messages of 10 KB, QUIT; 8 at once",
            "session",
            Sessions("letters", fetch, sizes.fetches),
            ("letters",),
            (Goal("cpu_us", 0.6),),
        ),
        row(
            "retr-10k",
            "RETR 10 KB alone, 8 connections at once",
            Retrieval("letters", sizes.letter_passes),
            0.6,
        ),
        row("retr-crlf", f"RETR {size}, CRLF-stored", Retrieval("crlf", passes), 0.35),
        row("retr-lf", f"RETR {size}, LF-stored", Retrieval("lf", passes), 0.6),
        row("retr-tls", "RETR CRLF-stored, TLS", Retrieval("crlf", passes, tls=True), 0.65),
    ]


def _idle_rows(sizes: Sizes) -> list[Row]:
    def row(name: str, title: str, work: Idle, most: float) -> Row:
        return Row(
            name,
            f"{title}; {sizes.idle} of {sizes.users} users",
            "connection",
            work,
            ("users",),
            (Goal("memory_kib", most, beside=False),),
        )

    return [
        row("idle", "memory of an idle logged-in connection", Idle("users", sizes.idle), 8),
        row("idle-tls", "the same over TLS 1.3", Idle("users", sizes.idle, tls=True), 64),
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
        )

    return [
        row("flood-capa", "CAPA", "before", logged_in=False),
        row("flood-noop", "NOOP", "after", logged_in=True),
        row("flood-retr", "RETR 1", "after", logged_in=True),
    ]


def make_mail(copies: Copies, sizes: Sizes, wanted: set[str]) -> dict[str, list[Drop]]:
    """The mail that the wanted names stand for."""
    makers: dict[str, Callable[[], list[Drop]]] = {
        "users": lambda: [
            copies.make(f"user{number:04d}", letters(20, 1200), new_each=10)
            for number in range(sizes.users)
        ],
        "letters": lambda: [
            copies.make(f"letters{number}", letters(sizes.letters, 10_000)) for number in range(8)
        ],
        "crlf": lambda: [copies.make("crlf", attachments(4, sizes.large, b"\r\n"))],
        "lf": lambda: [copies.make("lf", attachments(4, sizes.large, b"\n"))],
        "long": lambda: [copies.make("long", notes(sizes.long))],
    }
    mail = {name: make() for name, make in makers.items() if name in wanted}
    if "unopened" in wanted:
        long = mail["long"][0]
        mail["unopened"] = [
            copies.again(long, f"unopened{number}") for number in range(2 * sizes.rounds)
        ]
    return mail
