"""What of the ledger an MLflow store already shows, kept in the ledger itself.

Every change of a run raises its revision; a place in a study is pending while the revision it was
last shown at is another. So a mirror that was away, or died, knows what is missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update

from attnsearch.runs.addresses import without_secrets
from attnsearch.runs.ledger import (
    Epoch,
    Ledger,
    Run,
    Study,
    StudyRun,
    TrialRow,
    change,
    read_places,
)


@dataclass(frozen=True)
class Pending:
    """A place in a study that is not shown as it stands.

    Args:
        trial: The run in its place.
        new: Whether nothing of it was shown yet.
        shown_epoch: The last epoch of this attempt that was shown; -1 for none.
        points: Its rows of the table of epochs, those of earlier attempts included.
        origin_run_id: The MLflow run of the place that trained it, if the result is reused.
    """

    trial: TrialRow
    new: bool
    shown_epoch: int
    points: tuple[Row[Any], ...]
    origin_run_id: str | None


@dataclass(frozen=True)
class MirrorReport:
    """How a study stands in MLflow.

    Args:
        uri: The store, without secrets.
        total: The number of the study's runs.
        missing: How many of them it does not show as they stand in the ledger.
        problem: What went wrong; None if nothing did.
    """

    uri: str
    total: int
    missing: int
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is None and not self.missing:
            return f"MLflow at {self.uri} shows all {self.total} runs"
        what = f"{self.missing} of {self.total} runs as they are"
        if not self.missing:
            what = "the study's latest tables and plots"
        return (
            f"MLflow at {self.uri} does not show {what}"
            f" ({self.problem or 'they are still being written'}); nothing is lost: the ledger "
            "has them, and they follow with the next `attnsearch run`, `show` or `sync`"
        )


class Positions:
    """The mirror's own columns of a ledger.

    Args:
        ledger: The ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._database = ledger.database

    def count(self, study_id: int) -> tuple[int, int]:
        """Count the places of a study: those not shown as they stand, and all."""
        query = select(StudyRun.mirrored_revision, Run.revision).where(Run.id == StudyRun.run_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(StudyRun.study_id == study_id)).all()
        return sum(shown != revision for shown, revision in rows), len(rows)

    def standing(self, study_id: int) -> list[tuple[int, int, int]]:
        """Return which run stands at each place of a study, and how often it was changed."""
        query = select(StudyRun.id, StudyRun.run_id, Run.revision).where(Run.id == StudyRun.run_id)
        query = query.where(StudyRun.study_id == study_id).order_by(StudyRun.id)
        with self._database.read() as connection:
            return [(place, run, revision) for place, run, revision in connection.execute(query)]

    def pending(self, study_id: int) -> list[Pending]:
        """Read the places of a study that are not shown as they stand, by number."""
        late = (StudyRun.study_id == study_id, StudyRun.mirrored_revision != Run.revision)
        origin = StudyRun.__table__.alias()
        with self._database.read() as connection:
            trials = read_places(connection, *late)
            marks = connection.execute(
                select(
                    StudyRun.id,
                    StudyRun.mirrored_revision,
                    StudyRun.mirrored_attempt,
                    StudyRun.mirrored_epoch,
                    origin.c.mlflow_run_id.label("origin_run_id"),
                )
                .join(Run, Run.id == StudyRun.run_id)
                .outerjoin(origin, origin.c.id == StudyRun.reused_from)
                .where(*late)
            )
            marked = {row.id: row for row in marks}
            points: dict[int, list[Row[Any]]] = {}
            rows = connection.execute(
                select(*Epoch.__table__.columns)
                .where(Epoch.run_id.in_(select(Run.id).where(Run.id == StudyRun.run_id, *late)))
                .order_by(Epoch.attempt, Epoch.epoch)
            )
            for row in rows:
                points.setdefault(row.run_id, []).append(row)
        return [
            Pending(
                trial,
                new=mark.mirrored_revision < 0,
                shown_epoch=mark.mirrored_epoch if mark.mirrored_attempt == trial.attempt else -1,
                points=tuple(points.get(trial.run_id, ())),
                origin_run_id=mark.origin_run_id,
            )
            for trial in trials
            for mark in [marked[trial.place_id]]
        ]

    def set_runs(self, found: Mapping[int, str]) -> None:
        """Note the MLflow runs of places."""
        if not found:
            return
        with self._database.write() as connection:
            for place_id, run_id in found.items():
                change(connection, StudyRun, place_id, mlflow_run_id=run_id, mirrored_revision=-1)

    def mark(self, shown: Iterable[Pending]) -> None:
        """Note that these places are shown as they were read."""
        shown = list(shown)
        if not shown:
            return
        with self._database.write() as connection:
            for item in shown:
                epochs = item.trial.epochs
                connection.execute(
                    update(StudyRun)
                    # Not one that was pointed elsewhere since.
                    .filter_by(id=item.trial.place_id, run_id=item.trial.run_id)
                    .values(
                        mirrored_revision=item.trial.revision,
                        mirrored_attempt=item.trial.attempt,
                        mirrored_epoch=epochs[-1]["epoch"] if epochs else -1,
                    )
                )

    def set_parent(self, study_id: int, uri: str, experiment_id: str, run_id: str) -> None:
        """Note the parent run of a study; in another one than before, nothing is shown yet."""
        uri = without_secrets(uri)  # another password is no other store
        with self._database.write() as connection:
            query = select(Study.mlflow_uri, Study.mlflow_run_id).where(Study.id == study_id)
            before = connection.execute(query).one()
            values = {"mlflow_uri": uri, "mlflow_run_id": run_id, "mirrored": None}
            change(connection, Study, study_id, **values, mlflow_experiment_id=experiment_id)
            if tuple(before) != (uri, run_id):
                connection.execute(
                    update(StudyRun)
                    .filter_by(study_id=study_id)
                    .values(mlflow_run_id=None, mirrored_revision=-1, mirrored_epoch=-1)
                )

    def forget(self, study_id: int) -> None:
        """Take nothing for shown; the epochs of a run that is still there are not shown again."""
        with self._database.write() as connection:
            change(connection, Study, study_id, mirrored=None)
            connection.execute(
                update(StudyRun).filter_by(study_id=study_id).values(mirrored_revision=-1)
            )

    def set_parent_shows(self, study_id: int, digest: str) -> None:
        """Note what the parent run shows: a digest of it."""
        with self._database.write() as connection:
            change(connection, Study, study_id, mirrored=digest)
