"""A server full of what an operator may see, for tests of the page."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred, succeed

from gateway.model import Account, DueDay, LastLogin, LastScan, OpenSession, Quota
from page_browser import NOON, PageServer

DAY = 86_400.0

BOB, CAROL = "bob@example.org", "carol@example.org"

ODD = "<script>alert(1)</script>\"'&@example.org"

NAMES = (
    BOB,
    CAROL,
    "erika.mustermann@example.org",
    "accounts-payable@example.org",
    "support@example.org",
    "archive-2019@example.org",
    "sales.emea@example.org",
    "jean-luc@example.org",
    "o.henry@example.org",
    ODD,
)

QUOTAS = (Quota(octets=110_000), Quota(octets=1_500_000), Quota(), Quota(octets=5_000_000))

STOPPED = "mailbox carol@example.org: 812 of 900 messages, more than half"


def fill(server: PageServer, names: tuple[str, ...] = NAMES) -> None:
    """Mail, sessions, throttled logins, scans, forecasts and an hour of counts."""
    chance = random.Random(4)
    for number, name in enumerate(names):
        server.accounts[name] = Account(name=name, mailbox=name, quota=QUOTAS[number % 4])
        mailbox = server.store.add(name)
        for size in range(3 + (number * 7) % 11):
            mailbox.deliver(b"Subject: hello\r\n\r\n" + b"x" * (900 + 4000 * size * (10 - number)))
    _state(server, names, chance)
    sessions = [_session(number, name, chance) for number, name in enumerate(names)]
    questions = server.questions
    questions.answer("sessions", lambda asked: _open(sessions, asked))
    questions.answer("kick", lambda asked: [[list(one), True] for one in sessions[:1] if asked])
    questions.answer("sessions in", lambda name: sum(one.mailbox == name for one in sessions))
    questions.answer("waiting", lambda _: {"throttled": _THROTTLED, "delayed": [[BOB, 240.0]]})
    questions.answer("counted", lambda what: [["192.0.2.9", 9]] if what == "address" else [])
    questions.answer("forgive", lambda _: {"places": 1, "delays": 0})
    questions.answer("readiness", lambda _: _CHECKS)
    questions.answer("history", lambda _: [_minute(number, chance) for number in range(60)])

    questions.answer("certificates", lambda _: _CERTIFICATES)
    questions.answer("deliveries", lambda _: _DELIVERIES)
    questions.answer("failed logins", lambda _: _FAILED)


_THROTTLED = [
    [CAROL, "198.51.100.0/24", False, 14, 1, 16.0, False, 900.0],
    ["", "203.0.113.0/24", False, 210, 0, 0.0, True, 3000.0],
    [ODD, "2001:db8::/64", True, 3, 0, 0.0, False, 100.0],
]

_CERTIFICATES = [
    {
        "path": "tls/fullchain.pem",
        "names": ["mail.example.org"],
        "issuer": "CN=R13,O=Let's Encrypt",
        "not_before": NOON - 70 * DAY,
        "not_after": NOON + 19.5 * DAY,
        "listeners": ["listeners.pop3s", "http"],
        "problems": [],
    }
]

_DELIVERIES = [
    [
        NOON - 60,
        "delivered",
        BOB,
        [BOB],
        "news@shop.example",
        "k3jq7x2m9p1",
        "<1@shop.example>",
        *("192.0.2.25", "k3jq7x2m9p1", 48_213, 0.01, "", ""),
    ],
    [
        NOON - 90,
        "refused",
        CAROL,
        [CAROL],
        "",
        "k3jq7x2m9p2",
        "",
        "192.0.2.25",
        "k3jq7x2m9p2",
        *(0, 0.0, "OverQuota", "1.6 MB of 1.4 MB used"),
    ],
    [
        NOON - 95,
        "policy",
        "",
        ["<i>nobody</i>@example.org"],
        ODD,
        "",
        "",
        "",
        "",
        0,
        0.0,
        *("UnknownRecipient", "no account has <i>this</i> address"),
    ],
]

_FAILED = [
    [
        NOON - 30,
        BOB,
        "PLAIN",
        "198.51.100.4",
        "k3jq7x2m9p9",
        "pop3s",
        *("BadCredentials", "wrong password"),
    ],
]

_CHECKS = [
    {"name": "directory", "state": "ok", "reason": ""},
    {"name": "disk", "state": "warn", "reason": "91 % of /var/mail is used"},
]


def _open(sessions: list[OpenSession], asked: dict[str, object]) -> dict[str, object]:
    user, host = asked.get("user") or "", asked.get("address") or ""
    found = [
        list(one)
        for one in sessions
        if user in ("", one.user) and host in ("", f"{one.host}/32", f"{one.host}/128")
    ]
    return {"total": len(found), "sessions": found}


def _session(number: int, name: str, chance: random.Random) -> OpenSession:
    secure = number != 3
    return OpenSession(
        f"k3jq7x2m9p{number:x}",
        "lmtp" if number == 5 else "pop3",
        "" if number in (4, 5) else name,
        chance.choice(("192.0.2.17", "2001:db8::1f:2e", "198.51.100.4")),
        "pop3s",
        secure,
        NOON - chance.random() * 4000,
        "" if number in (4, 5) else name,
        "" if number in (4, 5) else "PLAIN",
        "TLSv1.3" if secure else "",
        "before login" if number == 4 else "logged in",
        chance.randint(0, 40_000_000),
    )


def _minute(number: int, chance: random.Random) -> dict[str, object]:
    failed = chance.choice((0, 0, 0, 1, 3, 12))
    return {
        "began": NOON - 3600 + 60 * (number + 1),
        "logins": chance.randint(5, 40),
        "failed": {"wrong_password": failed} if failed else {},
        "deliveries": chance.randint(0, 25),
        "refusals": chance.choice((0, 0, 0, 2)),
        "retrieved_octets": chance.randint(0, 90_000_000),
    }


def _state(server: PageServer, names: tuple[str, ...], chance: random.Random) -> None:
    state = server.state
    days = int(NOON // DAY)
    for number, name in enumerate(names):
        stopped = STOPPED if name == CAROL else None
        scan = LastScan("unread 60d, read 7d", NOON + DAY * number, NOON - 600, 900, stopped)
        now(state.keep_scan(name, scan))
        due = [
            DueDay(days + day, chance.randint(0, 40 if day % 7 < 5 else 9), 40_000 * day)
            for day in range(90)
        ]
        now(state.keep_forecast(name, due))
    logins = {
        name: LastLogin(NOON - chance.random() * 200 * DAY, "PLAIN", "public")
        for name in names[1::2]
    }
    now(state.keep_logins(logins))


def now(work: Deferred[None]) -> None:
    """Work in memory is done at once."""
    done: list[None] = []
    succeed(None).addCallback(lambda _: work).addCallback(done.append)
    assert done, work
