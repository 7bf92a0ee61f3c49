"""The names most like one that does not exist, as error messages suggest them."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def close_names(
    name: object, options: Iterable[str], most: int = 1, cutoff: float = 0.6
) -> list[str]:
    """Return the options most like a name, the likest first; capitals do not count.

    What begins with the name comes before all others: `val_acc` is short for `val_accuracy`.

    Args:
        name: What was written.
        options: What could have been meant.
        most: How many to return at most.
        cutoff: How alike they must be, from 0 (anything) to 1 (equal).
    """
    written = {option.lower(): option for option in options}
    given = str(name).lower()
    begun = [option for option in written if option.startswith(given) and len(given) > 2]
    like = get_close_matches(given, written, most, cutoff)
    return [written[near] for near in dict.fromkeys([*sorted(begun, key=len), *like])][:most]


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
