"""Who watches a study that a program runs: what is printed, and the program's callbacks."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from attnsearch.search.study import Progress, Several
from attnsearch.search.terminal import open_progress


@contextlib.contextmanager
def watched(progress: Progress | bool | None, callbacks: Sequence[Progress]) -> Iterator[Progress]:
    """Give what a study tells its events to.

    Args:
        progress: What shows them: a `Progress` of the caller's, True for what `attnsearch run`
            prints, False for nothing. None prints in a notebook and on a terminal.
        callbacks: Who is told of them beside.
    """
    with contextlib.ExitStack() as stack:
        if progress is None:
            progress = in_notebook() or sys.stderr.isatty()
        shown = [] if isinstance(progress, bool) else [progress]
        if progress is True:
            # A notebook shows standard error in red, as if all of it were warnings.
            stream = sys.stdout if in_notebook() else None
            shown.append(stack.enter_context(open_progress(stream)))
        watchers = [*shown, *callbacks]
        yield Several(watchers) if watchers else Progress()


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    return "ipykernel" in sys.modules
