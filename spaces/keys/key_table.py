"""The table of all keys in `docs/space-file.md`, made of the model.

python -m attnsearch.spaces.keys.key_table docs/space-file.md     writes it between its marks.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnsearch.spaces.keys.json_schema import schema
from attnsearch.spaces.keys.values import label

BEGIN, END = "<!-- keys: made by attnsearch.spaces.keys.key_table -->", "<!-- end of keys -->"
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def key_table() -> str:
    """Return a Markdown table: each key, its default, what it may be, and what it is for."""
    whole = schema()
    rows = [("key", "default", "allowed", "meaning")]
    rows += _rows(whole, whole["$defs"], "")
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "| --- | --- | --- | --- |", *lines[1:]])


def with_table(page: str) -> str:
    """Return a page with the table between its marks anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{key_table()}\n{END}{rest.partition(END)[2]}"


def _rows(
    section: dict[str, Any], definitions: dict[str, Any], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    for key, field in section["properties"].items():
        inner = _section(field, definitions)
        if inner is not None:
            yield from _rows(inner, definitions, f"{prefix}{key}.")
            continue
        default = "required"
        if key not in section.get("required", ()):
            default = f"`{label(field['default'])}`" if "default" in field else "empty"
        yield f"`{prefix}{key}`", default, _allowed(field), field.get("description", "")


def _section(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """Return the section that a key holds; None where it holds a value."""
    forms = [form for form in field.get("anyOf", [field]) if form.get("type") != "null"]
    name = forms[0].get("$ref", "").rpartition("/")[2] if len(forms) == 1 else ""
    section: dict[str, Any] | None = definitions.get(name)
    return section if section and name != "Published" else None


def _allowed(field: dict[str, Any]) -> str:
    """Say in words what a fixed value may be: its words, or its bounds."""
    words: list[str] = []
    for form in [field, *field.get("anyOf", ()), *field.get("oneOf", ())]:
        words += [f"`{label(word)}`" for word in form.get("enum", ())]
        words += [f"`{label(form['const'])}`"] if "const" in form else []
        words += ["`true`, `false`"] if form.get("type") == "boolean" else []
        bounds = [f"{text} {form[key]:.10g}" for key, text in _BOUNDS.items() if key in form]
        words += [" and ".join(bounds)] if bounds else []
        if form is not field:
            words += [_allowed({key: form[key] for key in ("anyOf", "oneOf") if key in form})]
        if members := _allowed(form.get("items", {})) if form.get("type") == "array" else "":
            words += [f"a list of {members}"]
    return ", ".join(dict.fromkeys(word for word in words if word))


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text("utf-8")), "utf-8")
