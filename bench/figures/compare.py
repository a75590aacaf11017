"""``python -m bench compare A B``: two files of results, or two commits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures.report import LABELS, columns, spread
from bench.figures.results import Run
from bench.setup.servers import ROOT, Gateway


def table(first: Run, second: Run) -> str:
    """The gateway in two runs, and its ratio to the other server in each.

    Compare ratios: they were measured in one run, the figures themselves on machines that may
    differ.
    """
    head = ["row", "figure", "A", "B", f"A / {first.theirs}", f"B / {second.theirs}", "B / A"]
    lines = [head]
    before = {result.name: result for result in first.results}
    for now in second.results:
        then = before.get(now.name)
        if then is None:
            continue
        for figure in (name for name in LABELS if name in now.names and name in then.names):
            values = then.spread(first.ours, figure), now.spread(second.ours, figure)
            ratios = (
                then.ratio(first.ours, first.theirs, figure),
                now.ratio(second.ours, second.theirs, figure),
            )
            change = "-"
            if values[0] and values[1] and values[0].middle:
                change = f"{values[1].middle / values[0].middle:.3f}x"
            lines.append(
                [
                    *(now.name, LABELS[figure].format(unit=now.unit)),
                    *(spread(figure, one) for one in values),
                    *(spread("ratio", one) for one in ratios),
                    change,
                ]
            )
    machines = [f"{name}: {run.commit}, {run.when}" for name, run in (("A", first), ("B", second))]
    if first.machine != second.machine:
        machines.append(f"The machines differ: {first.machine} and {second.machine}")
    return "\n".join([columns(lines), "", *machines])


@contextmanager
def checked_out(commits: tuple[str, str], directory: Path) -> Iterator[list[type[Gateway]]]:
    """The gateway of each commit, from a worktree that is removed afterwards.

    Raises ``ValueError`` where there is no such commit.
    """
    with ExitStack() as stack:
        kinds = []
        for letter, commit in zip("AB", commits, strict=True):
            tree = directory / f"tree-{letter}"
            _git("worktree", "add", "--detach", str(tree), commit)
            stack.callback(_git, "worktree", "remove", "--force", str(tree))
            name = f"{letter} {_git('describe', '--always', commit)}"
            kinds.append(type(f"Gateway{letter}", (Gateway,), {"name": name, "source": tree}))
        yield kinds


def commit() -> str:
    """The commit of this tree, with a mark if it was changed since."""
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
