"""Runs a study: its acts in order, all recorded, from where an earlier session stopped."""

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.blocks.face import import_whole
from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.data import DataSet, example_contents
from attnsearch.runs.ledger import Ledger, Role, State, StudyRow, inputs, log_file, run_key
from attnsearch.runs.machine import provenance
from attnsearch.runs.mirror import tracking_uri
from attnsearch.runs.results import importances_of
from attnsearch.runs.store import check_store
from attnsearch.search.opening import Beginning, Inputs, origin_notes
from attnsearch.search.outlook import cost_sentence, known_epoch
from attnsearch.search.propose import Objectives
from attnsearch.search.study.acts import StudyActs
from attnsearch.search.study.arithmetic import Settling
from attnsearch.search.study.company import heartbeat, waiting_text
from attnsearch.search.study.events import Progress, StudyEnd, StudyInfo
from attnsearch.search.study.exploring import Explorer, make_proposals, trial_budget
from attnsearch.search.study.interrupt import STOPPING, Interrupt, in_background
from attnsearch.search.study.outcome import SessionResult, StudyError, outcome_text, report_of
from attnsearch.search.study.queue import Queue
from attnsearch.search.study.records import Records
from attnsearch.search.study.stage import (
    LateMirror,
    Stage,
    dataset_name,
    device_kind,
    load_datasets,
    most_jobs,
)
from attnsearch.search.workers import Cluster, ClusterError, Need, running_cluster, scheduler_name
from attnsearch.spaces import Space
from attnsearch.spaces.keys import BUILT_IN

SLOW_IMPORTS = ("attnsearch.search.workers.executor", "attnsearch.runs.mirror.mirror")
UNTIL = ("explore", "confirm", "ablate")


def run_study(
    space: Space,
    *,
    ledger: Ledger | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    until: str | None = None,
) -> SessionResult:
    """Do a study's acts, or go on with them, see `attnsearch.search.run_study`.

    Args:
        space: From `load_space`.
        ledger: Where to record; by default as `Ledger` finds it.
        fresh: Start a new study and ignore what other studies finished.
        progress: Told of every event; by default nobody.
        until: The last act: "explore", "confirm" or "ablate"; None for all that the space says.

    Raises:
        StudyError: The space can be checked and built, but not run.
        AttnsearchError: What `attnsearch.search.run_study` names.
    """
    if until is not None and until not in UNTIL:
        raise StudyError(f"until: {until!r} is unknown; leave it out, or say {', '.join(UNTIL)}")
    if space.document["data"]["source"] is None:
        raise StudyError(
            "data.source: null describes a network without data, which can be checked and built "
            "but not run; give a data set"
        )
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        if ledger is None:
            ledger = stack.enter_context(Ledger())
        session = Session(
            space, ledger, progress or Progress(), interrupt, fresh=fresh, until=until or UNTIL[-1]
        )
        return session.run()


@dataclass
class Session:
    """One call of `run_study` or `ablate`.

    Attributes:
        space: The space.
        ledger: Where to record.
        progress: Told of every event.
        interrupt: Whether the user wants an end.
        fresh: Start a new study.
        until: The last act.
        confirm: Whether to explore and confirm; otherwise the study goes on with its ablations.
        study: The study to go on with; by default the latest of this name, space and data.
        datasets: By name, once they are loaded; see `Stage`.
        notes: What the user should know at the end.
    """

    space: Space
    ledger: Ledger
    progress: Progress
    interrupt: Interrupt
    fresh: bool = field(kw_only=True)
    until: str = field(kw_only=True)
    confirm: bool = field(default=True, kw_only=True)
    study: StudyRow | None = field(default=None, kw_only=True)
    datasets: dict[str, DataSet] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    _said: bool = field(default=False, init=False)
    _epoch_s: float | None = field(default=None, init=False)
    _inputs: Inputs = field(default_factory=Inputs, init=False)

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        document = self.space.document
        self.search: dict[str, Any] = document["search"]
        configs = (document.get("confirm") or {}).get("configs")
        self.explore = self.confirm and not (configs and self.until != UNTIL[0])
        self.trials = trial_budget(self.space)
        self.objectives = Objectives(self.search["objectives"])
        self.need = Need.of(document["resources"])
        self.device = device_kind(self.need.gpus)
        self.proposals = make_proposals(self.space, [self.space.baseline()])
        budget = self.trials if self.explore else 0
        self.beginning = Beginning(self.space, budget, self.proposals, self.progress.note)
        for note in self.proposals.notes() if self.explore else ():
            self._note(note)

    def run(self) -> SessionResult:
        """Run the session."""
        check_store()
        with contextlib.ExitStack() as stack:
            running = None
            loading = self._data_first()
            if loading is None:
                # Seconds of work, most of which fit into the wait for Ray's processes.
                begun: list[Future[Any]] = []
                running = self._start_ray(stack, lambda: begun.append(in_background(self._load)))
                (loading,) = begun
            self.datasets, origin = self._wait(loading)
            expected = self._inputs(self.space.document)
            origin["inputs"] = inputs(self.space.document)
            found = partial(self.ledger.studies, self.space.name)
            before = found()
            data = self.datasets["data"]
            runs = self.trials if self.explore else 0, self.until != UNTIL[0]
            ray = self.need, running, lambda: self._start_ray(stack)
            told = self.progress.note, self._check_not_stopped
            settling = Settling(self.space, data, expected, *ray, *runs, *told, found)
            origin |= settling(None if self.fresh else before)
            running, self.need, self.replicas = settling.running, settling.need, settling.replicas
            self.device = device_kind(self.need.gpus, running)
            if data.kept is not None and data.kept.notable:
                origin["kept"] = data.where_kept(self.need.gpus)
                self.progress.note(f"images kept: {origin['kept']}")
            origin |= self.beginning.learn(self.ledger, data.fingerprint)
            study = self.ledger.open_study(
                self.space.name,
                self.space.text,
                self.space.document,
                data.fingerprint,
                origin,
                fresh=self.fresh,
                number=self.study.number if self.study else None,
                shared=self.confirm,
            )
            self.ledger.note_contents(data.fingerprint, lambda: example_contents(data))
            if not self.fresh:
                for note in origin_notes(self.ledger, study, before, self.space.path):
                    self._note(note)
            from attnsearch.runs.mirror import Mirror

            mirror = LateMirror(Mirror(self.ledger), study.id)
            try:
                with self.ledger.waited_for(self._note, self._stop):
                    explorer, acts = self._work(study, mirror, running, stack)
                    stack.close()  # Ray, while the mirror catches up
                    return self._close(study, explorer, acts, mirror)
            except BaseException as error:
                with contextlib.suppress(AttnsearchError):
                    self.ledger.set_study_state(study.id, State.INTERRUPTED)
                # A Ray that is gone soon takes this process with it.
                mirror.close(timeout=0 if isinstance(error, ClusterError) else 5)
                raise

    def _work(
        self,
        study: StudyRow,
        mirror: LateMirror,
        running: Cluster | None,
        stack: contextlib.ExitStack,
    ) -> tuple[Explorer | None, StudyActs]:
        """Do the acts: train and evaluate what is left of them."""
        data = self.datasets["data"]
        for note in data.notes:
            self.progress.note(note)
        stage = Stage(
            space=self.space,
            ledger=self.ledger,
            study=study,
            mirror=mirror,
            progress=self.progress,
            objectives=self.objectives,
            datasets=self.datasets,
            key=self._key,
            inputs=self._inputs,
            note=self._note,
            replicas=self.replicas,
        )
        if self.space.document["network"]["weights"] is not None:
            self.progress.note(stage.loaded_weights())
        self.records = Records(stage, "best")
        self.records.checkpoints.drop_ended()
        explorer = None
        if self.explore:
            past = [row for row in stage.past() if row.arm is None or row.role == Role.BASELINE]
            explorer = Explorer(stage, self.space, self.proposals, self.records, past)
            explorer.explore_baseline(past)
            self.beginning.say(past)
        left = max(1, self.trials - explorer.ended_before) if explorer else 1
        if running is not None:
            self._set_workers(stage, explorer, running, left)
        self.progress.study_started(self._info(study, explorer))
        acts = StudyActs(stage)
        entries = acts.entries(explorer, self.until, confirm=self.confirm)
        queue = Queue(entries, lambda holders: self.progress.note(waiting_text(holders)))
        with heartbeat(self.ledger), contextlib.closing(queue), contextlib.closing(entries):
            if not self._stop() and queue.anything_to_train() and not self._stop():
                if running is None:
                    running = stage.examined(self._start_ray(stack))
                    self._set_workers(stage, explorer, running, left)
                from attnsearch.search.workers import execute, known_times

                execute(
                    queue,
                    running,
                    self.datasets,
                    need=self.need,
                    folders=[str(self.space.path.absolute().parent)],
                    times=known_times(self.ledger.trials(study.id), data, self.need.threads),
                    longest=stage.run_seconds(1) or 0.0,
                    timeout=self.space.document["resources"].get("timeout"),
                    replicas=stage.replicas,
                    stop=self._stop,
                    tell=self.progress.note,
                )
        return explorer, acts

    def _set_workers(
        self, stage: Stage, explorer: Explorer | None, running: Cluster, left: int
    ) -> None:
        stage.workers = running.workers
        if explorer is not None:
            explorer.workers = min(running.workers, left)

    def _close(
        self, study: StudyRow, explorer: Explorer | None, acts: StudyActs, mirror: LateMirror
    ) -> SessionResult:
        """End the session: store its state, write the report, return the result."""
        rows = self.ledger.trials(study.id)
        trials = [row for row in rows if row.arm is None]
        ended = sum(row.state.ended for row in trials)
        importances = study.importances or {}
        if explorer is not None and self.space.decisions:
            importances = {name: importances_of(trials, name) for name in self.objectives.names}
            self.ledger.set_importances(study.id, importances)
        best = self.records.first()
        whole = best is not None if explorer is not None else True
        ended_as = State.FINISHED if whole and not acts.unfinished else State.FAILED
        state = ended_as if acts.over else State.INTERRUPTED
        frozen = acts.frozen()
        winner = frozen.winner if frozen is not None else None
        self.ledger.set_study_state(study.id, state)
        verdicts, report_file = (
            ([], None) if self.until == UNTIL[0] else report_of(self.ledger, study, self._note)
        )
        report = mirror.close(timeout=5 if state == State.INTERRUPTED else 30)
        if report.problem or report.missing:
            self._note(str(report))
        if explorer is not None and explorer.ended_early:
            self._note(explorer.ended_early)
        if explorer is not None and explorer.workers > 1:
            self.notes.append(
                f"proposals were made for {explorer.workers} trials side by side, so another run "
                f"with the same seed proposes others; resources that let one trial run at a time "
                f"repeat exactly"
            )
        message = outcome_text(state, rows, self.trials, winner, acts.unfinished)
        if state == State.INTERRUPTED and (others := self.ledger.drivers(study.id)):
            message += f"; {' and '.join(others)} goes on with it"
        result = SessionResult(
            study=self.ledger.study(study.id),
            state=state,
            trials=rows,
            best=best,
            front=self.records.best(),
            importances=importances,
            notes=self.notes,
            message=message,
            seconds=time.monotonic() - self.start,
            plans=self.ledger.plans(study.id, superseded=False),
            winner=winner,
            verdicts=verdicts,
            report=report_file,
            ledger=partial(Ledger, self.ledger.database.url, create=False),
        )
        self.progress.study_ended(StudyEnd(state, ended, best, message, result.seconds))
        return result

    def _load(self) -> tuple[dict[str, DataSet], dict[str, Any]]:
        datasets = load_datasets(self.space, explore=self.explore, plans=self.until != UNTIL[0])
        origin = provenance()
        for module in SLOW_IMPORTS:
            import_whole(module)
        if type(self.progress) is not Progress and self.explore:
            self._epoch_s = known_epoch(self.space, datasets["data"])
        return datasets, origin

    def _data_first(self) -> Future[Any] | None:
        """Begin to load the data where that is to be done before Ray is started.

        That is so where there may be nothing to train, or no data.
        """
        source = self.space.document["data"]["source"]
        ended = {row.name for row in self.ledger.studies() if row.state == State.FINISHED}
        again = (self.space.name in ended or not self.explore) and not self.fresh
        missing = source not in BUILT_IN and not Path(source).exists()
        return in_background(self._load) if again or missing or not self.space.decisions else None

    def _start_ray(
        self, stack: contextlib.ExitStack, meanwhile: Callable[[], None] = lambda: None
    ) -> Cluster:
        jobs = most_jobs(self.space.document, self.trials, self.until != UNTIL[0])
        running = stack.enter_context(
            running_cluster(self.need, jobs, meanwhile, self.interrupt.asked)
        )
        self._check_not_stopped()
        return running

    def _wait(self, loading: Future[tuple[DataSet, dict[str, Any]]]) -> Any:
        """Return the data, once it is loaded; the wait ends when the user wants it to."""
        while not loading.done():
            self._check_not_stopped()
            time.sleep(0.02)
        self._check_not_stopped()
        return loading.result()

    def _check_not_stopped(self) -> None:
        if self.interrupt.asked():
            raise KeyboardInterrupt

    def _stop(self) -> bool:
        asked = self.interrupt.asked() or self.progress.stopping()
        if asked and not self._said:
            self._said = True
            self.progress.note(STOPPING)
        return asked

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.progress.note(text)

    def _key(self, config: Mapping[str, Any]) -> str:
        """Return the run key of a config with its seed and fold."""
        train, fold = config["train"], config["data"].get("fold")
        return run_key(
            config,
            self.datasets[dataset_name(self.space.document, fold)].fingerprint,
            train["seed"],
            train["epochs"],
            self.device,
            self.need.threads,
            fold,
        )

    def _info(self, study: StudyRow, explorer: Explorer | None) -> StudyInfo:
        left = self.trials - explorer.ended_before if explorer else 0
        workers, follows = explorer.workers if explorer else 1, self.until != UNTIL[0]
        return StudyInfo(
            name=study.name,
            number=study.number,
            trials=self.trials if explorer else 0,
            done=explorer.ended_before if explorer else 0,
            epochs=self.space.document["train"]["epochs"],
            objectives=self.objectives.directions,
            workers=workers,
            sampler=self.search["sampler"],
            scheduler=scheduler_name(self.search["scheduler"]),
            ledger=str(self.ledger),
            tracking_uri=without_secrets(tracking_uri()),
            checkpoint_bytes=self.records.checkpoints.size_bytes,
            device=self.device,
            cost=cost_sentence(self.space, self._epoch_s, left, workers, follows=follows),
            log=log_file(self.ledger, study.name, study.number),
        )
