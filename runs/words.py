"""Numbers, spans of time and lists, as a person writes them, and templates filled with them."""

import re


def quantity(number: float | None) -> str:
    """Return a count with three significant digits and a unit: `2.78 M`."""
    if number is None:
        return "-"
    for sign, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # 0.9995 and not 1: 999,950 is 1.00 M and not 1000 k.
        if abs(number) >= 0.9995 * size:
            scaled = number / size
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f} {sign}"
    return f"{number:.0f}" if number == int(number) else f"{number:.3g}"


def plural(count: int, noun: str) -> str:
    """Return `1 trial`, `2 trials`, `1,024 networks`."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def printable(text: str) -> str:
    """Return a text that can be written as UTF-8: a file's name may have bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def markdown(text: str) -> str:
    """Return a text of one line that Markdown shows as it is."""
    text = re.sub(r"([\\`*_{}\[\]<>|~#&])", r"\\\1", " ".join(text.split()))
    return no_tags(text)


def no_tags(text: str) -> str:
    """Return Markdown in which nothing is a tag of HTML."""
    return re.sub(r"\\?<(?=[A-Za-z/!?])", "&lt;", text)


def code(text: str) -> str:
    """Return a text of one line as Markdown's code, whatever backticks it has."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def no_formula(value: object) -> object:
    """Return what a table of values holds, so that a spreadsheet does not run it.

    A text that begins like a formula and calls something gets an apostrophe in front, as
    spreadsheets mark a text; ``-1.png`` and numbers stay as they are.
    """
    calls = isinstance(value, str) and re.match(r"[=+\-@\t\r].*[(|!]", value, re.DOTALL)
    return f"'{value}" if calls else value


def listed(words: list[str]) -> str:
    """Return words in a row: ``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def duration(seconds: float | None) -> str:
    """Return a span of time in its two largest units: `3 min 20 s`."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def value_text(value: object) -> str:
    """Return a decision's value as the YAML would show it: `[3, 5, 7, 9]`, `true`, `0.0123`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return str(value)


def render(package: str, template: str, /, **values: object) -> str:
    """Fill a jinja template that lies beside the code of a package.

    In it `code`, `duration`, `listed`, `markdown`, `plural` and `quantity` are
    filters. Tags that stand alone on a line leave no line. What fills ``*.html.jinja`` is escaped.

    Args:
        package: Such as `attnsearch.runs.reports`.
        template: The file's name.
        values: What it names; functions among it are filters too. A name without a value is an
            error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words = {word.__name__: word for word in (code, duration, listed, markdown, plural, quantity)}
    environment.filters |= words | {name: v for name, v in values.items() if callable(v)}
    return environment.get_template(template).render(values)
