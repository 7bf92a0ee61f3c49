"""The names most like one that does not exist, as error messages suggest them."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def close_names(
    name: object, options: Iterable[str], most: int = 1, cutoff: float = 0.6
) -> list[str]:
    """Return the options most like a name, the likest first; capitals do not count.

    Args:
        name: What was written.
        options: What could have been meant.
        most: How many to return at most.
        cutoff: How alike they must be, from 0 (anything) to 1 (equal).
    """
    written = {option.lower(): option for option in options}
    return [written[near] for near in get_close_matches(str(name).lower(), written, most, cutoff)]


def did_you_mean(
    name: object,
    options: Iterable[str],
    most: int = 1,
    cutoff: float = 0.6,
    show: Callable[[str], str] = repr,
) -> str:
    """Return `; did you mean 'a' or 'b'?` as a message goes on; empty where nothing is like it.

    Args:
        name: As for `close_names`, like the next three.
        options: What could have been meant.
        most: How many to name at most.
        cutoff: How alike they must be.
        show: Writes an option.
    """
    near = close_names(name, options, most, cutoff)
    return f"; did you mean {' or '.join(map(show, near))}?" if near else ""


def nearest(name: object, options: Iterable[str], most: int = 3, cutoff: float = 0.5) -> str:
    """Return ` (nearest: a, b)` as a message goes on; empty where nothing is like it."""
    near = close_names(name, options, most, cutoff)
    return f" (nearest: {', '.join(near)})" if near else ""
