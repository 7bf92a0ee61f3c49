"""The mirror: shows a ledger's studies in MLflow, and never stands in the way of a study.

The ledger knows what MLflow shows already (`positions.py`), so `Mirror.sync` can be
called at any time, by anyone, any number of times: it writes what is missing and nothing twice.
If the server is away the study goes on, and the records follow at the next try: in the thread of
`Mirror.follow`, at the next start of the study, or when `attnsearch show` or `ui` looks at it.

Identity is deterministic. Each MLflow run carries the study's uid and its place in the study as
tags, and its id is noted in the ledger as soon as it is kept. After a crash between the two the
run is found by its tags. Only one process at a time writes a study's runs, by a lease.
"""

import atexit
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic, sleep

from attnsearch.runs.addresses import sqlite_path, without_secrets
from attnsearch.runs.ledger import Ledger, LedgerError, StudyRow, TrialRow
from attnsearch.runs.machine import give_back_memory
from attnsearch.runs.mirror.arms import ArmRuns, headline
from attnsearch.runs.mirror.experiment import DataInput, data_input, experiment_tags
from attnsearch.runs.mirror.model import show_winner
from attnsearch.runs.mirror.positions import MirrorReport, Positions
from attnsearch.runs.mirror.renewal import Renewal
from attnsearch.runs.mirror.saved_views import saved_views, view_links
from attnsearch.runs.mirror.store import Store, own_store, said, tracking_uri
from attnsearch.runs.mirror.trials import TrialRuns
from attnsearch.runs.mirror.view import (
    NOTE_TAG,
    STATUS,
    findings_tag,
    milliseconds,
    shown_digest,
    study_tags,
    study_view,
)
from attnsearch.runs.whole import temporary_folder

__all__ = ["Mirror", "MirrorReport"]

PAUSE_SECONDS = 1.0  # what happens within this time is written in one go
TABLES_SECONDS = 30.0
PLOTS_SECONDS = 300.0
"""How often the parent's tables and plots are renewed, at most, while a study goes on."""

_LONGEST_WAIT = 60.0  # seconds between tries at a server that is away
_LONGEST_STEP = 30.0  # seconds that one step on this machine may take: making an SQLite store
_TURN_SECONDS = 0.2  # between tries to write after another process


class _Elsewhere(RuntimeError):
    """Another process writes the study's runs now."""


class Mirror:
    """Shows studies of a ledger in an MLflow store.

    Args:
        ledger: The ledger.
        tracking_uri: The store; without it ``MLFLOW_TRACKING_URI``, else MLflow's own default in
            the current folder.
    """

    def __init__(self, ledger: Ledger, tracking_uri: str | None = None) -> None:
        self._ledger = ledger
        self._positions = Positions(ledger)
        self._asked_uri = tracking_uri
        self._uri = ""
        self._store: Store | None = None
        # Study -> its runs by their tags, once its parent run was seen in this store.
        self._runs: dict[int, dict[str, str]] = {}
        self._data: dict[str, DataInput] = {}  # by fingerprint
        self._lock = threading.Lock()
        self._signal = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._followed: int | None = None
        self._problem: str | None = None
        self._waits = False  # for another process that writes the study's runs
        self._leaving = threading.Event()
        self._drawing = False
        self._tables, self._plots = Renewal(TABLES_SECONDS), Renewal(PLOTS_SECONDS)

    def follow(self, study_id: int) -> None:
        """Show a study from now on, in a thread of its own; call `wake` when it has changed."""
        if self._thread is not None:
            raise RuntimeError("this mirror follows a study already")
        self._uri = tracking_uri(self._asked_uri)
        self._followed = study_id
        self._thread = threading.Thread(target=self._loop, name="mlflow-mirror", daemon=True)
        self._thread.start()
        self._signal.set()
        atexit.register(self._leave)

    def wake(self) -> None:
        """Tell the thread that the ledger has changed; returns at once."""
        self._signal.set()

    def close(self, timeout: float = 20.0) -> MirrorReport:
        """Write what is left, for so many seconds at most, and end the thread."""
        if self._thread is None or self._followed is None:
            raise RuntimeError("this mirror follows no study")
        self._closing.set()
        self._signal.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._leaving.set()
            self._problem = f"it did not take them within {timeout:.0f} s"
        else:
            atexit.unregister(self._leave)
        return self._report(self._followed, self._problem)

    def _leave(self) -> None:
        """Let the thread come to a stop before the interpreter ends.

        A thread that is in native code when the interpreter goes takes the process down with it,
        so work on this machine is waited for: it stops at the next step. A server's answer is
        not, that could take minutes.
        """
        self._closing.set()
        self._leaving.set()
        self._signal.set()
        here = sqlite_path(self._uri) is not None or self._store is None or self._drawing
        if self._thread is not None and here:
            self._thread.join(_LONGEST_STEP)

    def _check_leaving(self) -> None:
        if self._leaving.is_set():
            raise TimeoutError("there was no time for all of it")

    def sync(self, study_id: int, *, whole: bool = False, patience: float = 0.0) -> MirrorReport:
        """Bring MLflow up to date with one study, here and now.

        Args:
            study_id: The study.
            whole: Look every run up in the store, also those that it is known to show.
            patience: How many seconds to wait for another driver of the study that is ending.

        Without a store named, the one that showed the study before is used. Costs milliseconds
        if there is nothing to do. Never raises for MLflow's sake: the report says what is wrong.
        """
        self._ledger.reconcile()
        study = self._ledger.study(study_id)
        recorded = own_store(study.mlflow_uri, self._ledger.database.path)
        uri = tracking_uri(self._asked_uri, recorded)
        if uri != self._uri:
            self._uri, self._store = uri, None
            self._runs.clear()
        if whole:
            self._positions.forget(study_id)
            study = self._ledger.study(study_id)
        if self._is_current(study):
            return self._report(study_id, None)
        deadline = monotonic() + patience
        while (problem := self._try(study_id)) and monotonic() < deadline and self._waits:
            sleep(_TURN_SECONDS)
        with suppress(LedgerError):  # the lease then ends with this process
            self._ledger.free(f"mirror:{study_id}")
        return self._report(study_id, problem)

    def _try(self, study_id: int, *, final: bool = True) -> str | None:
        """Make a pass; return what went wrong. Where another driver goes on, nothing did."""
        self._waits = False
        try:
            self._pass(study_id, final=final)
        except _Elsewhere as error:
            with suppress(LedgerError):
                self._waits = not self._ledger.drivers(study_id)
            return str(error) if self._waits else None
        except Exception as error:
            return said(error)
        return None

    def _is_current(self, study: StudyRow) -> bool:
        """Return whether the store shows a study as it stands, judged without MLflow."""
        path = sqlite_path(self._uri)
        return (
            study.mlflow_uri == without_secrets(self._uri)
            and (path is None or path.exists())
            and not self._positions.count(study.id)[0]
            and study.mirrored == self._digest(study, plots=True)
        )

    def _report(self, study_id: int, problem: str | None) -> MirrorReport:
        missing, total = self._positions.count(study_id)
        uri = without_secrets(self._uri)
        if self._ledger.study(study_id).mlflow_uri != uri:
            missing = total
        if problem is None and self._ledger.drivers(study_id):
            missing = 0  # the other driver shows them
        return MirrorReport(uri, total, missing, problem)

    def _loop(self) -> None:
        assert self._followed is not None, "set by `follow`"
        wait = PAUSE_SECONDS
        while True:
            self._signal.wait(None if self._problem is None else wait)
            self._signal.clear()
            closing = self._closing.is_set()
            # Whatever MLflow does, the study goes on; the report at the end says it.
            self._problem = self._try(self._followed, final=closing)
            away = self._problem is not None and not self._waits
            wait = min(2 * wait, _LONGEST_WAIT) if away else PAUSE_SECONDS
            if self._waits and closing and not self._leaving.wait(_TURN_SECONDS):
                self._signal.set()  # the other is ending too, and may have missed this end
                continue
            if closing or self._leaving.is_set():
                with suppress(LedgerError):  # the lease then ends with this process
                    self._ledger.free(f"mirror:{self._followed}")
                return
            self._closing.wait(PAUSE_SECONDS if self._problem is None else wait)

    def _pass(self, study_id: int, *, final: bool) -> None:
        """Write what the store does not show; raises what MLflow raises."""
        with self._lock:
            holder = self._ledger.hold(f"mirror:{study_id}")
            if holder is not None:
                raise _Elsewhere(f"{holder} writes them now")
            try:
                if self._store is None:
                    self._store = Store(self._uri)
                self._check_leaving()
                self._verify(self._store, study_id)
                self._write(self._store, study_id, final=final)
            except Exception:
                # The store may come back empty, or may have done more than it told.
                self._store = None
                self._runs.pop(study_id, None)
                raise

    def _verify(self, store: Store, study_id: int) -> None:
        """Make sure, once a connection, that the study's parent run exists."""
        if study_id in self._runs:
            return
        study = self._ledger.study(study_id)
        experiment_id = store.experiment(study.name)
        runs = store.runs(experiment_id, study.uid)
        parent = runs.get("study")
        if parent is not None and store.stage(parent) == "deleted":
            store.restore(parent)  # without it no run of the study is seen
        if parent is None:
            tags = study_tags(study, "")
            parent = store.create(experiment_id, study.label, milliseconds(study.created), tags)
        uri = without_secrets(self._uri)
        if (study.mlflow_uri, study.mlflow_run_id) != (uri, parent):
            self._positions.set_parent(study_id, uri, experiment_id, parent)
        self._runs[study_id] = runs

    def _write(self, store: Store, study_id: int, *, final: bool) -> None:
        study = self._ledger.study(study_id)
        pending = deque(self._positions.pending(study_id))
        data = self._data_of(study)
        runs = TrialRuns(self._ledger, store, study, self._runs[study_id], data)
        problem: Exception | None = None
        while pending:
            self._check_leaving()
            problem = runs.show(pending) or problem
        plots = final or self._plots.due()
        if plots or self._tables.due():
            began = monotonic()
            self._show_study(store, study, plots=plots)
            # Tables take kilobytes a trial while they are made; figures are circles of objects.
            give_back_memory(circles=plots)
            for renewal in (self._tables, self._plots) if plots else (self._tables,):
                renewal.took(monotonic() - began)
        if problem is not None:
            raise problem

    def _arms(self, store: Store, study: StudyRow) -> ArmRuns:
        return ArmRuns(store, study, self._runs[study.id], self._data_of(study))

    def _data_of(self, study: StudyRow) -> DataInput:
        if study.fingerprint not in self._data:
            self._data[study.fingerprint] = data_input(self._ledger, study)
        return self._data[study.fingerprint]

    def _show_study(self, store: Store, study: StudyRow, *, plots: bool) -> None:
        """Renew the parent run: description, tables, plots, best values and state."""
        digest = self._digest(study, plots=plots)
        if study.mirrored == digest:
            return
        trials = self._ledger.trials(study.id)
        assert study.mlflow_run_id and study.mlflow_experiment_id, "set with the parent run"
        experiment_id, plans = study.mlflow_experiment_id, self._ledger.plans(study.id)
        run_id, views = study.mlflow_run_id, saved_views(study, trials, plans)
        view = study_view(study, trials, view_links(experiment_id, views))
        store.log(run_id, view.metrics, view.params, view.tags)
        ended = None if study.ended is None else milliseconds(study.ended)
        store.set_status(run_id, STATUS[study.state], ended)
        store.note_data(run_id, self._data_of(study))
        store.tag_experiment(experiment_id, partial(experiment_tags, study, views))
        store.files(run_id, view.files)
        if plots:
            with self._draws():
                self._show_plots(store, run_id, study, trials)
            if plans:
                with self._draws():
                    self._show_report(store, run_id, study, view.tags[NOTE_TAG])
                with self._draws():
                    show_winner(store.client, self._ledger, study, plans)
        self._positions.set_parent_shows(study.id, digest)

    def _digest(self, study: StudyRow, *, plots: bool) -> str:
        return shown_digest(self._ledger, study, self._positions.standing(study.id), plots=plots)

    @contextmanager
    def _draws(self) -> Iterator[None]:
        """Draw, which is work on this machine that a process about to end waits for."""
        self._check_leaving()
        self._drawing = True
        try:
            yield
        finally:
            self._drawing = False

    def _show_plots(
        self, store: Store, run_id: str, study: StudyRow, trials: list[TrialRow]
    ) -> None:
        from attnsearch.runs.figures import study_plots

        files = {}
        for title, figure in study_plots(study, trials).items():
            self._check_leaving()
            files[f"plots/{title}.png"] = figure.png()
        self._drawing = False
        store.files(run_id, files)

    def _show_report(self, store: Store, run_id: str, study: StudyRow, note: str) -> None:
        """Renew the runs of the arms and the report's files."""
        from attnsearch.runs.reports import write_result
        from attnsearch.runs.results import collect_study

        result = collect_study(self._ledger, study.id)
        with temporary_folder() as folder:
            written = write_result(result, folder / "report")
            self._drawing = False
            self._arms(store, study).show(result)
            store.folder(run_id, folder)
        values, tags = headline(result)
        store.log(run_id, values, tags=findings_tag(written.verdicts, note) | tags)
