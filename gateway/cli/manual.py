"""The manual page pop3gw(1), made of the help of all commands by ``scripts/make-manual``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

import gateway
from gateway.cli.command import MEANINGS, Command, Group
from gateway.cli.main import NAME, pop3gw

_ENVIRONMENT = {
    "POP3GW_CONFIG": "The configuration file, where --config names none.",
    "POP3GW_SECTION__KEY": "Sets KEY of [SECTION], for the server and for commands alike.",
    "NO_COLOR, COLUMNS": "Tables without colours; their width.",
}
_FILES = {
    "/etc/pop3gw.toml": "The configuration of a server that the README installs. No command reads"
    " it unless it is named.",
    "STATE_DIR/ledger.sqlite3": "What the server remembers beside the mail; 'retention run' and"
    " 'retention release' leave their orders here.",
}


def manual() -> str:
    """The page, for man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield r".\" Made by scripts/make-manual from the help of the commands."
    yield f'.TH POP3GW 1 "" "pop3gw {gateway.__version__}" "pop3gw"'
    ctx = click.Context(pop3gw, info_name=NAME, **pop3gw.context_settings)
    summary, *description = _paragraphs(pop3gw)
    yield from (".SH NAME", f"pop3gw \\- {_text(summary.rstrip('.').lower())}")
    yield from (".SH SYNOPSIS", *_usage(ctx))
    yield ".SH DESCRIPTION"
    for paragraph in description:
        yield from (".PP", _text(paragraph))
    yield ".SH OPTIONS"
    yield from _options(ctx)
    yield ".SH COMMANDS"
    yield from _commands(ctx)
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield from _item(str(int(code)), meaning)
    for heading, items in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {heading}"
        for name, text in items.items():
            yield from _item(name, text)
    yield from (".SH SEE ALSO", ".BR twistd (1),", ".BR doveadm (1),", ".BR postconf (1)")


def _commands(ctx: click.Context) -> Iterator[str]:
    """A subsection for each command, those of a group behind it."""
    assert isinstance(ctx.command, Group)
    for name in ctx.command.list_commands(ctx):
        inner = ctx.command.commands[name]
        below = click.Context(inner, info_name=name, parent=ctx)
        if isinstance(inner, Group):
            yield from _commands(below)
        elif isinstance(inner, Command):
            yield f'.SS "{_text(below.command_path)}"'
            yield from _usage(below)
            for paragraph in _paragraphs(inner):
                yield from (".PP", _text(paragraph))
            yield from _options(below)
            yield from (".PP", "Examples:", ".PP", ".RS 4", ".nf")
            yield from map(_text, inner.examples)
            yield from (".fi", ".RE")


def _usage(ctx: click.Context) -> Iterator[str]:
    yield f".B {_text(ctx.command_path)}"
    yield _text(" ".join(ctx.command.collect_usage_pieces(ctx)))


def _options(ctx: click.Context) -> Iterator[str]:
    for option in ctx.command.get_params(ctx):
        # --help, which every command has, is at the top.
        if isinstance(option, click.Option) and (option.expose_value or ctx.parent is None):
            record = option.get_help_record(ctx)
            yield from _item(*record) if record else ()


def _paragraphs(command: click.Command) -> list[str]:
    text = inspect.cleandoc(command.help or "")
    return [" ".join(one.split()) for one in text.split("\n\n")]


def _item(name: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_text(name)}", _text(text))


def _text(text: str) -> str:
    """Text as roff has it: a hyphen that is typed is ``\\-``, and no line begins with a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
