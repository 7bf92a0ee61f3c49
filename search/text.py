"""Plain text for the terminal: tables, and numbers a person can read."""

import contextlib
import json
import re
import shlex
import shutil
import string
import sys
import textwrap
from collections.abc import Container, Iterable, Iterator, Sequence

from attnsearch.runs import words
from attnsearch.runs.words import plural as plural, quantity as quantity

_GAP = "  "
_NARROWEST_LAST_COLUMN = 24
_LONG_IN_TEXT = 24  # characters from which on a letter reads better
_LONG_NAME = 12  # characters from which on a short one stands for it where there is no room


def run_command(path: str, overrides: Sequence[str]) -> str:
    """Return the command that runs a space file with `KEY=VALUE` overrides, ready to paste."""
    options = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["attnsearch", "run", path, *options])


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Container[str] = (),
    indent: str = "",
    width: int | None = None,
) -> str:
    """Lay rows out in columns.

    Numbers are never cut. Where the lines are too wide, long names get a short one that is
    explained below the table, and then the last column stands below its line. Else it wraps.

    Args:
        headers: One per column; an empty sequence prints no header line.
        rows: The cells; `None` prints as a dash.
        right: The headers whose columns are aligned to the right (numbers).
        indent: Put before each line.
        width: The widest line in characters; by default the terminal's width, and no limit where
            the output is not a terminal.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    lines = [list(headers), *cells] if headers else cells
    if not lines:
        return ""
    if width is None:
        width = terminal_width()
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    if width is not None and headers and _least_width(widths, indent) > width:
        names = [
            index
            for index, header in enumerate(headers[:-1])
            if header not in right and widths[index] > _LONG_NAME
        ]
        if names:
            longest = max(names, key=lambda index: widths[index])
            short = _short_names(headers[longest], [row[longest] for row in cells])
            shorter = [
                [*row[:longest], short.get(row[longest], row[longest]), *row[longest + 1 :]]
                for row in cells
            ]
            explained = [
                textwrap.fill(
                    f"{mark}  {name}",
                    width,
                    initial_indent=indent,
                    subsequent_indent=indent + "    ",
                )
                for name, mark in short.items()
            ]
            laid = table(headers, shorter, right=right, indent=indent, width=width)
            return "\n".join([laid, *explained])
        return _in_two_lines(headers, cells, right=right, indent=indent, width=width)
    start = len(indent) + sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    last = widths[-1] if width is None else max(width - start, _NARROWEST_LAST_COLUMN)
    aligned_right = [bool(headers) and name in right for name in headers or widths]
    out = []
    for line in lines:
        head = [
            cell.rjust(size) if flush_right else cell.ljust(size)
            for cell, size, flush_right in zip(
                line[:-1], widths[:-1], aligned_right[:-1], strict=True
            )
        ]
        tail = textwrap.wrap(line[-1], last, break_on_hyphens=False) or [""]
        if aligned_right[-1]:
            tail = [part.rjust(min(widths[-1], last)) for part in tail]
        out.append((indent + _GAP.join([*head, tail[0]])).rstrip())
        out.extend(" " * start + part for part in tail[1:])
    return "\n".join(out)


def _least_width(widths: Sequence[int], indent: str) -> int:
    """Return how wide lines are at least whose last column wraps."""
    last = min(widths[-1], _NARROWEST_LAST_COLUMN)
    return len(indent) + sum(widths[:-1]) + len(_GAP) * (len(widths) - 1) + last


def _short_names(header: str, names: Sequence[str]) -> dict[str, str]:
    """Return short names, such as A1, for the long ones of a column."""
    long = dict.fromkeys(name for name in names if len(name) > _LONG_NAME)
    letters = "".join(word[0] for word in header.upper().split())
    return {name: f"{letters}{number}" for number, name in enumerate(long, 1)}


def _in_two_lines(
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    right: Container[str],
    indent: str,
    width: int,
) -> str:
    """Lay rows out with their last column below the others."""
    heads = [[*row[:-1], ""] for row in cells]
    lines = table(
        [*headers[:-1], ""], heads, right=right, indent=indent, width=sys.maxsize
    ).splitlines()
    out = [lines[0]]
    for line, row in zip(lines[1:], cells, strict=True):
        out.append(line)
        hanging = indent + "    "
        if row[-1]:
            out.append(
                textwrap.fill(
                    row[-1],
                    max(width, len(hanging) + 8),
                    initial_indent=hanging,
                    subsequent_indent=hanging,
                    break_on_hyphens=False,
                )
            )
    return "\n".join(out)


def render(room: str, template: str, /, **values: object) -> str:
    """Fill a template of words, `NAME.jinja` in a room of this folder.

    In it `table`, `paragraph`, `scalar` and `one_line` write as they do here; the rest is as in
    `words.render`.

    Args:
        room: The room, such as `terminal`.
        template: Its name without `.jinja`, such as `blocks.txt`.
        values: What it names; a name without a value is an error.
    """
    here = {word.__name__: word for word in (table, paragraph, scalar, one_line)}
    text = words.render(f"attnsearch.search.{room}", f"{template}.jinja", **here, **values)
    return text.rstrip("\n")


def paragraph(text: str, *, indent: str = "", hanging: str | None = None) -> str:
    """Wrap one paragraph to the terminal, at most 99 characters a line.

    Args:
        text: The words; line breaks in it are spaces.
        indent: Put before the first line.
        hanging: Put before the other lines; as `indent` by default.
    """
    return textwrap.fill(
        " ".join(text.split()),
        min(terminal_width() or 99, 99),
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )


def scalar(value: object) -> str:
    """Return a plain value as YAML writes it in a line; a text so that it is read as text."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(scalar, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    unquoted = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", value)
    reserved = value.lower() in ("true", "false", "null")
    return value if unquoted and not reserved else json.dumps(value, ensure_ascii=False)


def one_line(text: str) -> str:
    """Return a text for a comment, whatever a folder is called."""
    return "".join(char if char.isprintable() else "?" for char in text)


def terminal_width() -> int | None:
    """Return the terminal's width in characters, or `None` where standard output is none."""
    if not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().columns, 40)


class Letters:
    """Letters for long names, by their place in a list: more names at its end change none.

    A name that holds one before it is told by that: `capacity of A`, `A (layer4.ratio=0.25)`.

    Args:
        names: Those of a study's arms, in the order of its plans.
    """

    def __init__(self, names: Iterable[str]) -> None:
        own: list[str] = []
        for name in names:
            if len(name) > _LONG_IN_TEXT and not any(one in name for one in own):
                own.append(name)
        self._names = dict(zip(own, string.ascii_uppercase, strict=False))
        # Not within a longer word: `psa@layer2.conv1` is no part of `psa@layer2.conv10`.
        either = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<![\w@.*-])(?:{either})(?![\w@*\[-]|\.\w)")

    def __call__(self, text: str) -> str:
        """Return a text with letters for the names in it."""
        if not self._names:
            return text
        return self._pattern.sub(lambda match: self._names[match[0]], text)

    def legend(self, *texts: str, indent: str = "") -> str:
        """Return a line for each letter that stands in for a name in texts; empty without one."""
        used = {name for text in texts for name in self._pattern.findall(text)}
        return "\n".join(
            paragraph(f"{letter} is {name}", indent=indent, hanging=indent + "  ")
            for name, letter in self._names.items()
            if name in used
        )


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Say on a terminal what takes some seconds, while it does."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # a tenth of a second, which a pipe need not wait for

    with Console(stderr=True, highlight=False).status(f"{what} ..."):
        yield


def score(value: float | None) -> str:
    """Return a metric with four decimals, or a dash."""
    return "-" if value is None else f"{value:.4f}"
