"""Runs a study: explores a space, records everything, and goes on where it had stopped."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.key import run_key
from attnsearch.runs.ledger import Ledger
from attnsearch.runs.mirror import Mirror
from attnsearch.runs.provenance import gpu_names, provenance
from attnsearch.runs.rows import StudyRow, TrialRow
from attnsearch.runs.tracking import tracking_uri
from attnsearch.search.cluster import Cluster, ClusterError, Need, cluster
from attnsearch.search.early_stopping import scheduler_name
from attnsearch.search.events import Progress, Silent, StudyEnd, StudyInfo
from attnsearch.search.explorer import Explorer
from attnsearch.search.interrupt import Interrupt
from attnsearch.search.objectives import Objectives
from attnsearch.search.proposals import Proposals
from attnsearch.search.records import LateMirror, Records
from attnsearch.search.text import plural
from attnsearch.spaces import Space

AGAIN = "run it again to go on from there"


class StudyError(AttnsearchError):
    """A study cannot be run as asked."""


@dataclass(frozen=True)
class StudyResult:
    """A study as one session left it.

    Attributes:
        study: Its row in the ledger.
        state: "finished", "interrupted" or "failed" (no trial finished).
        trials: All its runs, also those of earlier sessions.
        best: Number of the best finished trial by the first objective; None without one.
        front: Numbers of the best trials: with several objectives the Pareto front.
        importances: Objective to decision to importance, which sum to 1.
        notes: What the user should know, one sentence each.
        message: Why the session ended and, where the study can go on, how.
        seconds: Wall time of the session.
    """

    study: StudyRow
    state: str
    trials: list[TrialRow]
    best: int | None
    front: list[int]
    importances: dict[str, dict[str, float]]
    notes: list[str]
    message: str
    seconds: float


def run_study(
    space: Space,
    *,
    ledger: Ledger | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    until: str | None = None,
) -> StudyResult:
    """Explores a space, or goes on with it: what `attnsearch run` does.

    Ray is started for the study, or joined where RAY_ADDRESS names a cluster. Called from the
    main thread, Ctrl-C and SIGTERM stop the study within seconds: what runs is recorded as
    interrupted, and the same call goes on from there.

    Args:
        space: From `load_space`.
        ledger: Where to record; by default the one that ATTNSEARCH_LEDGER names, or
            `attnsearch.db` in the current folder.
        fresh: Start a new study and ignore what other studies finished.
        progress: Told of every event; by default nobody.
        until: "explore" to stop after exploring, which is all that there is so far: then the
            result does not note that the file's confirm and ablation are left out.

    Raises:
        StudyError: The space can be checked and built, but not run.
        ProposalError: The sampler cannot search it.
        DataError: Its data cannot be used.
        LedgerError: The ledger cannot be used, or another process runs this study.
        ClusterError: Ray cannot be started, is lost, or lacks what a trial needs.
    """
    if until not in (None, "explore"):
        raise StudyError(f"until: {until!r} is unknown; leave it out, or say 'explore'")
    if space.document["data"]["source"] is None:
        raise StudyError(
            "data.source: null describes a network without data, which can be checked and built "
            "but not run; give a data set"
        )
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        if ledger is None:
            ledger = stack.enter_context(Ledger())
        session = _Session(space, ledger, progress or Silent(), interrupt, fresh=fresh)
        return session.run(note_left_out=until is None)


class _Session:
    """One call of `run_study`."""

    def __init__(
        self,
        space: Space,
        ledger: Ledger,
        progress: Progress,
        interrupt: Interrupt,
        *,
        fresh: bool,
    ) -> None:
        self.start = time.monotonic()
        self.space = space
        self.ledger = ledger
        self.progress = progress
        self.interrupt = interrupt
        self.fresh = fresh
        self.search: dict[str, Any] = space.document["search"]
        self.trials = int(self.search["trials"]) if space.decisions else 1
        self.objectives = Objectives(self.search["objectives"])
        resources = space.document["resources"]
        self.need = Need(float(resources["cpus"]), float(resources["gpus"]))
        plain = space.plain()
        first = [plain] if plain is not None else []
        first += [space.defaults()] if space.prior() else []
        self.proposals = Proposals(
            space.decisions,
            space.ask,
            self.search["objectives"],
            sampler=self.search["sampler"],
            seed=self.search["seed"],
            trials=self.trials,
            first=first,
            grid=space.grid,
        )
        self.notes: list[str] = []
        for note in self.proposals.notes():
            self._note(note)
        self._said = False

    def run(self, *, note_left_out: bool) -> StudyResult:
        """Runs the session."""
        if note_left_out:
            self._note_left_out()
        loading = _in_background(self._load)
        with contextlib.ExitStack() as stack:
            running = None
            if not self._may_need_no_ray(loading):
                running = self._start_ray(stack)
            data, origin = self._wait(loading)
            study = self.ledger.open_study(
                self.space.name,
                self.space.text,
                self.space.document,
                data.fingerprint,
                origin,
                fresh=self.fresh,
            )
            mirror = LateMirror(Mirror(self.ledger), study.id)
            try:
                explorer = self._explore(study, data, mirror, running, stack)
                stack.close()  # Ray, while the mirror catches up
                return self._close(study, explorer, mirror)
            except BaseException:
                with contextlib.suppress(AttnsearchError):
                    self.ledger.set_study_state(study.id, "interrupted")
                mirror.close(timeout=5)
                raise

    def _explore(
        self,
        study: StudyRow,
        data: DataSet,
        mirror: LateMirror,
        running: Cluster | None,
        stack: contextlib.ExitStack,
    ) -> Explorer:
        """Trains what is to be trained."""
        for note in data.notes:
            self.progress.note(note)
        self.records = Records(self.ledger, study, mirror, self.progress, self.objectives)
        explorer = Explorer(
            self.space,
            self.proposals,
            self.records,
            self.objectives,
            self.progress,
            self._key(data),
            self.ledger.trials(study.id),
            trials=self.trials,
            baseline=self._baseline(),
        )
        left = max(1, self.trials - explorer.ended_before)
        if running is not None:
            explorer.workers = min(running.workers, left)
        self.progress.study_started(self._info(study, explorer))
        with self.records.heartbeat(), contextlib.closing(explorer):
            if not explorer.anything_to_train() or self._stop():
                return explorer
            if running is None:
                running = self._start_ray(stack)
                explorer.workers = min(running.workers, left)
            from attnsearch.search.executor import execute

            scheduler = self._scheduler(lambda: not explorer.exhausted())
            explorer.teach(scheduler)
            execute(
                explorer,
                running,
                {"data": data},
                need=self.need,
                workers=explorer.workers,
                scheduler=scheduler,
                folders=[str(self.space.path.absolute().parent)],
                stop=self._stop,
            )
        return explorer

    def _close(self, study: StudyRow, explorer: Explorer, mirror: LateMirror) -> StudyResult:
        """Brings everything to its end and says how it stands."""
        trials = self.ledger.trials(study.id)
        open_ones = [row for row in trials if row.state in ("running", "interrupted")]
        importances = study.importances or {}
        if self.space.decisions and (
            not importances or len(trials) - len(open_ones) > explorer.ended_before
        ):
            for index, name in enumerate(self.objectives.names):
                importances[name] = self.proposals.importances(index, explorer.numbers())
            self.ledger.set_importances(study.id, importances)
        best = self.records.first()
        if open_ones or not explorer.exhausted():
            state = "interrupted"
        else:
            state = "finished" if best is not None else "failed"
        self.ledger.set_study_state(study.id, state)
        report = mirror.close(timeout=5 if state == "interrupted" else 30)
        if report.problem or report.missing:
            self._note(str(report))
        if explorer.ended_early:
            self._note(explorer.ended_early)
        if explorer.workers > 1:
            self.notes.append(
                f"proposals were made for {explorer.workers} trials side by side, so another run "
                f"with the same seed proposes others; resources that let one trial run at a time "
                f"repeat exactly"
            )
        message = _message(state, trials, self.trials)
        result = StudyResult(
            study=self.ledger.study(study.id),
            state=state,
            trials=trials,
            best=best,
            front=self.records.best(),
            importances=importances,
            notes=self.notes,
            message=message,
            seconds=time.monotonic() - self.start,
        )
        done = sum(row.arm is None for row in trials) - sum(row.arm is None for row in open_ones)
        self.progress.study_ended(StudyEnd(state, done, best, message, result.seconds))
        return result

    def _load(self) -> tuple[DataSet, dict[str, Any]]:
        data = load_data(self.space.document["data"], self.space.task)
        return data, provenance()

    def _may_need_no_ray(self, loading: Future[Any]) -> bool:
        """Whether it is better to load the data first, and start Ray if it is needed."""
        with contextlib.suppress(TimeoutError):
            if loading.exception(timeout=0.2) is not None:
                return True
        if not self.space.decisions:
            return True
        ended = {row.name for row in self.ledger.studies() if row.state == "finished"}
        return self.space.name in ended and not self.fresh

    def _start_ray(self, stack: contextlib.ExitStack) -> Cluster:
        running = stack.enter_context(cluster(self.need, self.trials))
        self.interrupt.install()
        self._check_not_stopped()
        if running.nodes > 1 and scheduler_name(self.search["scheduler"]) == "hyperband":
            raise ClusterError(
                "search.scheduler: hyperband pauses trials on the disk of one machine, and this "
                f"cluster has {running.nodes}; use asha"
            )
        return running

    def _wait(self, loading: Future[tuple[DataSet, dict[str, Any]]]) -> Any:
        """The data, once it is loaded; the wait ends when the user wants it to."""
        while not loading.done():
            self._check_not_stopped()
            time.sleep(0.02)
        self._check_not_stopped()
        return loading.result()

    def _check_not_stopped(self) -> None:
        if self.interrupt.asked():
            raise KeyboardInterrupt

    def _stop(self) -> bool:
        asked = self.interrupt.asked()
        if asked and not self._said:
            self._said = True
            self.progress.note("stopping, and recording what runs; Ctrl-C again ends at once")
        return asked

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.progress.note(text)

    def _note_left_out(self) -> None:
        for key in ("confirm", "ablation"):
            if self.space.document.get(key):
                self.notes.append(f"{key}: is left out for now; this session explores only")

    def _scheduler(self, more_to_come: Any) -> Any:
        from attnsearch.search.schedulers import make_scheduler

        epochs = self.space.document["train"]["epochs"]
        followed = self.objectives.followed
        if followed is None or not self.space.decisions:
            return make_scheduler("none", "", "max", epochs, more_to_come)
        direction = self.objectives.directions[followed]
        return make_scheduler(self.search["scheduler"], followed, direction, epochs, more_to_come)

    def _key(self, data: DataSet) -> Any:
        kind = device_kind(self.need.gpus)

        def key(config: Mapping[str, Any]) -> str:
            train = config["train"]
            return run_key(
                config,
                data.fingerprint,
                train["seed"],
                train["epochs"],
                kind,
                self.need.threads,
                config["data"].get("fold"),
            )

        return key

    def _baseline(self) -> dict[str, Any] | None:
        """The plain network's config, where the search has a use for it and does not hold it."""
        if self.space.plain() is not None or not self.space.decisions:
            return None
        config = self.space.resolve(self.space.defaults())
        return {**config, "insert": [], "train": {**config["train"], "aux_weight": {}}}

    def _info(self, study: StudyRow, explorer: Explorer) -> StudyInfo:
        return StudyInfo(
            name=study.name,
            number=study.number,
            trials=self.trials,
            done=explorer.ended_before,
            epochs=self.space.document["train"]["epochs"],
            objectives=self.objectives.directions,
            workers=explorer.workers,
            sampler=self.search["sampler"],
            scheduler=scheduler_name(self.search["scheduler"]),
            ledger=str(self.ledger),
            tracking_uri=tracking_uri(),
        )


def device_kind(gpus: float) -> str:
    """What computes, as the run key names it: `cpu`, or the name of the GPU."""
    if not gpus:
        return "cpu"
    names = {name.partition(",")[0] for name in gpu_names()}
    return " and ".join(sorted(names)) or "cuda"


def _in_background(function: Callable[[], Any]) -> Future[Any]:
    """Calls a function in a thread that does not keep the process alive."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="load-data", daemon=True).start()
    return future


def _message(state: str, trials: list[TrialRow], budget: int) -> str:
    searched = [row for row in trials if row.arm is None]
    counts = Counter(row.state for row in searched)
    words = {"finished": "finished", "stopped": "stopped early", "failed": "failed"}
    words["infeasible"] = "infeasible"
    told = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
    ended = sum(counts[key] for key in words)
    if state == "interrupted":
        so_far = f" ({told})" if told else ""
        return f"stopped after {ended} of {budget} trials{so_far}; all is recorded; {AGAIN}"
    if state == "failed":
        reasons = [row for row in searched if row.error]
        why = f"; trial {reasons[0].number:03d}: {reasons[0].error}" if reasons else ""
        return f"no trial finished ({told or 'none was tried'}){why}"
    return f"{plural(ended, 'trial')}: {told}"
