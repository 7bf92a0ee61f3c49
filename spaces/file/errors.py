"""What is wrong with a space file: every problem with its place, all of them in one error."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from attnsearch.blocks.errors import AttnsearchError

#: The keys and list positions that lead from the top of a file to a value.
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Position:
    """Where something stands: a file with line and column from 1, or without them.

    An override has none, nor has a space that is in no file.
    """

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def overriding(self) -> bool:
        """Whether it is an override."""
        return self.file.startswith("--set ")

    def problem(self, key: str, message: str) -> "Problem":
        """Return a mistake that stands here."""
        return Problem(self.file, self.line, self.column, key, message)


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        file: The space file as it was named, or `--set KEY=VALUE`.
        line: Line in the file from 1; None for an override.
        column: Column in the line from 1; None for an override.
        key: The dotted key that is wrong, empty for the file as a whole.
        message: What was found, what is allowed, and what to do.
    """

    file: str
    line: int | None
    column: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = Position(self.file, self.line, self.column)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SpaceError(AttnsearchError):
    """A space file cannot be used.

    `problems` holds every mistake, in the order of the file; `str()` prints one a line, at most
    a hundred.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.line or 0, p.column or 0, p.key))
        lines = [str(problem) for problem in self.problems[:100]]
        if len(self.problems) > 100:
            lines.append(f"and {len(self.problems) - 100:,} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type["SpaceError"], tuple[list[Problem]]]:
        return SpaceError, (self.problems,)


class DecisionError(AttnsearchError, ValueError):
    """Values for a space's decisions are missing, unknown or out of range."""


class Problems:
    """Collects problems and turns paths into places.

    A value that is already known to be wrong is not reported again by a later check.

    Attributes:
        warnings: What is suspicious but not wrong, with its place.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[KeyPath, Position] = {}
        self.values: dict[KeyPath, Position] = {}
        self._problems: dict[Problem, None] = {}
        self._wrong: set[KeyPath] = set()
        self.warnings: list[str] = []

    def add(self, path: Sequence[str | int], message: str, *, at_key: bool = False) -> None:
        """Record a problem of the value at a path, or of the key itself."""
        where = tuple(path)
        if any(where[:length] in self._wrong for length in range(len(where) + 1)):
            return
        self._wrong.add(where)
        self.add_at(self.place(where, at_key=at_key), dotted(where), message)

    def add_at(self, place: Position, key: str, message: str) -> None:
        """Record a problem at a known place."""
        self._problems[place.problem(key, message)] = None

    def warn(self, path: KeyPath, message: str) -> None:
        """Record a warning about the value at a path."""
        self.warnings.append(f"{self.place(path)}: {dotted(path)}: {message}")

    @contextmanager
    def errors_at(self, path: KeyPath) -> Iterator[None]:
        """Record an error of ours that is raised inside as a problem of the value at a path."""
        try:
            yield
        except AttnsearchError as error:
            self.add(path, str(error))

    def place(self, path: Sequence[str | int], *, at_key: bool = False) -> Position:
        """Return the place of a path, or of the nearest thing around it that stands somewhere."""
        where = tuple(path)
        tables = (self.keys, self.values) if at_key else (self.values, self.keys)
        while where and not any(where in table for table in tables):
            where, tables = where[:-1], (self.keys, self.values)
        places = (table[where] for table in tables if where in table)
        return next(places, Position(self.file, 1, 1))

    def wrong(self, path: Sequence[str | int]) -> bool:
        """Return whether a problem was found at this path, below it, or with what it stands in."""
        where = tuple(path)
        above = any(where[:length] in self._wrong for length in range(len(where)))
        return above or any(wrong[: len(where)] == where for wrong in self._wrong)

    def forgive(self, path: Sequence[str | int]) -> None:
        """Drop what was found wrong at a path and below: something else stands there now."""
        where, key = tuple(path), dotted(path)
        self._wrong = {wrong for wrong in self._wrong if wrong[: len(where)] != where}
        self._problems = {
            problem: None
            for problem in self._problems
            if problem.key != key and not problem.key.startswith(f"{key}.")
        }

    def no_lines(self) -> None:
        """Forget lines and columns: nobody has the text that they are of."""
        self.keys = dict.fromkeys(self.keys, Position(self.file))
        self.values = dict.fromkeys(self.values, Position(self.file))
        problems = (replace(problem, line=None, column=None) for problem in self._problems)
        self._problems = dict.fromkeys(problems)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as `insert.0.block`, the form that `--set` takes."""
    return ".".join(str(part) for part in path)
