"""``pop3gw cluster verify``: the verification, and how it shows what it finds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from gateway.app.parts.rows import made
from gateway.cli.command import Exit
from gateway.cli.server_parts import in_reactor
from gateway.cli.terminal import Terminal, View
from gateway.config.settings import Settings
from gateway.jobs.thread_pool import ThreadPool
from gateway.store.cluster.kind import ClusterSettings, make_blobs, make_database
from gateway.store.cluster.problems import Problem, Summary
from gateway.store.cluster.verify import Repair, Verification
from gateway.units import counted, time_text

ATTEMPTS = 7
"""At each request to S3, within some six seconds: a run of hours outlasts a restart of S3."""


def verify(
    terminal: Terminal, settings: Settings, own: ClusterSettings, *, repair: bool, most: bool
) -> Exit:
    """Verify the cluster of these settings, and print what does not fit."""
    operator = f"uid {os.geteuid()}"
    mend = Repair(own.audit_days > 0, operator, most) if repair else None
    rows = terminal.rows(PROBLEMS)
    # They are closed when the reactor has ended, by a signal perhaps.
    with ExitStack() as running:

        async def run(reactor: Any) -> Summary:
            pool = ThreadPool(reactor, "verify", threads=1, queue=100)
            running.callback(pool.stop)
            database = make_database(own)
            running.callback(database.close)
            blobs = made(
                "store", lambda: make_blobs(own, reactor, settings.path_of, attempts=ATTEMPTS)
            )
            verification = Verification(
                database,
                blobs,
                pool.run,
                rows.add,
                repair=mend,
                progress=terminal.progress,
            )
            return await verification.verify()

        try:
            summary = in_reactor(run)
        finally:
            terminal.progress(1, 1)
            rows.end()
    return _conclude(terminal, summary, repair=repair)


def _conclude(terminal: Terminal, summary: Summary, *, repair: bool) -> Exit:
    problems, mended = summary.problems, summary.mended
    seen = (
        counted(summary.mailboxes, "mailbox", "mailboxes"),
        counted(summary.messages, "message"),
        counted(summary.bodies, "body", "bodies"),
    )
    result = f"{counted(problems, 'problem')}, {mended:,} mended" if problems else "no problems"
    if not terminal.as_json:
        for kind, number in sorted(summary.found.items()):
            span = summary.spans.get(kind)
            when = f", from {time_text(span.first)} to {time_text(span.last)}" if span else ""
            terminal.say(f"{kind}: {number:,}{when}")
        if summary.young:
            young = counted(summary.young, "body", "bodies")
            terminal.say(
                f"not compared: {young} without a message, less than an hour old, since a delivery"
                f" may be under way; verify again after {time_text(summary.settled)}"
            )
    terminal.say(
        f"{', '.join(seen)}: {result}",
        mailboxes=summary.mailboxes,
        messages=summary.messages,
        bodies=summary.bodies,
        young=summary.young,
        problems=problems,
        mended=mended,
    )
    for line in summary.refused:
        terminal.complain(line)
    if problems == mended:
        return Exit.DONE
    return Exit.PARTLY if repair else Exit.FAILED


def _what(one: Problem) -> str:
    named = {"uid": one.uid, "body": one.body, "made": _made(one), "message_id": one.message_id}
    fields = " ".join(f"{key}={value}" for key, value in named.items() if value)
    return " ".join(filter(None, (one.mailbox, fields)))


def _made(one: Problem) -> str:
    return "" if one.made is None else time_text(one.made)


def _line(one: Problem) -> str:
    mended = "; mended" if one.mended else ""
    note = f"; {one.note}" if one.note else ""
    return f"{one.kind}: {_what(one)}{note}{mended}"


def _cells(one: Problem) -> tuple[str, ...]:
    state = "mended" if one.mended else one.note
    return one.kind, one.mailbox, one.uid, one.body, _made(one), one.message_id, state


def _described(one: Problem) -> Mapping[str, Any]:
    return {
        "problem": one.kind,
        "mailbox": one.mailbox or None,
        "uid": one.uid or None,
        "body": one.body or None,
        "made": _made(one) or None,
        "message_id": one.message_id or None,
        "mended": one.mended,
        "note": one.note or None,
    }


PROBLEMS = View[Problem](
    ("Problem", "Mailbox", "UID", "Body", "Made", "Message-ID", "State"), _cells, _line, _described
)
