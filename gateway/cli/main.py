"""The command ``pop3gw``.

Each command imports what it works with only when it runs: a shell that completes
a word starts the program.
"""

from __future__ import annotations

import signal

import click

import gateway
from gateway.cli.activity import audit, logins
from gateway.cli.cluster import cluster
from gateway.cli.command import Group
from gateway.cli.completion import completion
from gateway.cli.configuration import check_config, config
from gateway.cli.health import health
from gateway.cli.mailboxes import mailboxes
from gateway.cli.messages import messages
from gateway.cli.passwd import passwd
from gateway.cli.quota import quota
from gateway.cli.recent import deliveries
from gateway.cli.reload import reload
from gateway.cli.retention import retention
from gateway.cli.samples import samples
from gateway.cli.server import certificates, history, metrics, status
from gateway.cli.sessions import sessions
from gateway.cli.throttle import throttle
from gateway.cli.trace import trace
from gateway.cli.unique_ids import move_ids
from gateway.cli.users import users
from gateway.utf8 import insist

NAME = "pop3gw"


@click.group(
    cls=Group,
    examples=(
        "pop3gw check-config --config /etc/pop3gw.toml",
        "pop3gw passwd --config /etc/pop3gw.toml bob@example.org",
        "pop3gw retention preview --config /etc/pop3gw.toml",
        "pop3gw retention release --help",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(gateway.__version__, prog_name=NAME, message="%(prog)s %(version)s")
def pop3gw() -> None:
    """Administer a pop3gw server.

    'twistd pop3gw' runs the server; this command checks its configuration and
    works on its accounts and its mail. Run it as the user that the server runs as.
    """


for one in (
    *(check_config, config, passwd, reload),
    *(status, health, certificates, history, metrics),
    *(sessions, trace, users, quota, mailboxes, messages, retention, move_ids),
    *(logins, deliveries, throttle, audit),
    cluster,
    *(samples, completion),
):
    pop3gw.add_command(one)


def main() -> None:
    """The console script."""
    insist()
    try:
        pop3gw(prog_name=NAME)
    finally:
        # Python waits for threads, which finish what they have begun; a second Ctrl-C does not.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
