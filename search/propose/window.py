"""Optuna's trials as TPE sees them: all, or of a long search the best and some of the others.

TPE goes through every trial it is shown for each decision it makes. Its model of good values is
made of the 25 best at most. The others tell it where values have been tried, which hundreds of
them do, if they are drawn from all: the latest alone lie where the search has come to.
"""

import heapq
from collections.abc import Container, Sequence

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from attnsearch.search.propose.samplers import derive

BEST = 100  # finished trials that are shown for their value
OTHERS = 400  # of the others that have ended, drawn by lot


class Window(InMemoryStorage):
    """Keeps all trials of a study and shows so many of them that a proposal stays cheap.

    Args:
        direction: Of the one objective that trials are compared by.
    """

    def __init__(self, direction: StudyDirection) -> None:
        super().__init__()
        self._sign = 1 if direction is StudyDirection.MAXIMIZE else -1
        self._best: list[tuple[float, int]] = []  # heaps, whose first leaves first
        self._others: list[tuple[int, int]] = []
        self._hidden: set[int] = set()

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials that are shown, in their order."""
        trials = super().get_all_trials(study_id, deepcopy, states)
        return [trial for trial in trials if trial.number not in self._hidden]

    def whole(self, study_id: int, *, deepcopy: bool) -> list[FrozenTrial]:
        """Return all trials, in their order."""
        trials: list[FrozenTrial] = super().get_all_trials(study_id, deepcopy)
        return trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Take in a trial, which may have ended."""
        trial_id: int = super().create_new_trial(study_id, template_trial)
        self._take(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Take in a trial's state, which may be its last."""
        taken: bool = super().set_trial_state_values(trial_id, state, values)
        self._take(trial_id)
        return taken

    def _take(self, trial_id: int) -> None:
        """Show a trial that has ended, and hide the one that leaves for it."""
        trial = self.get_trial(trial_id)
        if not trial.state.is_finished():
            return
        number = trial.number
        if trial.state is TrialState.COMPLETE and _feasible(trial):
            heapq.heappush(self._best, (self._sign * trial.values[0], -number))
            if len(self._best) <= BEST:
                return
            number = -heapq.heappop(self._best)[1]
        # A lot of its own for each number, so it does not matter in which order trials end.
        heapq.heappush(self._others, (derive(0, number), number))
        if len(self._others) > OTHERS:
            self._hidden.add(heapq.heappop(self._others)[1])


def _feasible(trial: FrozenTrial) -> bool:
    return all(amount <= 0 for amount in (trial.constraints or {}).values())
