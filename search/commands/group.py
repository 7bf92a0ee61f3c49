"""How the command line reads and prints: help as written, names suggested, readers may hang up."""

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from attnsearch.search.exit import DONE, FAILED


class Verbatim(click.Command):
    """A command that prints its help as it is written: examples must not be wrapped like prose."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, indented."""
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")


class Commands(Verbatim, click.Group):
    """A group that lists commands in order of use, suggests names, and lets the reader hang up.

    `attnsearch schema | head -1` closes our output early. Whoever read it had enough: that is no
    error and prints none.
    """

    command_class = Verbatim

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a name that is none is answered with the nearest."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            from attnsearch.blocks.spelling import did_you_mean

            hint = did_you_mean(args[0], self.commands)
            ctx.fail(f"no command {args[0]!r}{hint or '; there are: ' + ', '.join(self.commands)}")
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the arguments; `--help` prints here."""
        with _reader_may_hang_up():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, print the text that it returns, and return the exit status.

        A command returns its exit status, or the text that it found, or the text and whether all
        went well.
        """
        with _reader_may_hang_up():
            answer = super().invoke(ctx)
            text, complete = answer if isinstance(answer, tuple) else (answer, True)
            if isinstance(text, str):
                click.echo(text)
                answer = DONE if complete else FAILED
            sys.stdout.flush()
            return answer


@contextlib.contextmanager
def _reader_may_hang_up() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _hang_up()
        raise click.exceptions.Exit(DONE) from None


def _hang_up() -> None:
    """Send what is still buffered nowhere, or the interpreter complains when it exits."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
