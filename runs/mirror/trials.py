"""What MLflow shows of a study's runs: one in MLflow for each place in the study."""

from dataclasses import replace

from attnsearch.runs.ledger import Ledger, State, StudyRow
from attnsearch.runs.mirror.arms import ArmRuns
from attnsearch.runs.mirror.experiment import DataInput
from attnsearch.runs.mirror.positions import Pending, Positions
from attnsearch.runs.mirror.store import Store
from attnsearch.runs.mirror.view import STATUS, milliseconds, run_tags, run_view


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

    def show(self, item: Pending) -> None:
        """Bring the run of a place up to date."""
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
        if run_id is None or stage == "missing":
            assert study.mlflow_experiment_id is not None, "set with the parent run"
            tags = run_tags(study, item, self._arms.above(trial))
            run_id = store.create(
                study.mlflow_experiment_id, trial.name, milliseconds(trial.started), tags
            )
            self._positions.set_run(trial.place_id, run_id)
            whole = replace(item, new=True, shown_epoch=-1)
            self._fill(run_id, whole, created=True)
        # A run that the user threw into the bin ("deleted") stays there.
        elif run_id != trial.mlflow_run_id:
            self._positions.set_run(trial.place_id, run_id)

    def _fill(self, run_id: str, item: Pending, *, created: bool = False) -> None:
        store, study, trial = self._store, self._study, item.trial
        view = run_view(self._ledger, study, item, self._arms.above(trial))
        restarted = trial.attempt > 1 and item.shown_epoch < 0
        changed = item.new or restarted or trial.state != State.RUNNING
        store.log(run_id, view.metrics, view.params, view.tags if changed and not created else {})
        store.files(run_id, view.files)
        if item.new:
            store.note_data(run_id, self._data)
        if changed and not (created and trial.state == State.RUNNING):
            ended = None if trial.ended is None else milliseconds(trial.ended)
            store.set_status(run_id, STATUS[trial.state], ended)
