"""``python -m bench page RESULT``: the figures of a run on docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.figures import report
from bench.figures.results import Run, merged
from bench.setup.servers import ROOT
from bench.work import workers

PAGE = ROOT / "docs" / "performance.md"

NOT_RUN = "<!-- not run: it takes as long as the table says -->"
"""For the tests of the manual."""

BEGIN = "<!-- Written by python -m bench page: do not edit below. -->"


def write(*runs: Run, page: Path = PAGE) -> None:
    """Replace what is below the mark; rows of later runs take the place of earlier ones.

    Raises ``ValueError`` if the machine was not quiet, or something was not measured, or the
    runs are of different commits, machines or servers.
    """
    run = merged(runs)
    missing = [f"{one.name} ({server})" for one in run.results for server in one.troubles]
    if run.noisy:
        raise ValueError(f"the machine was not quiet during {', '.join(run.noisy)}")
    if missing:
        raise ValueError(f"not measured: {', '.join(missing)}")
    above, mark, _ = page.read_text().partition(BEGIN)
    if not mark:
        raise ValueError(f"{page}: no line {BEGIN}")
    page.write_text(f"{above}{BEGIN}\n\n{text(run, [one.command for one in runs])}")


def text(run: Run, commands: Sequence[Sequence[str]]) -> str:
    """The figures, with the machine, the versions and the commands."""
    machine = [["machine", ""], *([name, one] for name, one in run.machine.items())]
    machine += [[name, one] for name, one in run.versions.items()]
    machine += [["commit", run.commit], ["measured", f"{run.when}, {run.seconds / 60:.0f} minutes"]]
    parts = [
        "## Machine",
        report.markdown(machine),
        "\n".join([NOT_RUN, "```sh", *map(" ".join, commands), "```"]),
        "## Cost beside Dovecot",
        report.markdown([line[:-1] for line in report.reached(run)]),
    ]
    if run.memory:
        head = [["memory of the gateway alone", "", "of"]]
        parts += ["## Memory", report.markdown([*head, *run.memory])]
    if run.workers:
        parts += ["## Worker processes", report.markdown(workers.lines(workers.read(run.workers)))]
    parts += ["## Speed", report.markdown(report.speed(run))]
    parts += [
        part for lines in report.more(run) for part in ("## System calls", report.markdown(lines))
    ]
    parts += ["## Rows", "\n".join(f"- `{one.name}`: {one.title}" for one in run.results)]
    return "\n\n".join(parts) + "\n"
