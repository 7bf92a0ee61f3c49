"""What MLflow shows of a study's runs: one in MLflow for each place in the study."""

from collections import deque
from dataclasses import replace
from time import monotonic

from attnsearch.runs.ledger import Ledger, State, StudyRow
from attnsearch.runs.mirror.arms import ArmRuns
from attnsearch.runs.mirror.experiment import DataInput
from attnsearch.runs.mirror.positions import Pending, Positions
from attnsearch.runs.mirror.store import Store, refused
from attnsearch.runs.mirror.view import STATUS, milliseconds, run_files, run_tags, run_view

_TOGETHER_SECONDS = 0.5
"""Of work, after which runs that are shown together are kept."""


class TrialRuns:
    """The runs of a study's places in a store.

    Args:
        ledger: The ledger.
        store: The store.
        study: The study, shown there.
        runs: The study's runs there, by their tags.
        data: What they are trained on.
    """

    def __init__(
        self, ledger: Ledger, store: Store, study: StudyRow, runs: dict[str, str], data: DataInput
    ) -> None:
        self._ledger, self._positions = ledger, Positions(ledger)
        self._store, self._study = store, study
        self._runs, self._data = runs, data
        self._arms = ArmRuns(store, study, runs, data)
        self._found: dict[int, str] = {}  # place -> its run, which the ledger is not told yet

    def show(self, pending: deque[Pending]) -> Exception | None:
        """Bring the first of the runs that wait up to date, and take them from there.

        Where the store joins writes they are one transaction: SQLite waits for the disk with each.

        Returns:
            Why one of them was refused; the others are shown.
        """
        problem: Exception | None = None
        shown: list[tuple[Pending, str | None]] = []
        self._found.clear()
        until = monotonic() + _TOGETHER_SECONDS
        with self._store.together():
            while pending and (not shown or (self._store.joins and monotonic() < until)):
                try:
                    shown.append(self._show(pending.popleft()))
                except Exception as error:
                    if not refused(error):
                        raise
                    problem = error
        self._note_found()
        done = []
        for item, run_id in shown:
            try:
                if run_id is not None:
                    self._store.files(run_id, run_files(self._ledger, item))
            except Exception as error:
                if not refused(error):
                    raise
                problem = error
            else:
                done.append(item)
        self._positions.mark(done)
        return problem

    def _note_found(self) -> None:
        self._positions.set_runs(self._found)
        self._found.clear()

    def _show(self, item: Pending) -> tuple[Pending, str | None]:
        """Show all of a run but its files.

        Returns:
            What was shown, and in which run; None for one that the user threw into the bin.
        """
        store, study = self._store, self._study
        trial = item.trial
        run_id = trial.mlflow_run_id or self._runs.get(str(trial.place_id))
        stage = "missing" if run_id is None else "active"
        if run_id is not None and item.new:
            stage = store.stage(run_id)
        if run_id is not None and stage == "active":
            try:
                self._fill(run_id, item)
            except Exception:
                stage = store.stage(run_id)
                if stage == "active":
                    raise
        created = run_id is None or stage == "missing"
        if created:
            assert study.mlflow_experiment_id is not None, "set with the parent run"
            tags = run_tags(study, item, self._arms.above(trial))
            run_id = store.create(
                study.mlflow_experiment_id, trial.shown, milliseconds(trial.started), tags
            )
        assert run_id is not None, "found or created"
        if run_id != trial.mlflow_run_id:
            self._found[trial.place_id] = run_id
            if not store.joins:
                self._note_found()
        if created:
            item = replace(item, new=True, shown_epoch=-1)
            self._fill(run_id, item, created=True)
        return item, None if stage == "deleted" else run_id

    def _fill(self, run_id: str, item: Pending, *, created: bool = False) -> None:
        store, study, trial = self._store, self._study, item.trial
        view = run_view(study, item, self._arms.above(trial))
        restarted = trial.attempt > 1 and item.shown_epoch < 0
        changed = item.new or restarted or trial.state != State.RUNNING
        store.log(run_id, view.metrics, view.params, view.tags if changed and not created else {})
        if item.new:
            store.note_data(run_id, self._data)
        if changed and not (created and trial.state == State.RUNNING):
            ended = None if trial.ended is None else milliseconds(trial.ended)
            store.set_status(run_id, STATUS[trial.state], ended)
