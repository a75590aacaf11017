"""``pop3gw cluster``: the engines behind ``store.kind = "cluster"``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gateway.cli.command import CONFIG, Group, command
from gateway.cli.terminal import Terminal
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.store.cluster.kind import ClusterSettings


LONGEST = 86_400.0
"""Seconds for a step of the schema, which may make an index of a large table."""


@click.group(
    "cluster",
    cls=Group,
    examples=("pop3gw cluster migrate --config /etc/pop3gw.toml",),
)
def cluster() -> None:
    """Look after the database and the bucket of a cluster."""


@command(
    "migrate",
    "pop3gw cluster migrate --config /etc/pop3gw.toml",
    "pop3gw cluster migrate --database 'service=mail-owner'",
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

    Any number of gateways may run meanwhile, and this command too. It refuses
    a schema that is newer than this pop3gw.
    """
    try:
        from gateway.postgresql.database import Database
        from gateway.postgresql.migrate import VERSION
        from gateway.postgresql.migrate import migrate as apply
    except ImportError as error:
        raise ConfigError([f"needs {error.name}: pip install 'pop3gw[cluster]'"]) from None
    own = None if database else _settings(config)
    conninfo, password = (
        (database or "", "") if own is None else (own.database, own.database_password)
    )
    try:
        engine = Database(conninfo, password=password, timeout=LONGEST)
    except ValueError as error:
        raise ConfigError([f"{'store.database' if own else '--database'}: {error}"]) from None
    try:
        steps = [step.name for step in apply(engine)]
    finally:
        engine.close()
    done = f"applied {', '.join(steps)}" if steps else "nothing to do"
    terminal.say(f"schema version {VERSION}: {done}", version=VERSION, applied=steps)


def _settings(config: str | None) -> ClusterSettings:
    from gateway.config.load import load_settings
    from gateway.store.cluster.kind import ClusterSettings

    own = load_settings(config, os.environ).store
    if not isinstance(own, ClusterSettings):
        raise ConfigError(
            [f"store.kind: expected 'cluster', found {own.kind!r}; or use --database"]
        )
    return own


cluster.add_command(migrate)
