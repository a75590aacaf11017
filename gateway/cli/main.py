"""The command ``pop3gw``.

Each command imports what it works with only when it runs: a shell that completes
a word starts the program.
"""

from __future__ import annotations

import signal

import click

import gateway
from gateway.cli.command import Group
from gateway.cli.commands.activity import audit, logins
from gateway.cli.commands.cluster import cluster
from gateway.cli.commands.completion import completion
from gateway.cli.commands.configuration import check_config, config
from gateway.cli.commands.health import health
from gateway.cli.commands.mailboxes import mailboxes
from gateway.cli.commands.messages import messages
from gateway.cli.commands.passwd import passwd
from gateway.cli.commands.quota import quota
from gateway.cli.commands.recent import deliveries
from gateway.cli.commands.reload import reload
from gateway.cli.commands.retention import retention
from gateway.cli.commands.samples import samples
from gateway.cli.commands.server import certificates, history, metrics, status
from gateway.cli.commands.sessions import sessions
from gateway.cli.commands.throttle import throttle
from gateway.cli.commands.trace import trace
from gateway.cli.commands.unique_ids import move_ids
from gateway.cli.commands.users import users
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
