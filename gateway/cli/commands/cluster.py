"""``pop3gw cluster``: the engines behind ``store.kind = "cluster"``."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import click

from gateway.cli.command import CONFIG, Exit, Group, command
from gateway.cli.terminal import Terminal
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.store.cluster.kind import ClusterSettings


@click.group(
    "cluster",
    cls=Group,
    examples=(
        "pop3gw cluster migrate --database 'service=mail-owner'",
        "pop3gw cluster verify --config /etc/pop3gw.toml",
    ),
)
def cluster() -> None:
    """Look after the database and the bucket of a cluster."""


@command(
    "migrate",
    "pop3gw cluster migrate --database 'service=mail-owner'",
    "pop3gw cluster migrate --config /etc/pop3gw.toml",
)
@CONFIG
@click.option(
    "--database",
    metavar="CONNINFO",
    help="Connect as this role, the owner of the schema, and not as store.database says. Its"
    " password is in ~/.pgpass or PGPASSWORD.",
)
def migrate(terminal: Terminal, config: str | None, database: str | None) -> None:
    """Bring the schema of the database up to date.

    Any number of gateways may run meanwhile, and this command too. A step that
    finds a table locked, by pg_dump for instance, says so and tries again until
    it succeeds; gateways go on in between. Ctrl-C ends it; steps that are
    finished stay. It refuses a schema that is newer than this pop3gw.
    """
    from gateway.store.cluster.kind import missing_driver

    if missing := missing_driver():
        raise ConfigError([missing])
    from gateway.postgresql.migrate import VERSION, check_encoding, open_owner
    from gateway.postgresql.migrate import migrate as apply

    own = None if database else own_settings(load_all(config), "or use --database")
    conninfo, password = (
        (database or "", "") if own is None else (own.database, own.database_password)
    )
    try:
        engine = open_owner(conninfo, password)
    except ValueError as error:
        raise ConfigError([f"{'store.database' if own else '--database'}: {error}"]) from None
    with closing(engine):
        check_encoding(engine)
        steps = [step.name for step in apply(engine, told=terminal.complain)]
    done = f"applied {', '.join(steps)}" if steps else "nothing to do"
    terminal.say(f"schema version {VERSION}: {done}", version=VERSION, applied=steps)


@command(
    "verify",
    "pop3gw cluster verify --config /etc/pop3gw.toml",
    "pop3gw cluster verify --config /etc/pop3gw.toml --json",
    "pop3gw cluster verify --config /etc/pop3gw.toml --repair",
)
@CONFIG
@click.option("--repair", is_flag=True, help="Mend what can be mended, and print what was lost.")
@click.option(
    "--most",
    is_flag=True,
    help="With --repair: remove messages without bodies, or bodies without messages, even if they"
    " are more than half of all.",
)
def verify(terminal: Terminal, config: str | None, repair: bool, most: bool) -> Exit:
    """Check that the database and the bucket fit together.

    Finds messages of which the body is missing or has another length, bodies
    that no message has, counters that are off, and uploads that were not
    finished. Any number of gateways may run meanwhile, and none has to. Without
    --repair nothing is changed.

    --repair removes messages without a body, bodies without a message and
    unfinished uploads that are older than a day, and sets the counters right. It
    prints the Message-ID of each message that is lost.
    """
    from gateway.cli.commands.cluster_verify import verify as verify_with

    if most and not repair:
        raise click.UsageError("--most is for --repair")
    settings = load_all(config)
    own = own_settings(settings, "name the configuration of a gateway of the cluster with --config")
    return verify_with(terminal, settings, own, repair=repair, most=most)


def load_all(config: str | None) -> Settings:
    """The settings of a gateway."""
    from gateway.config.load import load_settings

    return load_settings(config, os.environ)


def own_settings(settings: Settings, cure: str) -> ClusterSettings:
    """The settings of the store; raises ``ConfigError`` for another kind of store."""
    from gateway.store.cluster.kind import ClusterSettings

    own = settings.store
    if not isinstance(own, ClusterSettings):
        raise ConfigError([f"store.kind: expected 'cluster', found {own.kind!r}; {cure}"])
    return own


cluster.add_command(migrate)
cluster.add_command(verify)
