"""The commands of the manual, typed on a machine of their own, and what they did."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from bench.setup import dovecot_config
from machine import Machine
from pages import DOCS, blocks, commands
from programs import need

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("pages")]

ELSEWHERE = {
    "container.md": "tests/interop/container/test_image.py",
    "cluster-compose.md": "tests/stack/test_cluster_databases.py",
    "compose.md": "tests/interop/stack/test_compose_page.py",
    "troubleshooting.md": "tests/interop/docs/test_troubleshooting_commands.py",
    "operator.md": "tests/interop/docs/test_operator_page.py",
    "install.md": "tests/interop/server/test_systemd.py",
    "postfix.md": "tests/interop/mail/test_postfix.py",
}
"""Pages with commands that other tests run."""
HERE = {
    *("accounts.md", "api.md", "backup.md", "dovecot.md", "first-hour.md", "operations.md"),
    *("monitoring.md", "quotas.md", "retention.md", "tuning.md", "upgrade.md"),
}

INSTALL = """\
useradd --system --user-group --home-dir /var/lib/pop3gw --shell /usr/sbin/nologin pop3gw
install -d -o pop3gw -g pop3gw -m 750 /var/lib/pop3gw
/opt/pop3gw/bin/pop3gw samples pop3gw.service > /etc/systemd/system/pop3gw.service
"""
"""What docs/install.md does, without what needs the package index and systemd."""

ALICE, MAILBOX = "alice@example.org", "/var/lib/pop3gw/mail/example.org/alice"
LIST = f"curl -s --insecure -u {ALICE}:wonderland pop3s://127.0.0.1/ -X UIDL"


NO_MAILBOX = "RCPT failed: 550|Weird server reply"
"""What two versions of curl say of a recipient that is rejected."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One on which the first hour is over."""
    need("bash", "curl", "openssl", "postfix", "slapd", "slappasswd", "ldapadd", "ldappasswd")
    started = Machine(tmp_path_factory.mktemp("machine")).run()
    try:
        started.type(INSTALL)
        said = started.type_page("first-hour.md")
        assert "Delivered-To: alice@example.org" in said
        assert "as it should be: RCPT failed" in said
        # Its first block makes the command that others use.
        started.type(commands("accounts.md")[0])
        yield started
        log = started.type("systemctl stop pop3gw; cat /var/log/pop3gw")
        assert "Traceback" not in log
    finally:
        started.stop()


def send(machine: Machine, recipient: str, subject: str) -> str:
    """Send a message; what curl and Postfix said."""
    return machine.type(
        f"printf 'Subject: {subject}\\n\\nx\\n' | curl -sS --mail-from me@example.net"
        f" --mail-rcpt {recipient} -T - smtp://127.0.0.1/me.example.net 2>&1 || true"
    )


def wait_for_rejection(machine: Machine, recipient: str) -> None:
    """Wait until the policy service rejects it: an account is kept for a second after mail."""
    asked = f"request=smtpd_access_policy\\nprotocol_state=RCPT\\nrecipient={recipient}\\n\\n"
    machine.type(
        "exec 3<> /dev/tcp/127.0.0.1/12340;"
        f"until printf '{asked}' >&3; read -r said <&3; read -r <&3; [[ $said = action=550* ]];"
        " do sleep 0.2; done"
    )


def ids(machine: Machine) -> list[int]:
    """The unique-ids of alice's messages."""
    return [int(line.split()[1]) for line in machine.type(LIST).splitlines()]


def wait_for_mail(machine: Machine, mailbox: str, count: int) -> None:
    """Wait until a Maildir has that many messages."""
    machine.type(
        f"until [ $(ls {mailbox}/cur {mailbox}/new | grep -c M) = {count} ]; do sleep 0.1; done"
    )


def test_each_page_with_commands_is_run_or_says_why_not() -> None:
    pages = {page.name for page in DOCS.glob("*.md") if any(blocks(page.name))}
    pages = {page for page in pages if commands(page)}
    assert pages - ELSEWHERE.keys() == HERE
    for test in ELSEWHERE.values():
        assert (DOCS.parent / test).exists()
    for page in DOCS.glob("*.md"):
        # A reason that no block follows, or another kind of fence, would hide commands.
        text = page.read_text()
        assert text.count("<!-- not run:") == sum(bool(one.reason) for one in blocks(page.name))
        assert not re.search(r"^```(bash|shell|console)$", text, re.M), page
        assert len(re.findall(r"^ *```sh$", text, re.M)) == len(blocks(page.name)), page


def test_dovecot_shows_the_same_mail_by_imap_under_the_same_ids(machine: Machine) -> None:
    need("dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/modules/auth/libauthdb_ldap.so")
    *starts, show = commands("dovecot.md")
    of_version = dict(zip(("2.3", "2.4"), starts, strict=True))
    machine.type(of_version[dovecot_config.version()[:3]])
    said = machine.type(show)
    (found,) = re.findall(r"^\* SEARCH ([\d ]+)\r?$", said, re.M)
    assert found.split() == re.findall(r"^\d+ (\d+)\r?$", said, re.M)
    machine.type("systemctl stop dovecot")


def test_users_are_added_blocked_renamed_and_deleted_as_the_page_says(machine: Machine) -> None:
    # The directory's answers are kept for seconds, not for a minute.
    machine.type(
        "sed -i '/^kind = /a cache_ttl = 0' /etc/pop3gw.toml;"
        "printf '[throttle]\\nwrong_ttl = 1.0\\nfree = 1000\\n' >> /etc/pop3gw.toml;"
        "systemctl restart pop3gw"
    )
    admin, add, block, unblock, rename, uid, disable, delete, passwd = commands("accounts.md")
    machine.type(admin + add)
    login = "curl -s --insecure -u {}:looking-glass pop3s://127.0.0.1/"
    assert send(machine, "carol@example.org", "one") == ""
    mailbox = "/var/lib/pop3gw/mail/example.org/carol"
    wait_for_mail(machine, mailbox, 1)
    machine.type(login.format("carol@example.org"))
    machine.type(block)
    machine.type(f"while {login.format('carol@example.org')}; do sleep 0.2; done")
    assert send(machine, "carol@example.org", "two") == ""
    wait_for_mail(machine, mailbox, 2)
    machine.type(unblock + rename)
    for name in ("carol@example.org", "caroline@example.org"):
        machine.type(f"until {login.format(name)}; do sleep 0.2; done")
    before = machine.type(login.format("carol@example.org") + " -X UIDL")
    machine.type(uid)
    machine.type(f"until {login.format('caroline@example.org')}; do sleep 0.2; done")
    assert send(machine, "caroline@example.org", "three") == ""
    wait_for_mail(machine, mailbox, 3)
    after = machine.type(login.format("caroline@example.org") + " -X UIDL")
    assert after.startswith(before)
    assert len(after.splitlines()) == 3
    machine.type(disable)
    machine.type(f"while {login.format('caroline@example.org')}; do sleep 0.2; done")
    wait_for_rejection(machine, "caroline@example.org")
    assert re.search(NO_MAILBOX, send(machine, "caroline@example.org", "four"))
    machine.type(delete)
    assert re.search(NO_MAILBOX, send(machine, "carol@example.org", "five"))
    machine.type(f"[ ! -e {mailbox} ]")
    machine.type(passwd + "[ ! -s /tmp/accounts ]")


def test_after_a_restore_no_unique_id_means_another_message(machine: Machine) -> None:
    backup, one, everything = commands("backup.md")
    machine.type(backup)
    kept = ids(machine)
    send(machine, ALICE, "after the backup")
    wait_for_mail(machine, MAILBOX, len(kept) + 1)
    (lost,) = set(ids(machine)) - set(kept)
    machine.type(everything)
    assert ids(machine) == kept
    send(machine, ALICE, "after the restore")
    wait_for_mail(machine, MAILBOX, len(kept) + 1)
    (new,) = set(ids(machine)) - set(kept)
    assert new > lost
    # One mailbox that somebody has removed.
    machine.type(f"rm -r {MAILBOX}")
    machine.type(one)
    assert ids(machine) == kept


def test_the_upgrade_page_restarts_and_rotates(machine: Machine) -> None:
    restart, cron, copy, show = commands("upgrade.md")
    assert "listener lmtp at" in machine.type(restart)
    machine.type(
        "install -d /var/log/pop3gw.d; " + cron + "touch -d '40 days ago' /tmp/pop3gw.log.7;"
        "touch /tmp/pop3gw.log.6; sed -i 's:/var/log/pop3gw:/tmp:' /etc/cron.daily/pop3gw-log;"
        "/etc/cron.daily/pop3gw-log; [ -e /tmp/pop3gw.log.6 ] && [ ! -e /tmp/pop3gw.log.7 ]"
    )
    machine.type("printf old > /var/lib/pop3gw/audit.log.1; " + copy + copy)
    assert machine.type("cat /srv/audit/*.json; rm /var/lib/pop3gw/audit.log.1") == "old"
    send(machine, ALICE, "to be removed")
    machine.type(
        "until curl -s --insecure -u alice@example.org:wonderland pop3s://127.0.0.1/ | grep -q .;"
        " do sleep 0.1; done"
    )
    machine.type(
        "curl -s --insecure -u alice@example.org:wonderland pop3s://127.0.0.1/1 -X DELE -I"
    )
    assert re.search(r"^\S+ discard .* 127\.0\.0\.1$", machine.type(show), re.M)


def test_the_quota_api_answers_as_the_page_shows(machine: Machine) -> None:
    machine.type(
        "printf '[http]\\nendpoint = \"unix:/run/pop3gw/http\"\\n' >> /etc/pop3gw.toml;"
        "systemctl restart pop3gw"
    )
    (ask,) = commands("quotas.md")
    said = json.loads(machine.type(ask).splitlines()[-1])
    (shown,) = re.findall(r"^```json\n(.*?)^```$", (DOCS / "quotas.md").read_text(), re.M | re.S)
    assert set(re.findall(r'"(\w+)":', shown)) <= said.keys()
    assert said["mailbox"] == ALICE


def test_figures_are_scraped_with_a_token_and_by_root_without(machine: Machine) -> None:
    (settings,) = re.findall(
        r"^```toml\n(.*?)^```$", (DOCS / "monitoring.md").read_text(), re.M | re.S
    )
    # Of the test of another page.
    machine.type("sed -i '/^\\[http\\]/,+1d' /etc/pop3gw.toml")
    machine.type(f"cat >> /etc/pop3gw.toml <<'END'\n{settings}END\n")
    token, scrape = commands("monitoring.md")
    machine.type(token)
    for line in scrape.splitlines():
        assert re.search(r"^pop3gw_workers\{state=\"serving\"\} \d", machine.type(line), re.M)
    machine.type("sed -i '/^\\[http\\]/,/^scopes/d' /etc/pop3gw.toml; systemctl restart pop3gw")


def test_the_commands_of_retention_do_what_the_page_says(machine: Machine) -> None:
    machine.type(
        "printf '[retention]\\nenabled = true\\ncheck_every = 1.0\\n' >> /etc/pop3gw.toml;"
        "echo 'policy = \"any 30d, hide 14d\"' >> /etc/pop3gw.toml; systemctl restart pop3gw"
    )
    send(machine, "bob@example.org", "nobody")
    machine.type(
        # Due by the default, and not by her own policy, which ends when it is there.
        f"cd {MAILBOX}/tmp; printf 'Subject: due\\n\\n' > 1700000000.M9P9.test;"
        "touch -d '31 days ago' *M9P9*; chown pop3gw: *M9P9*; mv *M9P9* ../new; cd /;"
        "ldap-admin ldapmodify <<'END'\ndn: uid=alice,ou=people,dc=example,dc=org\n"
        "changetype: modify\ndelete: pop3gwRetention\nEND\n"
        f"until ls {MAILBOX}/.Expired/cur | grep -q M9P9; do sleep 0.1; done"
    )
    (block,) = commands("retention.md")
    function, *lines = block.splitlines()
    (uid,) = re.findall(
        r"^(\d+)\b", machine.type(f"{function}\nretention hidden {ALICE}"), re.M
    ) or ["?"]
    for line in lines:
        machine.type(f"{function}\n{line.replace(' 17 ', f' {uid} ')}")
    assert int(uid) in ids(machine)


def test_the_kernels_queue_is_read_and_made_longer_as_the_tuning_page_says(
    machine: Machine,
) -> None:
    look, raise_it = commands("tuning.md")
    said = machine.type(look)
    assert re.search(r"^\d+$", said, re.M)
    assert re.search(r"^ListenOverflows \d+$", said, re.M)
    machine.type(raise_it)
    assert machine.type("cat /proc/sys/net/core/somaxconn") == "8192\n"


def test_completion_is_installed_for_all_shells(machine: Machine) -> None:
    machine.type_page("operations.md")
    machine.type("bash -c '. /etc/bash_completion.d/pop3gw'")
    machine.type("grep -q pop3gw /usr/local/share/zsh/site-functions/_pop3gw")
    machine.type("grep -q pop3gw /etc/fish/completions/pop3gw.fish")


def test_the_api_answers_what_its_page_asks(machine: Machine) -> None:
    first, kick, pages, etag, error = commands("api.md")
    said = machine.type(first)
    assert '"version": ' in said
    assert '"mailbox": "alice@example.org"' in said
    assert '{"sessions": []}' in machine.type(kick)
    assert '"per_page": 2, "total": ' in machine.type(pages)
    assert machine.type(etag).split()[-1] == "304"
    said = machine.type(error)
    assert '"colour: no such parameter"' in said
    assert '"per_page: expected 1 to 1000"' in said
