"""Real POP3 clients fetch and delete the corpus through the real gateway."""

from __future__ import annotations

import email
import os
import poplib
import re
import shutil
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from client_process import port_of, run
from gateway.net.tls.certificates import make_certificate
from servers import PASSWORD, USER, Gateway, corpus, fill, need
from whole_corpus import MESSAGES, canonical

pytestmark = pytest.mark.interop

NOBODY = 65534


@dataclass
class Job:
    """What a client is to do; ``home`` is a directory that it may write in."""

    gateway: Gateway
    line: str
    home: Path
    trusted: Path
    password: str = PASSWORD
    keep: bool = False

    @property
    def port(self) -> int:
        """Where the gateway serves this line."""
        return port_of(self.gateway, self.line)


@dataclass
class Outcome:
    """How a client ended, what it said, and the messages that it stored this time."""

    code: int
    said: str
    messages: list[bytes]


def stored(directory: Path) -> list[bytes]:
    """The files of a directory, which are taken out of it."""
    contents = []
    for file in sorted(directory.iterdir()):
        contents.append(file.read_bytes())
        file.unlink()
    return contents


def left(gateway: Gateway) -> list[Path]:
    """What the Maildir has."""
    return [*(gateway.maildir / "new").iterdir(), *(gateway.maildir / "cur").iterdir()]


# -- the clients ---------------------------------------------------------------


def use_poplib(job: Job) -> Outcome:
    """Python's own; it takes off line ends, and changes nothing else."""
    context = ssl.create_default_context(cafile=job.trusted)
    messages = []
    try:
        if job.line == "pop3s":
            pop: poplib.POP3 = poplib.POP3_SSL("localhost", job.port, timeout=30, context=context)
        else:
            pop = poplib.POP3("localhost", job.port, timeout=30)
        if job.line == "stls":
            pop.stls(context)
        pop.user(USER)
        pop.pass_(job.password)
        for number in range(1, pop.stat()[0] + 1):
            messages.append(b"".join(line + b"\r\n" for line in pop.retr(number)[1]))
            pop.dele(number)
        pop.quit()
    except ssl.SSLCertVerificationError as error:  # which closes the socket
        return Outcome(1, str(error), [])
    except poplib.error_proto as error:
        pop.close()
        return Outcome(1, str(error), [])
    return Outcome(0, "", messages)


def use_curl(job: Job) -> Outcome:
    """LIST, then all messages, then DELE for all; it stores octets as they came.

    ``--head`` tells it that the answer to DELE has one line only.
    """
    scheme = "pop3s" if job.line == "pop3s" else "pop3"
    url = f"{scheme}://localhost:{job.port}/"
    options = ["--silent", "--show-error", "--max-time", "60", "--fail-early"]
    options += ["--user", f"{USER}:{job.password}", "--cacert", str(job.trusted)]
    if job.line == "stls":
        options.append("--ssl-reqd")
    listing = run(job.home, "curl", "--disable", *options, url)
    if listing.returncode:
        return Outcome(listing.returncode, listing.stdout, [])
    folder = job.home / "stored"
    folder.mkdir()
    all_of_them = f"{url}[001-{len(listing.stdout.splitlines()):03}]"
    done = run(
        job.home,
        *("curl", "--disable", *options, "--output", f"{folder}/#1", all_of_them),
        *("--next", *options, "--head", "--request", "DELE", all_of_them),
    )
    return Outcome(done.returncode, done.stdout, stored(folder))


def use_fetchmail(job: Job) -> Outcome:
    """Its ``mda`` writes each message to a file of its own."""
    folder, settings = job.home / "stored", job.home / "rc"
    folder.mkdir(exist_ok=True)
    tls = {
        "plain": "sslproto ''",
        "stls": f"sslproto 'tls1.2+' sslcertck sslcertfile '{job.trusted}'",
        "pop3s": f"ssl sslcertck sslcertfile '{job.trusted}'",
    }[job.line]
    settings.write_text(
        "set no bouncemail\n"
        "set invisible\n"
        f"poll localhost service {job.port} proto pop3 uidl auth password bad-header accept\n"
        f'  user "{USER}" password "{job.password}" {tls}\n'
        f"  {'keep' if job.keep else 'nokeep'} no stripcr no rewrite\n"
        f'  mda "cat >{folder}/$$"\n'
    )
    settings.chmod(0o600)
    done = run(
        job.home,
        *("fetchmail", "--nodetach", "--nosyslog", "--fetchmailrc", str(settings)),
        *("--idfile", str(job.home / "ids"), "--pidfile", str(job.home / "pid")),
    )
    return Outcome(done.returncode, done.stdout, stored(folder))


def use_mpop(job: Job) -> Outcome:
    """Delivers to a Maildir."""
    folder, settings = job.home / "mail", job.home / "rc"
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    settings.write_text(
        f"account test\nhost localhost\nport {job.port}\nuser {USER}\npassword {job.password}\n"
        f"auth user\ntls {'off' if job.line == 'plain' else 'on'}\n"
        f"tls_starttls {'on' if job.line == 'stls' else 'off'}\ntls_trust_file {job.trusted}\n"
        f"keep {'on' if job.keep else 'off'}\nuidls_file {job.home}/ids\n"
        f"delivery maildir {folder}\nreceived_header off\n"
    )
    settings.chmod(0o600)
    done = run(job.home, "mpop", "--file", str(settings), "--half-quiet", "test")
    return Outcome(done.returncode, done.stdout, stored(folder / "new"))


# getmail misses the end of a child that is quicker than itself, and then waits for it for a
# minute.  So the child ends when getmail is asleep and has a handler for SIGCHLD (17).
GETMAIL_AGENT = """\
cat >"$1/$$"
until read -r stat </proc/$PPID/stat && set -- $stat && [ "$3" = S ] && [ $((${34} & 65536)) != 0 ]
do :; done
"""


def use_getmail(job: Job) -> Outcome:
    """Its mail delivery agent writes each message to a file of its own; not for root."""
    folder, settings, agent = job.home / "stored", job.home / "rc", job.home / "agent"
    folder.mkdir(exist_ok=True)
    agent.write_text(GETMAIL_AGENT)
    trusted = job.home / "trusted.pem"
    shutil.copy(job.trusted, trusted)
    kind = "SimplePOP3SSLRetriever" if job.line == "pop3s" else "SimplePOP3Retriever"
    settings.write_text(
        f"[retriever]\ntype = {kind}\nserver = localhost\nport = {job.port}\n"
        f"username = {USER}\npassword = {job.password}\n"
        + (f"ca_certs = {trusted}\n" if job.line == "pop3s" else "")
        + "[destination]\ntype = MDA_external\npath = /bin/sh\n"
        f'arguments = ("{agent}", "{folder}")\n'
        f"[options]\nread_all = false\ndelete = {'false' if job.keep else 'true'}\n"
        "received = false\ndelivered_to = false\n"
    )
    command = ["getmail", f"--getmaildir={job.home}", f"--rcfile={settings}"]
    if os.geteuid() == 0:
        for path in (job.home, *job.home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        command = [
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *command,
        ]
    done = run(job.home, *command)
    messages = [RETURN_PATH.sub(b"", message) for message in stored(folder)]
    return Outcome(done.returncode, done.stdout, messages)


# -- what each makes of a message ----------------------------------------------

RETURN_PATH = re.compile(rb"\AReturn-Path: .*\n(?:[ \t].*\n)*")
"""The header that getmail puts before each message."""


def without_from_line(message: bytes) -> bytes:
    """fetchmail drops a first line that starts with "From "."""
    status, _, rest = canonical(message).partition(b"\r\n")
    return rest if status.startswith(b"From ") else canonical(message)


def with_lf(message: bytes) -> bytes:
    """mpop writes LF in Maildirs."""
    return canonical(message).replace(b"\r\n", b"\n")


def printed_by_email(message: bytes) -> bytes:
    """getmail takes out Return-Path and prints messages anew with Python's email package."""
    parsed = email.message_from_bytes(with_lf(message))
    del parsed["Return-Path"]
    return parsed.as_bytes(policy=parsed.policy.clone(linesep="\n"))


@dataclass(frozen=True)
class Client:
    """A client and how it behaves."""

    use: Callable[[Job], Outcome]
    programs: tuple[str, ...]
    keeps: Callable[[bytes], bytes]
    """What it stores of a message."""
    refused: int
    """Its exit code for a wrong password."""
    distrusts: int
    """Its exit code for a certificate that nobody vouches for."""
    nothing_new: int | None = None
    """Its exit code when all mail was seen before; None if it does not remember."""


CLIENTS = {
    "poplib": Client(use_poplib, (), canonical, refused=1, distrusts=1),
    "curl": Client(use_curl, ("curl",), canonical, refused=67, distrusts=60),
    "fetchmail": Client(
        use_fetchmail, ("fetchmail",), without_from_line, refused=3, distrusts=2, nothing_new=1
    ),
    "mpop": Client(use_mpop, ("mpop",), with_lf, refused=77, distrusts=69, nothing_new=0),
    "getmail": Client(
        use_getmail,
        ("getmail", "setpriv"),
        printed_by_email,
        # One code for all that goes wrong with a server.
        refused=127,
        distrusts=127,
        nothing_new=0,
    ),
}
LINES = ("plain", "stls", "pop3s")
# getmail 6.18 knows no STLS.
PAIRS = [(name, line) for name in CLIENTS for line in LINES if (name, line) != ("getmail", "stls")]


@pytest.mark.parametrize(("name", "line"), PAIRS)
def test_the_whole_corpus_is_fetched_and_deleted(
    name: str, line: str, gateway: Gateway, home: Path
) -> None:
    client = CLIENTS[name]
    need(*client.programs)
    outcome = client.use(Job(gateway, line, home, gateway.certificate))
    assert outcome.code == 0, outcome.said
    fetched = set(outcome.messages)
    assert [file for file, message in corpus() if client.keeps(message) not in fetched] == []
    assert sorted(outcome.messages) == sorted(map(client.keeps, MESSAGES))
    assert left(gateway) == []


@pytest.mark.parametrize(("name", "line"), [pair for pair in PAIRS if pair[1] != "plain"])
def test_a_certificate_that_nobody_vouches_for_ends_it(
    name: str, line: str, gateway: Gateway, home: Path, tmp_path: Path
) -> None:
    client = CLIENTS[name]
    need(*client.programs)
    other = tmp_path / "other.pem"
    make_certificate(str(other), str(tmp_path / "other-key.pem"))
    outcome = client.use(Job(gateway, line, home, other))
    assert outcome.code == client.distrusts, outcome.said
    assert re.search("certificate (verif|problem)", outcome.said, re.IGNORECASE)
    assert outcome.messages == []
    assert len(left(gateway)) == len(MESSAGES)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_wrong_password_gets_the_auth_code(name: str, gateway: Gateway, home: Path) -> None:
    client = CLIENTS[name]
    need(*client.programs)
    job = Job(gateway, "pop3s", home, gateway.certificate, password="looking-glass")
    outcome = client.use(job)
    assert outcome.code == client.refused, outcome.said
    assert outcome.messages == []
    assert len(left(gateway)) == len(MESSAGES)


@pytest.mark.parametrize(
    "name", [name for name, client in CLIENTS.items() if client.nothing_new is not None]
)
def test_mail_that_was_kept_is_not_fetched_again(name: str, gateway: Gateway, home: Path) -> None:
    client = CLIENTS[name]
    need(*client.programs)
    job = Job(gateway, "pop3s", home, gateway.certificate, keep=True)
    first = client.use(job)
    assert first.code == 0, first.said
    assert len(first.messages) == len(MESSAGES)

    second = client.use(job)
    assert second.code == client.nothing_new, second.said
    assert second.messages == []
    assert len(left(gateway)) == len(MESSAGES)

    new = b"Subject: new\r\n\r\nnews\r\n"
    (gateway.maildir / "new" / "1800000000.M1P1.test").write_bytes(new)
    third = client.use(job)
    assert third.code == 0, third.said
    assert third.messages == [client.keeps(new)]


@pytest.mark.conformance("P-1", "P-5")
@pytest.mark.parametrize("name", CLIENTS)
def test_a_dot_after_a_bare_cr_makes_no_client_lose_step(
    name: str, gateway: Gateway, home: Path
) -> None:
    client = CLIENTS[name]
    need(*client.programs)
    for file in left(gateway):
        file.unlink()
    odd = b"Subject: odd\r\n\r\nhello\r.\r\n+OK injected\r\n\r.\r.\r\n\r\r.end\r\n"
    even = b"Subject: even\r\n\r\nas ever\r\n"
    fill(gateway.maildir, [odd, even])
    outcome = client.use(Job(gateway, "plain", home, gateway.certificate))
    assert outcome.code == 0, outcome.said
    as_sent = odd.replace(b"\r.", b"\r\n.")
    if name != "getmail":
        assert sorted(outcome.messages) == sorted(map(client.keeps, (as_sent, even)))
    assert len(outcome.messages) == 2
    assert left(gateway) == []
