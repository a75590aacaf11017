"""Mail from a real Postfix, by LMTP, after it has asked whether there is room."""

from __future__ import annotations

import json
import os
import poplib
import re
import signal
import smtplib
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.directory import passwd_entries
from mail_places import MailOf
from postfix import Postfix, need_postfix
from programs import need
from servers import PASSWORD, USER, Gateway, corpus, free_port

pytestmark = pytest.mark.interop

SENDER, SMALL, TOKEN = "sender@example.net", "small@example.org", "t0ken"
NEED_QUOTES = ("w.@example.org", "z..b@example.org")

TRACE = re.compile(
    rb"Return-Path: <sender@example\.net>\r\nDelivered-To: alice@example\.org\r\n"
    rb"Received: from [^\r]*\r\n\tby mail\.example\.org with LMTP id \w+\.\d+\r\n"
    rb"\tfor <alice@example\.org>;\r\n\t[^\r]*\r\n"
)
OLD_RETURN_PATH = re.compile(rb"\AReturn-Path:[^\r]*\r\n(?:[ \t][^\r]*\r\n)*", re.IGNORECASE)


class Stack:
    """Postfix, the gateway behind it, and two mailboxes: one with room, one without."""

    def __init__(self, directory: Path, mail_of: MailOf) -> None:
        (directory / "gateway").mkdir()
        self.lmtp, self.policy, self.http = free_port(), free_port(), free_port()
        self.gateway = Gateway(
            directory / "gateway",
            f"""\
[lmtp]
endpoint = "tcp:{self.lmtp}:interface=127.0.0.1"
name = "mail.example.org"
over_quota = "bounce"
[policy]
endpoint = "tcp:{self.policy}:interface=127.0.0.1"
[http]
endpoint = "tcp:{self.http}:interface=127.0.0.1"
token = "{TOKEN}"
""",
            mail_of(directory / "gateway"),
        )
        accounts = self.gateway.accounts
        for name in (*NEED_QUOTES, SMALL):
            passwd_entries.put(str(accounts), name, PASSWORD.encode(), "SSHA256")
        lines = accounts.read_text().splitlines()
        lines[-1] = lines[-1].rpartition(":")[0] + ":quota=20K aliases=little@example.org"
        lines.append(lines[-1].replace(SMALL, "v w@example.org").partition(" aliases")[0])
        accounts.write_text("\n".join(lines) + "\n")
        self.postfix = Postfix(
            directory / "postfix", lmtp=f"inet:127.0.0.1:{self.lmtp}", policy=self.policy
        )

    def run(self) -> Stack:
        """Start both."""
        self.gateway.run()
        self.postfix.run()
        return self

    def stop(self) -> None:
        """End both."""
        self.postfix.stop()
        self.gateway.stop()

    def mailbox(self, user: str = USER) -> list[bytes]:
        """All messages, as POP3 gives them."""
        client = poplib.POP3("127.0.0.1", self.gateway.plain, timeout=60)
        client.user(user)
        client.pass_(PASSWORD)
        count, octets = client.stat()
        found = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in range(1, count + 1)]
        assert sum(map(len, found)) == octets
        client.quit()
        return found

    def ask(self, path: str, token: str = TOKEN) -> tuple[int, dict[str, object]]:
        """Status and JSON of the HTTP endpoint."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}")
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def stack(mail_of: MailOf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of each for all tests that leave them running."""
    need_postfix()
    started = Stack(tmp_path_factory.mktemp("stack"), mail_of).run()
    yield started
    started.stop()
    assert "Traceback" not in started.gateway.log


def crlf(message: bytes) -> bytes:
    """With CRLF line ends, and one at the end."""
    lines = message.replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join(lines if lines[-1] == b"" else [*lines, b""])


def test_the_corpus_comes_out_as_it_went_in_octet_for_octet(stack: Stack) -> None:
    messages = [content for _, content in corpus() if b"\r" not in content.replace(b"\r\n", b"")]
    with smtplib.LMTP("127.0.0.1", stack.lmtp, timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        for message in messages:
            before = message
            client.mail(SENDER, [f"SIZE={len(crlf(before))}"])
            client.rcpt(USER)
            assert client.data(crlf(before))[0] == 250
    for sent, stored in zip(messages, stack.mailbox()[-len(messages) :], strict=True):
        trace = TRACE.match(stored)
        assert trace is not None, stored[:300]
        # Of the fields that an earlier delivery has left only ours is true.
        assert stored[trace.end() :] == OLD_RETURN_PATH.sub(b"", crlf(sent), count=1)


WELL_FORMED = re.compile(
    # A header, an empty line, and no line so long that Postfix would break it.
    rb"(?:[!-9;-~]+[ \t]*:[^\r\n]{0,900}\r\n(?:[ \t]+[^\r\n]{0,900}\r\n)*)+"
    rb"\r\n(?:[^\r\n\0]{0,900}\r\n)*"
)


def test_postfix_delivers_the_whole_corpus_and_no_body_differs(stack: Stack) -> None:
    sent = {
        b"%d" % number: b"X-Corpus: %d\r\n%s" % (number, crlf(content))
        for number, (_, content) in enumerate(corpus(), 1)
        if b"\r" not in content.replace(b"\r\n", b"")
    }
    with smtplib.SMTP("127.0.0.1", stack.postfix.port, timeout=60) as client:
        for message in sent.values():
            client.ehlo_or_helo_if_needed()
            client.mail(SENDER, ["BODY=8BITMIME"])
            client.rcpt(USER)
            assert client.data(message)[0] == 250
    stack.postfix.until_empty()
    found = {}
    for stored in stack.mailbox():
        if number := re.search(rb"^X-Corpus: (\d+)\r\n", stored, re.MULTILINE):
            found[number[1]] = stored.partition(b"\r\n\r\n")[2]
    assert found.keys() == sent.keys()
    unchanged = [key for key, message in sent.items() if WELL_FORMED.fullmatch(message)]
    assert len(unchanged) > len(sent) * 0.7
    for key in unchanged:
        assert found[key] == sent[key].partition(b"\r\n\r\n")[2], sent[key][:300]


def test_postfix_delivers_to_several_and_the_sender_reads_who_is_full(stack: Stack) -> None:
    big = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n"
    with smtplib.SMTP("127.0.0.1", stack.postfix.port, timeout=60) as client:
        assert client.sendmail(SENDER, [USER, SMALL, "alice+x@example.org"], big) == {}
        stack.postfix.until_empty()
        # By the size that MAIL tells, at RCPT; 20 KiB is all there is.
        client.ehlo()
        client.mail(SENDER, ["SIZE=30000"])
        assert client.rcpt(USER)[0] == 250
        code, text = client.rcpt(SMALL)
        assert (code, text.split()[0]) == (552, b"5.2.3")
        client.rset()
        # By the true size, at its end.
        client.mail(SENDER)
        assert client.rcpt(SMALL)[0] == 250
        code, text = client.data(b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + b"z" * 30000)
        assert (code, text.split()[0]) == (552, b"5.2.3")
    assert len([one for one in stack.mailbox(SMALL) if b"Subject: big" in one]) == 1
    assert len([one for one in stack.mailbox() if b"Subject: big" in one]) == 1


def test_postfix_reaches_addresses_that_need_quotes_in_smtp(stack: Stack) -> None:
    with smtplib.SMTP("127.0.0.1", stack.postfix.port, timeout=60) as client:
        for address in NEED_QUOTES:
            local = address.partition("@")[0]
            for to in (f"<{address}>", f'<"{local}"@example.org>', f'<"{local}+x y"@example.org>'):
                message = f"Subject: {to}\r\n\r\nx\r\n"
                assert client.sendmail(SENDER, [to], message) == {}
    stack.postfix.until_empty()
    for address in NEED_QUOTES:
        assert len(stack.mailbox(address)) == 3
        assert stack.ask(f"/v1/quota/{address}")[0] == 200


def test_postfix_learns_that_a_mailbox_is_full_under_an_address_that_needs_quotes(
    stack: Stack,
) -> None:
    with smtplib.SMTP("127.0.0.1", stack.postfix.port, timeout=60) as client:
        client.ehlo()
        client.mail(SENDER, ["SIZE=30000"])
        assert client.rcpt('<"v w"@example.org>')[0] == 552


@pytest.mark.conformance("X-E0003")
def test_a_full_mailbox_takes_nothing_more_until_its_user_removes_mail(stack: Stack) -> None:
    message = b"Subject: fill\r\n\r\n" + (b"f" * 70 + b"\r\n") * 70
    with smtplib.LMTP("127.0.0.1", stack.lmtp, timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        codes = []
        for _ in range(6):
            client.mail(SENDER)
            code, _ = client.rcpt("little@example.org")
            if code == 250:
                code, _ = client.data(message)
            else:
                client.rset()
            codes.append(code)
    assert codes == [250, 250, 250, 552, 552, 552]
    status, said = stack.ask("/v1/quota/small%40example.org?size=1000000")
    assert (status, said["accepts"], said["limit_octets"]) == (200, False, 20480)
    assert said["messages"] == len(stack.mailbox(SMALL))
    assert said["octets"] == sum(map(len, stack.mailbox(SMALL)))
    client = poplib.POP3("127.0.0.1", stack.gateway.plain, timeout=60)
    client.user(SMALL)
    client.pass_(PASSWORD)
    for number in range(1, client.stat()[0] + 1):
        client.dele(number)
    client.quit()
    status, said = stack.ask("/v1/quota/little@example.org")
    assert (said["octets"], said["messages"], said["level"]) == (0, 0, "normal")


def test_unknown_recipients_are_refused_by_each_in_its_way(stack: Stack) -> None:
    with smtplib.LMTP("127.0.0.1", stack.lmtp, timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        client.mail(SENDER)
        assert client.rcpt("nobody@example.org")[0] == 550
        assert client.docmd("DATA")[0] == 503
    status, problem = stack.ask("/v1/quota/nobody@example.org")
    assert (status, problem["kind"]) == (404, "UnknownRecipient")
    assert stack.ask(f"/v1/quota/{USER}", token="wrong")[0] == 401
    assert stack.ask("/v1/quota/")[0] == 200


def test_the_list_of_mailboxes_is_sorted_and_paged(stack: Stack) -> None:
    stack.mailbox()
    stack.mailbox(SMALL)
    status, said = stack.ask("/v1/quota?sort=mailbox&per_page=1")
    assert (status, [one["mailbox"] for one in said["mailboxes"]]) == (200, [USER])  # type: ignore[attr-defined]
    _, said = stack.ask("/v1/quota?sort=mailbox&per_page=1&page=1")
    assert [one["mailbox"] for one in said["mailboxes"]] == [SMALL]  # type: ignore[attr-defined]
    assert stack.ask("/v1/quota?sort=colour")[0] == 400


def test_many_at_once_all_arrive(stack: Stack) -> None:
    before = len(stack.mailbox())
    command = ["smtp-source", "-L", "-s", "10", "-m", "200", "-l", "4096", "-f", SENDER]
    done = subprocess.run(
        [*command, "-t", USER, f"127.0.0.1:{stack.lmtp}"], timeout=120, check=False
    )
    assert done.returncode == 0
    assert len(stack.mailbox()) == before + 200


def test_no_acknowledged_message_is_lost_when_the_gateway_is_killed_again_and_again(
    mail_of: MailOf, tmp_path: Path
) -> None:
    need_postfix()
    stack = Stack(tmp_path, mail_of).run()
    try:
        source = subprocess.Popen(
            [
                *("smtp-source", "-s", "5", "-m", "150", "-l", "4096", "-f", SENDER),
                *("-t", USER, f"127.0.0.1:{stack.postfix.port}"),
            ]
        )
        for number in range(4):
            stack.gateway.wait_for(b" info delivery: ", times=10 * (number + 1))
            stack.gateway.stop(signal.SIGKILL)
            stack.gateway.run()
        assert source.wait(120) == 0
        stack.postfix.until_empty(120)
        found = stack.mailbox()
        assert len(found) >= 150
        # More than once is allowed to a message whose acknowledgement was lost; none at all is not.
        ids = {
            line for one in found for line in one.splitlines() if line.startswith(b"Message-Id:")
        }
        assert len(ids) == 150
    finally:
        stack.stop()
    assert "Traceback" not in stack.gateway.log


DOCUMENT = Path(__file__).parents[3] / "docs" / "postfix.md"


def documented(first: str, **instead: str) -> str:
    """The block of the document that has a line which begins so, with other places."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    (block,) = (block for block in blocks if re.search(rf"^{re.escape(first)}", block, re.M))
    for old, new in instead.items():
        block = block.replace(old.replace("__", "/"), new)
    return block


class Documented:
    """Debian's Postfix, chrooted as packaged, and the gateway, both by the documented lines."""

    def __init__(self, directory: Path) -> None:
        (directory / "gateway").mkdir()
        spool, policy = directory / "postfix" / "spool", str(free_port())
        places = {"__var__spool__postfix": str(spool), "12340": policy}
        self.postfix = Postfix(
            directory / "postfix", packaged=documented("virtual_transport = lmtp:unix", **places)
        )
        self._make_directory(documented("install -d -o pop3gw", **places))
        self.gateway = Gateway(directory / "gateway", documented("[lmtp]", **places))
        accounts = self.gateway.accounts
        accounts.write_text(f"{accounts.read_text()}barred@example.org:{{PLAIN}}x::::::nomail\n")
        # The socket's mode is what lets Postfix in, whoever runs the tests.
        assert (spool / "pop3gw").stat().st_mode & 0o7777 == 0o2750

    def _make_directory(self, command: str) -> None:
        # In place of the user that the gateway runs as, the one that runs the tests.
        words = command.replace("-o pop3gw", f"-o {os.geteuid()}").split()
        subprocess.run(words, check=True, timeout=30)

    def answers(self, *recipients: str) -> list[int]:
        """What Postfix says to RCPT."""
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=60) as client:
            client.ehlo()
            client.mail(SENDER)
            return [client.rcpt(one)[0] for one in recipients]


@pytest.fixture
def as_documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    """A short path: a UNIX socket's has no more than 107 octets."""
    need_postfix()
    need("install")
    found = Documented(tmp_path_factory.mktemp("d"))
    found.gateway.run()
    found.postfix.run()
    yield found
    found.postfix.stop()
    found.gateway.stop()


def test_debians_chrooted_postfix_delivers_by_the_documented_lines(
    as_documented: Documented,
) -> None:
    postfix = as_documented.postfix
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as client:
        client.sendmail(SENDER, [USER], b"Subject: by the book\r\n\r\nhello\r\n")
    postfix.until_empty()
    client = poplib.POP3("127.0.0.1", as_documented.gateway.plain, timeout=60)
    client.user(USER)
    client.pass_(PASSWORD)
    assert b"Subject: by the book" in client.retr(1)[1]
    client.quit()


def test_the_documented_lines_refuse_unknown_and_disabled_recipients_and_bounce_nothing(
    as_documented: Documented,
) -> None:
    asked = (USER, "nobody@example.org", "barred@example.org", "Nobody+x@example.org")
    assert as_documented.answers(*asked) == [250, 550, 550, 550]
    as_documented.gateway.stop()
    # Who cannot be told from a good address is to try again; nobody gets a bounce for it.
    assert as_documented.answers(USER, "nobody@example.org") == [451, 451]
    as_documented.gateway.run()
    assert as_documented.answers(*asked) == [250, 550, 550, 550]
    assert as_documented.postfix.queue == ""
