"""What every command has: examples, ``--json``, errors without tracebacks, exit codes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import IO, Any

import click

from gateway.cli.terminal import Terminal
from gateway.errors import ConfigError, GatewayError, TookTooLong


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    INTERRUPTED = 130


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "Done.",
    Exit.FAILED: "Not done; standard error says why and what to do. For check-config: the"
    " configuration has faults. For cluster verify: there are problems.",
    Exit.USAGE: "Wrong usage: an unknown command or option, or a missing argument.",
    Exit.PARTLY: "Done in part; standard error names each mailbox that failed, or the result says"
    " how much was done.",
    Exit.INTERRUPTED: "Interrupted by SIGINT (Ctrl-C). A step that was begun is finished first; a"
    " second SIGINT ends the command at once.",
}
"""The table of exit codes: in the manual page, and in docs/operations.md."""

_CURES: Mapping[int | None, str] = {
    errno.EACCES: "run this as the owner of the file, or as root",
    errno.EPERM: "run this as the owner of the file, or as root",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EROFS: "mount its disk so that it can be written",
}

CONFIG = click.option(
    "--config",
    "-c",
    metavar="FILE",
    type=click.Path(),
    help="Configuration of the server. Default: $POP3GW_CONFIG, else the environment alone.",
)


class _UsageAsJson(click.UsageError):
    """Wrong usage of a command that prints JSON."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as ``Terminal.complain`` prints an error."""
        click.echo(json.dumps({"error": self.format_message()}), file=file, err=True)


def _shown(error: click.UsageError, *, as_json: bool) -> click.UsageError:
    return _UsageAsJson(error.format_message(), error.ctx) if as_json else error


class _WithExamples(click.Command):
    """Examples at the end of the help, each on a line of its own."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = tuple(examples)

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **rest: Any) -> Any:
        """Read the arguments; the option --json may be one that is not read any more."""
        as_json = "--json" in args
        try:
            return super().make_context(info_name, args, *more, **rest)
        except click.UsageError as error:
            raise _shown(error, as_json=as_json) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section of the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        super().format_epilog(ctx, formatter)


class Command(_WithExamples):
    """A command that prints through a ``Terminal``, its first argument, and returns an ``Exit``.

    None stands for ``Exit.DONE``.
    """

    def __init__(self, *arguments: Any, does: str = "", **options: Any) -> None:
        """``does``: the operations that it asks a server for, as ``MODULE.FUNCTION``."""
        super().__init__(*arguments, **options)
        self.does = tuple(does.split())
        text = "Print JSON: one object a line."
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help=text))

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; turn its errors into lines and an exit code."""
        as_json = ctx.params.pop("as_json")
        can_wait = "timeout" in ctx.params
        ctx.obj = terminal = Terminal(as_json=as_json, name=ctx.command_path)
        try:
            code = super().invoke(ctx)
        except BrokenPipeError:
            # The reader has enough, as head(1) has; click ends quietly.
            raise
        except click.UsageError as error:
            raise _shown(error, as_json=as_json) from None
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except TookTooLong as error:
            terminal.complain(f"{error}{', or wait longer with --timeout' if can_wait else ''}")
            code = Exit.FAILED
        except (GatewayError, OSError, ValueError) as error:
            for line in _lines(error):
                terminal.complain(line)
            code = Exit.FAILED
        ctx.exit(code or Exit.DONE)


class Group(_WithExamples, click.Group):
    """Commands under one name."""

    command_class = Command

    def __init__(self, *arguments: Any, default: str = "", **options: Any) -> None:
        """``default``: the command that is meant where none is named; empty: none is."""
        super().__init__(*arguments, no_args_is_help=not default, **options)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name the default command, where only its options are there."""
        first = args[0] if args else ""
        if self.default and not ctx.resilient_parsing:
            if not first or (first.startswith("-") and first not in ctx.help_option_names):
                args = [self.default, *args]
        elif first in ("-c", "--config", "--json"):
            names = ", ".join(self.list_commands(ctx))
            ctx.fail(f"expected a command before {first}: {names}")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that the arguments name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise _shown(error, as_json="--json" in args) from None


def command(name: str, *examples: str, does: str = "") -> Callable[[Callable[..., Any]], Command]:
    """Make a ``Command`` of a function; its docstring is the help.  ``does`` as in ``Command``."""

    def make(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command, examples=examples, does=does)
        return made(click.pass_obj(function))

    return make


def _lines(error: Exception) -> list[str]:
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, OSError) and error.filename:
        cure = _CURES.get(error.errno)
        return [f"{error.filename}: {error.strerror}" + (f"; {cure}" if cure else "")]
    return [str(error)]
