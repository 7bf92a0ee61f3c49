"""One MLflow store, through `MlflowClient` and its synchronous calls.

MLflow is imported when the first `Store` is made (2 s), which the mirror does in its thread.
"""

import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from attnsearch.runs.addresses import HIDDEN, sqlite_path, sqlite_url, without_secrets
from attnsearch.runs.machine import environment
from attnsearch.runs.mirror.experiment import DataInput
from attnsearch.runs.mirror.together import sessions_of, together
from attnsearch.runs.mirror.view import RUN_TAG, STUDY_TAG, MetricValue
from attnsearch.runs.whole import temporary_folder, unfinished

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
MLFLOW_FILE = "mlflow.db"

_METRICS_PER_CALL = 1000  # MLflow's limits
_PARAMS_PER_CALL = 100
_TAGS_PER_CALL = 100
_PROBE_SECONDS = 5.0


def tracking_uri(asked: str | None = None, recorded: str | None = None) -> str:
    """Find the MLflow store.

    Args:
        asked: A URI that was asked for.
        recorded: The one that showed the study before; used only while it can be there. Where
            the ledger kept it without its login, `Store` says that it must be asked for.

    Returns:
        The asked one, else ``MLFLOW_TRACKING_URI``, else the recorded one, else MLflow's own
        default, ``mlflow.db`` in the current folder. An SQLite path is made absolute. It can
        hold a password: it is told `without_secrets` alone.
    """
    uri = asked or os.environ.get(URI_VARIABLE)
    if not uri and recorded:
        path = sqlite_path(recorded)
        uri = recorded if path is None or path.exists() else None
    if not uri:
        return sqlite_url(Path(MLFLOW_FILE))
    path = sqlite_path(uri)
    return uri if path is None else sqlite_url(path)


def own_store(recorded: str | None, ledger: Path | None) -> str | None:
    """Return the store that showed a study; in a copied project its own instead of the original's.

    Args:
        recorded: The store as the ledger names it.
        ledger: The ledger's file; None where that is a server.
    """
    path = sqlite_path(recorded) if recorded else None
    if path is None or ledger is None or path.parent.resolve() == ledger.parent.resolve():
        return recorded
    theirs = path.parent / ledger.name  # beside which the store was made
    if theirs.exists() and not theirs.samefile(ledger):
        return sqlite_url(ledger.with_name(path.name))
    return recorded


def refused(error: Exception) -> bool:
    """Return whether a store answered, but would not take this one thing."""
    return getattr(error, "error_code", None) in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def asked_once() -> AbstractContextManager[None]:
    """Have MLflow send each request once, so that nothing is created twice.

    A server that is cut off may have done what it was asked. MLflow would ask again by itself; a
    mirror that gets no answer looks first what is there.
    """
    return environment({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})


def said(error: Exception) -> str:
    """Return the first line of an error, short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_secrets(lines[0])[:300]


class Store:
    """An MLflow store.

    Args:
        uri: Its address, as from `tracking_uri`.

    Raises:
        ConnectionError: It is a server that cannot be reached.
        Exception: Whatever MLflow raises when a store is no good; so do all methods.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client = self.client = _connect(uri)
        self.joins = sqlite_path(uri) is not None and sessions_of(self.client) is not None
        """Whether what is written `together` is kept whole or not at all."""

    def together(self) -> AbstractContextManager[None]:
        """Let what is written meanwhile be one transaction, in a store that `joins`."""
        return together(self._client) if self.joins else nullcontext()

    def experiment(self, name: str) -> str:
        """Find or create the experiment of this name, taken out of the bin if it is there."""
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self._client.create_experiment(name, _artifacts(self.uri)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self._client.get_experiment_by_name(name)
                assert experiment is not None, "MLflow said that it exists"
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def tag_experiment(
        self, experiment_id: str, choose: Callable[[Mapping[str, str]], Mapping[str, str | None]]
    ) -> None:
        """Set tags of an experiment, or with None remove them; `choose` gets those it has."""
        present = self._client.get_experiment(experiment_id).tags
        for key, value in choose(present).items():
            if value is None:
                self._client.delete_experiment_tag(experiment_id, key)
            else:
                self._client.set_experiment_tag(experiment_id, key, value)

    def note_data(self, run_id: str, data: DataInput) -> None:
        """Name the data set that a run was trained on; twice is once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        context = [InputTag("mlflow.data.context", "training")]
        dataset = Dataset(**data._asdict())
        self._client.log_inputs(run_id, [DatasetInput(dataset, context)])

    def stage(self, run_id: str) -> str:
        """Tell whether a run is ``active``, ``deleted`` (in the bin) or ``missing``."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run_id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return "missing"
            raise

    def restore(self, run_id: str) -> None:
        """Take a run out of the bin."""
        self._client.restore_run(run_id)

    def runs(self, experiment_id: str, study_uid: str) -> dict[str, str]:
        """Find a study's runs by their tags: ``attnsearch.run`` -> MLflow's id.

        Runs in the bin are found too, unless there is another one of the same tag.
        """
        from mlflow.entities import ViewType

        by_tag: dict[str, str] = {}
        for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY):
            token = None
            while True:
                page = self._client.search_runs(
                    [experiment_id],
                    f"tags.`{STUDY_TAG}` = '{study_uid}'",
                    run_view_type=view,
                    max_results=1000,
                    page_token=token,
                )
                for run in page:
                    by_tag.setdefault(run.data.tags.get(RUN_TAG, ""), run.info.run_id)
                token = page.token
                if not token:
                    break
        return by_tag

    def create(self, experiment_id: str, name: str, started: int, tags: Mapping[str, str]) -> str:
        """Create a run; `started` is in milliseconds since 1970."""
        with asked_once():
            run = self._client.create_run(
                experiment_id, start_time=started, tags=dict(tags), run_name=name
            )
        # MLflow would read the whole run again to find where its files go; if it must, it does.
        with suppress(Exception):
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
            from mlflow.tracking._tracking_service import utils

            place = get_artifact_repository(run.info.artifact_uri, tracking_uri=self.uri)
            utils._artifact_repos_cache[run.info.run_id] = place
        return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        points: Iterable[MetricValue] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, params and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in points]
        parameters = [Param(key, value) for key, value in (params or {}).items()]
        marks = [RunTag(key, value) for key, value in (tags or {}).items()]
        # MLflow takes 1000 entities a call in all, of which 100 params and 100 tags.
        room = _METRICS_PER_CALL - _PARAMS_PER_CALL - _TAGS_PER_CALL
        while metrics or parameters or marks:
            self._client.log_batch(
                run_id,
                metrics[:room],
                parameters[:_PARAMS_PER_CALL],
                marks[:_TAGS_PER_CALL],
            )
            metrics, parameters = metrics[room:], parameters[_PARAMS_PER_CALL:]
            marks = marks[_TAGS_PER_CALL:]

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        """Set a run's status; `ended` is in milliseconds since 1970."""
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status, ended)

    def files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Write artifacts, path -> content, over earlier ones; nothing where there are none."""
        if not files:
            return
        with temporary_folder() as folder:
            for path, content in files.items():
                target = folder / path
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content)
            self.folder(run_id, folder)

    def folder(self, run_id: str, folder: Path) -> None:
        """Write all files of a folder as artifacts, over earlier ones."""
        self._client.log_artifacts(run_id, str(folder))
        # What MLflow opened for it, 8 kB, it would keep for the last thousand runs.
        with suppress(ImportError, AttributeError):
            from mlflow.tracking._tracking_service import utils

            utils._artifact_repos_cache.pop(run_id, None)


def _connect(uri: str) -> "MlflowClient":
    # MLflow reads these when it is imported and when it writes; whoever set them keeps them.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow.tracking import MlflowClient

    # They tell the tables' creation line by line, and a store's error with its whole traceback;
    # the mirror reports errors itself.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = sqlite_path(uri)
    if HIDDEN in uri:
        raise ConnectionError(
            f"its login is kept nowhere; set {URI_VARIABLE} to the address with its login"
        )
    if path is not None:
        _create_store(path)
        _follow_move(path)
    elif uri.startswith(("http://", "https://")):
        _probe(uri)
    return MlflowClient(uri)


def _artifacts(uri: str) -> str | None:
    """Return where a new experiment's files go; None where MLflow finds the place itself.

    Its own default for an SQLite store, ``mlruns`` in the current folder, it takes for a URL and
    so reads ``%20`` in the folder's name as a space.
    """
    folder = Path("mlruns").absolute()
    if sqlite_path(uri) is None or "%" not in str(folder):
        return None
    return (folder / uuid.uuid4().hex).as_uri()


def _probe(uri: str) -> None:
    """Ask a server for any answer; MLflow itself would retry for minutes before it gives up."""
    import requests

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE_SECONDS)
    except requests.RequestException as error:
        raise ConnectionError(f"the server does not answer ({type(error).__name__})") from error


def _create_store(path: Path) -> None:
    """Create an SQLite store beside its place and move it there when it is whole.

    MLflow takes seconds to make its tables. A process killed meanwhile would leave a file that
    neither we nor ``mlflow ui`` could open again, and two processes at once spoil each other's.
    """
    with unfinished(path.parent) as new:
        if path.exists():
            return
        from mlflow.tracking import MlflowClient

        _: Any = MlflowClient(sqlite_url(new)).search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was quicker; its store is as good
            os.link(new, path)


def _follow_move(path: Path) -> None:
    """Name artifacts beside a store that was moved or copied with them.

    MLflow keeps their absolute places: it would make the old folder again, or write into that of
    the original. Places that did not come along are left as they are.
    """
    with closing(sqlite3.connect(path)) as store, store:
        rows = store.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        for experiment, place in rows:
            old = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)
            here = path.parent / old.parent.name / old.name
            if old.parent.name != "mlruns" or old == here or not here.is_dir():
                continue
            new = here.as_uri() if place.startswith("file:") else str(here)
            store.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (new, experiment),
            )
            store.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (new, len(place) + 1, experiment, len(place), place),
            )
