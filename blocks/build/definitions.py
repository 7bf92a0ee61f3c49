"""The definitions that some classes rest on, gathered from their modules into one text.

What is written is the source as it stands, so that it computes the same to the last bit, without
the imports of this package: a name from another module of ours is written out too. Modules come in
the order in which they import each other, each under its docstring, which names paper and formula.
Left out are checks of arguments, and of a dataclass the methods that nothing asks for.
"""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Collection, Iterator
from functools import cached_property
from itertools import takewhile
from typing import Any, cast

from attnsearch.blocks.errors import BlockError

OURS = "attnsearch"
Place = tuple[str, str]  # a module, and a name that is defined in it
Import = tuple[str, str | None]  # a module, and what of it is imported; None for itself
ALWAYS: dict[str, Import] = {
    "torch": ("torch", None),
    "nn": ("torch", "nn"),
    "Tensor": ("torch", "Tensor"),
    "load_file": ("safetensors.torch", "load_file"),
}
"""What the functions around the definitions import."""


class _Module:
    """A module's source, and where its names come from."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            source = inspect.getsource(importlib.import_module(name))
        except (OSError, TypeError) as error:
            raise BlockError(f"module {name} has no source that could be written out") from error
        self.lines = source.splitlines()
        self.tree = ast.parse(source)
        self.statements: dict[str, ast.stmt] = {}
        self.imports: dict[str, Import] = {}
        for statement in self.tree.body:
            self._read(statement)

    @cached_property
    def docs(self) -> str:
        """Its docstring."""
        return ast.get_docstring(self.tree) or ""

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            self.statements[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            made = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            nodes = [node for target in made for node in ast.walk(target)]
            names = [node.id for node in nodes if isinstance(node, ast.Name)]
            self.statements |= dict.fromkeys(names, statement)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                self.imports[alias.asname or top] = (alias.name if alias.asname else top, None)
        elif isinstance(statement, ast.ImportFrom):
            package = self.name if _is_package(self.name) else self.name.rpartition(".")[0]
            dots = "." * statement.level + (statement.module or "")
            source = importlib.util.resolve_name(dots, package)
            for alias in statement.names:
                self.imports[alias.asname or alias.name] = (source, alias.name)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            for inner in statement.body:  # a face says there where its names come from
                self._read(inner)


class Definitions:
    """What has to be written out for some classes.

    Args:
        others: Top-level modules beside our own whose code is written out, as those of a user's
            blocks.
    """

    def __init__(self, others: frozenset[str] = frozenset()) -> None:
        self._tops = others | {OURS}
        self._modules: dict[str, _Module] = {}
        self._wanted: dict[Place, None] = {}

    def want(self, thing: Any) -> str:
        """Have a class or a function written out; return its name, see `name`.

        Raises:
            BlockError: It is not defined at the top of a module.
        """
        place = self._find(thing.__module__, thing.__name__)
        if not isinstance(place, tuple) or thing.__qualname__ != thing.__name__:
            raise BlockError(
                f"{thing.__module__}:{thing.__qualname__} cannot be written out: it is no plain "
                f"definition at the top of its module"
            )
        self._wanted[place] = None
        return str(thing.__name__)

    def text(self) -> tuple[str, str]:
        """Return the imports of other packages, and the definitions.

        Raises:
            BlockError: Something cannot be written out; the message says what.
        """
        needed, attributes = self._needed()
        names = _distinct(needed)
        if shared := [place[1] for place in self._wanted if names[place] != place[1]]:
            raise BlockError(f"two classes are called {' and '.join(shared)}; rename one")
        foreign = dict(ALWAYS)
        parts = []
        for module in self._in_order({module for module, _ in needed}):
            held = self._modules[module]
            own = {name for place, name in needed if place == module}
            statements = [s for s in held.tree.body if self._defined(held, s) & own]
            written = []
            for statement in statements:
                away = self._pruned(held, statement, attributes)
                text = _source(held, statement, away)
                for used, noted in _names(statement, away):
                    text = self._renamed(held, used, noted, names, foreign, text)
                for name in self._defined(held, statement):
                    text = _replace(text, name, names.get((module, name), name))
                written.append(text)
            docs = "\n".join(f"# {line}".rstrip() for line in held.docs.splitlines())
            parts.append("\n\n\n".join([docs, *written]))
        return _imports(foreign), "\n\n\n".join(parts)

    def _renamed(
        self,
        held: _Module,
        used: str,
        noted: bool,
        names: dict[Place, str],
        foreign: dict[str, Import],
        text: str,
    ) -> str:
        """Return a definition's text with a name that it uses as it is called in the file."""
        first, _, rest = used.partition(".")
        place = self._find(held.name, first)
        if isinstance(place, str):  # a module of ours: its name before a dot falls away
            inner = self._find(place, rest.partition(".")[0])
            return _replace(text, used, names.get(cast(Place, inner), "object"))
        if place is not None:
            shown = names.get(place, "object" if noted else place[1])
            return _replace(text, first, shown)
        if first in held.imports:
            dotted = ".".join(filter(None, held.imports[first]))
            if ".".join(filter(None, foreign.setdefault(first, held.imports[first]))) != dotted:
                raise BlockError(f"{held.name}: {first} is another module there than elsewhere")
        return text

    def _needed(self) -> tuple[dict[Place, None], set[str]]:
        """Return all that is written, and the attributes that are asked for in it."""
        attributes: set[str] = set()
        while True:
            needed: dict[Place, None] = {}
            asked: set[str] = set()
            left = [*self._wanted]
            while left:
                place = left.pop()
                if place in needed:
                    continue
                needed[place] = None
                held = self._module(place[0])
                statement = held.statements[place[1]]
                away = self._pruned(held, statement, attributes)
                asked |= {n.attr for n in _walk(statement, away) if isinstance(n, ast.Attribute)}
                for used, noted in _names(statement, away):
                    left += self._rests_on(held, used, noted)
            if asked == attributes:
                return needed, attributes
            attributes = asked

    def _rests_on(self, held: _Module, used: str, noted: bool) -> Iterator[Place]:
        first, _, rest = used.partition(".")
        place = self._find(held.name, first)
        if isinstance(place, str):
            place = self._find(place, rest.partition(".")[0]) if rest else None
            if not isinstance(place, tuple):
                raise BlockError(f"{held.name}: {used} cannot be written out")
        if place is None:
            return
        kind = self._module(place[0]).statements[place[1]]
        # In annotations other classes are mentioned that nothing makes.
        if not noted or isinstance(kind, ast.Assign):
            yield place

    def _find(self, module: str, name: str) -> Place | str | None:
        """Return where a name of ours is defined, or the module of ours that it is; else None."""
        held = self._module(module)
        if name in held.statements:
            return module, name
        if name not in held.imports:
            return None
        source, attribute = held.imports[name]
        if source.partition(".")[0] not in self._tops:
            return None
        if attribute is None:
            return source
        if attribute == "*":
            raise BlockError(f"{module}: imports * from {source} and cannot be written out")
        if attribute not in self._module(source).statements and _exists(f"{source}.{attribute}"):
            return f"{source}.{attribute}"
        return self._find(source, attribute)

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            self._modules[name] = _Module(name)
        return self._modules[name]

    def _pruned(self, held: _Module, statement: ast.stmt, attributes: set[str]) -> set[ast.stmt]:
        """Return what is left out of a definition of ours.

        Checks of arguments, which these arguments have passed, and those methods of a plain
        dataclass that nothing asks for.
        """
        if not held.name.startswith(f"{OURS}."):
            return set()
        away = {node for node in ast.walk(statement) if _is_check(node)}
        away |= {gone for node in ast.walk(statement) for gone in _refusal(node)}
        module = importlib.import_module(held.name)
        if isinstance(statement, ast.ClassDef) and dataclasses.is_dataclass(
            getattr(module, statement.name)
        ):
            away |= {
                member
                for member in statement.body
                if isinstance(member, ast.FunctionDef)
                and not member.name.startswith("__")
                and member.name not in attributes
            }
        for node in ast.walk(statement):
            body = getattr(node, "body", None)
            if isinstance(body, list) and node not in away and {*body} <= away:
                away -= {*ast.walk(body[-1])}  # something has to be left
        return cast(set[ast.stmt], away)

    def _defined(self, held: _Module, statement: ast.stmt) -> set[str]:
        return {name for name, other in held.statements.items() if other is statement}

    def _in_order(self, modules: set[str]) -> list[str]:
        """Return modules so that each comes after those that it imports."""
        done: dict[str, None] = {}
        seen: set[str] = set()

        def visit(module: str) -> None:
            if module in seen:
                return
            seen.add(module)
            held = self._module(module)
            for name in held.imports:
                place = self._find(module, name)
                if place is not None:
                    visit(place if isinstance(place, str) else place[0])
            if module in modules:
                done[module] = None

        for module in sorted(modules):
            visit(module)
        return [*done]


def _names(statement: ast.stmt, away: Collection[ast.stmt] = ()) -> list[tuple[str, bool]]:
    """Return the names that a definition uses, dotted ones whole, and whether only to annotate."""
    notes = {
        id(inner)
        for node in _walk(statement, away)
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(note, ast.AST)
        for inner in ast.walk(note)
    }
    used: dict[str, bool] = {}
    dotted = {
        id(node.value): f"{node.value.id}.{node.attr}"
        for node in _walk(statement, away)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    for node in _walk(statement, away):
        if isinstance(node, ast.Import | ast.ImportFrom) and OURS in ast.unparse(node):
            raise BlockError(f"{ast.unparse(node)}, inside of a function, cannot be written out")
        if isinstance(node, ast.Name):
            name = dotted.get(id(node), node.id)
            used[name] = used.get(name, True) and id(node) in notes
    return [*used.items()]


def _is_check(node: ast.AST) -> bool:
    """Return whether a statement can do nothing but refuse."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func).startswith("checks.")
    if isinstance(node, ast.If) and not node.orelse:
        return isinstance(node.body[-1], ast.Raise) or all(map(_is_check, node.body))
    return isinstance(node, ast.For) and not node.orelse and all(map(_is_check, node.body))


def _refusal(node: ast.AST) -> list[ast.stmt]:
    """Return the end of a function that does nothing but refuse: a raise and its words."""
    if not isinstance(node, ast.FunctionDef) or not isinstance(node.body[-1], ast.Raise):
        return []
    plain = takewhile(lambda part: isinstance(part, ast.Assign), reversed(node.body[:-1]))
    return [node.body[-1], *plain]


def _walk(statement: ast.stmt, away: Collection[ast.AST]) -> Iterator[ast.AST]:
    left: list[ast.AST] = [statement]
    while left:
        node = left.pop()
        if node not in away:
            yield node
            left += ast.iter_child_nodes(node)


def _source(held: _Module, statement: ast.stmt, away: set[ast.stmt]) -> str:
    """Return the lines of a definition, with comments before and a docstring after it."""
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(node.lineno for node in decorators)])
    while first > 1 and held.lines[first - 2].startswith("#"):
        first -= 1
    last = statement.end_lineno or first
    after = held.tree.body[held.tree.body.index(statement) + 1 :][:1]
    if (
        isinstance(statement, ast.Assign | ast.AnnAssign)
        and after
        and isinstance(after[0], ast.Expr)
        and isinstance(after[0].value, ast.Constant)
    ):
        last = after[0].end_lineno or last
    gone: set[int] = set()
    for member in away:
        lines = [member.lineno, *(node.lineno for node in getattr(member, "decorator_list", []))]
        start, end = min(lines), member.end_lineno or member.lineno
        gone |= {*range(start, end + 1)}
        method = isinstance(member, ast.FunctionDef)
        if method and end < len(held.lines) and not held.lines[end].strip():
            gone.add(end + 1)
    kept = [held.lines[n - 1] for n in range(first, last + 1) if n not in gone]
    # What is refused is left out, and so is what is said of it.
    return re.sub(r"\n\n( +)Raises:(?:\n\1 +[^\n]*)+", "" if away else r"\g<0>", "\n".join(kept))


def _distinct(places: dict[Place, None]) -> dict[Place, str]:
    """Return a name of its own for each definition, with its module's where another has it."""
    names: dict[Place, str] = {}
    for module, name in places:
        taken = name in names.values()
        names[module, name] = f"{name}_of_{module.rpartition('.')[2]}" if taken else name
    return names


def _replace(text: str, name: str, shown: str) -> str:
    if name == shown:
        return text
    return re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", shown, text)


def _imports(foreign: dict[str, Import]) -> str:
    """Return import statements, sorted."""
    lines = []
    taken: dict[str, list[str]] = {}
    for name, (module, attribute) in foreign.items():
        if attribute is None:
            lines.append(f"import {module}" + ("" if name == module else f" as {name}"))
        else:
            alias = "" if name == attribute else f" as {name}"
            taken.setdefault(module, []).append(f"{attribute}{alias}")
    for module, names in taken.items():
        lines.append(f"from {module} import {', '.join(sorted(names))}")
    return "\n".join(sorted(lines, key=lambda line: (line.startswith("from"), line)))


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what stands before the last dot is no package
        return False


def _is_package(module: str) -> bool:
    return hasattr(importlib.import_module(module), "__path__")
