"""Who watches a study that a program runs: what is printed, and the program's callbacks."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from attnsearch.search.study import ActInfo, Progress, StudyEnd, StudyInfo, TrialEnd, TrialInfo
from attnsearch.search.terminal import PlainProgress, open_progress


class Several(Progress):
    """Tells several watchers of every event, in their order.

    Args:
        watchers: Any one of them may ask for the study's end.
    """

    def __init__(self, watchers: Sequence[Progress]) -> None:
        self._watchers = watchers

    def stopping(self) -> bool:
        """Return whether one of them asks for the end."""
        return any(watcher.stopping() for watcher in self._watchers)

    def study_started(self, study: StudyInfo) -> None:
        """Tell that the study is open."""
        for watcher in self._watchers:
            watcher.study_started(study)

    def act_started(self, act: ActInfo) -> None:
        """Tell that an act begins."""
        for watcher in self._watchers:
            watcher.act_started(act)

    def trial_started(self, trial: TrialInfo) -> None:
        """Tell that a trial begins."""
        for watcher in self._watchers:
            watcher.trial_started(trial)

    def epoch(self, trial: TrialInfo, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell of an epoch."""
        for watcher in self._watchers:
            watcher.epoch(trial, epoch, metrics)

    def trial_ended(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Tell that a trial ended."""
        for watcher in self._watchers:
            watcher.trial_ended(trial, end)

    def note(self, text: str) -> None:
        """Tell a sentence."""
        for watcher in self._watchers:
            watcher.note(text)

    def study_ended(self, end: StudyEnd) -> None:
        """Tell that the session is over."""
        for watcher in self._watchers:
            watcher.study_ended(end)


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
            display = PlainProgress(sys.stdout) if in_notebook() else open_progress()
            shown.append(stack.enter_context(display))
        yield Several([*shown, *callbacks])


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    return "ipykernel" in sys.modules
