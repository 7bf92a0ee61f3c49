"""What users rely on: commands, options and Python names; `python -m tests.public` writes it.

A line that goes away, or changes, breaks somebody's script: do it knowingly, with a word in the
change log.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from attnsearch.search.cli import cli

LIST = Path(__file__).with_name("public.txt")
FACES = ("attnsearch", *(f"attnsearch.{name}" for name in ("search", "runs", "spaces", "blocks")))


def lines() -> list[str]:
    """Return the list, a line each."""
    return [*_commands(), *_names()]


def _commands() -> Iterator[str]:
    for command in (cli, *cli.commands.values()):
        called = "attnsearch" if command is cli else f"attnsearch {command.name}"
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        yield " ".join([called, *(argument.human_readable_name for argument in arguments)])
        for option in command.params:
            if isinstance(option, click.Option):
                yield f"{called} {'/'.join(sorted((*option.opts, *option.secondary_opts)))}"


def _names() -> Iterator[str]:
    for face in FACES:
        package = importlib.import_module(face)
        for name in package.__all__:
            value = getattr(package, name)
            yield f"{face}.{name}{_parameters(value)}"


def _parameters(value: object) -> str:
    """Return a function's parameters by name, those with a default marked; else nothing."""
    if not inspect.isfunction(value):
        return ""
    words, keyword = [], False
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            words.append("*")
            keyword = True
        optional = "" if parameter.default is parameter.empty else "="
        words.append(parameter.name + optional)
    return f"({', '.join(words)})"


if __name__ == "__main__":
    LIST.write_text("\n".join(lines()) + "\n", encoding="utf-8")
