"""The running server itself: status, certificates, the last hour, figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from gateway.cli.command import CONFIG, Exit, command
from gateway.cli.moments import day_of, time_or
from gateway.cli.pages import watched
from gateway.cli.server_parts import Ask, with_server
from gateway.cli.terminal import Terminal, View, described
from gateway.units import counted, rounded_size, rounded_time, time_text

if TYPE_CHECKING:
    from gateway.operations.server.certificates import CertificateRow
    from gateway.operations.server.figures import Minute
    from gateway.operations.server.readiness import Readiness
    from gateway.operations.server.status import Status


# -- status ----------------------------------------------------------------------


@command(
    "status",
    "pop3gw status --config /etc/pop3gw.toml",
    "pop3gw status --config /etc/pop3gw.toml --watch 5",
    does="status.show_status readiness.readiness",
)
@CONFIG
@click.option(
    "--watch",
    type=click.FloatRange(0.5, 3600),
    metavar="SECONDS",
    help="Show it again every SECONDS, until Ctrl-C.",
)
def status(terminal: Terminal, config: str | None, watch: float | None) -> Exit:
    """Show whether the server is ready, its processes, listeners and open sessions.

    The exit code is 1 if it cannot serve clients. 'pop3gw health' asks its listeners
    as clients do.
    """
    return watched(terminal, watch, lambda: with_server(config, lambda ask: _status(terminal, ask)))


async def _status(terminal: Terminal, ask: Ask) -> Exit:
    from gateway.operations.server.readiness import readiness
    from gateway.operations.server.status import show_status

    found, ready = await ask(show_status), await ask(readiness)
    terminal.fields(_fields(found, ready), **described(found, "since"), **asdict(ready))
    return Exit.DONE if ready.ready else Exit.FAILED


def _fields(one: Status, ready: Readiness) -> dict[str, object]:
    notes = [f"{check.name}: {check.reason}" for check in ready.checks if check.state != "ok"]
    sessions = ", ".join(f"{each.sessions:,} {each.protocol}" for each in one.sessions)
    serving = sum(each.role != "parent" for each in one.processes)
    missing = f", of {one.workers} workers {serving} answer" if one.workers > serving else ""
    return {
        "Ready": "yes" if ready.ready else "no",
        **({"Problems": notes} if notes else {}),
        "Version": one.version,
        "Since": f"{time_text(one.since)}, {rounded_time(one.uptime)}",
        "Processes": [
            f"{each.role} {each.pid}, {counted(each.sessions, 'session')}" for each in one.processes
        ],
        **({"Missing": missing[2:]} if missing else {}),
        "Listeners": [f"{each.name} at {each.address}, TLS {each.tls}" for each in one.listeners],
        "Sessions": sessions or "none",
    }


# -- certificates ----------------------------------------------------------------


@command(
    "certificates",
    "pop3gw certificates --config /etc/pop3gw.toml",
    "pop3gw certificates --config /etc/pop3gw.toml --json",
    does="certificates.list_certificates",
)
@CONFIG
def certificates(terminal: Terminal, config: str | None) -> Exit:
    """List the certificates in use, the first to expire first.

    The exit code is 1 if one has expired or cannot be used.
    """
    from gateway.operations.server.certificates import list_certificates

    async def work(ask: Ask) -> Exit:
        found = (await ask(list_certificates)).certificates
        terminal.show(CERTIFICATES, found)
        if not found:
            terminal.say("no listener has a certificate: all have tls = none")
        bad = [one for one in found if one.problems or (one.days_left or 0.0) < 0]
        return Exit.FAILED if bad else Exit.DONE

    return with_server(config, work)


def _days(one: CertificateRow) -> str:
    if one.days_left is None:
        return "?"
    return "expired" if one.days_left < 0 else f"{one.days_left:.0f} d"


CERTIFICATES: View[CertificateRow] = View(
    ("Names", "Expires", "Left", "Listeners", "Problem"),
    lambda one: (
        ", ".join(one.names) or one.path,
        day_of(one.not_after, "unknown"),
        _days(one),
        ", ".join(one.listeners),
        "; ".join(one.problems),
    ),
    lambda one: (
        f"{one.path}: {', '.join(one.names) or '(no names)'};"
        f" expires {time_or(one.not_after, 'unknown')}, {_days(one)};"
        f" by {one.issuer or 'unknown'}; used by {', '.join(one.listeners) or 'none'}"
        + "".join(f"; {problem}" for problem in one.problems)
    ),
    lambda one: described(one, "not_before", "not_after"),
    numbers=("Left",),
)


# -- figures ----------------------------------------------------------------------


@command(
    "history",
    "pop3gw history --config /etc/pop3gw.toml",
    "pop3gw history --config /etc/pop3gw.toml --json",
    does="figures.history",
)
@CONFIG
def history(terminal: Terminal, config: str | None) -> Exit:
    """Show logins, failed logins, deliveries and refusals of the last hour, by minute."""
    from gateway.operations.server.figures import history as operation

    async def work(ask: Ask) -> Exit:
        terminal.show(MINUTES, await ask(operation))
        return Exit.DONE

    return with_server(config, work)


def _failed(one: Minute) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(one.failed.items()))


def _minute(one: Minute) -> dict[str, Any]:
    return described(one, "began") | {"failed": dict(one.failed)}


MINUTES: View[Minute] = View(
    ("Minute", "Logins", "Failed", "Delivered", "Refused", "Sent"),
    lambda one: (
        time_text(one.began)[11:16],
        f"{one.logins:,}",
        f"{sum(one.failed.values()):,}",
        f"{one.deliveries:,}",
        f"{one.refusals:,}",
        rounded_size(one.retrieved_octets),
    ),
    lambda one: (
        f"{time_text(one.began)}: {one.logins} logins,"
        f" {sum(one.failed.values())} failed{f' ({_failed(one)})' if one.failed else ''},"
        f" {one.deliveries} delivered, {one.refusals} refused, {one.retrieved_octets} octets sent"
    ),
    _minute,
    numbers=("Logins", "Failed", "Delivered", "Refused", "Sent"),
)


@command(
    "metrics",
    "pop3gw metrics --config /etc/pop3gw.toml",
    "pop3gw metrics --config /etc/pop3gw.toml > /var/lib/node_exporter/pop3gw.prom",
    does="figures.metrics",
)
@CONFIG
def metrics(terminal: Terminal, config: str | None) -> Exit:
    """Print all figures in the text format of Prometheus, summed over processes."""
    from gateway.operations.server.figures import metrics as operation

    async def work(ask: Ask) -> Exit:
        text = (await ask(operation)).octets.decode()
        if terminal.as_json:
            terminal.say("", text=text)
        else:
            terminal.write(text)
        return Exit.DONE

    return with_server(config, work)
