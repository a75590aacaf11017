"""``python -m bench page RESULT``: the figures of a run on docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from bench import report, workers
from bench.results import Run
from bench.servers import HERE

PAGE = HERE.parent / "docs" / "performance.md"

BEGIN = "<!-- Written by python -m bench page: do not edit below. -->"


def write(run: Run, page: Path = PAGE) -> None:
    """Replace what is below the mark.

    Raises ``ValueError`` if the machine was not quiet, or something was not measured.
    """
    missing = [f"{one.name} ({server})" for one in run.results for server in one.troubles]
    if run.noisy:
        raise ValueError(f"the machine was not quiet during {', '.join(run.noisy)}")
    if missing:
        raise ValueError(f"not measured: {', '.join(missing)}")
    above, mark, _ = page.read_text().partition(BEGIN)
    if not mark:
        raise ValueError(f"{page}: no line {BEGIN}")
    page.write_text(f"{above}{BEGIN}\n\n{text(run)}")


def text(run: Run) -> str:
    """The figures, with the machine, the versions and the command."""
    machine = [["machine", ""], *([name, one] for name, one in run.machine.items())]
    machine += [[name, one] for name, one in run.versions.items()]
    machine += [["commit", run.commit], ["measured", f"{run.when}, {run.seconds / 60:.0f} minutes"]]
    parts = [
        "## Machine",
        report.markdown(machine),
        f"```sh\n{' '.join(run.command)}\n```",
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
