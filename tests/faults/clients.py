"""Clients that write, read and delete mail, and report to the models what they were answered."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock
from typing import NamedTuple

from gateways import FULL, QUOTA, Ports
from line_clients import Lmtp, NoAnswer, Pop3, Refused, Silence
from mail_model import Listing, MailboxModel, Rule, Violation
from servers import PASSWORD

LONGEST = 40
"""Messages in a mailbox from which on nobody writes to it."""

HEADER = 1000
"""Most octets that delivery adds to a message."""

FOR_QUOTA = "deliveries refused for quota"
"""What their count is called."""

_PASSING = ("[SYS/TEMP]", "[IN-USE]")
"""Response codes of what a client tries again."""

_REMOVED = "-ERR Another program has removed the message."

_numbers = count(1)


def text_of(message: str) -> bytes:
    """A message that its name decides, with all that a wire can spoil; one in 50 is long."""
    chance = random.Random(message)
    lines = [b"Subject: %b" % message.encode(), b""]
    for _ in range(chance.randrange(1, 80 if chance.random() < 0.98 else 5000)):
        body = chance.randbytes(chance.randrange(0, 70)).translate(None, b"\r\n\0")
        lines.append(chance.choice((b"", b"", b".", b"..", b"From ")) + body)
    return b"\r\n".join(lines) + b"\r\n"


def name_in(text: bytes) -> str:
    """The name of a message, from its header."""
    found = re.search(rb"^Subject: (\S+)\r\n", text, re.M)
    return found[1].decode() if found else "a message without a subject"


class Shared:
    """What all clients share: models, counts, and when they were served last."""

    def __init__(self, boxes: Sequence[MailboxModel]) -> None:
        self.boxes = boxes
        self.counts: Counter[str] = Counter()
        self.lock = Lock()
        """Held for each call of a model."""
        self.gaps = {"logins": Gap(), "deliveries": Gap()}

    def add(self, what: str, number: int = 1) -> None:
        """Count something."""
        with self.lock:
            self.counts[what] += number


class Gap:
    """The longest time without service."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.longest = 0.0

    def end(self) -> None:
        """Somebody is served now."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now


def write(shared: Shared, ports: Ports, chance: random.Random) -> None:
    """Deliver some messages over one connection, to one or two mailboxes each."""
    with Lmtp(ports.lmtp) as client:
        for _ in range(chance.randrange(1, 6)):
            boxes = chance.sample(shared.boxes, chance.choice((1, 1, 2)))
            if any(len(box.present) >= LONGEST for box in boxes):
                return
            _deliver(shared, client, boxes, f"m{next(_numbers)}", ports)


def _deliver(
    shared: Shared, client: Lmtp, boxes: Sequence[MailboxModel], message: str, ports: Ports
) -> None:
    now = time.monotonic
    with shared.lock:
        for box in boxes:
            box.send(now(), message, f"port {ports.lmtp}")
    try:
        failed = client.deliver([box.name for box in boxes], text_of(message))
    except (NoAnswer, Refused) as error:
        with shared.lock:
            for box in boxes:
                box.doubt(now(), message, str(error))
            shared.counts["deliveries in doubt"] += len(boxes)
        raise
    with shared.lock:
        for box in boxes:
            if box.name in failed:
                box.doubt(now(), message, failed[box.name], answered=True)
                shared.counts[_refusal(box, failed[box.name], message)] += 1
            else:
                box.acknowledge(now(), message)
                shared.counts["messages written"] += 1
                shared.gaps["deliveries"].end()


def _refusal(box: MailboxModel, text: str, message: str) -> str:
    """What a refused delivery counts as."""
    if box.name.endswith(FULL):
        # The server adds a header to what was sent.
        is_larger = len(text_of(message)) > QUOTA - HEADER
        if text.startswith("452 4.2.2") or (text.startswith("552 5.2.3") and is_larger):
            return FOR_QUOTA
    if text[:3] not in ("451", "421"):
        raise Violation(Rule.REPLY, box.name, text)
    return "deliveries refused"


class _Shown(NamedTuple):
    """A message of a session."""

    number: int
    name: str
    octets: int


def read(
    shared: Shared,
    ports: Ports,
    box: MailboxModel,
    chance: random.Random,
    *,
    retrieve: int = 3,
    delete: float = 0.0,
) -> list[int]:
    """A session that looks at all messages, reads some and deletes a share; all sizes.

    Raises what clients raise, and ``Violation``.
    """
    begin = time.monotonic()
    with Pop3(ports.pop3) as client:
        client.login(box.name, PASSWORD)
        uids = client.column("UIDL")
        end = time.monotonic()
        sizes = [int(octets) for octets in client.column("LIST")]
        with shared.lock:
            shared.counts["sessions"] += 1
            shared.gaps["logins"].end()
        names = _names(shared, client, box, uids, chance)
        known = {uid: name for uid, name in zip(uids, names, strict=True) if name}
        with shared.lock:
            box.show(Listing(begin, end, known, len(known) == len(uids)))
        if box.name.endswith(FULL) and sum(sizes) > QUOTA:
            raise Violation(Rule.QUOTA, box.name, f"{sum(sizes)} octets")
        shown = [
            _Shown(number, name, octets)
            for number, (name, octets) in enumerate(zip(names, sizes, strict=True), 1)
            if name
        ]
        chosen = chance.sample(shown, min(retrieve, len(shown)))
        # The server removes nothing that it could not send.
        kept = {one for one in chosen if not _retrieve(shared, client, box, one)}
        doomed = [one for one in shown if chance.random() < delete and one not in kept]
        _quit(shared, client, box, doomed, f"port {ports.pop3}")
    return sizes


def _names(
    shared: Shared, client: Pop3, box: MailboxModel, uids: Sequence[str], chance: random.Random
) -> list[str]:
    """The name of each message; empty: it could not be read.  Sometimes all are looked at."""
    looks_at_all = chance.random() < 0.1
    with shared.lock:
        known = {uid: box.name_of(uid) for uid in uids}
    asked = [uid for uid in uids if known[uid] is None or looks_at_all]
    numbers = {uid: number for number, uid in enumerate(uids, 1)}
    if len(numbers) < len(uids):
        raise Violation(Rule.REUSED, box.name, f"a listing has a unique-id twice: {uids}")
    names = {uid: name or "" for uid, name in known.items()}
    for uid, text in zip(
        asked, client.texts([f"TOP {numbers[uid]} 0" for uid in asked]), strict=True
    ):
        if isinstance(text, bytes):
            names[uid] = name_in(text)
        else:
            _check_refusal(shared, box, known[uid], text)
    return [names[uid] for uid in uids]


def _retrieve(shared: Shared, client: Pop3, box: MailboxModel, one: _Shown) -> bool:
    """Whether it was sent."""
    try:
        content = client.ask_text(f"RETR {one.number}")
    except Refused as refused:
        _check_refusal(shared, box, one.name, str(refused))
        return False
    digest = hashlib.sha256(content).hexdigest()
    with shared.lock:
        box.read(time.monotonic(), one.name, digest)
        history = box.history(one.name)
        shared.counts["messages retrieved"] += 1
        shared.counts["octets retrieved"] += len(content)
    if not content.endswith(text_of(one.name)) or len(content) != one.octets:
        text = f"{one.name}: {len(content)} octets, {one.octets} announced: {content[:300]!r}"
        raise Violation(Rule.OCTETS, box.name, text, history)
    return True


def _check_refusal(shared: Shared, box: MailboxModel, name: str | None, text: str) -> None:
    """A message may be refused because of an outage, or because it was removed."""
    if text.startswith("-ERR [SYS/TEMP]"):
        shared.add("messages refused")
        return
    with shared.lock:
        if text != _REMOVED:
            history = box.history(name) if name else ()
            raise Violation(Rule.REPLY, box.name, f"{name}: {text}", history)
        if name is not None:
            box.miss(time.monotonic(), name)


def _quit(
    shared: Shared, client: Pop3, box: MailboxModel, doomed: Sequence[_Shown], to: str
) -> None:
    names = [one.name for one in doomed]
    for one in doomed:
        client.ask(f"DELE {one.number}")
    with shared.lock:
        box.mark(time.monotonic(), names, to)
    try:
        client.ask("QUIT")
    except (NoAnswer, Refused) as error:
        with shared.lock:
            box.keep(time.monotonic(), names, str(error))
            shared.counts["removals in doubt"] += len(names)
        raise
    with shared.lock:
        shared.counts["messages deleted"] += len(names)
        box.remove(time.monotonic(), names)


def attempt(shared: Shared, who: str, act: Callable[[], object]) -> bool:
    """Perform what a client does; False: it was not served.  Raises ``Violation``."""
    try:
        act()
    except NoAnswer:
        shared.add("connections dropped")
    except Refused as refused:
        text = str(refused)
        shared.add("refusals")
        if "[AUTH]" in text:
            raise Violation(Rule.AUTH, who, text) from None
        # A code of LMTP, or -ERR with a response code.
        if text[:1] != "4" and not any(code in text for code in _PASSING):
            raise Violation(Rule.REPLY, who, text) from None
    except Silence as silence:
        raise Violation(Rule.SILENT, who, str(silence)) from None
    else:
        return True
    return False
