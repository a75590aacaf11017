"""The commands of docs/operator.md, typed at a real server, and what they answer."""

from __future__ import annotations

import os
import poplib
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pages import check_answers
from programs import need
from servers import PASSWORD, USER, Gateway, fill

pytestmark = pytest.mark.interop

SETTINGS = """\
[retention]
enabled = true
policy = "any 1h, hide 14d"
check_every = 1
max_removal_least = 3
max_removal_share = 0.5
[quota]
octets = "1M"
"""
ANSWERS = {
    "pop3gw status": r"(?m)^Ready: +yes$",
    "pop3gw health": r"(?m)^listener plain at .* up: ",
    "pop3gw certificates": r"localhost.*; expires ",
    "pop3gw sessions list": rf"{USER} by PASS from 127\.0\.0\.1 at plain, pop3, TLS none",
    f"pop3gw sessions list --user {USER}": rf"{USER} by PASS",
    f"pop3gw sessions kick --user {USER}": rf": {USER} from 127\.0\.0\.1: ended",
    f"pop3gw logins failed --user {USER} --since 1d": rf"{USER} by PASS from 127\.0\.0\.1 at plain",
    f"pop3gw users show {USER}": r"(?m)^Login: +works with the right password$",
    "pop3gw throttle list": rf"passwords {USER} 127\.0\.0\.",
    f"echo {PASSWORD} | pop3gw users auth-test {USER} --stdin": r"(?m)^Login: +works$",
    f"pop3gw throttle forgive --user {USER}": rf"forgave {USER}: ",
    f"pop3gw users flush {USER}": r"dropped \d+ passwords",
    f"pop3gw deliveries --user {USER} --since 1d": "no such mail came of late: look at Postfix",
    "pop3gw deliveries --outcome not-delivered": "no such mail came of late",
    "pop3gw mailboxes list --sort share": rf"{USER}: 6 messages, \S+ B of 1.0 MB",
    f"pop3gw mailboxes show {USER}": r"(?m)^Limit: +1.0 MB, set by default$",
    f"pop3gw quota {USER} --size 20M": "does not fit",
    f"pop3gw mailboxes recalculate {USER}": rf"{USER}: 6 messages, ",
    "pop3gw logins list --unused-days 90": r"no such mailbox|none since",
    "pop3gw retention forecast --days 30": r"[56] messages, \S+ B in 30 days from 1 mailbox;",
    "pop3gw retention preview": rf"{USER}: 5 of 6 messages would go \(any 5; \d+\) STOPPED",
    f"pop3gw retention preview {USER}": r"  3: any, due ",
    f"pop3gw messages list {USER} --sort due": r"1: \d+ octets; came .*; goes ",
    "pop3gw retention list --stopped": rf"{USER}: 6 messages; .* STOPPED: 5 of 6 messages",
    "pop3gw retention release --all": "1 mailbox; a running server begins within a minute",
    f"pop3gw messages list {USER}": r"1: \d+ octets",
    f"pop3gw messages hide {USER} 1 2": f"hid 2 of 2 messages in {USER}",
    f"pop3gw retention hidden {USER}": r"(?m)^1: hidden ",
    f"pop3gw messages restore {USER} 1": f"1 of 1 messages are back in {USER}",
    f"pop3gw messages restore {USER} --all": f"1 of 1 messages are back in {USER}",
    f"pop3gw audit --mailbox {USER} --since 7d": rf"hide {USER} 1, .* by uid \d+",
    "pop3gw audit --action restore": rf"restore {USER} 2, ",
    f"pop3gw mailboxes delete {USER} --dry-run": rf"would delete {USER}: \d+ messages",
    "pop3gw config show --running --non-default": r'(?m)^retention\.policy = "any 1h, hide 14d"',
    "pop3gw reload": "changed: nothing",
}
"""What each command prints, as a pattern."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server with old mail."""
    need("bash")
    one = Gateway(tmp_path_factory.mktemp("operator"), SETTINGS)
    files = fill(one.maildir, [b"Subject: %d\r\n\r\n" % number for number in range(6)])
    for path in files[:-1]:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    lines = "".join(f"{uid} :{path.name}\n" for uid, path in enumerate(files, 1))
    one.maildir.joinpath("dovecot-uidlist").write_text(f"3 V1 N{len(files) + 1}\n{lines}")
    try:
        one.run()
        one.wait_for(b"nothing is removed until an operator")
        yield one
    finally:
        one.stop()
    assert "Traceback" not in one.log


@pytest.fixture(scope="module")
def session(gateway: Gateway) -> poplib.POP3:
    """A client that is on, after which another one had a wrong password."""
    client, other = (poplib.POP3("127.0.0.1", gateway.plain, timeout=60) for _ in range(2))
    client.user(USER)
    client.pass_(PASSWORD)
    other.user(USER)
    with suppress(poplib.error_proto):
        other.pass_("wrong")
    other.close()
    return client


def test_each_command_of_the_page_answers_its_question(
    gateway: Gateway, session: poplib.POP3
) -> None:
    check_answers(gateway, "operator.md", ANSWERS)
    with pytest.raises((poplib.error_proto, EOFError, OSError)):
        session.noop()


def test_what_was_restored_comes_by_pop3_under_its_old_unique_id(gateway: Gateway) -> None:
    client = poplib.POP3("127.0.0.1", gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    uids = [line.split()[1] for line in client.uidl()[1]]
    assert {b"1", b"2"} <= set(uids)
    client.quit()
